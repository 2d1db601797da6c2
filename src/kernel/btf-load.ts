// SPDX-License-Identifier: Apache-2.0

import { Attr, bpf, Command, objectInfo, openId } from "./bpf.ts";
import { KernelError } from "./error.ts";
import * as sys from "./ffi.ts";

/** The raw .BTF bytes behind a BTF id, such as a map's or a program's. */
export function readBtf(id: number): Uint8Array {
  const fd = openId(Command.btfFdById, "BTF", id);
  try {
    const size = objectInfo(fd, `BTF ${id}`, new Attr(32)).getU32(8);
    const bytes = new Uint8Array(size);
    objectInfo(fd, `BTF ${id}`, new Attr(32).pointer(0, bytes).u32(8, size));
    return bytes;
  } finally {
    sys.close(fd);
  }
}

/** A BTF in the kernel, held by a descriptor; a map made with it keeps it alive. */
export class LoadedBtf implements Disposable {
  #fd: number;

  /** Gives the kernel raw .BTF bytes. */
  constructor(bytes: Uint8Array) {
    const log = new Uint8Array(65536);
    const attr = new Attr(32).pointer(0, bytes).u32(16, bytes.byteLength);
    this.#fd = bpf(Command.btfLoad, attr);
    if (this.#fd >= 0) return;
    attr.pointer(8, log).u32(20, log.byteLength).u32(24, 1);
    const result = bpf(Command.btfLoad, attr);
    const text = new TextDecoder().decode(log.subarray(0, log.indexOf(0))).trimEnd();
    const detail = text.split("\n").at(-1) ?? "";
    throw new KernelError("load", "BTF", result, { detail, log: text });
  }

  get fd(): number {
    if (this.#fd < 0) throw new Error("this BTF is closed");
    return this.#fd;
  }

  close(): void {
    if (this.#fd >= 0) sys.close(this.#fd);
    this.#fd = -1;
  }

  [Symbol.dispose](): void {
    this.close();
  }
}
