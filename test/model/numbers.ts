// SPDX-License-Identifier: Apache-2.0
// The numbers that bpf/abi/ gives to verdicts, places and flags.

export const PLACE = { edge: 0, host: 1, pod: 2, socket: 3, node: 4 } as const;
/** Where the model takes packets: no socket sends any. */
export type Place = Exclude<keyof typeof PLACE, "socket">;

export const VERDICT = {
  PASS_NOT_OURS: 0,
  PASS_LOCAL: 1,
  PASS_UNRESOLVED: 2,
  PASS_FRAGMENT: 3,
  PASS_TTL: 4,
  PASS_STACK: 5,
  PASS_TOO_BIG: 6,
  SENT_ENCAPSULATED: 16,
  SENT_PLAIN: 17,
  SENT_POD: 18,
  SENT_REPLY: 19,
  SENT_PASSED: 20,
  SENT_FINAL: 21,
  SENT_FRAG_NEEDED: 22,
  SENT_NOTED: 23,
  SENT_NAT: 24,
  SENT_NAT_REPLY: 25,
  SENT_OUTBOUND: 26,
  SENT_REJECTED: 27,
  SENT_ECHO: 28,
  SENT_RELAYED: 29,
  SENT_SOCKET: 30,
  DROP_NO_BACKEND: 32,
  DROP_FRAGMENT: 33,
  DROP_UNTRUSTED: 34,
  DROP_INNER_INVALID: 35,
  DROP_INNER_PROTOCOL: 36,
  DROP_NO_SERVICE: 37,
  DROP_NOT_A_BACKEND: 38,
  DROP_CONNTRACK_FULL: 39,
  DROP_PORT_COLLISION: 40,
  DROP_UNKNOWN_FLOW: 41,
  DROP_UNKNOWN_FINAL: 42,
  DROP_PASS_LIMIT: 43,
  DROP_ECN: 44,
  DROP_TABLE: 45,
  DROP_REWRITE: 46,
  DROP_NO_ROUTE: 47,
  DROP_ENDPOINT_GONE: 48,
  DROP_OUTER_FRAGMENT: 49,
  DROP_ANSWER_LIMIT: 50,
  DROP_TOO_BIG: 51,
  DROP_SOURCE_RANGE: 52,
  DROP_UNKNOWN_PORT: 53,
  DROP_NAT_EXHAUSTED: 54,
  DROP_PROGRAM: 55,
  DROP_OPTION_ROOM: 56,
  DROP_BIND: 57,
  DROP_PORT_TAKEN: 58,
  DROP_SOURCE: 59,
} as const;
export type Verdict = keyof typeof VERDICT;

export const KIND = {
  empty: 0,
  service: 1,
  address: 2,
  nodePort: 3,
  internal: 4,
  node: 5,
} as const;
/** Whose an address of a node is. */
export const NODE_ADDRESS = { own: 1, other: 2 } as const;
export const SERVICE = {
  encapsulateFirst: 1,
  formerOwners: 2,
  snat: 4,
  sourceRanges: 8,
  sourceDeny: 16,
  affinity: 32,
  reject: 64,
  wasSnat: 128,
  wasDsr: 256,
  random: 512,
  lately: 1024,
} as const;
export const BACKEND = { local: 1 } as const;
export const NEXTHOP = { resolved: 1, edge: 2 } as const;
/** A row's flags have its generation above these bits. */
export const GENERATION_SHIFT = 8;
/** How packets to pods of other nodes say their service. */
export const DISPATCH = { ipip: 0, geneve: 1, option: 2 } as const;
export const TRUST = { node: 1, loadBalancer: 2 } as const;
export const DIRECTION = { request: 0, reply: 1 } as const;
export const FLOW = {
  remote: 1,
  confirmed: 2,
  finClient: 4,
  finPod: 8,
  reset: 16,
  replied: 32,
  snat: 64,
  outbound: 128,
  node: 256,
} as const;

export const PROTOCOL = { tcp: 6, udp: 17, sctp: 132 } as const;
export const TCP = { fin: 1, syn: 2, rst: 4, ack: 16 } as const;

/** Hops that a packet has behind it: 0 to 3; sent by memory; given back by the last owner. */
export const LAST_HOP = 3;
export const KNOWN = 4;
export const FINAL = 5;
/** The outer TTL with which a hop is sent; above FINAL's are notes. */
export const HOP_TTL = [64, 96, 128, 160, 192, 224] as const;
export const NOTE_TTL = 255;
