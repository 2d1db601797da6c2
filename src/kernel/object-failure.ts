// SPDX-License-Identifier: Apache-2.0

import { errorCode, KernelError } from "./error.ts";
import type { BpfObject } from "./object.ts";
import { explainMap } from "./probe.ts";
import { missingFromKernel, summarizeVerifierLog } from "./verifier-log.ts";

/** Says why an object did not load, from what libbpf printed and what the verifier logged. */
export function loadFailure(
  object: BpfObject,
  result: number,
  lines: readonly string[],
  log: string,
): KernelError {
  const program = find(lines, /prog '([^']+)': (?:BPF program load failed|failed to load)/);
  if (program !== undefined) {
    const detail = [summarizeVerifierLog(log), missingFromKernel(log)].filter(
      (text) => text !== "",
    );
    const name = `${program} of ${object.path}`;
    return new KernelError("load program", name, result, { detail: detail.join("; "), log });
  }
  const map = object.maps.get(find(lines, /map '([^']+)': failed to create/) ?? "");
  if (map !== undefined && map.type !== "unspec") {
    const { type, maxEntries, flags } = map;
    const detail = explainMap({ type, maxEntries, flags }, result);
    return new KernelError("create map", `${map.name} of ${object.path}`, result, { detail });
  }
  const detail = errorCode(-result) === "EPERM" ? "root is needed" : lastWords(lines);
  return new KernelError("load object", object.path, result, { detail, log });
}

/** The last thing that libbpf said that has content. */
export function lastWords(lines: readonly string[]): string {
  const said = lines.filter((line) => !/failed to load object/.test(line));
  return said.at(-1)?.replace(/^libbpf: /, "") ?? "";
}

function find(lines: readonly string[], pattern: RegExp): string | undefined {
  return lines.map((line) => pattern.exec(line)?.[1]).find((name) => name !== undefined);
}
