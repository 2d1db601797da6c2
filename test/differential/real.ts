// SPDX-License-Identifier: Apache-2.0
// The real datapath of one node: programs and maps loaded as an agent loads them, run on test
// packets.

import { randomUUID } from "node:crypto";
import { rmdirSync } from "node:fs";
import { join } from "node:path";
import { type Datapath, type DatapathOptions, openDatapath } from "../../src/datapath/load.ts";
import type { Limits } from "../../src/datapath/sizes.ts";
import { listPins, unpin } from "../../src/kernel/bpffs.ts";
import { KernelError } from "../../src/kernel/error.ts";
import type { MapMapping } from "../../src/kernel/map-memory.ts";
import type { BpfProgram } from "../../src/kernel/program.ts";
import type { TestRun, TestRunResult } from "../../src/kernel/test-run.ts";
import type { Family } from "../../src/net/address.ts";
import type { Place } from "../model/numbers.ts";

export const OBJECTS = join(import.meta.dirname, "../../build/bpf");

export interface RealOptions {
  /** Directory of the objects. */
  readonly objects: string;
  readonly limits: Limits;
  readonly constants: DatapathOptions["constants"];
  /** Whose tables `maps` are. */
  readonly family: Family;
}

/** What a program made of a frame. */
export interface Run {
  readonly retval: number;
  readonly frame: Uint8Array;
  /** The verdicts that metrics counted at the place, with the bytes; one if all is well. */
  readonly counted: readonly { readonly verdict: number; readonly bytes: number }[];
}

export interface Frame {
  readonly frame: Uint8Array;
  readonly ifindex: number;
  readonly gsoSize: number;
  /** As TestRun has it. */
  readonly summedUp?: boolean;
}

const VERDICTS = 64;
const PLACES = 8;
const METRIC_WORDS = 4;
const NUMBER_OF: Readonly<Record<Place, number>> = { edge: 0, host: 1, pod: 2, node: 4 };
/** The longest frame that comes out has headers more than the one that went in. */
const MORE_BYTES = 128;

/** Runs the programs of a loaded datapath on test packets. */
export class Runner {
  readonly #programs: Datapath["programs"];
  readonly #mapping: MapMapping;
  readonly #words: Uint32Array;
  #sumsUp = true;

  constructor({ programs, maps }: Datapath) {
    this.#programs = programs;
    this.#mapping = maps.metrics.raw.mmap({ readOnly: true });
    this.#words = new Uint32Array(this.#mapping.buffer);
  }

  /** `cpu`: the one to run on; any when left out. */
  run(place: Place, { frame, ifindex, gsoSize, summedUp = false }: Frame, cpu?: number): Run {
    const before = this.#countsOf(place);
    const context =
      place === "edge" ? { xdp: { ingressIfindex: ifindex } } : { skb: { ifindex, gsoSize } };
    const dataOutBytes = frame.length + MORE_BYTES;
    const result = this.#testRun(place, {
      data: frame,
      dataOutBytes,
      summedUp,
      ...context,
      ...(cpu === undefined ? {} : { cpu }),
    });
    return {
      retval: result.retval,
      frame: result.data,
      counted: difference(before, this.#countsOf(place)),
    };
  }

  close(): void {
    this.#mapping.close();
  }

  /** Older kernels know no sums in test runs. */
  #testRun(place: Place, run: TestRun): TestRunResult {
    const program = this.#program(place);
    if (run.summedUp !== true || !this.#sumsUp) return program.testRun({ ...run, summedUp: false });
    try {
      return program.testRun(run);
    } catch (error) {
      if (!(error instanceof KernelError) || error.code !== "EINVAL") throw error;
      this.#sumsUp = false;
      return this.#testRun(place, run);
    }
  }

  #program(place: Place): BpfProgram {
    const { edgeIngress, fromNetwork, fromPod, fromNode } = this.#programs;
    return { edge: edgeIngress, host: fromNetwork, pod: fromPod, node: fromNode }[place];
  }

  /** Low words of packets and bytes, two a verdict, all CPUs added up. */
  #countsOf(place: Place): Uint32Array {
    const words = this.#words;
    const cpus = words.length / (PLACES * VERDICTS * METRIC_WORDS);
    const counts = new Uint32Array(2 * VERDICTS);
    for (let cpu = 0; cpu < cpus; cpu++) {
      let at = (cpu * PLACES + NUMBER_OF[place]) * VERDICTS * METRIC_WORDS;
      for (let index = 0; index < counts.length; index++, at += 2) {
        counts[index] = (counts[index] ?? 0) + (words[at] ?? 0);
      }
    }
    return counts;
  }
}

export class RealNode {
  readonly #options: RealOptions;
  readonly #pins = `/sys/fs/bpf/ciliate-model-${process.pid}-${randomUUID().slice(0, 8)}`;
  #datapath: Datapath;
  #runner: Runner;

  constructor(options: RealOptions) {
    this.#options = options;
    try {
      this.#datapath = this.#open();
      this.#runner = new Runner(this.#datapath);
    } catch (error) {
      this.#removePins();
      throw error;
    }
  }

  /**
   * The tables of the node's family. Those of IPv6 take and give a bigint wherever an address is
   * spoken of as IPv4's.
   */
  get maps(): Datapath["maps"] {
    const { maps, wide } = this.#datapath;
    if (this.#options.family === "ipv4") return maps;
    if (wide === undefined) throw new Error("the packet path has no tables of IPv6");
    return { ...maps, ...(wide as unknown as Datapath["maps"]) };
  }

  get sizes(): Datapath["sizes"] {
    return this.#datapath.sizes;
  }

  /** What a new agent does: loads the programs again, on the maps that are pinned. */
  restart(): void {
    const before = this.#datapath;
    this.#datapath = this.#open();
    this.#runner.close();
    this.#runner = new Runner(this.#datapath);
    before[Symbol.dispose]();
  }

  run(place: Place, frame: Frame): Run {
    return this.#runner.run(place, frame);
  }

  close(): void {
    this.#runner.close();
    this.#datapath[Symbol.dispose]();
    this.#removePins();
  }

  #open(): Datapath {
    return openDatapath({ ...this.#options, pins: this.#pins });
  }

  #removePins(): void {
    for (const name of listPins(this.#pins)) unpin(join(this.#pins, name));
    rmdirSync(this.#pins);
  }
}

function difference(before: Uint32Array, after: Uint32Array): Run["counted"] {
  const counted: { verdict: number; bytes: number }[] = [];
  const more = (index: number): number => ((after[index] ?? 0) - (before[index] ?? 0)) >>> 0;
  for (let verdict = 0; verdict < VERDICTS; verdict++) {
    const [packets, bytes] = [more(2 * verdict), more(2 * verdict + 1)];
    for (let packet = 0; packet < packets; packet++) counted.push({ verdict, bytes });
    if (packets === 0 && bytes !== 0) counted.push({ verdict, bytes });
  }
  return counted;
}
