// SPDX-License-Identifier: Apache-2.0

import { Attr, bpf, Command } from "./bpf.ts";
import { check, KernelError } from "./error.ts";
import * as sys from "./ffi.ts";
import { explainFeature } from "./probe.ts";
import type { BpfProgram } from "./program.ts";

/** The fields of struct __sk_buff that a test may set, and reads back. What is left out is 0. */
export interface SkbContext {
  readonly mark?: number;
  readonly priority?: number;
  /** A device of the calling namespace; the loopback device when left out. */
  readonly ifindex?: number;
  readonly ingressIfindex?: number;
  /** Up to five words of skb->cb. */
  readonly cb?: readonly number[];
  readonly tstampNs?: bigint;
  /** At least the packet's length. */
  readonly wireLen?: number;
  readonly gsoSegs?: number;
  /** Written only: the kernel does not give it back. */
  readonly gsoSize?: number;
}

/** The fields of struct xdp_md that a test may set, and reads back. */
export interface XdpContext {
  /** A device of the calling namespace that runs XDP; the loopback device when left out. */
  readonly ingressIfindex?: number;
  readonly rxQueue?: number;
  /**
   * So many bytes in front of the packet are metadata, in `data` too. A multiple of 4, at most 32.
   */
  readonly metadataBytes?: number;
}

/** One test run. */
export interface TestRun {
  /** The frame from its Ethernet header on, 14 bytes at least. */
  readonly data: Uint8Array;
  /** For tc programs. */
  readonly skb?: SkbContext;
  /** For XDP programs. */
  readonly xdp?: XdpContext;
  /**
   * How often the program runs on the same packet, without resetting it; 1 when left out. More
   * often if the kernel was interrupted and had to begin again.
   */
  readonly repeat?: number;
  /**
   * tc only: the device has summed up the packet (CHECKSUM_COMPLETE), and EBADMSG tells that the
   * sum is not the packet's any more. EINVAL on kernels that don't know of it, as 6.12.
   */
  readonly summedUp?: boolean;
  /** Room for the packet that comes out; 256 bytes more than went in when left out. */
  readonly dataOutBytes?: number;
  /** The thread moves to this CPU for the run. */
  readonly cpu?: number;
  /**
   * XDP only: every repetition gets a packet of its own, and verdicts are carried out: TX and
   * redirect send, PASS goes up the stack. No packet comes back.
   */
  readonly liveFrames?: { readonly batchSize?: number };
}

/** What a test run gave. */
export interface TestRunResult {
  /** The program's verdict, signed: TCX_NEXT is -1. */
  readonly retval: number;
  readonly data: Uint8Array;
  /** The average of one repetition. */
  readonly durationNs: number;
  /** What a tc program left in its context. */
  readonly skb: Required<Omit<SkbContext, "gsoSize">>;
  /** What an XDP program left in its context. */
  readonly xdp: Required<XdpContext>;
}

const SKB_BYTES = 192;
const XDP_BYTES = 24;
const MAX_RETRIES = 10;
const CHECKSUM_COMPLETE = 4; // BPF_F_TEST_SKB_CHECKSUM_COMPLETE
const LIVE_FRAMES = 2; // BPF_F_TEST_XDP_LIVE_FRAMES

/** BpfProgram.testRun. */
export function testRun(program: BpfProgram, run: TestRun): TestRunResult {
  const isXdp = program.type === "xdp";
  const live = run.liveFrames !== undefined;
  const out = new Uint8Array(live ? 0 : (run.dataOutBytes ?? run.data.byteLength + 256));
  const context = new Attr(isXdp ? XDP_BYTES : SKB_BYTES);
  const attr = new Attr(80)
    .u32(0, program.fd)
    .u32(8, run.data.byteLength)
    .pointer(16, run.data)
    .u32(32, run.repeat ?? 1);
  if (isXdp) encodeXdp(context, run.xdp ?? {}, run.data.byteLength);
  else encodeSkb(context, run.skb ?? {});
  // Without a context of ours, Linux 6.18 takes a zeroed one, whose packet has no linear part.
  attr.u32(40, context.bytes.byteLength).pointer(48, context.bytes);
  if (out.byteLength > 0) attr.u32(12, out.byteLength).pointer(24, out);
  if (live) attr.u32(64, LIVE_FRAMES).u32(72, run.liveFrames?.batchSize ?? 0);
  else attr.u32(44, context.bytes.byteLength).pointer(56, context.bytes);
  if (run.summedUp === true) attr.u32(64, CHECKSUM_COMPLETE);
  const result = onCpu(run.cpu, () => runUninterrupted(attr));
  if (result < 0) {
    const detail = explain(result, run, attr.getU32(12));
    throw new KernelError("test-run program", program.name, result, { detail });
  }
  return {
    retval: attr.view.getInt32(4, true),
    data: out.subarray(0, attr.getU32(12)),
    durationNs: attr.getU32(36),
    skb: isXdp ? EMPTY_SKB : decodeSkb(context),
    xdp: isXdp ? decodeXdp(context) : EMPTY_XDP,
  };
}

function encodeSkb(context: Attr, skb: SkbContext): void {
  context
    .u32(8, skb.mark ?? 0)
    .u32(32, skb.priority ?? 0)
    .u32(36, skb.ingressIfindex ?? 0)
    .u32(40, skb.ifindex ?? 0)
    .u64(152, skb.tstampNs ?? 0n)
    .u32(160, skb.wireLen ?? 0)
    .u32(164, skb.gsoSegs ?? 0)
    .u32(176, skb.gsoSize ?? 0);
  for (const [index, word] of (skb.cb ?? []).entries()) context.u32(48 + index * 4, word);
}

function decodeSkb(context: Attr): TestRunResult["skb"] {
  return {
    mark: context.getU32(8),
    priority: context.getU32(32),
    ingressIfindex: context.getU32(36),
    ifindex: context.getU32(40),
    cb: [0, 1, 2, 3, 4].map((index) => context.getU32(48 + index * 4)),
    tstampNs: context.getU64(152),
    wireLen: context.getU32(160),
    gsoSegs: context.getU32(164),
  };
}

function encodeXdp(context: Attr, xdp: XdpContext, dataBytes: number): void {
  context
    .u32(0, xdp.metadataBytes ?? 0)
    .u32(4, dataBytes)
    .u32(12, xdp.ingressIfindex ?? 0)
    .u32(16, xdp.rxQueue ?? 0);
}

function decodeXdp(context: Attr): TestRunResult["xdp"] {
  return {
    metadataBytes: context.getU32(0),
    ingressIfindex: context.getU32(12),
    rxQueue: context.getU32(16),
  };
}

const EMPTY_SKB = decodeSkb(new Attr(SKB_BYTES));
const EMPTY_XDP = decodeXdp(new Attr(XDP_BYTES));

/**
 * A signal, or the io_uring of a child process that has just ended, cuts the repetitions short:
 * then they begin again.
 */
function runUninterrupted(attr: Attr): number {
  let result = bpf(Command.testRun, attr);
  for (let retry = 0; retry < MAX_RETRIES && result === EINTR; retry += 1) {
    result = bpf(Command.testRun, attr);
  }
  return result;
}

/** test.cpu is for tracing programs; packets are run where the thread is. */
function onCpu(cpu: number | undefined, action: () => number): number {
  if (cpu === undefined) return action();
  const before = new Uint8Array(128);
  check(sys.getAffinity(before), "read the affinity of", "this thread");
  const only = new Uint8Array(128);
  only[cpu >> 3] = 1 << (cpu & 7);
  check(sys.setAffinity(only), "move this thread to", `CPU ${cpu}`);
  try {
    return action();
  } finally {
    sys.setAffinity(before);
  }
}

const EINTR = -4;
const EINVAL = -22;
const ENODEV = -19;
const ENOSPC = -28;

function explain(result: number, run: TestRun, sizeOut: number): string {
  if (result === ENOSPC) return `the packet grew to ${sizeOut} bytes: raise dataOutBytes`;
  if (result === ENODEV) return "there is no such ifindex in this namespace";
  if (result !== EINVAL) return "";
  if (run.data.byteLength < 14) return "a packet has 14 bytes at least";
  if (run.liveFrames !== undefined) return explainFeature("liveFrames");
  if (run.xdp?.ingressIfindex !== undefined) return "an ingress device must run XDP";
  return "";
}
