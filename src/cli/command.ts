// SPDX-License-Identifier: Apache-2.0
import type { Output } from "./output.ts";

/** An option. Without `value` it is a switch. */
export interface Option {
  readonly name: string;
  readonly short?: string;
  readonly summary: string;
  /** What its value is called in help. */
  readonly value?: string;
  /** The only values there are. */
  readonly choices?: readonly string[];
  /** Completed as a path. */
  readonly path?: boolean;
}

/** A word that follows the command. */
export interface Argument {
  readonly name: string;
  readonly summary: string;
  readonly optional?: boolean;
  /** Takes all words that are left, options included. */
  readonly rest?: boolean;
  readonly choices?: readonly string[];
  /** What completion offers, where that is more than the command line wants to know. */
  readonly suggestions?: () => Promise<readonly string[]>;
  readonly path?: boolean;
}

/** One command; what has `commands` only groups them. */
export interface Command {
  readonly name: string;
  readonly summary: string;
  /** What help tells besides. */
  readonly detail?: string;
  readonly options?: readonly Option[];
  readonly args?: readonly Argument[];
  readonly commands?: readonly Command[];
  /** Imports what the command needs only when it runs. */
  readonly load?: () => Promise<Run>;
}

/** Does the work of a command. What it gives is the exit code. */
export type Run = (context: Context) => Promise<number>;

/** What a command gets. */
export interface Context {
  /** The words after the command, those of a `rest` argument included. */
  readonly args: readonly string[];
  /** The value of an option, "true" for a switch; undefined if it wasn't given. */
  option(name: string): string | undefined;
  readonly output: Output;
  readonly env: Readonly<Record<string, string | undefined>>;
  /** Ends with SIGINT and SIGTERM. */
  readonly signal: AbortSignal;
}

/** Options of every command. */
export const GLOBAL_OPTIONS: readonly Option[] = [
  {
    name: "output",
    short: "o",
    value: "FORMAT",
    choices: ["text", "json"],
    summary: "text for people (default), or json",
  },
  {
    name: "socket",
    value: "PATH",
    path: true,
    summary: "the agent's socket (default $CILIATE_SOCKET, /run/ciliate/ciliate.sock)",
  },
  {
    name: "timeout",
    value: "DURATION",
    summary: "how long to wait for the agent's answer (default 5s)",
  },
  {
    name: "color",
    value: "WHEN",
    choices: ["auto", "always", "never"],
    summary: "auto (default): on a terminal, unless $NO_COLOR is set",
  },
  { name: "help", short: "h", summary: "what the command does and takes" },
];

/** All options of a command, its own first. */
export function optionsOf(command: Command): readonly Option[] {
  return [...(command.options ?? []), ...GLOBAL_OPTIONS];
}
