// SPDX-License-Identifier: Apache-2.0

import { Attr, bpf, Command, objectInfo, openId, openPin } from "./bpf.ts";
import { KernelError } from "./error.ts";
import * as sys from "./ffi.ts";
import { PROGRAM_TYPES, type ProgramType, programTypeName } from "./kinds.ts";
import { pin, pinByRename } from "./pin.ts";
import { type TestRun, type TestRunResult, testRun } from "./test-run.ts";

const EAGAIN = -11;
const MAX_RETRIES = 5;

/**
 * What the kernel knows of a program. Run figures stay 0 unless kernel.bpf_stats_enabled is set.
 */
export interface ProgramInfo {
  readonly id: number;
  readonly name: string;
  /** A hash of the instructions, 16 hex digits. */
  readonly tag: string;
  readonly type: ProgramType;
  /** Instructions that the verifier walked through, paths counted each. */
  readonly verifiedInstructions: number;
  readonly xlatedBytes: number;
  /** 0 without the JIT. */
  readonly jitedBytes: number;
  readonly mapIds: readonly number[];
  readonly btfId: number;
  readonly runCount: bigint;
  readonly runTimeNs: bigint;
}

/** A loaded program, held by a file descriptor. */
export class BpfProgram implements Disposable {
  readonly id: number;
  readonly name: string;
  readonly type: ProgramType;
  #fd: number;

  /** Takes over `fd`. */
  constructor(fd: number) {
    this.#fd = fd;
    const info = objectInfo(fd, "a program", new Attr(INFO_BYTES));
    this.type = programTypeName(info.getU32(0));
    this.id = info.getU32(4);
    this.name = info.getName(64, 16);
  }

  /** Opens the program that is pinned at `path`. */
  static openPinned(path: string): BpfProgram {
    return new BpfProgram(openPin(path, "prog"));
  }

  /** Opens the program with this id, whoever loaded it. */
  static openId(id: number): BpfProgram {
    return new BpfProgram(openId(Command.programFdById, "program", id));
  }

  /** Loads a program of a few instructions, 8 bytes each, that needs no object file. */
  static fromInstructions(
    type: ProgramType,
    name: string,
    instructions: Uint8Array,
    attachType = 0,
    flags = 0,
  ): BpfProgram {
    const attr = new Attr(LOAD_BYTES)
      .u32(0, PROGRAM_TYPES[type])
      .u32(4, instructions.length / INSTRUCTION_BYTES)
      .pointer(8, instructions)
      .string(16, "Dual BSD/GPL")
      .u32(44, flags)
      .name(48, 16, name)
      .u32(68, attachType);
    let fd = bpf(Command.programLoad, attr);
    // The verifier gives up when a signal comes.
    for (let retry = 0; fd === EAGAIN && retry < MAX_RETRIES; retry++) {
      fd = bpf(Command.programLoad, attr);
    }
    if (fd < 0) throw new KernelError("load program", name, fd);
    return new BpfProgram(fd);
  }

  /** The descriptor; it stays this object's. Throws after close. */
  get fd(): number {
    if (this.#fd < 0) throw new Error(`program ${this.name} is closed`);
    return this.#fd;
  }

  /** Asks the kernel, so that run figures are of now. */
  info(): ProgramInfo {
    const object = `program ${this.name}`;
    const mapCount = objectInfo(this.fd, object, new Attr(INFO_BYTES)).getU32(52);
    const mapIds = new Uint32Array(mapCount);
    const request = new Attr(INFO_BYTES).u32(52, mapCount);
    if (mapCount > 0) request.pointer(56, new Uint8Array(mapIds.buffer));
    const info = objectInfo(this.fd, object, request);
    return {
      type: this.type,
      id: this.id,
      name: this.name,
      tag: Buffer.from(info.bytes.subarray(8, 16)).toString("hex"),
      jitedBytes: info.getU32(16),
      xlatedBytes: info.getU32(20),
      mapIds: [...mapIds],
      btfId: info.getU32(128),
      runTimeNs: info.getU64(192),
      runCount: info.getU64(200),
      verifiedInstructions: info.getU32(216),
    };
  }

  /** Runs the program on a packet, with no device involved (BPF_PROG_TEST_RUN). */
  testRun(run: TestRun): TestRunResult {
    return testRun(this, run);
  }

  /** Pins the program at a free `path`. */
  pin(path: string): void {
    pin(this.fd, `program ${this.name}`, path);
  }

  /** Pins the program at `path` in the place of what is there. */
  pinByRename(path: string): void {
    pinByRename(this.fd, `program ${this.name}`, path);
  }

  /** Gives the descriptor back; the program lives on while a pin or a link holds it. */
  close(): void {
    if (this.#fd >= 0) sys.close(this.#fd);
    this.#fd = -1;
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

const INFO_BYTES = 232;
const LOAD_BYTES = 128;
const INSTRUCTION_BYTES = 8;
