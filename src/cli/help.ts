// SPDX-License-Identifier: Apache-2.0
import { type Argument, type Command, GLOBAL_OPTIONS, type Option } from "./command.ts";
import { EXIT } from "./exit.ts";
import { spell } from "./parse.ts";

/** The text of `--help` for the last command of the path. */
export function helpText(path: readonly Command[]): string {
  const command = path.at(-1);
  if (command === undefined) return "";
  const sections = [
    `${command.summary}\n`,
    command.detail === undefined ? "" : `${command.detail}\n`,
    `usage: ${usageLine(path, command)}\n`,
    block(
      "commands",
      (command.commands ?? []).map((inner) => [inner.name, inner.summary]),
    ),
    block(
      "arguments",
      (command.args ?? []).map((arg) => [argumentName(arg), arg.summary]),
    ),
    block("options", (command.options ?? []).map(optionLine)),
    block(
      path.length === 1 ? "options of every command" : "common options",
      GLOBAL_OPTIONS.map(optionLine),
    ),
    path.length === 1
      ? block(
          "exit codes",
          Object.values(EXIT).map(({ code, meaning }) => [String(code), meaning]),
        )
      : "",
  ];
  return sections.filter((text) => text !== "").join("\n");
}

function usageLine(path: readonly Command[], command: Command): string {
  const words = [spell(path)];
  if (command.commands !== undefined) words.push("COMMAND");
  words.push("[OPTIONS]", ...(command.args ?? []).map(argumentName));
  return words.join(" ");
}

function argumentName(argument: Argument): string {
  const name = argument.rest === true ? `${argument.name}...` : argument.name;
  return argument.optional === true ? `[${name}]` : name;
}

function optionLine(option: Option): [string, string] {
  const short = option.short === undefined ? "    " : `-${option.short}, `;
  const value = option.value === undefined ? "" : ` ${option.value}`;
  return [`${short}--${option.name}${value}`, option.summary];
}

function block(title: string, lines: readonly (readonly [string, string])[]): string {
  if (lines.length === 0) return "";
  const width = Math.max(...lines.map(([left]) => left.length));
  const text = lines.map(([left, right]) => `  ${left.padEnd(width)}  ${right}\n`).join("");
  return `${title}:\n${text}`;
}
