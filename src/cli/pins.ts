// SPDX-License-Identifier: Apache-2.0
import type { Context } from "./command.ts";
import { CliError } from "./exit.ts";

const DEFAULT_PINS = "/sys/fs/bpf/ciliate";

/** Where the node's tables are pinned: `--bpffs`, $CILIATE_BPFFS, or the default. */
export function pinsOf({ option, env }: Pick<Context, "option" | "env">): string {
  return option("bpffs") ?? env["CILIATE_BPFFS"] ?? DEFAULT_PINS;
}

/** Reads pinned tables; throws CliError that says what to do where they can't be read. */
export function reading<Result>(directory: string, read: () => Result): Result {
  try {
    return read();
  } catch (error) {
    const code = error instanceof Error && "code" in error ? error.code : undefined;
    if (code === "ENOENT") {
      const hint = "has an agent run on this node? --bpffs names another directory";
      throw new CliError("notFound", `there are no tables in ${directory}: ${hint}`);
    }
    if (code === "EPERM" || code === "EACCES") {
      throw new CliError("failed", `may not read the tables in ${directory}: run as root`);
    }
    throw error;
  }
}
