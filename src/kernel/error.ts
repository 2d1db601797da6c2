// SPDX-License-Identifier: Apache-2.0

import { constants } from "node:os";
import { strerror } from "./ffi.ts";

// Errnos that Node's own table leaves out; ENOTSUPP was never meant to leave the kernel, and does.
const EXTRA = { ENOTUNIQ: 76, EUCLEAN: 117, ENOKEY: 126, ENOTSUPP: 524 };

const LIBBPF_ERRNO = 4000; // where libbpf's own numbers begin

const codes: ReadonlyMap<number, string> = new Map(
  Object.entries({ ...constants.errno, ...EXTRA })
    .filter(([name]) => name !== "EWOULDBLOCK" && name !== "ENOTSUP")
    .map(([name, errno]) => [errno, name]),
);

/** The symbolic name of an errno (positive), such as "ENOENT"; "E999" where there is none. */
export function errorCode(errno: number): string {
  if (errno >= LIBBPF_ERRNO) return "ELIBBPF";
  return codes.get(errno) ?? `E${errno}`;
}

function words(errno: number): string {
  if (errno >= LIBBPF_ERRNO) return "refused by libbpf";
  return errno === EXTRA.ENOTSUPP
    ? "operation not supported by this kernel"
    : strerror(errno).toLowerCase();
}

/** More about a failure than its errno says. */
export interface KernelErrorDetail {
  /** One sentence: what the kernel said, or the way out. */
  readonly detail?: string;
  /** The verifier's whole log. */
  readonly log?: string;
  readonly cause?: unknown;
}

/** The kernel refused something: what was tried, on what, and why. */
export class KernelError extends Error {
  override readonly name: string = "KernelError";
  /** What was tried: "create map", "load program". */
  readonly operation: string;
  /** On what: a name, a path, a device. */
  readonly object: string;
  /** The positive errno. */
  readonly errno: number;
  /** Its name: "ENOENT". */
  readonly code: string;
  /** What the kernel or a probe had to add, or "". */
  readonly detail: string;
  /** The verifier's whole log, or "". */
  readonly log: string;

  /** `result` is an errno of either sign: what a call of ffi.ts returned. */
  constructor(operation: string, object: string, result: number, more: KernelErrorDetail = {}) {
    const errno = Math.abs(result);
    const code = errorCode(errno);
    const detail = more.detail ?? "";
    const text = `cannot ${operation} ${object}: ${words(errno)} (${code})`;
    super(detail === "" ? text : `${text}: ${detail}`, { cause: more.cause });
    this.operation = operation;
    this.object = object;
    this.errno = errno;
    this.code = code;
    this.detail = detail;
    this.log = more.log ?? "";
  }
}

/** Passes a result >= 0 through and throws a KernelError for -errno. */
export function check(result: number, operation: string, object: string): number {
  if (result < 0) throw new KernelError(operation, object, result);
  return result;
}
