// SPDX-License-Identifier: Apache-2.0
// How large each map is: from what the node's file says, and the machine.

/** Limits, as the node's file has them under `tables` and `conntrack`. */
export interface Limits {
  /** Frontends: one for each address, port and protocol of a service. */
  readonly services: number;
  readonly backends: number;
  readonly ringEntries: number;
  readonly formerOwners: number;
  readonly endpoints: number;
  readonly nodes: number;
  readonly sourceRanges: number;
  readonly affinities: number;
  readonly sockets: number;
  readonly flows: number;
}

/** Entries by map name, and what follows from them. */
export interface Sizes {
  readonly entries: Readonly<Record<string, number>>;
  readonly frontendMask: number;
  readonly frontendMask6: number;
  readonly counterStride: number;
  /** Ids of service ports are below. */
  readonly serviceIds: number;
}

const RING_ROW_SLOTS = 32;
const BUCKET_SLOTS = 4;
const METRIC_ROWS_PER_CPU = 8 * 64;
const COUNTER_BYTES = 32;

/** Memory that counters take at most: what has no counter is balanced all the same. */
const COUNTERS_BYTES = 256 * 1024 * 1024;

/** `struct backend` names a row of nexthops by two bytes. */
const MAX_NEXTHOPS = 65_535;

/** A service that changes has two rows for a moment, or for a thousand such moments at once. */
const SPARE_SERVICES = 1024;

/** First pieces of packets: the more there are, the faster strangers must be to flush others'. */
const FRAGMENTS = { least: 8192, most: 65_536 };
const FLOWS_PER_FRAGMENT = 8;

/** Sizes for `cpus` possible CPUs. */
export function sizesOf(limits: Limits, cpus: number): Sizes {
  // An address has a key of its own, so there are up to two for each frontend: half full at most.
  const buckets = powerOfTwo((limits.services * 2 * 2) / BUCKET_SLOTS);
  const serviceIds = limits.services + 1;
  const affordable = Math.floor(COUNTERS_BYTES / COUNTER_BYTES / cpus);
  const counterStride = Math.min(limits.backends + 1, affordable);
  const ofAddresses = {
    frontends: buckets,
    backends: limits.backends,
    nexthops: Math.min(MAX_NEXTHOPS, Math.max(1024, limits.nodes)),
    conntrack: limits.flows * 2,
    targets: Math.max(65_536, limits.endpoints * 16),
    endpoints: limits.endpoints,
    peers: limits.backends,
    trusted: limits.nodes,
    former_owners: limits.formerOwners,
    source_ranges: limits.sourceRanges,
    affinities: limits.affinities,
    socket_peers: limits.sockets,
    fragments: Math.min(
      FRAGMENTS.most,
      Math.max(FRAGMENTS.least, Math.floor(limits.flows / FLOWS_PER_FRAGMENT)),
    ),
  };
  const wide = Object.entries(ofAddresses).map(([name, count]) => [`${name}6`, count] as const);
  return {
    frontendMask: buckets - 1,
    frontendMask6: buckets - 1,
    counterStride,
    serviceIds,
    entries: {
      ...ofAddresses,
      ...Object.fromEntries(wide),
      services: limits.services + SPARE_SERVICES,
      rings: Math.ceil(limits.ringEntries / RING_ROW_SLOTS),
      counters: counterStride * cpus,
      metrics: METRIC_ROWS_PER_CPU * cpus,
      runtime: 1,
      limits: serviceIds,
    },
  };
}

function powerOfTwo(atLeast: number): number {
  return 2 ** Math.ceil(Math.log2(Math.max(1, atLeast)));
}
