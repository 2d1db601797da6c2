// SPDX-License-Identifier: Apache-2.0

// Little is imported here, as `ciliate version` pays for all of it: each command brings its own.

import type { Context } from "./command.ts";
import { ROOT } from "./commands.ts";
import { CliError, EXIT } from "./exit.ts";
import { createOutput } from "./output.ts";
import { type Invocation, parseCommandLine } from "./parse.ts";

/** Runs one command line and gives its exit code. */
async function main(words: readonly string[]): Promise<number> {
  const invocation = parseCommandLine(ROOT, words);
  if (invocation.options.has("help") || invocation.command.load === undefined) {
    const { helpText } = await import("./help.ts");
    process.stdout.write(helpText(invocation.path));
    return EXIT.ok.code;
  }
  const run = await invocation.command.load();
  return run(createContext(invocation));
}

function createContext({ args, options }: Invocation): Context {
  const output = createOutput({
    format: options.get("output") === "json" ? "json" : "text",
    colour: wantsColour(options.get("color")),
    write: (text) => process.stdout.write(text),
  });
  const option = (name: string): string | undefined => options.get(name);
  return {
    args,
    option,
    output,
    env: process.env,
    get signal() {
      return endSignal();
    },
  };
}

/** Only a command that asks for it is spared the signals' default, which ends the process. */
function endSignal(): AbortSignal {
  const ended = new AbortController();
  process.once("SIGINT", () => ended.abort());
  process.once("SIGTERM", () => ended.abort());
  return ended.signal;
}

function wantsColour(when: string | undefined): boolean {
  if (when === "always") return true;
  const { NO_COLOR, TERM } = process.env;
  const plain = (NO_COLOR !== undefined && NO_COLOR !== "") || TERM === "dumb";
  return when !== "never" && process.stdout.isTTY === true && !plain;
}

/** The exit code of a failure, after its message was shown. */
function fail(error: unknown): number {
  const message = error instanceof Error ? error.message : String(error);
  process.stderr.write(`ciliate: ${message}\n`);
  if (error instanceof CliError) return EXIT[error.exit].code;
  const code = error instanceof Error && "code" in error ? error.code : undefined;
  if (code === "usage") return EXIT.usage.code;
  if (code === "unreachable") return EXIT.unreachable.code;
  if (code === "not-found") return EXIT.notFound.code;
  return EXIT.failed.code;
}

// A reader that has seen enough, as in `ciliate monitor | head`, is no failure.
process.stdout.on("error", (error: NodeJS.ErrnoException) => {
  process.exit(error.code === "EPIPE" ? EXIT.ok.code : EXIT.failed.code);
});

process.exitCode = await main(process.argv.slice(2)).catch(fail);
