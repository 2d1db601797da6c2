// SPDX-License-Identifier: Apache-2.0
// The packet path a second time, for packets that never were: what it reads are the node's own
// tables, what it writes are tables of its own. Nothing of the live packet path changes.

import { existsSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { listPins } from "../kernel/bpffs.ts";
import { parseBtf } from "../kernel/btf.ts";
import { readBtf } from "../kernel/btf-load.ts";
import { declaredConfig } from "../kernel/btf-object.ts";
import type { ConfigVar } from "../kernel/codec.ts";
import { BpfMap } from "../kernel/map.ts";
import { openObject } from "../kernel/object.ts";
import { BpfProgram } from "../kernel/program.ts";
import { RingReader } from "../kernel/ring.ts";
import type { Address } from "../net/address.ts";
import { checkObject } from "./check.ts";
import { writeConstants } from "./constants.ts";
import { type AnyPacketEvent, decodeEvent } from "./events.ts";
import {
  type Config,
  config,
  EventMask,
  type Place,
  Runtime,
  maps as specs,
  type Verdict,
} from "./gen/abi.ts";
import { openMetrics } from "./metrics.ts";
import { connectPrograms, PROGRAM_TABLES } from "./programs.ts";

/** Where the compiled packet path is: in a checkout's build, or beside the bundle. */
const OBJECTS = fileURLToPath(new URL("../../build/bpf", import.meta.url));
const OF_IPV4 = ["edge", "host", "pod"] as const;
const OF_IPV6 = ["edge6", "host6", "pod6"] as const;

/** What programs only read, so that the node's own can be shared with it. */
const READ: ReadonlySet<string> = new Set(
  [
    ["services", "rings"],
    ...[
      "frontends",
      "backends",
      "nexthops",
      "endpoints",
      "targets",
      "trusted",
      "peers",
      "former_owners",
      "source_ranges",
    ].map((name) => [name, `${name}6`]),
  ].flat(),
);

/** Entries of own tables; the others are as large as the node's. */
const SMALL: Readonly<Record<string, number>> = {
  counters: 1,
  events: 65_536,
  captured_frames: 65_536,
  affinities: 1024,
  affinities6: 1024,
  fragments: 1024,
  fragments6: 1024,
};

/** Entries that are in a table before the packet comes. */
export interface Before {
  readonly entries: readonly (readonly [key: Uint8Array, value: Uint8Array])[];
  /** Room for so many. */
  readonly room: number;
}

/** One packet through one program, and those that it went on in. */
export interface Rehearsed {
  readonly verdict: Verdict;
  /** What the program says to the kernel: XDP_* or TC_ACT_*. */
  readonly action: number;
  /** As it leaves. */
  readonly frame: Uint8Array;
  /** Id of the service port; 0 for none. */
  readonly service: number;
  /** The pod it was sent to; undefined for none. */
  readonly backend: Address | undefined;
}

export type RehearsedPlace = "edge" | "host" | "pod";
const PROGRAMS = { edge: "edge_ingress", host: "from_network", pod: "from_pod" } as const;
const PLACES: Readonly<Record<RehearsedPlace, Place>> = { edge: 0, host: 1, pod: 2 };
const MORE_BYTES = 256;

/** Programs and their tables, gone with it. */
export class Rehearsal implements Disposable {
  readonly #maps = new Map<string, BpfMap>();
  readonly #programs = new Map<string, BpfProgram>();

  /**
   * `pins`: the node's; `constants`: as its programs have them; `before`: what is in the private
   * tables of these names already.
   */
  constructor(pins: string, constants: Config, before: ReadonlyMap<string, Before>) {
    try {
      const isDual = existsSync(join(pins, specs.frontends6.name));
      for (const name of isDual ? [...OF_IPV4, ...OF_IPV6] : OF_IPV4) {
        this.#load(name, pins, constants, before);
      }
      connectPrograms(this.#maps, this.#programs);
      const runtime = new Uint8Array(Runtime.size);
      Runtime.encode(new DataView(runtime.buffer), 0, { events: EventMask.traces });
      this.#map("runtime").update(new Uint8Array(4), runtime);
      for (const [name, { entries }] of before) {
        for (const [key, value] of entries) this.#maps.get(name)?.update(key, value);
      }
    } catch (error) {
      this.close();
      throw error;
    }
  }

  /** Runs a packet that comes by a device of the calling namespace. */
  run(place: RehearsedPlace, frame: Uint8Array, ifindex: number): Rehearsed {
    const program = this.#programs.get(PROGRAMS[place]);
    if (program === undefined) throw new Error(`there is no program ${PROGRAMS[place]}`);
    const before = this.#counted(PLACES[place]);
    const context = place === "edge" ? { xdp: { ingressIfindex: ifindex } } : { skb: { ifindex } };
    const dataOutBytes = frame.length + MORE_BYTES;
    const { retval, data } = program.testRun({ data: frame, dataOutBytes, ...context });
    const after = this.#counted(PLACES[place]);
    const verdict = after.findIndex((packets, index) => packets !== before[index]);
    const event = this.#lastEvent();
    return {
      verdict: verdict as Verdict,
      action: retval,
      frame: data,
      service: event?.service ?? 0,
      backend: event?.backend || undefined,
    };
  }

  /** Says which of the node's programs, by their tags, aren't the ones that are rehearsed. */
  differences(tags: ReadonlyMap<string, string>): string[] {
    const others = [...tags].filter(([name, tag]) => {
      const own = this.#programs.get(name);
      return own !== undefined && own.info().tag !== tag;
    });
    if (others.length === 0) return [];
    const names = others.map(([name]) => name).join(", ");
    return [`the node's programs are of another build, which may answer otherwise: ${names}`];
  }

  close(): void {
    for (const map of this.#maps.values()) map.close();
    for (const program of this.#programs.values()) program.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }

  #load(name: string, pins: string, constants: Config, before: ReadonlyMap<string, Before>): void {
    using object = openObject(join(OBJECTS, `${name}.bpf.o`));
    checkObject(object.name, object.btf);
    for (const map of object.maps.values()) {
      const { initialValue } = map;
      if (initialValue !== undefined) {
        if (map.name === ".rodata") writeConstants(object.btf, initialValue, constants);
        continue;
      }
      const path = join(pins, map.name);
      const there = this.#maps.get(map.name) ?? (READ.has(map.name) ? openPin(path) : undefined);
      if (there !== undefined) {
        this.#maps.set(map.name, there);
        map.reuse(there);
      } else {
        map.maxEntries = before.get(map.name)?.room ?? SMALL[map.name] ?? sizeOf(path, map);
      }
    }
    const loaded = object.load();
    for (const [program, held] of loaded.programs) this.#programs.set(program, held);
    for (const [map, held] of loaded.maps) {
      if (map.startsWith(".") || this.#maps.has(map)) held.close();
      else this.#maps.set(map, held);
    }
  }

  #map(name: string): BpfMap {
    const map = this.#maps.get(name);
    if (map === undefined) throw new Error(`no object of the packet path has a map ${name}`);
    return map;
  }

  /** Packets by verdict. */
  #counted(place: Place): number[] {
    using metrics = openMetrics(this.#map("metrics"));
    const counts: number[] = [];
    for (const count of metrics.read()) {
      if (count.place === place) counts[count.verdict] = count.packets;
    }
    return counts;
  }

  #lastEvent(): AnyPacketEvent | undefined {
    using ring = new RingReader(this.#map("events"));
    let last: AnyPacketEvent | undefined;
    ring.read((view, offset, length) => {
      last = decodeEvent(view, offset, length) ?? last;
    });
    return last;
  }
}

function openPin(path: string): BpfMap | undefined {
  return existsSync(path) ? BpfMap.openPinned(path) : undefined;
}

/** As many entries as the node's table has. */
function sizeOf(path: string, fallback: { readonly maxEntries: number }): number {
  using map = openPin(path);
  return map?.info.maxEntries ?? fallback.maxEntries;
}

/** What the node's programs were loaded with, and whether they are those of this build. */
export interface Running {
  readonly constants: Config;
  /** Tags of programs by name: a hash of their instructions. */
  readonly tags: ReadonlyMap<string, string>;
}

const TABLE_PIN = /^((?:edge|host|pod)_programs6?)_(\d+)$/;

/** Reads them from the programs themselves. Throws where the node has none. */
export function readRunning(pins: string): Running {
  const newest = new Map<string, number>();
  for (const pin of listPins(pins)) {
    const [, name = "", id = ""] = TABLE_PIN.exec(pin) ?? [];
    if (name !== "") newest.set(name, Math.max(newest.get(name) ?? 0, Number(id)));
  }
  const tags = new Map<string, string>();
  const values: Partial<Record<keyof Config, unknown>> = {};
  for (const [name, id] of newest) {
    using table = BpfMap.openPinned(join(pins, `${name}_${id}`));
    for (const [slot, program] of Object.entries(PROGRAM_TABLES[name] ?? {})) {
      const found = table.lookup(word(Number(slot)));
      if (found === undefined) continue;
      using running = BpfProgram.openId(new DataView(found.buffer).getUint32(0, true));
      const info = running.info();
      tags.set(program, info.tag);
      readConstants(info.mapIds, values);
    }
  }
  const missing = Object.keys(config).filter((key) => !Object.hasOwn(values, key));
  if (newest.size === 0) throw new Error(`no programs are pinned in ${pins}: has an agent run?`);
  for (const key of missing) {
    const constant = config[key as keyof Config];
    values[key as keyof Config] = constant.initial;
  }
  return { constants: values as Config, tags };
}

/** Adds what a program's constants say; those that it doesn't use aren't in its object. */
function readConstants(
  mapIds: readonly number[],
  values: Partial<Record<keyof Config, unknown>>,
): void {
  for (const id of mapIds) {
    using map = BpfMap.openId(id);
    if (!map.name.endsWith(".rodata") || map.info.btfId === 0) continue;
    const bytes = map.lookup(new Uint8Array(4));
    if (bytes === undefined) continue;
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    const declared = declaredConfig(parseBtf(readBtf(map.info.btfId)));
    const offsets = new Map(declared.map(({ name, offset }) => [name, offset]));
    for (const [key, { name, codec }] of Object.entries<ConfigVar<unknown>>(config)) {
      const offset = offsets.get(name);
      if (offset !== undefined) values[key as keyof Config] = codec.decode(view, offset);
    }
  }
}

function word(value: number): Uint8Array {
  return new Uint8Array(Uint32Array.of(value).buffer);
}
