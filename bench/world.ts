// SPDX-License-Identifier: Apache-2.0
// A node's kernel tables with so many services in them, and the programs loaded on them. No device
// is attached: packets come by BPF_PROG_TEST_RUN.

import { rmSync } from "node:fs";
import { resolve } from "node:path";
import {
  type Config,
  Dispatch,
  FrontendKind,
  type Ifindex,
  NexthopFlag,
  type Place,
  Trust,
  Verdict,
} from "../src/datapath/gen/abi.ts";
import {
  type Datapath,
  type DatapathOptions,
  openDatapath,
  type WideMaps,
} from "../src/datapath/load.ts";
import type { FrontendKey } from "../src/datapath/tables/hash.ts";
import type { NexthopSource, ServiceImage } from "../src/datapath/tables/images.ts";
import type { FamilyMaps } from "../src/datapath/tables/memory.ts";
import { openTables } from "../src/datapath/tables/tables.ts";
import { listPins, unpin } from "../src/kernel/bpffs.ts";
import { createRing, ringSizeFor } from "../src/lb/maglev.ts";
import {
  type Address,
  ANY_IPV4,
  ANY_IPV6,
  type Family,
  type Ipv4,
  type Ipv6,
  ipv6FromBigInt,
  parseIpv4,
} from "../src/net/address.ts";
import { parseMac } from "../src/net/mac.ts";
import { PROTOCOL } from "../src/net/protocol.ts";

/** Service i has address VIPS + i; its backends are BACKENDS + i × BACKENDS_PER_SERVICE and on. */
export const VIPS = parseIpv4("10.96.0.0");
export const BACKENDS = parseIpv4("10.128.0.0");
export const BACKENDS_PER_SERVICE = 10;
export const SERVICE_PORT = 80;
export const TARGET_PORT = 8080;
export const NODE_ADDRESS = parseIpv4("192.0.2.10");
export const CLIENT_MAC = parseMac("02:00:00:00:00:01");
export const NODE_MAC = parseMac("02:00:00:00:00:02");
export const GATEWAY_MAC = parseMac("02:00:00:00:00:03");
const PODS = resolve(import.meta.dirname, "../build/bpf");
const OUTER_MTU = 1500;
/** The device that a test run's packet comes in by unless told otherwise. */
export const LOOPBACK = 1 as Ifindex;

export interface WorldOptions {
  readonly services: number;
  /** Whether there are as many services of IPv6, too: their addresses are `wide` ones. */
  readonly wide?: boolean;
  /** The backends' node, where Geneve goes; none: to the pods themselves. */
  readonly peer?: Ipv4;
  /** Whether backends are pods of this node. */
  readonly local?: boolean;
  /** Where packets to other nodes leave; the device they came in by when left out. */
  readonly egress?: Ifindex;
  readonly constants?: Partial<Config>;
  /** Directory of the objects; what `make bpf` built when left out. */
  readonly objects?: string;
}

/** A datapath with services in its tables. */
export interface World extends Disposable {
  readonly datapath: Datapath;
  readonly services: number;
  /** Packets that ended in a verdict at a place since the world was made. */
  count(place: Place, verdict: Verdict): number;
  /** Those that ended there in any other. */
  countOthers(place: Place, verdict: Verdict): number;
}

/** The address of IPv6 that stands for one of IPv4: its last four bytes are the same. */
export function wide(address: Ipv4): Ipv6 {
  return ipv6FromBigInt((0xfd00n << 112n) | BigInt(address));
}

/** The address by which the same is said of a family. */
export function addressOf(family: Family, address: Ipv4): Address {
  return family === "ipv4" ? address : wide(address);
}

const CONSTANTS: DatapathOptions["constants"] = {
  nodeAddress: NODE_ADDRESS,
  nodeAddress6: ANY_IPV6,
  natPortMin: 32_768,
  nodePortMin: 0,
  nodePortMax: 0,
  nodeNetns: 0n,
  hashSeed: 0x1122334455667788n,
  outerPrefix: 0 as Ipv4,
  outerHostMask: 0,
  dispatch: Dispatch.ipip,
  acceptOption: 0,
  clampMss: 1440,
  fragmentsTrack: 1,
  fragmentsPass: 0,
  nodeClients: 0,
  socketLookup: 1,
  quietJiffies: 1000,
  passLimit: 1000,
  answerLimit: 1000,
  limitWindow: 100,
};

/** The defaults of a node's file, but for room in `ringEntries` that three worlds can afford. */
const LIMITS = {
  services: 65_536,
  backends: 262_144,
  ringEntries: 16_777_216,
  formerOwners: 1_048_576,
  endpoints: 4096,
  nodes: 16_384,
  sourceRanges: 16,
  affinities: 16,
  sockets: 16,
  flows: 262_144,
};

let worlds = 0;

/** Loads the programs and fills the tables through the writers that the agent has. */
export async function createWorld(options: WorldOptions): Promise<World> {
  worlds += 1;
  const pins = `/sys/fs/bpf/ciliate-bench-${process.pid}-${worlds}`;
  try {
    const datapath = openDatapath({
      objects: options.objects ?? PODS,
      pins,
      limits: LIMITS,
      constants: {
        ...CONSTANTS,
        ...(options.wide === true ? { nodeAddress6: wide(NODE_ADDRESS) } : {}),
        ...options.constants,
      },
    });
    await fill(datapath, options);
    return {
      datapath,
      services: options.services,
      count: (place, verdict) => countOf(datapath, place, verdict),
      countOthers: (place, verdict) =>
        ALL_VERDICTS.reduce(
          (sum, other) => (other === verdict ? sum : sum + countOf(datapath, place, other)),
          0,
        ),
      [Symbol.dispose]: () => datapath[Symbol.dispose](),
    };
  } finally {
    // The descriptors keep the maps; nothing has to find them by name.
    for (const name of listPins(pins)) unpin(`${pins}/${name}`);
    rmSync(pins, { recursive: true, force: true });
  }
}

async function fill(datapath: Datapath, options: WorldOptions): Promise<void> {
  const { maps, wide: wideMaps } = datapath;
  fillWays(datapath, options);
  const nexthops: NexthopSource = {
    acquire: () => 1,
    release: () => undefined,
    follow: () => undefined,
  };
  const ofFamily = (from: Datapath["maps"] | WideMaps): FamilyMaps => ({
    frontends: from.frontends.raw,
    backends: from.backends.raw,
  });
  using tables = await openTables({
    maps: {
      ...ofFamily(maps),
      services: maps.services.raw,
      rings: maps.rings.raw,
      wide: wideMaps && ofFamily(wideMaps),
    },
    nexthops,
    wideNexthops: wideMaps && nexthops,
    now: () => 0,
  });
  const families: readonly Family[] = wideMaps === undefined ? ["ipv4"] : ["ipv4", "ipv6"];
  const services = families.flatMap((family, part) =>
    Array.from({ length: options.services }, (_, index) => ({
      family,
      index,
      id: part * options.services + index + 1,
    })),
  );
  const images = services.map(({ family, index, id }) => ({
    key: id,
    value: imageOf(family, index, options.local ?? false),
  }));
  const frontends = services.flatMap(({ family, index, id }) =>
    frontendsOf(family, index).map((key) => ({
      key,
      value: key.kind === FrontendKind.service ? id : 0,
    })),
  );
  const refused = [
    ...(await tables.images.apply(images)),
    ...(await tables.frontends.apply(frontends)),
  ];
  if (refused[0] !== undefined) throw refused[0].error;
}

/** The way to other nodes, and who is trusted. */
function fillWays({ maps, wide: wideMaps }: Datapath, options: WorldOptions): void {
  const way = {
    ifindex: options.egress ?? LOOPBACK,
    mtu: OUTER_MTU,
    flags: NexthopFlag.resolved | NexthopFlag.edge,
    destination: GATEWAY_MAC,
    source: NODE_MAC,
  };
  const [gateway, peer] = [parseIpv4("192.0.2.1"), options.peer ?? ANY_IPV4];
  const checksum = outerSum(NODE_ADDRESS);
  maps.nexthops.update(1, { ...way, gateway, outerSource: NODE_ADDRESS, checksum, peer });
  const network = parseIpv4("10.0.0.0");
  maps.trusted.update({ prefixLength: 8, address: network }, { kind: Trust.node });
  if (wideMaps === undefined) return;
  wideMaps.nexthops.update(1, {
    ...way,
    gateway: wide(gateway),
    outerSource: wide(NODE_ADDRESS),
    checksum: 0,
    peer: peer === ANY_IPV4 ? ANY_IPV6 : wide(peer),
  });
  wideMaps.trusted.update({ prefixLength: 104, address: wide(network) }, { kind: Trust.node });
}

function frontendsOf(family: Family, index: number): FrontendKey[] {
  const address = addressOf(family, (VIPS + index) as Ipv4);
  const service = (protocol: number): FrontendKey => ({
    address,
    port: SERVICE_PORT,
    protocol,
    kind: FrontendKind.service,
  });
  const whole = { address, port: 0, protocol: 0, kind: FrontendKind.address };
  return [service(PROTOCOL.tcp), service(PROTOCOL.udp), whole];
}

function imageOf(family: Family, index: number, local: boolean): ServiceImage {
  const backends = Array.from({ length: BACKENDS_PER_SERVICE }, (_, backend) => {
    const number = index * BACKENDS_PER_SERVICE + backend;
    const address = addressOf(family, (BACKENDS + number) as Ipv4);
    return { address, port: TARGET_PORT, local, counter: number + 1, weight: 1 };
  });
  const ring = createRing(backends, ringSizeFor(backends.length));
  return { flags: 0, affinityAge: 0, ring, backends };
}

/**
 * The constant words of an outer header and the words of these addresses, as they lie in memory:
 * with the source alone it is struct nexthop's checksum.
 */
export function outerSum(...addresses: readonly Ipv4[]): number {
  const swap = (word: number): number => ((word & 0xff) << 8) | (word >>> 8);
  const halves = addresses.flatMap((address) => [address >>> 16, address & 0xffff]);
  const words = [0x4500, 0x4000, (64 << 8) | PROTOCOL.ipip, ...halves];
  return words.reduce((sum, word) => sum + swap(word), 0);
}

const VERDICT_SLOTS = 64;
const ROWS_PER_CPU = 8 * VERDICT_SLOTS;
const ALL_VERDICTS: readonly number[] = Object.values(Verdict);

function countOf(datapath: Datapath, place: Place, verdict: number): number {
  const rows = datapath.sizes.entries["metrics"] ?? 0;
  let count = 0;
  for (let row = place * VERDICT_SLOTS + verdict; row < rows; row += ROWS_PER_CPU) {
    count += Number(datapath.maps.metrics.lookup(row)?.packets ?? 0n);
  }
  return count;
}
