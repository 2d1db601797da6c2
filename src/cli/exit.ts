// SPDX-License-Identifier: Apache-2.0

/** What the process ends with; `ciliate --help` shows this table. */
export const EXIT = {
  ok: { code: 0, meaning: "done" },
  failed: { code: 1, meaning: "it was tried and failed" },
  usage: { code: 2, meaning: "the command line is wrong" },
  unreachable: { code: 3, meaning: "the agent is not running, or gave no answer in time" },
  notFound: { code: 4, meaning: "there is no such object" },
  notReady: { code: 5, meaning: "status: the agent answers and is not ready" },
} as const;

/** A failure with the exit code that scripts see; the message is shown once, after `ciliate: `. */
export class CliError extends Error {
  override readonly name = "CliError";
  readonly exit: keyof typeof EXIT;

  constructor(exit: keyof typeof EXIT, message: string, options?: ErrorOptions) {
    super(message, options);
    this.exit = exit;
  }
}
