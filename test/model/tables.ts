// SPDX-License-Identifier: Apache-2.0
// What a node knows. Rows are as in bpf/abi/maps.h; ports and MACs are numbers.

import type { Address } from "./family.ts";

/** The constants of bpf/abi/config.h. */
export interface Config {
  nodeAddress: Address;
  natPortMin: number;
  nodePortMin: number;
  nodePortMax: number;
  frontendMask: number;
  hashSeed: bigint;
  outerPrefix: number;
  outerHostMask: number;
  /** One of DISPATCH. */
  dispatch: number;
  acceptOption: boolean;
  clampMss: number;
  fragmentsTrack: boolean;
  fragmentsPass: boolean;
  nodeClients: boolean;
  socketLookup: boolean;
  quietJiffies: number;
  passLimit: number;
  answerLimit: number;
  limitWindow: number;
}

/** Rows that each table has; an index beyond is DROP_TABLE. */
export interface Limits {
  services: number;
  rings: number;
  backends: number;
  nexthops: number;
  conntrack: number;
}

export interface Frontend {
  address: Address;
  port: number;
  protocol: number;
  kind: number;
  service: number;
  spill: number;
}

export interface Service {
  id: number;
  ring: number;
  ringSize: number;
  backends: number;
  backendCount: number;
  flags: number;
  changed: number;
  affinityAge: number;
}

export interface Backend {
  address: Address;
  port: number;
  nexthop: number;
  counter: number;
  flags: number;
}

export interface Nexthop {
  ifindex: number;
  mtu: number;
  flags: number;
  destination: number;
  source: number;
  gateway: Address;
  outerSource: Address;
  /** The node of the pods behind it; the family's nobody: none is known. */
  peer: Address;
}

export interface Target {
  port: number;
  flags: number;
  counter: number;
}

export interface Endpoint {
  ifindex: number;
  netns: number;
  podMac: number;
  nodeMac: number;
}

export interface Trusted {
  prefixLength: number;
  address: Address;
  kind: number;
}

export interface SourceRange {
  service: number;
  prefixLength: number;
  address: Address;
}

export interface Affinity {
  pod: Address;
  /** Its index in the service's part of backends. */
  backend: number;
  seen: number;
}

export interface Flow {
  client: Address;
  serviceAddress: Address;
  pod: Address;
  clientPort: number;
  servicePort: number;
  podPort: number;
  aliasAddress: Address;
  aliasPort: number;
  service: number;
  /** Of SNAT: the row to the pod, and its generation when the flow was made. */
  nexthop: number;
  nexthopGeneration: number;
  counter: number;
  created: number;
  seen: number;
  flags: number;
  packets: number;
  bytes: number;
}

/** What the first piece of a packet had. */
export interface Piece {
  sourcePort: number;
  destinationPort: number;
  seen: number;
}

export interface LimitWindow {
  since: number;
  passed: number;
  told: number;
}

export interface Traffic {
  packets: number;
  bytes: number;
  connections: number;
  adopted: number;
}

export interface Metric {
  packets: number;
  bytes: number;
}

/** Everything a node's maps hold. Rows that aren't there read as zeros, as an array's do. */
export interface Tables {
  /** Bucket → its four slots. */
  readonly frontends: Map<number, Frontend[]>;
  readonly services: Map<number, Service>;
  /** Row → its 32 slots. */
  readonly rings: Map<number, number[]>;
  readonly backends: Map<number, Backend>;
  readonly nexthops: Map<number, Nexthop>;
  /** `flowKey` → entry. */
  readonly conntrack: Map<string, Flow>;
  /** `pairKey(service id, pod)`. */
  readonly targets: Map<string, Target>;
  /** By address. */
  readonly endpoints: Map<Address, Endpoint>;
  /** Pods of other nodes → their nodes. */
  readonly peers: Map<Address, Address>;
  trusted: Trusted[];
  sourceRanges: SourceRange[];
  /** `pairKey(service id, slot)` → addresses, newest first, nobody's ends the list. */
  readonly formerOwners: Map<string, Address[]>;
  /** `pairKey(service id, client)`. */
  readonly affinities: Map<string, Affinity>;
  /** `pieceKey`. */
  readonly pieces: Map<string, Piece>;
  /** By service id. */
  readonly limitWindows: Map<number, LimitWindow>;
  /** By backend.counter or target.counter, all CPUs added up. */
  readonly counters: Map<number, Traffic>;
  /** `pairKey(place, verdict)`, all CPUs added up. */
  readonly metrics: Map<string, Metric>;
}

export function emptyTables(): Tables {
  return {
    frontends: new Map(),
    services: new Map(),
    rings: new Map(),
    backends: new Map(),
    nexthops: new Map(),
    conntrack: new Map(),
    targets: new Map(),
    endpoints: new Map(),
    peers: new Map(),
    trusted: [],
    sourceRanges: [],
    formerOwners: new Map(),
    affinities: new Map(),
    pieces: new Map(),
    limitWindows: new Map(),
    counters: new Map(),
    metrics: new Map(),
  };
}

/** What packets change, as it is. */
export type Written = Pick<
  Tables,
  "conntrack" | "affinities" | "pieces" | "limitWindows" | "counters" | "metrics"
>;

export function copyWritten(tables: Written): Written {
  const copyOf = <K, V extends object>(map: ReadonlyMap<K, V>): Map<K, V> =>
    new Map(map.entries().map(([key, value]) => [key, { ...value }]));
  return {
    conntrack: copyOf(tables.conntrack),
    affinities: copyOf(tables.affinities),
    pieces: copyOf(tables.pieces),
    limitWindows: copyOf(tables.limitWindows),
    counters: copyOf(tables.counters),
    metrics: copyOf(tables.metrics),
  };
}

export function pairKey(first: number, second: Address): string {
  return `${first} ${addressText(second)}`;
}

/** Both parts of a pairKey. */
export function parsePairKey(text: string): readonly [number, Address] {
  const [first = "0", second = "0"] = text.split(" ");
  return [Number(first), parseAddressText(second)];
}

function addressText(address: Address): string {
  return typeof address === "bigint" ? `${address}n` : `${address}`;
}

function parseAddressText(text: string): Address {
  return text.endsWith("n") ? BigInt(text.slice(0, -1)) : Number(text);
}

/** What all pieces of a packet have. */
export interface PieceKey {
  readonly source: Address;
  readonly destination: Address;
  readonly id: number;
  readonly protocol: number;
}

export function pieceKey({ source, destination, id, protocol }: PieceKey): string {
  return `${addressText(source)} ${addressText(destination)} ${id} ${protocol}`;
}

export function parsePieceKey(text: string): PieceKey {
  const [source = "0", destination = "0", ...rest] = text.split(" ");
  const [id = 0, protocol = 0] = rest.map(Number);
  return {
    source: parseAddressText(source),
    destination: parseAddressText(destination),
    id,
    protocol,
  };
}

/** The five-tuple in the order of the packets that the entry is for, and its direction. */
export interface FlowKey {
  readonly source: Address;
  readonly destination: Address;
  readonly sourcePort: number;
  readonly destinationPort: number;
  readonly protocol: number;
  readonly direction: number;
}

export function flowKey(key: FlowKey): string {
  const { sourcePort, destinationPort, protocol, direction } = key;
  const ends = `${addressText(key.source)} ${addressText(key.destination)}`;
  return `${ends} ${sourcePort} ${destinationPort} ${protocol} ${direction}`;
}

export function parseFlowKey(text: string): FlowKey {
  const [source = "0", destination = "0", ...rest] = text.split(" ");
  const [sourcePort = 0, destinationPort = 0, protocol = 0, direction = 0] = rest.map(Number);
  return {
    source: parseAddressText(source),
    destination: parseAddressText(destination),
    sourcePort,
    destinationPort,
    protocol,
    direction,
  };
}
