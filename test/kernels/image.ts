// SPDX-License-Identifier: Apache-2.0

// The guest has the host's own file system for its root, read-only over 9p with a tmpfs above it:
// the same Node, tools and checkout, nothing copied. So the initramfs only brings busybox and the
// modules that mounting that takes.

import { execFileSync } from "node:child_process";
import {
  chmodSync,
  copyFileSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  realpathSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { basename, join } from "node:path";

/** A kernel of .stamps/kernels, as tools/kernels left it. */
export interface Kernel {
  readonly version: string;
  /** The bootable image. */
  readonly image: string;
  /** What stands at /lib/modules of a machine that runs it. */
  readonly modules: string;
}

const TO_MOUNT_ROOT = ["virtio_pci", "9pnet_virtio", "9p", "overlay"];

/** Finds the kernel of a version as in `6.1`; `make test-kernels` has fetched it. */
export function findKernel(root: string, version: string): Kernel {
  // A checkout beside another may share its kernels by a link, which means nothing in the guest.
  const directory = realpathSync(join(root, ".stamps/kernels", version));
  const images = readdirSync(join(directory, "boot")).filter((name) => name.startsWith("vmlinuz"));
  const [image] = images;
  if (image === undefined) throw new Error(`${directory} holds no kernel: run tools/kernels`);
  return {
    version,
    image: join(directory, "boot", image),
    modules: join(directory, "lib/modules"),
  };
}

/** Files of a module and of what it needs, in the order to load them; none when it is built in. */
function moduleFiles(dependencies: string, name: string): string[] {
  const line = dependencies
    .split("\n")
    .find((one) => basename(one.split(":")[0] ?? "").startsWith(`${name}.ko`));
  if (line === undefined) return [];
  const [file = "", needs = ""] = line.split(":");
  return [...needs.trim().split(" ").filter(Boolean).reverse(), file];
}

function writeModule(from: string, to: string): void {
  if (from.endsWith(".xz")) {
    writeFileSync(to, execFileSync("xz", ["-dc", from], { maxBuffer: 2 ** 26 }));
  } else {
    copyFileSync(from, to);
  }
}

function stageModules(kernel: Kernel, staging: string): string[] {
  const [release = ""] = readdirSync(kernel.modules);
  const directory = join(kernel.modules, release);
  const dependencies = readFileSync(join(directory, "modules.dep"), "utf8");
  const files = new Set(TO_MOUNT_ROOT.flatMap((name) => moduleFiles(dependencies, name)));
  return [...files].map((file) => {
    const name = basename(file).replace(/\.xz$/, "");
    writeModule(join(directory, file), join(staging, name));
    return name;
  });
}

/** Writes an initramfs that runs these tests into `directory` and answers with its path. */
export function buildInitramfs(
  kernel: Kernel,
  directory: string,
  tests: readonly string[],
): string {
  const staging = join(directory, "initramfs");
  rmSync(staging, { recursive: true, force: true });
  for (const name of ["bin", "dev", "proc", "host", "over", "root"]) {
    mkdirSync(join(staging, name), { recursive: true });
  }
  copyFileSync("/bin/busybox", join(staging, "bin/busybox"));
  copyFileSync(join(import.meta.dirname, "init"), join(staging, "init"));
  chmodSync(join(staging, "init"), 0o755);
  const modules = stageModules(kernel, staging);
  writeFileSync(join(staging, "modules"), modules.map((name) => `${name}\n`).join(""));

  writeFileSync(join(staging, "tests"), tests.map((test) => `'${test}' `).join(""));

  const names = execFileSync("find", ["."], { cwd: staging });
  const archive = join(directory, "initramfs.cpio");
  const cpio = ["--quiet", "-o", "-H", "newc"];
  writeFileSync(
    archive,
    execFileSync("cpio", cpio, { cwd: staging, input: names, maxBuffer: 2 ** 28 }),
  );
  return archive;
}
