// SPDX-License-Identifier: Apache-2.0
// From objects and pins to typed maps and loaded programs. What was pinned before is used again, so
// that flows, services and their ids outlive the agent.

import { existsSync } from "node:fs";
import { join } from "node:path";
import { possibleCpus } from "../kernel/bpf.ts";
import { ensurePinDirectory, unpin } from "../kernel/bpffs.ts";
import { readBtf } from "../kernel/btf-load.ts";
import type { MapShape, TypedMapSpec } from "../kernel/codec.ts";
import { BpfMap } from "../kernel/map.ts";
import { type LoadedObject, openObject } from "../kernel/object.ts";
import type { BpfProgram } from "../kernel/program.ts";
import { ANY_IPV6 } from "../net/address.ts";
import { type SocketPrograms, socketPrograms } from "./attach-sockets.ts";
import { checkMap, checkObject } from "./check.ts";
import { writeConstants } from "./constants.ts";
import { type Takeover, takeOver } from "./copy.ts";
import { type Config, maps as specs } from "./gen/abi.ts";
import { finishLinks } from "./links.ts";
import { TypedMap } from "./maps.ts";
import { connectPrograms, keepPrograms, PROGRAM_TABLES } from "./programs.ts";
import { type Limits, type Sizes, sizesOf } from "./sizes.ts";

/** How a datapath is loaded. */
export interface DatapathOptions {
  /** Directory of edge.bpf.o, host.bpf.o, pod.bpf.o, node.bpf.o, socket.bpf.o, and IPv6's. */
  readonly objects: string;
  /** Directory of this node's pins, on a bpffs. */
  readonly pins: string;
  readonly limits: Limits;
  /** Without a nodeAddress6, no table and no program of IPv6 is made. */
  readonly constants: Omit<Config, "frontendMask" | "frontendMask6" | "counterStride">;
}

type Specs = typeof specs;
type MapOf<Spec> = Spec extends TypedMapSpec<infer K, infer V> ? TypedMap<K, V> : BpfMap;

/** Every map of the packet path, through its types, but for those of IPv6 alone. */
export type DatapathMaps = {
  readonly [Key in Exclude<
    keyof Specs,
    `${string}Programs` | `${string}6` | "scratch" | "captureCopies"
  >]: MapOf<Specs[Key]>;
};

/** The maps of IPv6 by the names of IPv4's: `conntrack` is conntrack6. */
export type WideMaps = {
  readonly [Key in keyof Specs as Key extends `${string}Programs6` | "scratch6"
    ? never
    : Key extends `${infer Name}6`
      ? Name
      : never]: MapOf<Specs[Key]>;
};

/** The programs of the packet path. */
export interface DatapathPrograms {
  readonly edgeIngress: BpfProgram;
  readonly fromNetwork: BpfProgram;
  readonly fromPod: BpfProgram;
  readonly fromNode: BpfProgram;
  readonly sockets: SocketPrograms;
  /** These, and those that they go on in. */
  readonly all: readonly BpfProgram[];
  /** Ids of the tables by which they go on. */
  readonly tables: ReadonlySet<number>;
}

/** The packet path in the kernel, not yet attached to anything new. */
export interface Datapath extends Disposable {
  readonly maps: DatapathMaps;
  /** Undefined where the node has no IPv6. */
  readonly wide: WideMaps | undefined;
  readonly programs: DatapathPrograms;
  readonly sizes: Sizes;
  /** What became of pinned maps that were not as wanted, one sentence each, for status. */
  readonly notes: readonly string[];
}

/** The objects of the packet path. */
export const OBJECTS = ["edge", "host", "pod", "node", "socket"] as const;
/** Their twins of IPv6. */
export const WIDE_OBJECTS = OBJECTS.map((name) => `${name}6` as const);

const OF_IPV6 = Object.values(specs)
  .map(({ name }) => name)
  .filter((name) => name.endsWith("6"));

/** Maps by name as they are found and made, from one object to the next. */
class MapSet implements Disposable {
  readonly found = new Map<string, BpfMap>();
  readonly takeovers: { readonly name: string; readonly old: BpfMap; readonly how: Takeover }[] =
    [];
  readonly #pins: string;
  readonly #fresh: string[] = [];

  constructor(pins: string) {
    this.#pins = pins;
  }

  /** Uses the pinned map again, or remembers what is to be taken over from it. Throws a refusal. */
  lookForPin(spec: MapShape | TypedMapSpec<unknown, unknown>): void {
    const path = join(this.#pins, spec.name);
    if (!existsSync(path)) return;
    const map = BpfMap.openPinned(path);
    try {
      const { btfId } = map.info;
      const check = checkMap(spec, map.info, btfId === 0 ? undefined : readBtf(btfId));
      if (check.kind === "refuse") throw new Error(check.reason);
      if (check.kind === "reuse") this.found.set(spec.name, map);
      else this.takeovers.push({ name: spec.name, old: map, how: check });
    } catch (error) {
      map.close();
      throw error;
    }
  }

  add(name: string, map: BpfMap): void {
    this.found.set(name, map);
    this.#fresh.push(name);
  }

  get(name: string): BpfMap {
    const map = this.found.get(name);
    if (map === undefined) throw new Error(`no object of the packet path has a map ${name}`);
    return map;
  }

  /** Fills new maps from those whose place they take, then pins them there. */
  publish(): string[] {
    const notes = this.takeovers.map(({ name, old, how }) => takeOver(old, this.get(name), how));
    for (const name of this.#fresh) {
      if (!isOfLoad(name)) this.get(name).pinByRename(join(this.#pins, name));
    }
    for (const { old } of this.takeovers) old.close();
    return notes;
  }

  [Symbol.dispose](): void {
    for (const map of this.found.values()) map.close();
    for (const { old } of this.takeovers) old.close();
  }
}

/**
 * Loads the programs on the node's pinned maps, or on new ones. Nothing that is attached changes:
 * that is for attach.ts. Throws AbiError, KernelError with the verifier's log, or an Error that
 * names the pinned map that can't be used; pins are then as they were.
 */
export function openDatapath(options: DatapathOptions): Datapath {
  ensurePinDirectory(options.pins);
  finishLinks(options.pins);
  const sizes = sizesOf(options.limits, possibleCpus());
  const { frontendMask, frontendMask6, counterStride } = sizes;
  const own = { frontendMask, frontendMask6, counterStride };
  const constants: Config = { ...options.constants, ...own };
  const wide = constants.nodeAddress6 !== ANY_IPV6;
  const maps = new MapSet(options.pins);
  const programs = new Map<string, BpfProgram>();
  try {
    for (const spec of Object.values(specs)) {
      if (isOfLoad(spec.name) || (!wide && OF_IPV6.includes(spec.name))) continue;
      maps.lookForPin(withSize(spec, sizes));
    }
    for (const name of wide ? [...OBJECTS, ...WIDE_OBJECTS] : OBJECTS) {
      const loaded = loadObject(join(options.objects, `${name}.bpf.o`), maps, sizes, constants);
      for (const [program, held] of loaded.programs) programs.set(program, held);
      for (const [map, held] of loaded.maps) {
        if (map.startsWith(".") || maps.found.has(map) || hasOwn(name, map)) held.close();
        else maps.add(map, held);
      }
    }
    const notes = maps.publish();
    if (!wide) dropIpv6(options.pins);
    connectPrograms(maps.found, programs);
    keepPrograms(options.pins, maps.found);
    return assemble(maps, programs, sizes, notes);
  } catch (error) {
    maps[Symbol.dispose]();
    for (const program of programs.values()) program.close();
    throw error;
  }
}

/** What programs put aside for a moment; those of a CPU take turns. */
const WORKPLACES: ReadonlySet<string> = new Set(
  [specs.scratch, specs.scratch6, specs.captureCopies].map(({ name }) => name),
);

/**
 * Whether the object has a workplace of its own. What another program sends meets node.bpf.c at
 * once, in the middle of that program: a note on its way out.
 */
function hasOwn(object: string, map: string): boolean {
  return object.startsWith("node") && WORKPLACES.has(map);
}

/** Its frontends would lead to whatever has their rows of services when IPv6 comes back. */
function dropIpv6(pins: string): void {
  for (const name of OF_IPV6) unpin(join(pins, name));
}

/** Whether a map is of one load alone, and of no use to the next. */
function isOfLoad(name: string): boolean {
  return Object.hasOwn(PROGRAM_TABLES, name) || WORKPLACES.has(name);
}

function programOf(programs: ReadonlyMap<string, BpfProgram>, name: string): BpfProgram {
  const found = programs.get(name);
  if (found === undefined) throw new Error(`no object of the packet path has a program ${name}`);
  return found;
}

function withSize<Spec extends MapShape>(spec: Spec, { entries }: Sizes): Spec {
  return { ...spec, maxEntries: entries[spec.name] ?? spec.maxEntries };
}

function loadObject(path: string, maps: MapSet, sizes: Sizes, constants: Config): LoadedObject {
  using object = openObject(path);
  checkObject(object.name, object.btf);
  for (const map of object.maps.values()) {
    const { initialValue } = map;
    if (map.name === ".rodata" && initialValue !== undefined) {
      writeConstants(object.btf, initialValue, constants);
    }
    const there = hasOwn(object.name, map.name) ? undefined : maps.found.get(map.name);
    if (there !== undefined) map.reuse(there);
    else map.maxEntries = sizes.entries[map.name] ?? map.maxEntries;
  }
  return object.load();
}

function assemble(
  set: MapSet,
  programs: ReadonlyMap<string, BpfProgram>,
  sizes: Sizes,
  notes: readonly string[],
): Datapath {
  const typed = <K, V>(spec: TypedMapSpec<K, V>): TypedMap<K, V> =>
    new TypedMap(set.get(spec.name), withSize(spec, sizes));
  const program = (name: string): BpfProgram => programOf(programs, name);
  const tables = Object.keys(PROGRAM_TABLES).flatMap((name) => set.found.get(name)?.info.id ?? []);
  return {
    maps: {
      affinities: typed(specs.affinities),
      backends: typed(specs.backends),
      capturedFrames: set.get(specs.capturedFrames.name),
      captures: typed(specs.captures),
      conntrack: typed(specs.conntrack),
      counters: typed(specs.counters),
      endpoints: typed(specs.endpoints),
      events: set.get(specs.events.name),
      formerOwners: typed(specs.formerOwners),
      fragments: typed(specs.fragments),
      frontends: typed(specs.frontends),
      limits: typed(specs.limits),
      metrics: typed(specs.metrics),
      nexthops: typed(specs.nexthops),
      peers: typed(specs.peers),
      rings: typed(specs.rings),
      runtime: typed(specs.runtime),
      services: typed(specs.services),
      socketPeers: typed(specs.socketPeers),
      sourceRanges: typed(specs.sourceRanges),
      targets: typed(specs.targets),
      trusted: typed(specs.trusted),
    },
    programs: {
      edgeIngress: program("edge_ingress"),
      fromNetwork: program("from_network"),
      fromPod: program("from_pod"),
      fromNode: program("from_node"),
      sockets: socketPrograms(programs),
      all: [...programs.values()],
      tables: new Set(tables),
    },
    wide: set.found.has(specs.conntrack6.name) ? wideMaps(typed) : undefined,
    sizes,
    notes,
    [Symbol.dispose]() {
      set[Symbol.dispose]();
      for (const held of programs.values()) held.close();
    },
  };
}

function wideMaps(typed: <K, V>(spec: TypedMapSpec<K, V>) => TypedMap<K, V>): WideMaps {
  return {
    affinities: typed(specs.affinities6),
    backends: typed(specs.backends6),
    conntrack: typed(specs.conntrack6),
    endpoints: typed(specs.endpoints6),
    formerOwners: typed(specs.formerOwners6),
    fragments: typed(specs.fragments6),
    frontends: typed(specs.frontends6),
    nexthops: typed(specs.nexthops6),
    peers: typed(specs.peers6),
    socketPeers: typed(specs.socketPeers6),
    sourceRanges: typed(specs.sourceRanges6),
    targets: typed(specs.targets6),
    trusted: typed(specs.trusted6),
  };
}
