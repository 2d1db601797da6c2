// SPDX-License-Identifier: Apache-2.0
import { nearest } from "../config/nearest.ts";
import { type Command, type Option, optionsOf } from "./command.ts";
import { CliError } from "./exit.ts";

/** A command line that has been understood. */
export interface Invocation {
  /** From the root to the command. */
  readonly path: readonly Command[];
  readonly command: Command;
  readonly args: readonly string[];
  readonly options: ReadonlyMap<string, string>;
}

interface Reading {
  readonly path: Command[];
  readonly args: string[];
  readonly options: Map<string, string>;
  /** Words not yet read. */
  readonly left: string[];
}

/** Reads the words after the program's name; throws CliError "usage" with the way out. */
export function parseCommandLine(root: Command, words: readonly string[]): Invocation {
  const reading: Reading = { path: [root], args: [], options: new Map(), left: [...words] };
  for (let word = reading.left.shift(); word !== undefined; word = reading.left.shift()) {
    if (word === "--") {
      reading.args.push(...reading.left.splice(0));
    } else if (word.startsWith("-") && word !== "-") {
      readOption(reading, word);
    } else {
      readWord(reading, word);
    }
  }
  const command = current(reading);
  const invocation = { ...reading, command };
  if (!reading.options.has("help")) checkArguments(invocation);
  return invocation;
}

/** The words that a person types for the command. */
export function spell(path: readonly Command[]): string {
  return path.map(({ name }) => name).join(" ");
}

function current(reading: Reading): Command {
  const command = reading.path.at(-1);
  if (command === undefined) throw new Error("a command line has no root");
  return command;
}

function usage(reading: { readonly path: readonly Command[] }, text: string): CliError {
  return new CliError("usage", `${text}\nsee: ${spell(reading.path)} --help`);
}

function readWord(reading: Reading, word: string): void {
  const command = current(reading);
  if (command.commands === undefined) {
    reading.args.push(word);
    const argument = command.args?.[Math.min(reading.args.length, command.args.length) - 1];
    if (argument?.rest === true) reading.args.push(...reading.left.splice(0));
    return;
  }
  const next = command.commands.find(({ name }) => name === word);
  if (next === undefined) {
    const names = command.commands.map(({ name }) => name);
    const near = nearest(word, names);
    const hint = near === undefined ? `there are: ${names.join(", ")}` : `did you mean "${near}"?`;
    throw usage(reading, `${spell(reading.path)} has no command "${word}"; ${hint}`);
  }
  reading.path.push(next);
}

function readOption(reading: Reading, word: string): void {
  const { name, attached } = splitOption(word);
  const known = optionsOf(current(reading));
  const option = known.find((candidate) =>
    word.startsWith("--") ? candidate.name === name : candidate.short === name,
  );
  if (option === undefined) {
    const near = nearest(
      name,
      known.map((candidate) => candidate.name),
    );
    const hint = near === undefined ? "" : `; did you mean "--${near}"?`;
    const shown = word.startsWith("--") ? `--${name}` : `-${name}`;
    throw usage(reading, `${spell(reading.path)} has no option "${shown}"${hint}`);
  }
  reading.options.set(option.name, readValue(reading, option, attached));
}

/** `--name=value`, `--name`, `-nvalue` or `-n`. */
function splitOption(word: string): { readonly name: string; readonly attached?: string } {
  if (!word.startsWith("--")) {
    const name = word.slice(1, 2);
    return word.length > 2 ? { name, attached: word.slice(2) } : { name };
  }
  const equals = word.indexOf("=");
  if (equals === -1) return { name: word.slice(2) };
  return { name: word.slice(2, equals), attached: word.slice(equals + 1) };
}

function readValue(reading: Reading, option: Option, attached: string | undefined): string {
  if (option.value === undefined) {
    if (attached !== undefined) throw usage(reading, `--${option.name} takes no value`);
    return "true";
  }
  const value = attached ?? reading.left.shift();
  if (value === undefined) throw usage(reading, `--${option.name} needs a value: ${option.value}`);
  if (option.choices !== undefined && !option.choices.includes(value)) {
    const choices = option.choices.join(", ");
    throw usage(reading, `--${option.name}: expected one of ${choices}, got "${value}"`);
  }
  return value;
}

function checkArguments(invocation: Invocation): void {
  const { command, args } = invocation;
  if (command.commands !== undefined) {
    const names = command.commands.map(({ name }) => name).join(", ");
    throw usage(invocation, `${spell(invocation.path)} needs a command: ${names}`);
  }
  const wanted = command.args ?? [];
  const missing = wanted[args.length];
  if (missing !== undefined && missing.optional !== true) {
    throw usage(invocation, `${spell(invocation.path)} needs ${missing.name}: ${missing.summary}`);
  }
  if (args.length > wanted.length && wanted.at(-1)?.rest !== true) {
    throw usage(
      invocation,
      `${spell(invocation.path)}: one word too many, "${args[wanted.length]}"`,
    );
  }
  for (const [index, argument] of wanted.entries()) {
    const value = args[index];
    if (value === undefined || argument.choices === undefined) continue;
    if (argument.choices.includes(value)) continue;
    const near = nearest(value, argument.choices);
    const hint = near === undefined ? "" : `; did you mean "${near}"?`;
    throw usage(
      invocation,
      `${argument.name}: expected one of ${argument.choices.join(", ")}, got "${value}"${hint}`,
    );
  }
}
