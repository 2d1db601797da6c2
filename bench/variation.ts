// SPDX-License-Identifier: Apache-2.0
// bench/wrap.bpf.c from here: runs a program on packets of many flows and takes its time.

import { resolve } from "node:path";
import { type LoadedObject, openObject } from "../src/kernel/object.ts";
import type { BpfProgram } from "../src/kernel/program.ts";
import { isWide } from "./frame.ts";

export const BUILD = resolve(import.meta.dirname, "../build/bench");
/** Frames come from so many flows, or from one. */
export const MANY_FLOWS = 65_536;

/** Packets that a program gets. */
export interface Traffic {
  readonly frame: Uint8Array;
  /** A power of two, at most MANY_FLOWS. */
  readonly flows: number;
  /** Flows are spread over so many destinations from the frame's own on, whose low half is 0. */
  readonly targets?: number;
}

/** The wrapper, loaded. */
export interface Wrapper extends Disposable {
  readonly object: LoadedObject;
  /** ns that a packet takes in wrapper and program. Throws when the last verdict is another one. */
  run(program: BpfProgram, traffic: Traffic, options: RunOptions): number;
}

export interface RunOptions {
  readonly packets: number;
  readonly verdict: number;
  readonly cpu?: number;
  /** The device that packets come in by; the loopback device when left out. */
  readonly ingress?: number;
  /** Carries verdicts out, out of and into this device. */
  readonly live?: { readonly ifindex: number };
}

/** struct variation, and where a frame has what is varied. */
const VARIATION_BYTES = 112;
const WORD = { next: 88, flowMask: 92, targets: 96, source: 100, destination: 104, ports: 108 };
const PLACES = {
  ipv4: { bytes: 64, source: 26, destination: 30, ports: 34 },
  ipv6: { bytes: 88, source: 34, destination: 50, ports: 54 },
};
const ZERO = new Uint8Array(4);

function encode({ frame, flows, targets }: Traffic): Uint8Array {
  const bytes = new Uint8Array(VARIATION_BYTES);
  const view = new DataView(bytes.buffer);
  const place = isWide(frame) ? PLACES.ipv6 : PLACES.ipv4;
  bytes.set(frame.subarray(0, place.bytes));
  view.setUint32(WORD.flowMask, flows - 1, true);
  view.setUint32(WORD.targets, targets ?? 0, true);
  for (const field of ["source", "destination", "ports"] as const) {
    bytes.set(frame.subarray(place[field], place[field] + 4), WORD[field]);
  }
  return bytes;
}

/** Loads the wrapper, which works for one program at a time. */
export function openWrapper(): Wrapper {
  using opened = openObject(`${BUILD}/wrap.bpf.o`);
  const object = opened.load();
  const [vary, vary6] = [object.program("vary"), object.program("vary6")];
  const slot = object.map("under_test");
  const variation = object.map(".data.variation");
  return {
    object,
    run(program, traffic, { packets, verdict, cpu, ingress, live }) {
      slot.update(ZERO, new Uint8Array(Uint32Array.of(program.fd).buffer));
      variation.update(ZERO, encode(traffic).subarray(0, variation.info.valueSize));
      const { retval, durationNs } = (isWide(traffic.frame) ? vary6 : vary).testRun({
        data: traffic.frame,
        repeat: packets,
        ...(cpu === undefined ? {} : { cpu }),
        ...(ingress === undefined ? {} : { xdp: { ingressIfindex: ingress } }),
        ...(live === undefined ? {} : { liveFrames: {}, xdp: { ingressIfindex: live.ifindex } }),
      });
      if (live === undefined && retval !== verdict) {
        throw new Error(`${program.name}: verdict ${retval} instead of ${verdict}`);
      }
      return durationNs;
    },
    [Symbol.dispose]: () => object.close(),
  };
}
