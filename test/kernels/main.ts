// SPDX-License-Identifier: Apache-2.0

// Usage: test/kernels/main.ts [--kernel 6.1|6.12]... [FILE|GLOB]...   Boots each kernel in qemu
// (software emulation: no KVM needed) and runs these tests there, or the usual ones. One machine
// after the other, each with a limit; fails when one fails. Logs stay in build/kernels.

import { spawn } from "node:child_process";
import { createWriteStream, mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, relative, resolve } from "node:path";
import { createInterface } from "node:readline";
import { parseArgs, stripVTControlCharacters } from "node:util";
import { buildInitramfs, findKernel, type Kernel } from "./image.ts";
import { writeSources } from "./sources.ts";

const ROOT = resolve(import.meta.dirname, "../..");
const LOGS = join(ROOT, "build/kernels");
const VERSIONS = ["6.1", "6.12"];
const LIMIT_MS = 70 * 60_000;
const MEMORY_MB = 2048;

/** What runs there unless arguments say otherwise. */
const USUAL = [
  "test/kernels/smoke.ts",
  "test/kernels/service.ts",
  "test/kernels/vlan.ts",
  "test/kernels/sctp.ts",
  "test/kernels/loss.ts",
  "src/{kernel,datapath,device,node,conntrack}/**/*.root.test.ts",
  "test/packets/*.root.test.ts",
];

function machine(kernel: Kernel, initramfs: string): string[] {
  const parameters = [
    "console=ttyS0",
    "quiet",
    "panic=-1",
    "mitigations=off",
    "no_timer_check", // of a timer that a busy machine emulates too late
    `ciliate.top=${ROOT}`,
    `ciliate.modules=${kernel.modules}`,
    `ciliate.loader=${loader}`,
  ];
  return [
    ...["-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "2", "-m", `${MEMORY_MB}`],
    ...["-nographic", "-nodefaults", "-serial", "stdio", "-monitor", "none", "-no-reboot"],
    ...["-kernel", kernel.image, "-initrd", initramfs, "-append", parameters.join(" ")],
    ...["-device", "isa-debug-exit,iobase=0xf4,iosize=4"],
    ...["-fsdev", "local,id=host,path=/,security_model=none,readonly=on,multidevs=remap"],
    ...["-device", "virtio-9p-pci,fsdev=host,mount_tag=host"],
  ];
}

function logFile(version: string): string {
  return join(LOGS, `${version}.log`);
}

/** Boots a kernel, prints what the machine says, and answers with the exit code of what ran. */
async function boot(version: string, arguments_: readonly string[]): Promise<number | string> {
  const kernel = findKernel(ROOT, version);
  const initramfs = buildInitramfs(kernel, staging, arguments_);
  const log = createWriteStream(logFile(version));
  const qemu = spawn("qemu-system-x86_64", machine(kernel, initramfs), {
    stdio: ["ignore", "pipe", "inherit"],
    timeout: LIMIT_MS,
    killSignal: "SIGKILL",
  });
  process.once("exit", () => qemu.kill("SIGKILL"));
  const ended = new Promise<number | null>((done, failed) => {
    qemu.on("error", failed).on("exit", done);
  });
  for await (const line of createInterface({ input: qemu.stdout })) {
    const text = stripVTControlCharacters(line).trimEnd();
    log.write(`${text}\n`);
    process.stdout.write(`${version.padEnd(4)} | ${text}\n`);
  }
  const code = await ended;
  log.end();
  if (code === null) return `not over after ${LIMIT_MS / 60_000} minutes`;
  // isa-debug-exit makes 2 * code + 1; an even code is the end of a machine that gave no verdict.
  return code % 2 === 1 ? (code - 1) / 2 : "the machine ended without a verdict";
}

const { values, positionals } = parseArgs({
  options: { kernel: { type: "string", multiple: true, default: VERSIONS } },
  allowPositionals: true,
});

mkdirSync(LOGS, { recursive: true });
const loader = writeSources(ROOT, join(LOGS, "sources"));
const staging = mkdtempSync(join(tmpdir(), "ciliate-kernels-"));
process.once("exit", () => rmSync(staging, { recursive: true, force: true }));
for (const signal of ["SIGINT", "SIGTERM"] as const) process.once(signal, () => process.exit(1));
process.stdout.on("error", () => process.exit(1)); // nobody reads on
let failed = false;
for (const version of values.kernel) {
  const began = Date.now();
  const verdict = await boot(version, positionals.length > 0 ? positionals : USUAL);
  const seconds = Math.round((Date.now() - began) / 1000);
  const log = relative(ROOT, logFile(version));
  const text = verdict === 0 ? "passed" : `failed (${verdict}), see ${log}`;
  process.stdout.write(`Linux ${version}: ${text}, ${seconds} s\n`);
  failed ||= verdict !== 0;
}
process.exitCode = failed ? 1 : 0;
