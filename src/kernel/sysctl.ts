// SPDX-License-Identifier: Apache-2.0

import { readFileSync, writeFileSync } from "node:fs";
import { join, normalize } from "node:path";
import { inNamespace } from "./netns.ts";

/**
 * The file of a sysctl. Keys are written with slashes (net/ipv4/conf/eth0.5/rp_filter): with dots
 * a device's own dots could not be told apart.
 */
function fileOf(key: string): string {
  if (normalize(key) !== key || key.startsWith("/") || key.startsWith("..")) {
    throw new TypeError(`${JSON.stringify(key)} is not a sysctl: write it as net/ipv4/ip_forward`);
  }
  return join("/proc/sys", key);
}

/** A sysctl's value without its newline; of the network namespace at a path, if one is given. */
export function readSysctl(key: string, namespace?: string): string {
  const file = fileOf(key);
  const read = (): string => readFileSync(file, "utf8").trimEnd();
  return namespace === undefined ? read() : inNamespace(namespace, read);
}

/** Sets sysctls in order; those that already have the value are not written. */
export function writeSysctls(
  values: Readonly<Record<string, string | number>>,
  namespace?: string,
): void {
  const write = (): void => {
    for (const [key, value] of Object.entries(values)) {
      const file = fileOf(key);
      if (readFileSync(file, "utf8").trimEnd() !== String(value)) {
        writeFileSync(file, String(value));
      }
    }
  };
  if (namespace === undefined) write();
  else inNamespace(namespace, write);
}
