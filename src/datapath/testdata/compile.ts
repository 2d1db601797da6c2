// SPDX-License-Identifier: Apache-2.0
// Compiles C for tests as the Makefile does.

import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

const ROOT = join(import.meta.dirname, "../../..");
const MACHINE = process.arch === "arm64" ? "aarch64" : "x86_64";

/** The object made of a C source: a path, or the text itself when it has more than one line. */
export function compile(source: string): Uint8Array {
  const directory = mkdtempSync(join(tmpdir(), "ciliate-compile-"));
  try {
    const object = join(directory, "x.o");
    const inline = source.includes("\n");
    const clang = process.env["CLANG"] ?? "clang-19";
    const headers = [`-I${join(ROOT, "bpf")}`, "-idirafter", `/usr/include/${MACHINE}-linux-gnu`];
    const input = inline ? ["-x", "c", "-"] : [source];
    const options = ["-O2", "-g", "-target", "bpf", "-mcpu=v3", "-std=gnu11", ...headers];
    execFileSync(clang, [...options, "-c", ...input, "-o", object], {
      input: inline ? source : "",
      stdio: ["pipe", "inherit", "inherit"],
    });
    return readFileSync(object);
  } finally {
    rmSync(directory, { recursive: true });
  }
}
