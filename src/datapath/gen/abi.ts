// generated from build/bpf/*.bpf.o by src/datapath/generate.ts (make generate). Do not edit.
// SPDX-License-Identifier: Apache-2.0

import {
  getArray,
  getUint128,
  getUint48,
  setArray,
  setUint128,
  setUint48,
  setZeros,
  type Brand,
  type Codec,
  type ConfigVar,
  type MapShape,
  type ProgramSpec,
  type TypedMapSpec,
} from "../../kernel/codec.ts";
import type { Ipv4 } from "../../net/address.ts";
import type { Ipv6 } from "../../net/address.ts";
import type { Mac } from "../../net/mac.ts";

/** identity_t */
export type Identity = Brand<number, "Identity">;
/** ifindex_t */
export type Ifindex = Brand<number, "Ifindex">;
/** jiffies_t */
export type Jiffies = Brand<number, "Jiffies">;
/** netns_cookie_t */
export type NetnsCookie = Brand<bigint, "NetnsCookie">;
/** port_t */
export type Port = Brand<number, "Port">;
/** service_id_t */
export type ServiceId = Brand<number, "ServiceId">;
/** socket_cookie_t */
export type SocketCookie = Brand<bigint, "SocketCookie">;
/** time_ns_t */
export type TimeNs = Brand<bigint, "TimeNs">;

const u16Codec: Codec<number> = {
  name: "__u16",
  size: 2,
  decode: (view, offset) => view.getUint16(offset, true),
  encode: (view, offset, value) => {
    view.setUint16(offset, value, true);
  },
};

const u32Codec: Codec<number> = {
  name: "__u32",
  size: 4,
  decode: (view, offset) => view.getUint32(offset, true),
  encode: (view, offset, value) => {
    view.setUint32(offset, value, true);
  },
};

const ipv4Codec: Codec<Ipv4> = {
  name: "ipv4_t",
  size: 4,
  decode: (view, offset) => view.getUint32(offset) as Ipv4,
  encode: (view, offset, value) => {
    view.setUint32(offset, value);
  },
};

const u64Codec: Codec<bigint> = {
  name: "__u64",
  size: 8,
  decode: (view, offset) => view.getBigUint64(offset, true),
  encode: (view, offset, value) => {
    view.setBigUint64(offset, value, true);
  },
};

const u8Codec: Codec<number> = {
  name: "__u8",
  size: 1,
  decode: (view, offset) => view.getUint8(offset),
  encode: (view, offset, value) => {
    view.setUint8(offset, value);
  },
};

const ipv6Codec: Codec<Ipv6> = {
  name: "ipv6_t",
  size: 16,
  decode: (view, offset) => getUint128(view, offset) as Ipv6,
  encode: (view, offset, value) => {
    setUint128(view, offset, value);
  },
};

/** enum backend_flag */
export const BackendFlag = {
  local: 1,
} as const;
export type BackendFlag = (typeof BackendFlag)[keyof typeof BackendFlag];
/** The names of enum backend_flag for people, by value. */
export const backendFlagNames: { readonly [value: number]: string } = {
  "1": "local",
};

/** enum captured_flag */
export const CapturedFlag = {
  left: 1,
  more: 2,
} as const;
export type CapturedFlag = (typeof CapturedFlag)[keyof typeof CapturedFlag];
/** The names of enum captured_flag for people, by value. */
export const capturedFlagNames: { readonly [value: number]: string } = {
  "1": "left",
  "2": "more",
};

/** enum dispatch */
export const Dispatch = {
  ipip: 0,
  geneve: 1,
  option: 2,
} as const;
export type Dispatch = (typeof Dispatch)[keyof typeof Dispatch];
/** The names of enum dispatch for people, by value. */
export const dispatchNames: { readonly [value: number]: string } = {
  "0": "ipip",
  "1": "geneve",
  "2": "option",
};

/** enum edge_program */
export const EdgeProgram = {
  ipv6: 0,
  nat: 1,
  natNew: 2,
  natBack: 3,
  balance: 4,
} as const;
export type EdgeProgram = (typeof EdgeProgram)[keyof typeof EdgeProgram];
/** The names of enum edge_program for people, by value. */
export const edgeProgramNames: { readonly [value: number]: string } = {
  "0": "ipv6",
  "1": "nat",
  "2": "nat_new",
  "3": "nat_back",
  "4": "balance",
};

/** enum event_mask */
export const EventMask = {
  drops: 1,
  traces: 2,
  packets: 4,
} as const;
export type EventMask = (typeof EventMask)[keyof typeof EventMask];
/** The names of enum event_mask for people, by value. */
export const eventMaskNames: { readonly [value: number]: string } = {
  "1": "drops",
  "2": "traces",
  "4": "packets",
};

/** enum flow_direction */
export const FlowDirection = {
  request: 0,
  reply: 1,
} as const;
export type FlowDirection = (typeof FlowDirection)[keyof typeof FlowDirection];
/** The names of enum flow_direction for people, by value. */
export const flowDirectionNames: { readonly [value: number]: string } = {
  "0": "request",
  "1": "reply",
};

/** enum flow_flag */
export const FlowFlag = {
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
export type FlowFlag = (typeof FlowFlag)[keyof typeof FlowFlag];
/** The names of enum flow_flag for people, by value. */
export const flowFlagNames: { readonly [value: number]: string } = {
  "1": "remote",
  "2": "confirmed",
  "4": "fin_client",
  "8": "fin_pod",
  "16": "reset",
  "32": "replied",
  "64": "snat",
  "128": "outbound",
  "256": "node",
};

/** enum frontend_kind */
export const FrontendKind = {
  empty: 0,
  service: 1,
  address: 2,
  nodePort: 3,
  internal: 4,
  node: 5,
} as const;
export type FrontendKind = (typeof FrontendKind)[keyof typeof FrontendKind];
/** The names of enum frontend_kind for people, by value. */
export const frontendKindNames: { readonly [value: number]: string } = {
  "0": "empty",
  "1": "service",
  "2": "address",
  "3": "node_port",
  "4": "internal",
  "5": "node",
};

/** enum host_program */
export const HostProgram = {
  ipv6: 0,
  nat: 1,
  deliver: 2,
  icmp: 3,
  natNew: 4,
  natBack: 5,
  answer: 6,
  plain: 7,
  fragment: 8,
  icmpNat: 9,
  told: 10,
  foreign: 11,
  balance: 12,
} as const;
export type HostProgram = (typeof HostProgram)[keyof typeof HostProgram];
/** The names of enum host_program for people, by value. */
export const hostProgramNames: { readonly [value: number]: string } = {
  "0": "ipv6",
  "1": "nat",
  "2": "deliver",
  "3": "icmp",
  "4": "nat_new",
  "5": "nat_back",
  "6": "answer",
  "7": "plain",
  "8": "fragment",
  "9": "icmp_nat",
  "10": "told",
  "11": "foreign",
  "12": "balance",
};

/** enum nexthop_flag */
export const NexthopFlag = {
  resolved: 1,
  edge: 2,
  generation: 256,
} as const;
export type NexthopFlag = (typeof NexthopFlag)[keyof typeof NexthopFlag];
/** The names of enum nexthop_flag for people, by value. */
export const nexthopFlagNames: { readonly [value: number]: string } = {
  "1": "resolved",
  "2": "edge",
  "256": "generation",
};

/** enum node_address */
export const NodeAddress = {
  own: 1,
  other: 2,
} as const;
export type NodeAddress = (typeof NodeAddress)[keyof typeof NodeAddress];
/** The names of enum node_address for people, by value. */
export const nodeAddressNames: { readonly [value: number]: string } = {
  "1": "own",
  "2": "other",
};

/** enum node_program */
export const NodeProgram = {
  ipv6: 0,
  outbound: 1,
  outboundNew: 2,
  answer: 3,
  icmp: 4,
  fragment: 5,
} as const;
export type NodeProgram = (typeof NodeProgram)[keyof typeof NodeProgram];
/** The names of enum node_program for people, by value. */
export const nodeProgramNames: { readonly [value: number]: string } = {
  "0": "ipv6",
  "1": "outbound",
  "2": "outbound_new",
  "3": "answer",
  "4": "icmp",
  "5": "fragment",
};

/** enum place */
export const Place = {
  /** XDP on an uplink */
  edge: 0,
  /** tc on an uplink, towards the node */
  host: 1,
  /** tc on a pod's device, from the pod */
  pod: 2,
  /** a socket of a pod or of the node; a packet is a call that names a peer */
  socket: 3,
  /** tc on the way out of the node's devices, where its sockets are left alone */
  node: 4,
} as const;
export type Place = (typeof Place)[keyof typeof Place];
/** The names of enum place for people, by value. */
export const placeNames: { readonly [value: number]: string } = {
  "0": "edge",
  "1": "host",
  "2": "pod",
  "3": "socket",
  "4": "node",
};
/** What the values of enum place mean, by value. */
export const placeTexts: { readonly [value: number]: string } = {
  "0": "XDP on an uplink",
  "1": "tc on an uplink, towards the node",
  "2": "tc on a pod's device, from the pod",
  "3": "a socket of a pod or of the node; a packet is a call that names a peer",
  "4": "tc on the way out of the node's devices, where its sockets are left alone",
};

/** enum pod_program */
export const PodProgram = {
  ipv6: 0,
  outbound: 1,
  icmp: 2,
  outboundNew: 3,
  answer: 4,
  fragment: 5,
} as const;
export type PodProgram = (typeof PodProgram)[keyof typeof PodProgram];
/** The names of enum pod_program for people, by value. */
export const podProgramNames: { readonly [value: number]: string } = {
  "0": "ipv6",
  "1": "outbound",
  "2": "icmp",
  "3": "outbound_new",
  "4": "answer",
  "5": "fragment",
};

/** enum service_flag */
export const ServiceFlag = {
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
export type ServiceFlag = (typeof ServiceFlag)[keyof typeof ServiceFlag];
/** The names of enum service_flag for people, by value. */
export const serviceFlagNames: { readonly [value: number]: string } = {
  "1": "encapsulate_first",
  "2": "former_owners",
  "4": "snat",
  "8": "source_ranges",
  "16": "source_deny",
  "32": "affinity",
  "64": "reject",
  "128": "was_snat",
  "256": "was_dsr",
  "512": "random",
  "1024": "lately",
};

/** enum target_flag */
export const TargetFlag = {
  active: 1,
} as const;
export type TargetFlag = (typeof TargetFlag)[keyof typeof TargetFlag];
/** The names of enum target_flag for people, by value. */
export const targetFlagNames: { readonly [value: number]: string } = {
  "1": "active",
};

/** enum trust */
export const Trust = {
  node: 1,
  loadBalancer: 2,
} as const;
export type Trust = (typeof Trust)[keyof typeof Trust];
/** The names of enum trust for people, by value. */
export const trustNames: { readonly [value: number]: string } = {
  "1": "node",
  "2": "load_balancer",
};

/** enum verdict */
export const Verdict = {
  /** nothing of ours: untouched */
  passNotOurs: 0,
  /** edge: the backend is a pod of this node, the host program goes on */
  passLocal: 1,
  /** edge: the next hop is not known yet or not for XDP, the host program goes on */
  passUnresolved: 2,
  /** a fragment for a service address, passed by configuration */
  passFragment: 3,
  /** would have been forwarded, but its time to live ends here: the kernel answers */
  passTtl: 4,
  /** a translated reply for which no direct route was found: the kernel routes it */
  passStack: 5,
  /** a reply too big for its way out: the kernel tells the pod, or cuts it */
  passTooBig: 6,
  /** to a backend on another node, in IPIP, Geneve or with an option, as `dispatch` says */
  sentEncapsulated: 16,
  /** to a backend on another node, destination translated, no outer header */
  sentPlain: 17,
  /** into a pod of this node, or to the node itself as a backend */
  sentPod: 18,
  /** a backend's reply, source translated, straight to the client */
  sentReply: 19,
  /** unknown flow: handed to a former owner of its slot */
  sentPassed: 20,
  /** unknown flow: handed back to the present owner, who decides */
  sentFinal: 21,
  /** too big for the outer header: ICMP to the client instead */
  sentFragNeeded: 22,
  /** another node told which pod has a flow: taken in */
  sentNoted: 23,
  /** to a backend on another node, with this node's address as the client's */
  sentNat: 24,
  /** a backend's reply to this node's address, back to the client */
  sentNatReply: 25,
  /** from a pod to a backend of a service */
  sentOutbound: 26,
  /** no backend: the client is told by RST or ICMP */
  sentRejected: 27,
  /** a ping of a service address, answered */
  sentEcho: 28,
  /** an ICMP error for a service address, on its way to the pod */
  sentRelayed: 29,
  /** a socket's peer, translated to a backend of a service */
  sentSocket: 30,
  /** the service has no backend */
  dropNoBackend: 32,
  /** a fragment for a service address */
  dropFragment: 33,
  /** IPIP or Geneve for a pod from a source that is no node and no load balancer */
  dropUntrusted: 34,
  /** IPIP whose inner packet is not whole, up to the header of TCP, UDP or SCTP */
  dropInnerInvalid: 35,
  /** IPIP with none of TCP, UDP and SCTP inside, nor an ICMP error about a reply */
  dropInnerProtocol: 36,
  /** IPIP whose inner destination is no service */
  dropNoService: 37,
  /** IPIP to a pod that is no backend of the inner service */
  dropNotABackend: 38,
  /** no room for a new flow */
  dropConntrackFull: 39,
  /** no free client port for a second flow of the same client port to one pod */
  dropPortCollision: 40,
  /** FIN, RST, TCP without SYN and ACK, or ICMP error of a flow that nobody knows */
  dropUnknownFlow: 41,
  /** nobody knew the flow, and the ring changed moments ago */
  dropUnknownFinal: 42,
  /** too many packets of unknown flows for one service */
  dropPassLimit: 43,
  /** congestion mark on the outer header of a packet that can't carry it (RFC 6040) */
  dropEcn: 44,
  /** a table's row points outside its table */
  dropTable: 45,
  /** the kernel refused to change the packet */
  dropRewrite: 46,
  /** no route to the next owner of a flow */
  dropNoRoute: 47,
  /** the flow's pod is no longer on this node */
  dropEndpointGone: 48,
  /** a fragment of an IPIP packet for a pod */
  dropOuterFragment: 49,
  /** had to be answered or relayed, and the service has answered enough */
  dropAnswerLimit: 50,
  /** too big for the way to an owner of the flow */
  dropTooBig: 51,
  /** the client is not in the service's source ranges */
  dropSourceRange: 52,
  /** no service has this port of a service address */
  dropUnknownPort: 53,
  /** no port of this node is free for another flow to the pod */
  dropNatExhausted: 54,
  /** a part of the packet path is not loaded: restart the agent */
  dropProgram: 55,
  /** the header has no room left for the option of `dispatch: option` */
  dropOptionRoom: 56,
  /** a program of this node wanted a node port that a service has */
  dropBind: 57,
  /** `encapsulate: first`: another connection has the client's port at the pod, and plain packets of both would be alike */
  dropPortTaken: 58,
  /** from an address that no client can have, or from a service itself */
  dropSource: 59,
} as const;
export type Verdict = (typeof Verdict)[keyof typeof Verdict];
/** The names of enum verdict for people, by value. */
export const verdictNames: { readonly [value: number]: string } = {
  "0": "pass_not_ours",
  "1": "pass_local",
  "2": "pass_unresolved",
  "3": "pass_fragment",
  "4": "pass_ttl",
  "5": "pass_stack",
  "6": "pass_too_big",
  "16": "sent_encapsulated",
  "17": "sent_plain",
  "18": "sent_pod",
  "19": "sent_reply",
  "20": "sent_passed",
  "21": "sent_final",
  "22": "sent_frag_needed",
  "23": "sent_noted",
  "24": "sent_nat",
  "25": "sent_nat_reply",
  "26": "sent_outbound",
  "27": "sent_rejected",
  "28": "sent_echo",
  "29": "sent_relayed",
  "30": "sent_socket",
  "32": "drop_no_backend",
  "33": "drop_fragment",
  "34": "drop_untrusted",
  "35": "drop_inner_invalid",
  "36": "drop_inner_protocol",
  "37": "drop_no_service",
  "38": "drop_not_a_backend",
  "39": "drop_conntrack_full",
  "40": "drop_port_collision",
  "41": "drop_unknown_flow",
  "42": "drop_unknown_final",
  "43": "drop_pass_limit",
  "44": "drop_ecn",
  "45": "drop_table",
  "46": "drop_rewrite",
  "47": "drop_no_route",
  "48": "drop_endpoint_gone",
  "49": "drop_outer_fragment",
  "50": "drop_answer_limit",
  "51": "drop_too_big",
  "52": "drop_source_range",
  "53": "drop_unknown_port",
  "54": "drop_nat_exhausted",
  "55": "drop_program",
  "56": "drop_option_room",
  "57": "drop_bind",
  "58": "drop_port_taken",
  "59": "drop_source",
};
/** What the values of enum verdict mean, by value. */
export const verdictTexts: { readonly [value: number]: string } = {
  "0": "nothing of ours: untouched",
  "1": "edge: the backend is a pod of this node, the host program goes on",
  "2": "edge: the next hop is not known yet or not for XDP, the host program goes on",
  "3": "a fragment for a service address, passed by configuration",
  "4": "would have been forwarded, but its time to live ends here: the kernel answers",
  "5": "a translated reply for which no direct route was found: the kernel routes it",
  "6": "a reply too big for its way out: the kernel tells the pod, or cuts it",
  "16": "to a backend on another node, in IPIP, Geneve or with an option, as `dispatch` says",
  "17": "to a backend on another node, destination translated, no outer header",
  "18": "into a pod of this node, or to the node itself as a backend",
  "19": "a backend's reply, source translated, straight to the client",
  "20": "unknown flow: handed to a former owner of its slot",
  "21": "unknown flow: handed back to the present owner, who decides",
  "22": "too big for the outer header: ICMP to the client instead",
  "23": "another node told which pod has a flow: taken in",
  "24": "to a backend on another node, with this node's address as the client's",
  "25": "a backend's reply to this node's address, back to the client",
  "26": "from a pod to a backend of a service",
  "27": "no backend: the client is told by RST or ICMP",
  "28": "a ping of a service address, answered",
  "29": "an ICMP error for a service address, on its way to the pod",
  "30": "a socket's peer, translated to a backend of a service",
  "32": "the service has no backend",
  "33": "a fragment for a service address",
  "34": "IPIP or Geneve for a pod from a source that is no node and no load balancer",
  "35": "IPIP whose inner packet is not whole, up to the header of TCP, UDP or SCTP",
  "36": "IPIP with none of TCP, UDP and SCTP inside, nor an ICMP error about a reply",
  "37": "IPIP whose inner destination is no service",
  "38": "IPIP to a pod that is no backend of the inner service",
  "39": "no room for a new flow",
  "40": "no free client port for a second flow of the same client port to one pod",
  "41": "FIN, RST, TCP without SYN and ACK, or ICMP error of a flow that nobody knows",
  "42": "nobody knew the flow, and the ring changed moments ago",
  "43": "too many packets of unknown flows for one service",
  "44": "congestion mark on the outer header of a packet that can't carry it (RFC 6040)",
  "45": "a table's row points outside its table",
  "46": "the kernel refused to change the packet",
  "47": "no route to the next owner of a flow",
  "48": "the flow's pod is no longer on this node",
  "49": "a fragment of an IPIP packet for a pod",
  "50": "had to be answered or relayed, and the service has answered enough",
  "51": "too big for the way to an owner of the flow",
  "52": "the client is not in the service's source ranges",
  "53": "no service has this port of a service address",
  "54": "no port of this node is free for another flow to the pod",
  "55": "a part of the packet path is not loaded: restart the agent",
  "56": "the header has no room left for the option of `dispatch: option`",
  "57": "a program of this node wanted a node port that a service has",
  "58": "`encapsulate: first`: another connection has the client's port at the pod, and plain packets of both would be alike",
  "59": "from an address that no client can have, or from a service itself",
};

/** struct affinity */
export interface Affinity {
  readonly pod: Ipv4;
  readonly backend: number;
  readonly seen: Jiffies;
}
export const Affinity: Codec<Affinity> = {
  name: "struct affinity",
  size: 12,
  decode: (view, offset) => ({
    pod: view.getUint32(offset) as Ipv4,
    backend: view.getUint32(offset + 4, true),
    seen: view.getUint32(offset + 8, true) as Jiffies,
  }),
  encode: (view, offset, value) => {
    view.setUint32(offset, value.pod);
    view.setUint32(offset + 4, value.backend, true);
    view.setUint32(offset + 8, value.seen, true);
  },
};

/** struct affinity_key */
export interface AffinityKey {
  readonly service: ServiceId;
  readonly client: Ipv4;
}
export const AffinityKey: Codec<AffinityKey> = {
  name: "struct affinity_key",
  size: 8,
  decode: (view, offset) => ({
    service: view.getUint32(offset, true) as ServiceId,
    client: view.getUint32(offset + 4) as Ipv4,
  }),
  encode: (view, offset, value) => {
    view.setUint32(offset, value.service, true);
    view.setUint32(offset + 4, value.client);
  },
};

/** struct backend */
export interface Backend {
  readonly address: Ipv4;
  readonly port: Port;
  readonly nexthop: number;
  readonly counter: number;
  readonly flags: number;
}
export const Backend: Codec<Backend> = {
  name: "struct backend",
  size: 16,
  decode: (view, offset) => ({
    address: view.getUint32(offset) as Ipv4,
    port: view.getUint16(offset + 4) as Port,
    nexthop: view.getUint16(offset + 6, true),
    counter: view.getUint32(offset + 8, true),
    flags: view.getUint32(offset + 12, true),
  }),
  encode: (view, offset, value) => {
    view.setUint32(offset, value.address);
    view.setUint16(offset + 4, value.port);
    view.setUint16(offset + 6, value.nexthop, true);
    view.setUint32(offset + 8, value.counter, true);
    view.setUint32(offset + 12, value.flags, true);
  },
};

/** struct capture */
export interface Capture {
  readonly deadline: TimeNs;
  readonly second: TimeNs;
  readonly packets: bigint;
  readonly leftOut: bigint;
  readonly lost: bigint;
  readonly verdicts: bigint;
  readonly address: Ipv6;
  readonly mask: Ipv6;
  readonly session: number;
  readonly taken: number;
  readonly rate: number;
  readonly snapBytes: number;
  readonly places: number;
  readonly port: Port;
  readonly version: number;
}
export const Capture: Codec<Capture> = {
  name: "struct capture",
  size: 104,
  decode: (view, offset) => ({
    deadline: view.getBigUint64(offset, true) as TimeNs,
    second: view.getBigUint64(offset + 8, true) as TimeNs,
    packets: view.getBigUint64(offset + 16, true),
    leftOut: view.getBigUint64(offset + 24, true),
    lost: view.getBigUint64(offset + 32, true),
    verdicts: view.getBigUint64(offset + 40, true),
    address: getUint128(view, offset + 48) as Ipv6,
    mask: getUint128(view, offset + 64) as Ipv6,
    session: view.getUint32(offset + 80, true),
    taken: view.getUint32(offset + 84, true),
    rate: view.getUint32(offset + 88, true),
    snapBytes: view.getUint32(offset + 92, true),
    places: view.getUint32(offset + 96, true),
    port: view.getUint16(offset + 100) as Port,
    version: view.getUint8(offset + 102),
  }),
  encode: (view, offset, value) => {
    view.setBigUint64(offset, value.deadline, true);
    view.setBigUint64(offset + 8, value.second, true);
    view.setBigUint64(offset + 16, value.packets, true);
    view.setBigUint64(offset + 24, value.leftOut, true);
    view.setBigUint64(offset + 32, value.lost, true);
    view.setBigUint64(offset + 40, value.verdicts, true);
    setUint128(view, offset + 48, value.address);
    setUint128(view, offset + 64, value.mask);
    view.setUint32(offset + 80, value.session, true);
    view.setUint32(offset + 84, value.taken, true);
    view.setUint32(offset + 88, value.rate, true);
    view.setUint32(offset + 92, value.snapBytes, true);
    view.setUint32(offset + 96, value.places, true);
    view.setUint16(offset + 100, value.port);
    view.setUint8(offset + 102, value.version);
    view.setUint8(offset + 103, 0);
  },
};

/** struct captured_frame */
export interface CapturedFrame {
  readonly time: TimeNs;
  readonly packet: bigint;
  readonly session: number;
  readonly ifindex: Ifindex;
  readonly frameBytes: number;
  readonly segmentBytes: number;
  readonly service: ServiceId;
  readonly cpu: number;
  readonly verdict: Verdict;
  readonly place: Place;
  readonly flags: number;
}
export const CapturedFrame: Codec<CapturedFrame> = {
  name: "struct captured_frame",
  size: 48,
  decode: (view, offset) => ({
    time: view.getBigUint64(offset, true) as TimeNs,
    packet: view.getBigUint64(offset + 8, true),
    session: view.getUint32(offset + 16, true),
    ifindex: view.getUint32(offset + 20, true) as Ifindex,
    frameBytes: view.getUint32(offset + 24, true),
    segmentBytes: view.getUint32(offset + 28, true),
    service: view.getUint32(offset + 32, true) as ServiceId,
    cpu: view.getUint16(offset + 36, true),
    verdict: view.getUint8(offset + 38) as Verdict,
    place: view.getUint8(offset + 39) as Place,
    flags: view.getUint32(offset + 40, true),
  }),
  encode: (view, offset, value) => {
    view.setBigUint64(offset, value.time, true);
    view.setBigUint64(offset + 8, value.packet, true);
    view.setUint32(offset + 16, value.session, true);
    view.setUint32(offset + 20, value.ifindex, true);
    view.setUint32(offset + 24, value.frameBytes, true);
    view.setUint32(offset + 28, value.segmentBytes, true);
    view.setUint32(offset + 32, value.service, true);
    view.setUint16(offset + 36, value.cpu, true);
    view.setUint8(offset + 38, value.verdict);
    view.setUint8(offset + 39, value.place);
    view.setUint32(offset + 40, value.flags, true);
    view.setUint32(offset + 44, 0);
  },
};

/** struct endpoint */
export interface Endpoint {
  readonly ifindex: Ifindex;
  readonly netns: number;
  readonly podMac: Mac;
  readonly nodeMac: Mac;
  readonly identity: Identity;
}
export const Endpoint: Codec<Endpoint> = {
  name: "struct endpoint",
  size: 24,
  decode: (view, offset) => ({
    ifindex: view.getUint32(offset, true) as Ifindex,
    netns: view.getInt32(offset + 4, true),
    podMac: getUint48(view, offset + 8) as Mac,
    nodeMac: getUint48(view, offset + 14) as Mac,
    identity: view.getUint32(offset + 20, true) as Identity,
  }),
  encode: (view, offset, value) => {
    view.setUint32(offset, value.ifindex, true);
    view.setInt32(offset + 4, value.netns, true);
    setUint48(view, offset + 8, value.podMac);
    setUint48(view, offset + 14, value.nodeMac);
    view.setUint32(offset + 20, value.identity, true);
  },
};

/** struct endpoint_key */
export interface EndpointKey {
  readonly address: Ipv4;
}
export const EndpointKey: Codec<EndpointKey> = {
  name: "struct endpoint_key",
  size: 4,
  decode: (view, offset) => ({
    address: view.getUint32(offset) as Ipv4,
  }),
  encode: (view, offset, value) => {
    view.setUint32(offset, value.address);
  },
};

/** struct flow */
export interface Flow {
  readonly client: Ipv4;
  readonly serviceAddress: Ipv4;
  readonly pod: Ipv4;
  readonly aliasAddress: Ipv4;
  readonly clientPort: Port;
  readonly servicePort: Port;
  readonly podPort: Port;
  readonly aliasPort: Port;
  readonly service: ServiceId;
  readonly nexthop: number;
  readonly nexthopGeneration: number;
  readonly counter: number;
  readonly seen: Jiffies;
  readonly flags: number;
  readonly clientIdentity: Identity;
  readonly packets: bigint;
  readonly bytes: bigint;
  readonly created: Jiffies;
  readonly claimed: number;
}
export const Flow: Codec<Flow> = {
  name: "struct flow",
  size: 72,
  decode: (view, offset) => ({
    client: view.getUint32(offset) as Ipv4,
    serviceAddress: view.getUint32(offset + 4) as Ipv4,
    pod: view.getUint32(offset + 8) as Ipv4,
    aliasAddress: view.getUint32(offset + 12) as Ipv4,
    clientPort: view.getUint16(offset + 16) as Port,
    servicePort: view.getUint16(offset + 18) as Port,
    podPort: view.getUint16(offset + 20) as Port,
    aliasPort: view.getUint16(offset + 22) as Port,
    service: view.getUint32(offset + 24, true) as ServiceId,
    nexthop: view.getUint16(offset + 28, true),
    nexthopGeneration: view.getUint16(offset + 30, true),
    counter: view.getUint32(offset + 32, true),
    seen: view.getUint32(offset + 36, true) as Jiffies,
    flags: view.getUint32(offset + 40, true),
    clientIdentity: view.getUint32(offset + 44, true) as Identity,
    packets: view.getBigUint64(offset + 48, true),
    bytes: view.getBigUint64(offset + 56, true),
    created: view.getUint32(offset + 64, true) as Jiffies,
    claimed: view.getUint32(offset + 68, true),
  }),
  encode: (view, offset, value) => {
    view.setUint32(offset, value.client);
    view.setUint32(offset + 4, value.serviceAddress);
    view.setUint32(offset + 8, value.pod);
    view.setUint32(offset + 12, value.aliasAddress);
    view.setUint16(offset + 16, value.clientPort);
    view.setUint16(offset + 18, value.servicePort);
    view.setUint16(offset + 20, value.podPort);
    view.setUint16(offset + 22, value.aliasPort);
    view.setUint32(offset + 24, value.service, true);
    view.setUint16(offset + 28, value.nexthop, true);
    view.setUint16(offset + 30, value.nexthopGeneration, true);
    view.setUint32(offset + 32, value.counter, true);
    view.setUint32(offset + 36, value.seen, true);
    view.setUint32(offset + 40, value.flags, true);
    view.setUint32(offset + 44, value.clientIdentity, true);
    view.setBigUint64(offset + 48, value.packets, true);
    view.setBigUint64(offset + 56, value.bytes, true);
    view.setUint32(offset + 64, value.created, true);
    view.setUint32(offset + 68, value.claimed, true);
  },
};

/** struct flow_key */
export interface FlowKey {
  readonly source: Ipv4;
  readonly destination: Ipv4;
  readonly sourcePort: Port;
  readonly destinationPort: Port;
  readonly protocol: number;
  readonly direction: number;
}
export const FlowKey: Codec<FlowKey> = {
  name: "struct flow_key",
  size: 16,
  decode: (view, offset) => ({
    source: view.getUint32(offset) as Ipv4,
    destination: view.getUint32(offset + 4) as Ipv4,
    sourcePort: view.getUint16(offset + 8) as Port,
    destinationPort: view.getUint16(offset + 10) as Port,
    protocol: view.getUint8(offset + 12),
    direction: view.getUint8(offset + 13),
  }),
  encode: (view, offset, value) => {
    view.setUint32(offset, value.source);
    view.setUint32(offset + 4, value.destination);
    view.setUint16(offset + 8, value.sourcePort);
    view.setUint16(offset + 10, value.destinationPort);
    view.setUint8(offset + 12, value.protocol);
    view.setUint8(offset + 13, value.direction);
    view.setUint16(offset + 14, 0);
  },
};

/** struct former_owners */
export interface FormerOwners {
  readonly owner: readonly [Ipv4, Ipv4, Ipv4];
}
export const FormerOwners: Codec<FormerOwners> = {
  name: "struct former_owners",
  size: 12,
  decode: (view, offset) => ({
    owner: [
      view.getUint32(offset) as Ipv4,
      view.getUint32(offset + 4) as Ipv4,
      view.getUint32(offset + 8) as Ipv4,
    ],
  }),
  encode: (view, offset, value) => {
    view.setUint32(offset, value.owner[0]);
    view.setUint32(offset + 4, value.owner[1]);
    view.setUint32(offset + 8, value.owner[2]);
  },
};

/** struct frontend */
export interface Frontend {
  readonly address: Ipv4;
  readonly port: Port;
  readonly protocol: number;
  readonly kind: number;
  readonly service: number;
  readonly spill: number;
}
export const Frontend: Codec<Frontend> = {
  name: "struct frontend",
  size: 16,
  decode: (view, offset) => ({
    address: view.getUint32(offset) as Ipv4,
    port: view.getUint16(offset + 4) as Port,
    protocol: view.getUint8(offset + 6),
    kind: view.getUint8(offset + 7),
    service: view.getUint32(offset + 8, true),
    spill: view.getUint32(offset + 12, true),
  }),
  encode: (view, offset, value) => {
    view.setUint32(offset, value.address);
    view.setUint16(offset + 4, value.port);
    view.setUint8(offset + 6, value.protocol);
    view.setUint8(offset + 7, value.kind);
    view.setUint32(offset + 8, value.service, true);
    view.setUint32(offset + 12, value.spill, true);
  },
};

/** struct frontend_bucket */
export interface FrontendBucket {
  readonly slot: readonly [Frontend, Frontend, Frontend, Frontend];
}
export const FrontendBucket: Codec<FrontendBucket> = {
  name: "struct frontend_bucket",
  size: 64,
  decode: (view, offset) => ({
    slot: [
      Frontend.decode(view, offset),
      Frontend.decode(view, offset + 16),
      Frontend.decode(view, offset + 32),
      Frontend.decode(view, offset + 48),
    ],
  }),
  encode: (view, offset, value) => {
    Frontend.encode(view, offset, value.slot[0]);
    Frontend.encode(view, offset + 16, value.slot[1]);
    Frontend.encode(view, offset + 32, value.slot[2]);
    Frontend.encode(view, offset + 48, value.slot[3]);
  },
};

/** struct limit_window */
export interface LimitWindow {
  readonly since: Jiffies;
  readonly passed: number;
  readonly told: number;
}
export const LimitWindow: Codec<LimitWindow> = {
  name: "struct limit_window",
  size: 12,
  decode: (view, offset) => ({
    since: view.getUint32(offset, true) as Jiffies,
    passed: view.getUint32(offset + 4, true),
    told: view.getUint32(offset + 8, true),
  }),
  encode: (view, offset, value) => {
    view.setUint32(offset, value.since, true);
    view.setUint32(offset + 4, value.passed, true);
    view.setUint32(offset + 8, value.told, true);
  },
};

/** struct metric */
export interface Metric {
  readonly packets: bigint;
  readonly bytes: bigint;
}
export const Metric: Codec<Metric> = {
  name: "struct metric",
  size: 16,
  decode: (view, offset) => ({
    packets: view.getBigUint64(offset, true),
    bytes: view.getBigUint64(offset + 8, true),
  }),
  encode: (view, offset, value) => {
    view.setBigUint64(offset, value.packets, true);
    view.setBigUint64(offset + 8, value.bytes, true);
  },
};

/** struct nexthop */
export interface Nexthop {
  readonly ifindex: Ifindex;
  readonly mtu: number;
  readonly flags: number;
  readonly destination: Mac;
  readonly source: Mac;
  readonly gateway: Ipv4;
  readonly outerSource: Ipv4;
  readonly checksum: number;
  readonly peer: Ipv4;
}
export const Nexthop: Codec<Nexthop> = {
  name: "struct nexthop",
  size: 40,
  decode: (view, offset) => ({
    ifindex: view.getUint32(offset, true) as Ifindex,
    mtu: view.getUint16(offset + 4, true),
    flags: view.getUint16(offset + 6, true),
    destination: getUint48(view, offset + 8) as Mac,
    source: getUint48(view, offset + 14) as Mac,
    gateway: view.getUint32(offset + 20) as Ipv4,
    outerSource: view.getUint32(offset + 24) as Ipv4,
    checksum: view.getUint32(offset + 28, true),
    peer: view.getUint32(offset + 32) as Ipv4,
  }),
  encode: (view, offset, value) => {
    view.setUint32(offset, value.ifindex, true);
    view.setUint16(offset + 4, value.mtu, true);
    view.setUint16(offset + 6, value.flags, true);
    setUint48(view, offset + 8, value.destination);
    setUint48(view, offset + 14, value.source);
    view.setUint32(offset + 20, value.gateway);
    view.setUint32(offset + 24, value.outerSource);
    view.setUint32(offset + 28, value.checksum, true);
    view.setUint32(offset + 32, value.peer);
    view.setUint32(offset + 36, 0);
  },
};

/** struct packet_event */
export interface PacketEvent {
  readonly time: TimeNs;
  readonly ifindex: Ifindex;
  readonly length: number;
  readonly source: Ipv4;
  readonly destination: Ipv4;
  readonly sourcePort: Port;
  readonly destinationPort: Port;
  readonly protocol: number;
  readonly tcpFlags: number;
  readonly verdict: Verdict;
  readonly place: Place;
  readonly outerSource: Ipv4;
  readonly outerDestination: Ipv4;
  readonly backend: Ipv4;
  readonly service: ServiceId;
}
export const PacketEvent: Codec<PacketEvent> = {
  name: "struct packet_event",
  size: 48,
  decode: (view, offset) => ({
    time: view.getBigUint64(offset, true) as TimeNs,
    ifindex: view.getUint32(offset + 8, true) as Ifindex,
    length: view.getUint32(offset + 12, true),
    source: view.getUint32(offset + 16) as Ipv4,
    destination: view.getUint32(offset + 20) as Ipv4,
    sourcePort: view.getUint16(offset + 24) as Port,
    destinationPort: view.getUint16(offset + 26) as Port,
    protocol: view.getUint8(offset + 28),
    tcpFlags: view.getUint8(offset + 29),
    verdict: view.getUint8(offset + 30) as Verdict,
    place: view.getUint8(offset + 31) as Place,
    outerSource: view.getUint32(offset + 32) as Ipv4,
    outerDestination: view.getUint32(offset + 36) as Ipv4,
    backend: view.getUint32(offset + 40) as Ipv4,
    service: view.getUint32(offset + 44, true) as ServiceId,
  }),
  encode: (view, offset, value) => {
    view.setBigUint64(offset, value.time, true);
    view.setUint32(offset + 8, value.ifindex, true);
    view.setUint32(offset + 12, value.length, true);
    view.setUint32(offset + 16, value.source);
    view.setUint32(offset + 20, value.destination);
    view.setUint16(offset + 24, value.sourcePort);
    view.setUint16(offset + 26, value.destinationPort);
    view.setUint8(offset + 28, value.protocol);
    view.setUint8(offset + 29, value.tcpFlags);
    view.setUint8(offset + 30, value.verdict);
    view.setUint8(offset + 31, value.place);
    view.setUint32(offset + 32, value.outerSource);
    view.setUint32(offset + 36, value.outerDestination);
    view.setUint32(offset + 40, value.backend);
    view.setUint32(offset + 44, value.service, true);
  },
};

/** struct ring_row */
export interface RingRow {
  readonly backend: readonly number[];
}
export const RingRow: Codec<RingRow> = {
  name: "struct ring_row",
  size: 64,
  decode: (view, offset) => ({
    backend: getArray(u16Codec, view, offset, 32),
  }),
  encode: (view, offset, value) => {
    setArray(u16Codec, view, offset, 32, value.backend, "struct ring_row.backend");
  },
};

/** struct runtime */
export interface Runtime {
  readonly events: number;
}
export const Runtime: Codec<Runtime> = {
  name: "struct runtime",
  size: 8,
  decode: (view, offset) => ({
    events: view.getUint32(offset, true),
  }),
  encode: (view, offset, value) => {
    view.setUint32(offset, value.events, true);
    view.setUint32(offset + 4, 0);
  },
};

/** struct service */
export interface Service {
  readonly id: ServiceId;
  readonly ring: number;
  readonly ringSize: number;
  readonly backends: number;
  readonly backendCount: number;
  readonly flags: number;
  readonly changed: Jiffies;
  readonly affinityAge: number;
}
export const Service: Codec<Service> = {
  name: "struct service",
  size: 32,
  decode: (view, offset) => ({
    id: view.getUint32(offset, true) as ServiceId,
    ring: view.getUint32(offset + 4, true),
    ringSize: view.getUint32(offset + 8, true),
    backends: view.getUint32(offset + 12, true),
    backendCount: view.getUint32(offset + 16, true),
    flags: view.getUint32(offset + 20, true),
    changed: view.getUint32(offset + 24, true) as Jiffies,
    affinityAge: view.getUint32(offset + 28, true),
  }),
  encode: (view, offset, value) => {
    view.setUint32(offset, value.id, true);
    view.setUint32(offset + 4, value.ring, true);
    view.setUint32(offset + 8, value.ringSize, true);
    view.setUint32(offset + 12, value.backends, true);
    view.setUint32(offset + 16, value.backendCount, true);
    view.setUint32(offset + 20, value.flags, true);
    view.setUint32(offset + 24, value.changed, true);
    view.setUint32(offset + 28, value.affinityAge, true);
  },
};

/** struct slot_key */
export interface SlotKey {
  readonly service: ServiceId;
  readonly slot: number;
}
export const SlotKey: Codec<SlotKey> = {
  name: "struct slot_key",
  size: 8,
  decode: (view, offset) => ({
    service: view.getUint32(offset, true) as ServiceId,
    slot: view.getUint32(offset + 4, true),
  }),
  encode: (view, offset, value) => {
    view.setUint32(offset, value.service, true);
    view.setUint32(offset + 4, value.slot, true);
  },
};

/** struct socket_peer */
export interface SocketPeer {
  readonly netns: NetnsCookie;
  readonly serviceAddress: Ipv4;
  readonly service: ServiceId;
  readonly created: Jiffies;
  readonly servicePort: Port;
}
export const SocketPeer: Codec<SocketPeer> = {
  name: "struct socket_peer",
  size: 24,
  decode: (view, offset) => ({
    netns: view.getBigUint64(offset, true) as NetnsCookie,
    serviceAddress: view.getUint32(offset + 8) as Ipv4,
    service: view.getUint32(offset + 12, true) as ServiceId,
    created: view.getUint32(offset + 16, true) as Jiffies,
    servicePort: view.getUint16(offset + 20) as Port,
  }),
  encode: (view, offset, value) => {
    view.setBigUint64(offset, value.netns, true);
    view.setUint32(offset + 8, value.serviceAddress);
    view.setUint32(offset + 12, value.service, true);
    view.setUint32(offset + 16, value.created, true);
    view.setUint16(offset + 20, value.servicePort);
    view.setUint16(offset + 22, 0);
  },
};

/** struct socket_peer_key */
export interface SocketPeerKey {
  readonly cookie: SocketCookie;
  readonly backend: Ipv4;
  readonly port: Port;
  readonly protocol: number;
}
export const SocketPeerKey: Codec<SocketPeerKey> = {
  name: "struct socket_peer_key",
  size: 16,
  decode: (view, offset) => ({
    cookie: view.getBigUint64(offset, true) as SocketCookie,
    backend: view.getUint32(offset + 8) as Ipv4,
    port: view.getUint16(offset + 12) as Port,
    protocol: view.getUint8(offset + 14),
  }),
  encode: (view, offset, value) => {
    view.setBigUint64(offset, value.cookie, true);
    view.setUint32(offset + 8, value.backend);
    view.setUint16(offset + 12, value.port);
    view.setUint8(offset + 14, value.protocol);
    view.setUint8(offset + 15, 0);
  },
};

/** struct source_range */
export interface SourceRange {
  readonly listed: number;
}
export const SourceRange: Codec<SourceRange> = {
  name: "struct source_range",
  size: 4,
  decode: (view, offset) => ({
    listed: view.getUint32(offset, true),
  }),
  encode: (view, offset, value) => {
    view.setUint32(offset, value.listed, true);
  },
};

/** struct source_range_key */
export interface SourceRangeKey {
  readonly prefixLength: number;
  readonly service: ServiceId;
  readonly address: Ipv4;
}
export const SourceRangeKey: Codec<SourceRangeKey> = {
  name: "struct source_range_key",
  size: 12,
  decode: (view, offset) => ({
    prefixLength: view.getUint32(offset, true),
    service: view.getUint32(offset + 4, true) as ServiceId,
    address: view.getUint32(offset + 8) as Ipv4,
  }),
  encode: (view, offset, value) => {
    view.setUint32(offset, value.prefixLength, true);
    view.setUint32(offset + 4, value.service, true);
    view.setUint32(offset + 8, value.address);
  },
};

/** struct target */
export interface Target {
  readonly port: Port;
  readonly flags: number;
  readonly counter: number;
}
export const Target: Codec<Target> = {
  name: "struct target",
  size: 8,
  decode: (view, offset) => ({
    port: view.getUint16(offset) as Port,
    flags: view.getUint16(offset + 2, true),
    counter: view.getUint32(offset + 4, true),
  }),
  encode: (view, offset, value) => {
    view.setUint16(offset, value.port);
    view.setUint16(offset + 2, value.flags, true);
    view.setUint32(offset + 4, value.counter, true);
  },
};

/** struct target_key */
export interface TargetKey {
  readonly service: ServiceId;
  readonly pod: Ipv4;
}
export const TargetKey: Codec<TargetKey> = {
  name: "struct target_key",
  size: 8,
  decode: (view, offset) => ({
    service: view.getUint32(offset, true) as ServiceId,
    pod: view.getUint32(offset + 4) as Ipv4,
  }),
  encode: (view, offset, value) => {
    view.setUint32(offset, value.service, true);
    view.setUint32(offset + 4, value.pod);
  },
};

/** struct traffic */
export interface Traffic {
  readonly packets: bigint;
  readonly bytes: bigint;
  readonly connections: bigint;
  readonly adopted: bigint;
}
export const Traffic: Codec<Traffic> = {
  name: "struct traffic",
  size: 32,
  decode: (view, offset) => ({
    packets: view.getBigUint64(offset, true),
    bytes: view.getBigUint64(offset + 8, true),
    connections: view.getBigUint64(offset + 16, true),
    adopted: view.getBigUint64(offset + 24, true),
  }),
  encode: (view, offset, value) => {
    view.setBigUint64(offset, value.packets, true);
    view.setBigUint64(offset + 8, value.bytes, true);
    view.setBigUint64(offset + 16, value.connections, true);
    view.setBigUint64(offset + 24, value.adopted, true);
  },
};

/** struct trusted */
export interface Trusted {
  readonly kind: number;
}
export const Trusted: Codec<Trusted> = {
  name: "struct trusted",
  size: 4,
  decode: (view, offset) => ({
    kind: view.getUint32(offset, true),
  }),
  encode: (view, offset, value) => {
    view.setUint32(offset, value.kind, true);
  },
};

/** struct trusted_key */
export interface TrustedKey {
  readonly prefixLength: number;
  readonly address: Ipv4;
}
export const TrustedKey: Codec<TrustedKey> = {
  name: "struct trusted_key",
  size: 8,
  decode: (view, offset) => ({
    prefixLength: view.getUint32(offset, true),
    address: view.getUint32(offset + 4) as Ipv4,
  }),
  encode: (view, offset, value) => {
    view.setUint32(offset, value.prefixLength, true);
    view.setUint32(offset + 4, value.address);
  },
};

/** struct affinity6 */
export interface Affinity6 {
  readonly pod: Ipv6;
  readonly backend: number;
  readonly seen: Jiffies;
}
export const Affinity6: Codec<Affinity6> = {
  name: "struct affinity6",
  size: 24,
  decode: (view, offset) => ({
    pod: getUint128(view, offset) as Ipv6,
    backend: view.getUint32(offset + 16, true),
    seen: view.getUint32(offset + 20, true) as Jiffies,
  }),
  encode: (view, offset, value) => {
    setUint128(view, offset, value.pod);
    view.setUint32(offset + 16, value.backend, true);
    view.setUint32(offset + 20, value.seen, true);
  },
};

/** struct affinity_key6 */
export interface AffinityKey6 {
  readonly service: ServiceId;
  readonly client: Ipv6;
}
export const AffinityKey6: Codec<AffinityKey6> = {
  name: "struct affinity_key6",
  size: 20,
  decode: (view, offset) => ({
    service: view.getUint32(offset, true) as ServiceId,
    client: getUint128(view, offset + 4) as Ipv6,
  }),
  encode: (view, offset, value) => {
    view.setUint32(offset, value.service, true);
    setUint128(view, offset + 4, value.client);
  },
};

/** struct backend6 */
export interface Backend6 {
  readonly address: Ipv6;
  readonly port: Port;
  readonly nexthop: number;
  readonly counter: number;
  readonly flags: number;
}
export const Backend6: Codec<Backend6> = {
  name: "struct backend6",
  size: 32,
  decode: (view, offset) => ({
    address: getUint128(view, offset) as Ipv6,
    port: view.getUint16(offset + 16) as Port,
    nexthop: view.getUint16(offset + 18, true),
    counter: view.getUint32(offset + 20, true),
    flags: view.getUint32(offset + 24, true),
  }),
  encode: (view, offset, value) => {
    setUint128(view, offset, value.address);
    view.setUint16(offset + 16, value.port);
    view.setUint16(offset + 18, value.nexthop, true);
    view.setUint32(offset + 20, value.counter, true);
    view.setUint32(offset + 24, value.flags, true);
    view.setUint32(offset + 28, 0);
  },
};

/** struct endpoint_key6 */
export interface EndpointKey6 {
  readonly address: Ipv6;
}
export const EndpointKey6: Codec<EndpointKey6> = {
  name: "struct endpoint_key6",
  size: 16,
  decode: (view, offset) => ({
    address: getUint128(view, offset) as Ipv6,
  }),
  encode: (view, offset, value) => {
    setUint128(view, offset, value.address);
  },
};

/** struct flow6 */
export interface Flow6 {
  readonly client: Ipv6;
  readonly serviceAddress: Ipv6;
  readonly pod: Ipv6;
  readonly aliasAddress: Ipv6;
  readonly clientPort: Port;
  readonly servicePort: Port;
  readonly podPort: Port;
  readonly aliasPort: Port;
  readonly service: ServiceId;
  readonly nexthop: number;
  readonly nexthopGeneration: number;
  readonly counter: number;
  readonly seen: Jiffies;
  readonly flags: number;
  readonly clientIdentity: Identity;
  readonly packets: bigint;
  readonly bytes: bigint;
  readonly created: Jiffies;
  readonly claimed: number;
}
export const Flow6: Codec<Flow6> = {
  name: "struct flow6",
  size: 120,
  decode: (view, offset) => ({
    client: getUint128(view, offset) as Ipv6,
    serviceAddress: getUint128(view, offset + 16) as Ipv6,
    pod: getUint128(view, offset + 32) as Ipv6,
    aliasAddress: getUint128(view, offset + 48) as Ipv6,
    clientPort: view.getUint16(offset + 64) as Port,
    servicePort: view.getUint16(offset + 66) as Port,
    podPort: view.getUint16(offset + 68) as Port,
    aliasPort: view.getUint16(offset + 70) as Port,
    service: view.getUint32(offset + 72, true) as ServiceId,
    nexthop: view.getUint16(offset + 76, true),
    nexthopGeneration: view.getUint16(offset + 78, true),
    counter: view.getUint32(offset + 80, true),
    seen: view.getUint32(offset + 84, true) as Jiffies,
    flags: view.getUint32(offset + 88, true),
    clientIdentity: view.getUint32(offset + 92, true) as Identity,
    packets: view.getBigUint64(offset + 96, true),
    bytes: view.getBigUint64(offset + 104, true),
    created: view.getUint32(offset + 112, true) as Jiffies,
    claimed: view.getUint32(offset + 116, true),
  }),
  encode: (view, offset, value) => {
    setUint128(view, offset, value.client);
    setUint128(view, offset + 16, value.serviceAddress);
    setUint128(view, offset + 32, value.pod);
    setUint128(view, offset + 48, value.aliasAddress);
    view.setUint16(offset + 64, value.clientPort);
    view.setUint16(offset + 66, value.servicePort);
    view.setUint16(offset + 68, value.podPort);
    view.setUint16(offset + 70, value.aliasPort);
    view.setUint32(offset + 72, value.service, true);
    view.setUint16(offset + 76, value.nexthop, true);
    view.setUint16(offset + 78, value.nexthopGeneration, true);
    view.setUint32(offset + 80, value.counter, true);
    view.setUint32(offset + 84, value.seen, true);
    view.setUint32(offset + 88, value.flags, true);
    view.setUint32(offset + 92, value.clientIdentity, true);
    view.setBigUint64(offset + 96, value.packets, true);
    view.setBigUint64(offset + 104, value.bytes, true);
    view.setUint32(offset + 112, value.created, true);
    view.setUint32(offset + 116, value.claimed, true);
  },
};

/** struct flow_key6 */
export interface FlowKey6 {
  readonly source: Ipv6;
  readonly destination: Ipv6;
  readonly sourcePort: Port;
  readonly destinationPort: Port;
  readonly protocol: number;
  readonly direction: number;
}
export const FlowKey6: Codec<FlowKey6> = {
  name: "struct flow_key6",
  size: 40,
  decode: (view, offset) => ({
    source: getUint128(view, offset) as Ipv6,
    destination: getUint128(view, offset + 16) as Ipv6,
    sourcePort: view.getUint16(offset + 32) as Port,
    destinationPort: view.getUint16(offset + 34) as Port,
    protocol: view.getUint8(offset + 36),
    direction: view.getUint8(offset + 37),
  }),
  encode: (view, offset, value) => {
    setUint128(view, offset, value.source);
    setUint128(view, offset + 16, value.destination);
    view.setUint16(offset + 32, value.sourcePort);
    view.setUint16(offset + 34, value.destinationPort);
    view.setUint8(offset + 36, value.protocol);
    view.setUint8(offset + 37, value.direction);
    view.setUint16(offset + 38, 0);
  },
};

/** struct former_owners6 */
export interface FormerOwners6 {
  readonly owner: readonly [Ipv6, Ipv6, Ipv6];
}
export const FormerOwners6: Codec<FormerOwners6> = {
  name: "struct former_owners6",
  size: 48,
  decode: (view, offset) => ({
    owner: [
      getUint128(view, offset) as Ipv6,
      getUint128(view, offset + 16) as Ipv6,
      getUint128(view, offset + 32) as Ipv6,
    ],
  }),
  encode: (view, offset, value) => {
    setUint128(view, offset, value.owner[0]);
    setUint128(view, offset + 16, value.owner[1]);
    setUint128(view, offset + 32, value.owner[2]);
  },
};

/** struct frontend6 */
export interface Frontend6 {
  readonly address: Ipv6;
  readonly port: Port;
  readonly protocol: number;
  readonly kind: number;
  readonly service: number;
  readonly spill: number;
}
export const Frontend6: Codec<Frontend6> = {
  name: "struct frontend6",
  size: 32,
  decode: (view, offset) => ({
    address: getUint128(view, offset) as Ipv6,
    port: view.getUint16(offset + 16) as Port,
    protocol: view.getUint8(offset + 18),
    kind: view.getUint8(offset + 19),
    service: view.getUint32(offset + 20, true),
    spill: view.getUint32(offset + 24, true),
  }),
  encode: (view, offset, value) => {
    setUint128(view, offset, value.address);
    view.setUint16(offset + 16, value.port);
    view.setUint8(offset + 18, value.protocol);
    view.setUint8(offset + 19, value.kind);
    view.setUint32(offset + 20, value.service, true);
    view.setUint32(offset + 24, value.spill, true);
    view.setUint32(offset + 28, 0);
  },
};

/** struct frontend_bucket6 */
export interface FrontendBucket6 {
  readonly slot: readonly [Frontend6, Frontend6, Frontend6, Frontend6];
}
export const FrontendBucket6: Codec<FrontendBucket6> = {
  name: "struct frontend_bucket6",
  size: 128,
  decode: (view, offset) => ({
    slot: [
      Frontend6.decode(view, offset),
      Frontend6.decode(view, offset + 32),
      Frontend6.decode(view, offset + 64),
      Frontend6.decode(view, offset + 96),
    ],
  }),
  encode: (view, offset, value) => {
    Frontend6.encode(view, offset, value.slot[0]);
    Frontend6.encode(view, offset + 32, value.slot[1]);
    Frontend6.encode(view, offset + 64, value.slot[2]);
    Frontend6.encode(view, offset + 96, value.slot[3]);
  },
};

/** struct nexthop6 */
export interface Nexthop6 {
  readonly ifindex: Ifindex;
  readonly mtu: number;
  readonly flags: number;
  readonly destination: Mac;
  readonly source: Mac;
  readonly gateway: Ipv6;
  readonly outerSource: Ipv6;
  readonly checksum: number;
  readonly peer: Ipv6;
}
export const Nexthop6: Codec<Nexthop6> = {
  name: "struct nexthop6",
  size: 72,
  decode: (view, offset) => ({
    ifindex: view.getUint32(offset, true) as Ifindex,
    mtu: view.getUint16(offset + 4, true),
    flags: view.getUint16(offset + 6, true),
    destination: getUint48(view, offset + 8) as Mac,
    source: getUint48(view, offset + 14) as Mac,
    gateway: getUint128(view, offset + 20) as Ipv6,
    outerSource: getUint128(view, offset + 36) as Ipv6,
    checksum: view.getUint32(offset + 52, true),
    peer: getUint128(view, offset + 56) as Ipv6,
  }),
  encode: (view, offset, value) => {
    view.setUint32(offset, value.ifindex, true);
    view.setUint16(offset + 4, value.mtu, true);
    view.setUint16(offset + 6, value.flags, true);
    setUint48(view, offset + 8, value.destination);
    setUint48(view, offset + 14, value.source);
    setUint128(view, offset + 20, value.gateway);
    setUint128(view, offset + 36, value.outerSource);
    view.setUint32(offset + 52, value.checksum, true);
    setUint128(view, offset + 56, value.peer);
  },
};

/** struct packet_event6 */
export interface PacketEvent6 {
  readonly time: TimeNs;
  readonly ifindex: Ifindex;
  readonly length: number;
  readonly source: Ipv6;
  readonly destination: Ipv6;
  readonly sourcePort: Port;
  readonly destinationPort: Port;
  readonly protocol: number;
  readonly tcpFlags: number;
  readonly verdict: Verdict;
  readonly place: Place;
  readonly outerSource: Ipv6;
  readonly outerDestination: Ipv6;
  readonly backend: Ipv6;
  readonly service: ServiceId;
}
export const PacketEvent6: Codec<PacketEvent6> = {
  name: "struct packet_event6",
  size: 112,
  decode: (view, offset) => ({
    time: view.getBigUint64(offset, true) as TimeNs,
    ifindex: view.getUint32(offset + 8, true) as Ifindex,
    length: view.getUint32(offset + 12, true),
    source: getUint128(view, offset + 16) as Ipv6,
    destination: getUint128(view, offset + 32) as Ipv6,
    sourcePort: view.getUint16(offset + 48) as Port,
    destinationPort: view.getUint16(offset + 50) as Port,
    protocol: view.getUint8(offset + 52),
    tcpFlags: view.getUint8(offset + 53),
    verdict: view.getUint8(offset + 54) as Verdict,
    place: view.getUint8(offset + 55) as Place,
    outerSource: getUint128(view, offset + 56) as Ipv6,
    outerDestination: getUint128(view, offset + 72) as Ipv6,
    backend: getUint128(view, offset + 88) as Ipv6,
    service: view.getUint32(offset + 104, true) as ServiceId,
  }),
  encode: (view, offset, value) => {
    view.setBigUint64(offset, value.time, true);
    view.setUint32(offset + 8, value.ifindex, true);
    view.setUint32(offset + 12, value.length, true);
    setUint128(view, offset + 16, value.source);
    setUint128(view, offset + 32, value.destination);
    view.setUint16(offset + 48, value.sourcePort);
    view.setUint16(offset + 50, value.destinationPort);
    view.setUint8(offset + 52, value.protocol);
    view.setUint8(offset + 53, value.tcpFlags);
    view.setUint8(offset + 54, value.verdict);
    view.setUint8(offset + 55, value.place);
    setUint128(view, offset + 56, value.outerSource);
    setUint128(view, offset + 72, value.outerDestination);
    setUint128(view, offset + 88, value.backend);
    view.setUint32(offset + 104, value.service, true);
    view.setUint32(offset + 108, 0);
  },
};

/** struct socket_peer6 */
export interface SocketPeer6 {
  readonly netns: NetnsCookie;
  readonly serviceAddress: Ipv6;
  readonly service: ServiceId;
  readonly created: Jiffies;
  readonly servicePort: Port;
}
export const SocketPeer6: Codec<SocketPeer6> = {
  name: "struct socket_peer6",
  size: 40,
  decode: (view, offset) => ({
    netns: view.getBigUint64(offset, true) as NetnsCookie,
    serviceAddress: getUint128(view, offset + 8) as Ipv6,
    service: view.getUint32(offset + 24, true) as ServiceId,
    created: view.getUint32(offset + 28, true) as Jiffies,
    servicePort: view.getUint16(offset + 32) as Port,
  }),
  encode: (view, offset, value) => {
    view.setBigUint64(offset, value.netns, true);
    setUint128(view, offset + 8, value.serviceAddress);
    view.setUint32(offset + 24, value.service, true);
    view.setUint32(offset + 28, value.created, true);
    view.setUint16(offset + 32, value.servicePort);
    view.setUint16(offset + 34, 0);
    view.setUint32(offset + 36, 0);
  },
};

/** struct socket_peer_key6 */
export interface SocketPeerKey6 {
  readonly cookie: SocketCookie;
  readonly backend: Ipv6;
  readonly port: Port;
  readonly protocol: number;
}
export const SocketPeerKey6: Codec<SocketPeerKey6> = {
  name: "struct socket_peer_key6",
  size: 32,
  decode: (view, offset) => ({
    cookie: view.getBigUint64(offset, true) as SocketCookie,
    backend: getUint128(view, offset + 8) as Ipv6,
    port: view.getUint16(offset + 24) as Port,
    protocol: view.getUint8(offset + 26),
  }),
  encode: (view, offset, value) => {
    view.setBigUint64(offset, value.cookie, true);
    setUint128(view, offset + 8, value.backend);
    view.setUint16(offset + 24, value.port);
    view.setUint8(offset + 26, value.protocol);
    view.setUint8(offset + 27, 0);
    view.setUint32(offset + 28, 0);
  },
};

/** struct source_range_key6 */
export interface SourceRangeKey6 {
  readonly prefixLength: number;
  readonly service: ServiceId;
  readonly address: Ipv6;
}
export const SourceRangeKey6: Codec<SourceRangeKey6> = {
  name: "struct source_range_key6",
  size: 24,
  decode: (view, offset) => ({
    prefixLength: view.getUint32(offset, true),
    service: view.getUint32(offset + 4, true) as ServiceId,
    address: getUint128(view, offset + 8) as Ipv6,
  }),
  encode: (view, offset, value) => {
    view.setUint32(offset, value.prefixLength, true);
    view.setUint32(offset + 4, value.service, true);
    setUint128(view, offset + 8, value.address);
  },
};

/** struct target_key6 */
export interface TargetKey6 {
  readonly service: ServiceId;
  readonly pod: Ipv6;
}
export const TargetKey6: Codec<TargetKey6> = {
  name: "struct target_key6",
  size: 20,
  decode: (view, offset) => ({
    service: view.getUint32(offset, true) as ServiceId,
    pod: getUint128(view, offset + 4) as Ipv6,
  }),
  encode: (view, offset, value) => {
    view.setUint32(offset, value.service, true);
    setUint128(view, offset + 4, value.pod);
  },
};

/** struct trusted_key6 */
export interface TrustedKey6 {
  readonly prefixLength: number;
  readonly address: Ipv6;
}
export const TrustedKey6: Codec<TrustedKey6> = {
  name: "struct trusted_key6",
  size: 20,
  decode: (view, offset) => ({
    prefixLength: view.getUint32(offset, true),
    address: getUint128(view, offset + 4) as Ipv6,
  }),
  encode: (view, offset, value) => {
    view.setUint32(offset, value.prefixLength, true);
    setUint128(view, offset + 4, value.address);
  },
};

/** struct clock_reading */
export interface ClockReading {
  readonly monotonic: TimeNs;
  readonly jiffies: bigint;
}
export const ClockReading: Codec<ClockReading> = {
  name: "struct clock_reading",
  size: 16,
  decode: (view, offset) => ({
    monotonic: view.getBigUint64(offset, true) as TimeNs,
    jiffies: view.getBigUint64(offset + 8, true),
  }),
  encode: (view, offset, value) => {
    view.setBigUint64(offset, value.monotonic, true);
    view.setBigUint64(offset + 8, value.jiffies, true);
  },
};

/** struct fragment */
export interface Fragment {
  readonly sourcePort: Port;
  readonly destinationPort: Port;
  readonly seen: Jiffies;
}
export const Fragment: Codec<Fragment> = {
  name: "struct fragment",
  size: 8,
  decode: (view, offset) => ({
    sourcePort: view.getUint16(offset) as Port,
    destinationPort: view.getUint16(offset + 2) as Port,
    seen: view.getUint32(offset + 4, true) as Jiffies,
  }),
  encode: (view, offset, value) => {
    view.setUint16(offset, value.sourcePort);
    view.setUint16(offset + 2, value.destinationPort);
    view.setUint32(offset + 4, value.seen, true);
  },
};

/** struct fragment_key */
export interface FragmentKey {
  readonly source: Ipv4;
  readonly destination: Ipv4;
  readonly id: number;
  readonly protocol: number;
}
export const FragmentKey: Codec<FragmentKey> = {
  name: "struct fragment_key",
  size: 16,
  decode: (view, offset) => ({
    source: view.getUint32(offset) as Ipv4,
    destination: view.getUint32(offset + 4) as Ipv4,
    id: view.getUint32(offset + 8, true),
    protocol: view.getUint8(offset + 12),
  }),
  encode: (view, offset, value) => {
    view.setUint32(offset, value.source);
    view.setUint32(offset + 4, value.destination);
    view.setUint32(offset + 8, value.id, true);
    view.setUint8(offset + 12, value.protocol);
    setZeros(view, offset + 13, 3);
  },
};

/** struct peer */
export interface Peer {
  readonly node: Ipv4;
}
export const Peer: Codec<Peer> = {
  name: "struct peer",
  size: 4,
  decode: (view, offset) => ({
    node: view.getUint32(offset) as Ipv4,
  }),
  encode: (view, offset, value) => {
    view.setUint32(offset, value.node);
  },
};

/** struct fragment_key6 */
export interface FragmentKey6 {
  readonly source: Ipv6;
  readonly destination: Ipv6;
  readonly id: number;
  readonly protocol: number;
}
export const FragmentKey6: Codec<FragmentKey6> = {
  name: "struct fragment_key6",
  size: 40,
  decode: (view, offset) => ({
    source: getUint128(view, offset) as Ipv6,
    destination: getUint128(view, offset + 16) as Ipv6,
    id: view.getUint32(offset + 32, true),
    protocol: view.getUint8(offset + 36),
  }),
  encode: (view, offset, value) => {
    setUint128(view, offset, value.source);
    setUint128(view, offset + 16, value.destination);
    view.setUint32(offset + 32, value.id, true);
    view.setUint8(offset + 36, value.protocol);
    setZeros(view, offset + 37, 3);
  },
};

/** struct peer6 */
export interface Peer6 {
  readonly node: Ipv6;
}
export const Peer6: Codec<Peer6> = {
  name: "struct peer6",
  size: 16,
  decode: (view, offset) => ({
    node: getUint128(view, offset) as Ipv6,
  }),
  encode: (view, offset, value) => {
    setUint128(view, offset, value.node);
  },
};

/** The maps that the objects declare. */
export const maps = {
  /** struct affinity_key → struct affinity */
  affinities: {
    name: "affinities",
    type: "lru_hash",
    keySize: 8,
    valueSize: 12,
    maxEntries: 65536,
    flags: 0,
    key: AffinityKey,
    value: Affinity,
    layout: "32d48d2b934af529",
  } satisfies TypedMapSpec<AffinityKey, Affinity>,
  /** struct affinity_key6 → struct affinity6 */
  affinities6: {
    name: "affinities6",
    type: "lru_hash",
    keySize: 20,
    valueSize: 24,
    maxEntries: 65536,
    flags: 0,
    key: AffinityKey6,
    value: Affinity6,
    layout: "90a303c278fcc776",
  } satisfies TypedMapSpec<AffinityKey6, Affinity6>,
  /** __u32 → struct backend */
  backends: {
    name: "backends",
    type: "array",
    keySize: 4,
    valueSize: 16,
    maxEntries: 16384,
    flags: 1024,
    key: u32Codec,
    value: Backend,
    layout: "5cf5d750a7a423f2",
  } satisfies TypedMapSpec<number, Backend>,
  /** __u32 → struct backend6 */
  backends6: {
    name: "backends6",
    type: "array",
    keySize: 4,
    valueSize: 32,
    maxEntries: 16384,
    flags: 1024,
    key: u32Codec,
    value: Backend6,
    layout: "44b7b98ffdf5467c",
  } satisfies TypedMapSpec<number, Backend6>,
  /** 4 bytes → 16712 bytes */
  captureCopies: {
    name: "capture_copies",
    type: "percpu_array",
    keySize: 4,
    valueSize: 16712,
    maxEntries: 1,
    flags: 0,
  } satisfies MapShape,
  /** no keys */
  capturedFrames: {
    name: "captured_frames",
    type: "ringbuf",
    keySize: 0,
    valueSize: 0,
    maxEntries: 1048576,
    flags: 0,
  } satisfies MapShape,
  /** __u32 → struct capture */
  captures: {
    name: "captures",
    type: "array",
    keySize: 4,
    valueSize: 104,
    maxEntries: 1,
    flags: 1024,
    key: u32Codec,
    value: Capture,
    layout: "0452e534408ac086",
  } satisfies TypedMapSpec<number, Capture>,
  /** struct flow_key → struct flow */
  conntrack: {
    name: "conntrack",
    type: "hash",
    keySize: 16,
    valueSize: 72,
    maxEntries: 65536,
    flags: 0,
    key: FlowKey,
    value: Flow,
    layout: "af4b8e8201542e29",
  } satisfies TypedMapSpec<FlowKey, Flow>,
  /** struct flow_key6 → struct flow6 */
  conntrack6: {
    name: "conntrack6",
    type: "hash",
    keySize: 40,
    valueSize: 120,
    maxEntries: 65536,
    flags: 0,
    key: FlowKey6,
    value: Flow6,
    layout: "603841351f78ce54",
  } satisfies TypedMapSpec<FlowKey6, Flow6>,
  /** __u32 → struct traffic */
  counters: {
    name: "counters",
    type: "array",
    keySize: 4,
    valueSize: 32,
    maxEntries: 65536,
    flags: 1024,
    key: u32Codec,
    value: Traffic,
    layout: "2d58647481497f9c",
  } satisfies TypedMapSpec<number, Traffic>,
  /** 4 bytes → 4 bytes */
  edgePrograms: {
    name: "edge_programs",
    type: "prog_array",
    keySize: 4,
    valueSize: 4,
    maxEntries: 16,
    flags: 0,
  } satisfies MapShape,
  /** 4 bytes → 4 bytes */
  edgePrograms6: {
    name: "edge_programs6",
    type: "prog_array",
    keySize: 4,
    valueSize: 4,
    maxEntries: 16,
    flags: 0,
  } satisfies MapShape,
  /** struct endpoint_key → struct endpoint */
  endpoints: {
    name: "endpoints",
    type: "hash",
    keySize: 4,
    valueSize: 24,
    maxEntries: 4096,
    flags: 1,
    key: EndpointKey,
    value: Endpoint,
    layout: "e06d9765e8ed255d",
  } satisfies TypedMapSpec<EndpointKey, Endpoint>,
  /** struct endpoint_key6 → struct endpoint */
  endpoints6: {
    name: "endpoints6",
    type: "hash",
    keySize: 16,
    valueSize: 24,
    maxEntries: 4096,
    flags: 1,
    key: EndpointKey6,
    value: Endpoint,
    layout: "fcd539464c59343f",
  } satisfies TypedMapSpec<EndpointKey6, Endpoint>,
  /** no keys */
  events: {
    name: "events",
    type: "ringbuf",
    keySize: 0,
    valueSize: 0,
    maxEntries: 1048576,
    flags: 0,
  } satisfies MapShape,
  /** struct slot_key → struct former_owners */
  formerOwners: {
    name: "former_owners",
    type: "hash",
    keySize: 8,
    valueSize: 12,
    maxEntries: 1048576,
    flags: 1,
    key: SlotKey,
    value: FormerOwners,
    layout: "011cefb0f6089d57",
  } satisfies TypedMapSpec<SlotKey, FormerOwners>,
  /** struct slot_key → struct former_owners6 */
  formerOwners6: {
    name: "former_owners6",
    type: "hash",
    keySize: 8,
    valueSize: 48,
    maxEntries: 1048576,
    flags: 1,
    key: SlotKey,
    value: FormerOwners6,
    layout: "104f0590f13c49c3",
  } satisfies TypedMapSpec<SlotKey, FormerOwners6>,
  /** struct fragment_key → struct fragment */
  fragments: {
    name: "fragments",
    type: "lru_hash",
    keySize: 16,
    valueSize: 8,
    maxEntries: 8192,
    flags: 0,
    key: FragmentKey,
    value: Fragment,
    layout: "a6decb7cf1538174",
  } satisfies TypedMapSpec<FragmentKey, Fragment>,
  /** struct fragment_key6 → struct fragment */
  fragments6: {
    name: "fragments6",
    type: "lru_hash",
    keySize: 40,
    valueSize: 8,
    maxEntries: 8192,
    flags: 0,
    key: FragmentKey6,
    value: Fragment,
    layout: "2652d6f57f50287c",
  } satisfies TypedMapSpec<FragmentKey6, Fragment>,
  /** __u32 → struct frontend_bucket */
  frontends: {
    name: "frontends",
    type: "array",
    keySize: 4,
    valueSize: 64,
    maxEntries: 1024,
    flags: 1024,
    key: u32Codec,
    value: FrontendBucket,
    layout: "c65ccb3b43b527f6",
  } satisfies TypedMapSpec<number, FrontendBucket>,
  /** __u32 → struct frontend_bucket6 */
  frontends6: {
    name: "frontends6",
    type: "array",
    keySize: 4,
    valueSize: 128,
    maxEntries: 1024,
    flags: 1024,
    key: u32Codec,
    value: FrontendBucket6,
    layout: "2c9c51311c7a4162",
  } satisfies TypedMapSpec<number, FrontendBucket6>,
  /** 4 bytes → 4 bytes */
  hostPrograms: {
    name: "host_programs",
    type: "prog_array",
    keySize: 4,
    valueSize: 4,
    maxEntries: 16,
    flags: 0,
  } satisfies MapShape,
  /** 4 bytes → 4 bytes */
  hostPrograms6: {
    name: "host_programs6",
    type: "prog_array",
    keySize: 4,
    valueSize: 4,
    maxEntries: 16,
    flags: 0,
  } satisfies MapShape,
  /** __u32 → struct limit_window */
  limits: {
    name: "limits",
    type: "array",
    keySize: 4,
    valueSize: 12,
    maxEntries: 65536,
    flags: 0,
    key: u32Codec,
    value: LimitWindow,
    layout: "eb8dba36e400b433",
  } satisfies TypedMapSpec<number, LimitWindow>,
  /** __u32 → struct metric */
  metrics: {
    name: "metrics",
    type: "array",
    keySize: 4,
    valueSize: 16,
    maxEntries: 4096,
    flags: 1024,
    key: u32Codec,
    value: Metric,
    layout: "329f74398f9da043",
  } satisfies TypedMapSpec<number, Metric>,
  /** __u32 → struct nexthop */
  nexthops: {
    name: "nexthops",
    type: "array",
    keySize: 4,
    valueSize: 40,
    maxEntries: 256,
    flags: 1024,
    key: u32Codec,
    value: Nexthop,
    layout: "064ce8607ed5e57e",
  } satisfies TypedMapSpec<number, Nexthop>,
  /** __u32 → struct nexthop6 */
  nexthops6: {
    name: "nexthops6",
    type: "array",
    keySize: 4,
    valueSize: 72,
    maxEntries: 256,
    flags: 1024,
    key: u32Codec,
    value: Nexthop6,
    layout: "f694a4ae0dc4bd41",
  } satisfies TypedMapSpec<number, Nexthop6>,
  /** 4 bytes → 4 bytes */
  nodePrograms: {
    name: "node_programs",
    type: "prog_array",
    keySize: 4,
    valueSize: 4,
    maxEntries: 16,
    flags: 0,
  } satisfies MapShape,
  /** 4 bytes → 4 bytes */
  nodePrograms6: {
    name: "node_programs6",
    type: "prog_array",
    keySize: 4,
    valueSize: 4,
    maxEntries: 16,
    flags: 0,
  } satisfies MapShape,
  /** struct endpoint_key → struct peer */
  peers: {
    name: "peers",
    type: "hash",
    keySize: 4,
    valueSize: 4,
    maxEntries: 16384,
    flags: 1,
    key: EndpointKey,
    value: Peer,
    layout: "608577c53ddac32d",
  } satisfies TypedMapSpec<EndpointKey, Peer>,
  /** struct endpoint_key6 → struct peer6 */
  peers6: {
    name: "peers6",
    type: "hash",
    keySize: 16,
    valueSize: 16,
    maxEntries: 16384,
    flags: 1,
    key: EndpointKey6,
    value: Peer6,
    layout: "f169bce566d40e42",
  } satisfies TypedMapSpec<EndpointKey6, Peer6>,
  /** 4 bytes → 4 bytes */
  podPrograms: {
    name: "pod_programs",
    type: "prog_array",
    keySize: 4,
    valueSize: 4,
    maxEntries: 16,
    flags: 0,
  } satisfies MapShape,
  /** 4 bytes → 4 bytes */
  podPrograms6: {
    name: "pod_programs6",
    type: "prog_array",
    keySize: 4,
    valueSize: 4,
    maxEntries: 16,
    flags: 0,
  } satisfies MapShape,
  /** __u32 → struct ring_row */
  rings: {
    name: "rings",
    type: "array",
    keySize: 4,
    valueSize: 64,
    maxEntries: 65536,
    flags: 1024,
    key: u32Codec,
    value: RingRow,
    layout: "7ea2bb4a0852bda8",
  } satisfies TypedMapSpec<number, RingRow>,
  /** __u32 → struct runtime */
  runtime: {
    name: "runtime",
    type: "array",
    keySize: 4,
    valueSize: 8,
    maxEntries: 1,
    flags: 1024,
    key: u32Codec,
    value: Runtime,
    layout: "e577ebeac908f224",
  } satisfies TypedMapSpec<number, Runtime>,
  /** 4 bytes → 256 bytes */
  scratch: {
    name: "scratch",
    type: "percpu_array",
    keySize: 4,
    valueSize: 256,
    maxEntries: 1,
    flags: 0,
  } satisfies MapShape,
  /** 4 bytes → 520 bytes */
  scratch6: {
    name: "scratch6",
    type: "percpu_array",
    keySize: 4,
    valueSize: 520,
    maxEntries: 1,
    flags: 0,
  } satisfies MapShape,
  /** __u32 → struct service */
  services: {
    name: "services",
    type: "array",
    keySize: 4,
    valueSize: 32,
    maxEntries: 1024,
    flags: 1024,
    key: u32Codec,
    value: Service,
    layout: "bf59a5f4da0f761c",
  } satisfies TypedMapSpec<number, Service>,
  /** struct socket_peer_key → struct socket_peer */
  socketPeers: {
    name: "socket_peers",
    type: "lru_hash",
    keySize: 16,
    valueSize: 24,
    maxEntries: 65536,
    flags: 0,
    key: SocketPeerKey,
    value: SocketPeer,
    layout: "5fe6647023cae916",
  } satisfies TypedMapSpec<SocketPeerKey, SocketPeer>,
  /** struct socket_peer_key6 → struct socket_peer6 */
  socketPeers6: {
    name: "socket_peers6",
    type: "lru_hash",
    keySize: 32,
    valueSize: 40,
    maxEntries: 65536,
    flags: 0,
    key: SocketPeerKey6,
    value: SocketPeer6,
    layout: "92bd30711858abca",
  } satisfies TypedMapSpec<SocketPeerKey6, SocketPeer6>,
  /** struct source_range_key → struct source_range */
  sourceRanges: {
    name: "source_ranges",
    type: "lpm_trie",
    keySize: 12,
    valueSize: 4,
    maxEntries: 65536,
    flags: 1,
    key: SourceRangeKey,
    value: SourceRange,
    layout: "d29e1b67199d237e",
  } satisfies TypedMapSpec<SourceRangeKey, SourceRange>,
  /** struct source_range_key6 → struct source_range */
  sourceRanges6: {
    name: "source_ranges6",
    type: "lpm_trie",
    keySize: 24,
    valueSize: 4,
    maxEntries: 65536,
    flags: 1,
    key: SourceRangeKey6,
    value: SourceRange,
    layout: "8a8e886904ba2e61",
  } satisfies TypedMapSpec<SourceRangeKey6, SourceRange>,
  /** struct target_key → struct target */
  targets: {
    name: "targets",
    type: "hash",
    keySize: 8,
    valueSize: 8,
    maxEntries: 65536,
    flags: 1,
    key: TargetKey,
    value: Target,
    layout: "a59ae8bcb9590c75",
  } satisfies TypedMapSpec<TargetKey, Target>,
  /** struct target_key6 → struct target */
  targets6: {
    name: "targets6",
    type: "hash",
    keySize: 20,
    valueSize: 8,
    maxEntries: 65536,
    flags: 1,
    key: TargetKey6,
    value: Target,
    layout: "eaf8ff81759f0191",
  } satisfies TypedMapSpec<TargetKey6, Target>,
  /** struct trusted_key → struct trusted */
  trusted: {
    name: "trusted",
    type: "lpm_trie",
    keySize: 8,
    valueSize: 4,
    maxEntries: 16384,
    flags: 1,
    key: TrustedKey,
    value: Trusted,
    layout: "fe57b359083868f0",
  } satisfies TypedMapSpec<TrustedKey, Trusted>,
  /** struct trusted_key6 → struct trusted */
  trusted6: {
    name: "trusted6",
    type: "lpm_trie",
    keySize: 20,
    valueSize: 4,
    maxEntries: 16384,
    flags: 1,
    key: TrustedKey6,
    value: Trusted,
    layout: "984bfbf32875cfef",
  } satisfies TypedMapSpec<TrustedKey6, Trusted>,
} as const;

/** Constants of the programs, set before load. */
export interface Config {
  /** number of frontend buckets minus one; buckets are a power of two */
  readonly frontendMask: number;
  /** lowest port of this node that SNAT gives to clients; the others up to 65535 follow */
  readonly natPortMin: number;
  /** this node's address: the outer source of what it encapsulates and passes on */
  readonly nodeAddress: Ipv4;
  /** rows of the counters table that one CPU owns */
  readonly counterStride: number;
  /** lowest port of node ports, 0 with node_port_max 0: there are none */
  readonly nodePortMin: number;
  /** highest port of node ports */
  readonly nodePortMax: number;
  /** cookie of this node's own network namespace: its loopback addresses are the node's */
  readonly nodeNetns: bigint;
  /** seed of the flow hash, the same on every node of the cluster */
  readonly hashSeed: bigint;
  /** prefix of outer sources made from a flow's hash; read when outer_host_mask is not 0 */
  readonly outerPrefix: Ipv4;
  /** host bits of outer_prefix in host order, 0: the outer source is node_address */
  readonly outerHostMask: number;
  /** enum dispatch: how packets to pods of other nodes say their service */
  readonly dispatch: number;
  /** 1: a plain packet's own option is believed to say its service, and clients' are erased */
  readonly acceptOption: number;
  /** largest MSS a pod may offer to a client of IPv4 in bytes, to one of IPv6 less by what its headers have more; 0: leave it */
  readonly clampMss: number;
  /** 1: fragments for a service address pass to the kernel, 0: they are dropped */
  readonly fragmentsPass: number;
  /** 1: fragments follow the first of them, which has the ports; before fragments_pass */
  readonly fragmentsTrack: number;
  /** 1: packets of this node's own sockets to services are translated, as those of pods are */
  readonly nodeClients: number;
  /** 1: a flow without an entry is known if its pod has a socket for it */
  readonly socketLookup: number;
  /** for so long after a ring changed, packets that nobody knows are dropped, not adopted */
  readonly quietJiffies: number;
  /** packets of unknown flows that one service may pass on in one limit_window */
  readonly passLimit: number;
  /** packets that one service may answer with ICMP or RST, and ICMP errors that it may relay, in one limit_window */
  readonly answerLimit: number;
  /** length of the window of both limits in jiffies */
  readonly limitWindow: number;
  /** number of frontend buckets minus one; buckets are a power of two */
  readonly frontendMask6: number;
  /** this node's address: the outer source of what it encapsulates and passes on */
  readonly nodeAddress6: Ipv6;
}
/** The constants by their names here: how C knows them, and what it says of them. */
export const config: { readonly [Key in keyof Config]: ConfigVar<Config[Key]> } = {
  frontendMask: {
    name: "frontend_mask",
    codec: u32Codec,
    initial: 1023,
    doc: "number of frontend buckets minus one; buckets are a power of two",
  },
  natPortMin: {
    name: "nat_port_min",
    codec: u16Codec,
    initial: 32768,
    doc: "lowest port of this node that SNAT gives to clients; the others up to 65535 follow",
  },
  nodeAddress: {
    name: "node_address",
    codec: ipv4Codec,
    initial: 0 as Ipv4,
    doc: "this node's address: the outer source of what it encapsulates and passes on",
  },
  counterStride: {
    name: "counter_stride",
    codec: u32Codec,
    initial: 0,
    doc: "rows of the counters table that one CPU owns",
  },
  nodePortMin: {
    name: "node_port_min",
    codec: u16Codec,
    initial: 0,
    doc: "lowest port of node ports, 0 with node_port_max 0: there are none",
  },
  nodePortMax: {
    name: "node_port_max",
    codec: u16Codec,
    initial: 0,
    doc: "highest port of node ports",
  },
  nodeNetns: {
    name: "node_netns",
    codec: u64Codec,
    initial: 0n,
    doc: "cookie of this node's own network namespace: its loopback addresses are the node's",
  },
  hashSeed: {
    name: "hash_seed",
    codec: u64Codec,
    initial: 0n,
    doc: "seed of the flow hash, the same on every node of the cluster",
  },
  outerPrefix: {
    name: "outer_prefix",
    codec: ipv4Codec,
    initial: 0 as Ipv4,
    doc: "prefix of outer sources made from a flow's hash; read when outer_host_mask is not 0",
  },
  outerHostMask: {
    name: "outer_host_mask",
    codec: u32Codec,
    initial: 0,
    doc: "host bits of outer_prefix in host order, 0: the outer source is node_address",
  },
  dispatch: {
    name: "dispatch",
    codec: u8Codec,
    initial: 0,
    doc: "enum dispatch: how packets to pods of other nodes say their service",
  },
  acceptOption: {
    name: "accept_option",
    codec: u8Codec,
    initial: 0,
    doc: "1: a plain packet's own option is believed to say its service, and clients' are erased",
  },
  clampMss: {
    name: "clamp_mss",
    codec: u16Codec,
    initial: 0,
    doc: "largest MSS a pod may offer to a client of IPv4 in bytes, to one of IPv6 less by what its headers have more; 0: leave it",
  },
  fragmentsPass: {
    name: "fragments_pass",
    codec: u8Codec,
    initial: 0,
    doc: "1: fragments for a service address pass to the kernel, 0: they are dropped",
  },
  fragmentsTrack: {
    name: "fragments_track",
    codec: u8Codec,
    initial: 0,
    doc: "1: fragments follow the first of them, which has the ports; before fragments_pass",
  },
  nodeClients: {
    name: "node_clients",
    codec: u8Codec,
    initial: 0,
    doc: "1: packets of this node's own sockets to services are translated, as those of pods are",
  },
  socketLookup: {
    name: "socket_lookup",
    codec: u8Codec,
    initial: 0,
    doc: "1: a flow without an entry is known if its pod has a socket for it",
  },
  quietJiffies: {
    name: "quiet_jiffies",
    codec: u32Codec,
    initial: 0,
    doc: "for so long after a ring changed, packets that nobody knows are dropped, not adopted",
  },
  passLimit: {
    name: "pass_limit",
    codec: u32Codec,
    initial: 0,
    doc: "packets of unknown flows that one service may pass on in one limit_window",
  },
  answerLimit: {
    name: "answer_limit",
    codec: u32Codec,
    initial: 0,
    doc: "packets that one service may answer with ICMP or RST, and ICMP errors that it may relay, in one limit_window",
  },
  limitWindow: {
    name: "limit_window",
    codec: u32Codec,
    initial: 0,
    doc: "length of the window of both limits in jiffies",
  },
  frontendMask6: {
    name: "frontend_mask6",
    codec: u32Codec,
    initial: 1023,
    doc: "number of frontend buckets minus one; buckets are a power of two",
  },
  nodeAddress6: {
    name: "node_address6",
    codec: ipv6Codec,
    initial: 0x00000000000000000000000000000000n as Ipv6,
    doc: "this node's address: the outer source of what it encapsulates and passes on",
  },
};

/** The programs of the objects. */
export const programs = {
  edgeIngress: { name: "edge_ingress", object: "edge", section: "xdp", type: "xdp" },
  edgeNat: { name: "edge_nat", object: "edge", section: "xdp", type: "xdp" },
  edgeNatNew: { name: "edge_nat_new", object: "edge", section: "xdp", type: "xdp" },
  edgeBalance: { name: "edge_balance", object: "edge", section: "xdp", type: "xdp" },
  edgeNatBack: { name: "edge_nat_back", object: "edge", section: "xdp", type: "xdp" },
  edgeIngress6: { name: "edge_ingress6", object: "edge6", section: "xdp", type: "xdp" },
  edgeNat6: { name: "edge_nat6", object: "edge6", section: "xdp", type: "xdp" },
  edgeNatNew6: { name: "edge_nat_new6", object: "edge6", section: "xdp", type: "xdp" },
  edgeBalance6: { name: "edge_balance6", object: "edge6", section: "xdp", type: "xdp" },
  edgeNatBack6: { name: "edge_nat_back6", object: "edge6", section: "xdp", type: "xdp" },
  clock: { name: "clock", object: "host", section: "syscall", type: "syscall" },
  fromNetwork: { name: "from_network", object: "host", section: "tc", type: "sched_cls" },
  hostFragment: { name: "host_fragment", object: "host", section: "tc", type: "sched_cls" },
  hostNat: { name: "host_nat", object: "host", section: "tc", type: "sched_cls" },
  hostNatNew: { name: "host_nat_new", object: "host", section: "tc", type: "sched_cls" },
  hostBalance: { name: "host_balance", object: "host", section: "tc", type: "sched_cls" },
  hostNatBack: { name: "host_nat_back", object: "host", section: "tc", type: "sched_cls" },
  hostPlain: { name: "host_plain", object: "host", section: "tc", type: "sched_cls" },
  hostDeliver: { name: "host_deliver", object: "host", section: "tc", type: "sched_cls" },
  hostTold: { name: "host_told", object: "host", section: "tc", type: "sched_cls" },
  hostForeign: { name: "host_foreign", object: "host", section: "tc", type: "sched_cls" },
  hostIcmp: { name: "host_icmp", object: "host", section: "tc", type: "sched_cls" },
  hostIcmpNat: { name: "host_icmp_nat", object: "host", section: "tc", type: "sched_cls" },
  hostAnswer: { name: "host_answer", object: "host", section: "tc", type: "sched_cls" },
  fromNetwork6: { name: "from_network6", object: "host6", section: "tc", type: "sched_cls" },
  hostFragment6: { name: "host_fragment6", object: "host6", section: "tc", type: "sched_cls" },
  hostNat6: { name: "host_nat6", object: "host6", section: "tc", type: "sched_cls" },
  hostNatNew6: { name: "host_nat_new6", object: "host6", section: "tc", type: "sched_cls" },
  hostBalance6: { name: "host_balance6", object: "host6", section: "tc", type: "sched_cls" },
  hostNatBack6: { name: "host_nat_back6", object: "host6", section: "tc", type: "sched_cls" },
  hostPlain6: { name: "host_plain6", object: "host6", section: "tc", type: "sched_cls" },
  hostDeliver6: { name: "host_deliver6", object: "host6", section: "tc", type: "sched_cls" },
  hostTold6: { name: "host_told6", object: "host6", section: "tc", type: "sched_cls" },
  hostForeign6: { name: "host_foreign6", object: "host6", section: "tc", type: "sched_cls" },
  hostIcmp6: { name: "host_icmp6", object: "host6", section: "tc", type: "sched_cls" },
  hostIcmpNat6: { name: "host_icmp_nat6", object: "host6", section: "tc", type: "sched_cls" },
  hostAnswer6: { name: "host_answer6", object: "host6", section: "tc", type: "sched_cls" },
  fromNode: { name: "from_node", object: "node", section: "tc", type: "sched_cls" },
  nodeNew: { name: "node_new", object: "node", section: "tc", type: "sched_cls" },
  nodeIcmp: { name: "node_icmp", object: "node", section: "tc", type: "sched_cls" },
  nodeFragment: { name: "node_fragment", object: "node", section: "tc", type: "sched_cls" },
  nodeAnswer: { name: "node_answer", object: "node", section: "tc", type: "sched_cls" },
  fromNode6: { name: "from_node6", object: "node6", section: "tc", type: "sched_cls" },
  nodeNew6: { name: "node_new6", object: "node6", section: "tc", type: "sched_cls" },
  nodeIcmp6: { name: "node_icmp6", object: "node6", section: "tc", type: "sched_cls" },
  nodeFragment6: { name: "node_fragment6", object: "node6", section: "tc", type: "sched_cls" },
  nodeAnswer6: { name: "node_answer6", object: "node6", section: "tc", type: "sched_cls" },
  fromPod: { name: "from_pod", object: "pod", section: "tc", type: "sched_cls" },
  podFragment: { name: "pod_fragment", object: "pod", section: "tc", type: "sched_cls" },
  podOutbound: { name: "pod_outbound", object: "pod", section: "tc", type: "sched_cls" },
  podNew: { name: "pod_new", object: "pod", section: "tc", type: "sched_cls" },
  podIcmp: { name: "pod_icmp", object: "pod", section: "tc", type: "sched_cls" },
  podAnswer: { name: "pod_answer", object: "pod", section: "tc", type: "sched_cls" },
  fromPod6: { name: "from_pod6", object: "pod6", section: "tc", type: "sched_cls" },
  podFragment6: { name: "pod_fragment6", object: "pod6", section: "tc", type: "sched_cls" },
  podOutbound6: { name: "pod_outbound6", object: "pod6", section: "tc", type: "sched_cls" },
  podNew6: { name: "pod_new6", object: "pod6", section: "tc", type: "sched_cls" },
  podIcmp6: { name: "pod_icmp6", object: "pod6", section: "tc", type: "sched_cls" },
  podAnswer6: { name: "pod_answer6", object: "pod6", section: "tc", type: "sched_cls" },
  connect4: { name: "connect4", object: "socket", section: "cgroup/connect4", type: "cgroup_sock_addr" },
  sendmsg4: { name: "sendmsg4", object: "socket", section: "cgroup/sendmsg4", type: "cgroup_sock_addr" },
  recvmsg4: { name: "recvmsg4", object: "socket", section: "cgroup/recvmsg4", type: "cgroup_sock_addr" },
  getpeername4: { name: "getpeername4", object: "socket", section: "cgroup/getpeername4", type: "cgroup_sock_addr" },
  bind4: { name: "bind4", object: "socket", section: "cgroup/bind4", type: "cgroup_sock_addr" },
  connectMapped: { name: "connect_mapped", object: "socket", section: "cgroup/connect6", type: "cgroup_sock_addr" },
  recvmsgMapped: { name: "recvmsg_mapped", object: "socket", section: "cgroup/recvmsg6", type: "cgroup_sock_addr" },
  getpeerMapped: { name: "getpeer_mapped", object: "socket", section: "cgroup/getpeername6", type: "cgroup_sock_addr" },
  bindMapped: { name: "bind_mapped", object: "socket", section: "cgroup/bind6", type: "cgroup_sock_addr" },
  connect6: { name: "connect6", object: "socket6", section: "cgroup/connect6", type: "cgroup_sock_addr" },
  sendmsg6: { name: "sendmsg6", object: "socket6", section: "cgroup/sendmsg6", type: "cgroup_sock_addr" },
  recvmsg6: { name: "recvmsg6", object: "socket6", section: "cgroup/recvmsg6", type: "cgroup_sock_addr" },
  getpeername6: { name: "getpeername6", object: "socket6", section: "cgroup/getpeername6", type: "cgroup_sock_addr" },
  bind6: { name: "bind6", object: "socket6", section: "cgroup/bind6", type: "cgroup_sock_addr" },
} as const satisfies { readonly [key: string]: ProgramSpec };

/** The sha256 of bpf/abi.txt's text below its first line. */
export const abiDigest = "b30a2cc7f4c755652d20b8428b5f0de37cd612e4c3dcad9d8cd31b8c80ffcb93";
/** That text. */
export const abiText = `
typedef identity_t __u32
typedef ifindex_t __u32
typedef ipv4_t __be32

typedef ipv6_t struct 16
  0 __be32[4] word
typedef jiffies_t __u32
typedef mac_t __u8[6]
typedef netns_cookie_t __u64
typedef place_t __u8
typedef port_t __be16
typedef service_id_t __u32
typedef socket_cookie_t __u64
typedef time_ns_t __u64
typedef verdict_t __u8

enum backend_flag 4
  1 BACKEND_LOCAL

enum captured_flag 4
  1 CAPTURED_LEFT
  2 CAPTURED_MORE

enum dispatch 4
  0 DISPATCH_IPIP
  1 DISPATCH_GENEVE
  2 DISPATCH_OPTION

enum edge_program 4
  0 EDGE_PROGRAM_IPV6
  1 EDGE_PROGRAM_NAT
  2 EDGE_PROGRAM_NAT_NEW
  3 EDGE_PROGRAM_NAT_BACK
  4 EDGE_PROGRAM_BALANCE

enum event_mask 4
  1 EVENT_DROPS
  2 EVENT_TRACES
  4 EVENT_PACKETS

enum flow_direction 4
  0 FLOW_REQUEST
  1 FLOW_REPLY

enum flow_flag 4
  1 FLOW_REMOTE
  2 FLOW_CONFIRMED
  4 FLOW_FIN_CLIENT
  8 FLOW_FIN_POD
  16 FLOW_RESET
  32 FLOW_REPLIED
  64 FLOW_SNAT
  128 FLOW_OUTBOUND
  256 FLOW_NODE

enum frontend_kind 4
  0 FRONTEND_EMPTY
  1 FRONTEND_SERVICE
  2 FRONTEND_ADDRESS
  3 FRONTEND_NODE_PORT
  4 FRONTEND_INTERNAL
  5 FRONTEND_NODE

enum host_program 4
  0 HOST_PROGRAM_IPV6
  1 HOST_PROGRAM_NAT
  2 HOST_PROGRAM_DELIVER
  3 HOST_PROGRAM_ICMP
  4 HOST_PROGRAM_NAT_NEW
  5 HOST_PROGRAM_NAT_BACK
  6 HOST_PROGRAM_ANSWER
  7 HOST_PROGRAM_PLAIN
  8 HOST_PROGRAM_FRAGMENT
  9 HOST_PROGRAM_ICMP_NAT
  10 HOST_PROGRAM_TOLD
  11 HOST_PROGRAM_FOREIGN
  12 HOST_PROGRAM_BALANCE

enum nexthop_flag 4
  1 NEXTHOP_RESOLVED
  2 NEXTHOP_EDGE
  256 NEXTHOP_GENERATION

enum node_address 4
  1 NODE_ADDRESS_OWN
  2 NODE_ADDRESS_OTHER

enum node_program 4
  0 NODE_PROGRAM_IPV6
  1 NODE_PROGRAM_OUTBOUND
  2 NODE_PROGRAM_OUTBOUND_NEW
  3 NODE_PROGRAM_ANSWER
  4 NODE_PROGRAM_ICMP
  5 NODE_PROGRAM_FRAGMENT

enum place 4
  0 PLACE_EDGE
  1 PLACE_HOST
  2 PLACE_POD
  3 PLACE_SOCKET
  4 PLACE_NODE

enum pod_program 4
  0 POD_PROGRAM_IPV6
  1 POD_PROGRAM_OUTBOUND
  2 POD_PROGRAM_ICMP
  3 POD_PROGRAM_OUTBOUND_NEW
  4 POD_PROGRAM_ANSWER
  5 POD_PROGRAM_FRAGMENT

enum service_flag 4
  1 SERVICE_ENCAPSULATE_FIRST
  2 SERVICE_FORMER_OWNERS
  4 SERVICE_SNAT
  8 SERVICE_SOURCE_RANGES
  16 SERVICE_SOURCE_DENY
  32 SERVICE_AFFINITY
  64 SERVICE_REJECT
  128 SERVICE_WAS_SNAT
  256 SERVICE_WAS_DSR
  512 SERVICE_RANDOM
  1024 SERVICE_LATELY

enum target_flag 4
  1 TARGET_ACTIVE

enum trust 4
  1 TRUST_NODE
  2 TRUST_LOAD_BALANCER

enum verdict 4
  0 PASS_NOT_OURS
  1 PASS_LOCAL
  2 PASS_UNRESOLVED
  3 PASS_FRAGMENT
  4 PASS_TTL
  5 PASS_STACK
  6 PASS_TOO_BIG
  16 SENT_ENCAPSULATED
  17 SENT_PLAIN
  18 SENT_POD
  19 SENT_REPLY
  20 SENT_PASSED
  21 SENT_FINAL
  22 SENT_FRAG_NEEDED
  23 SENT_NOTED
  24 SENT_NAT
  25 SENT_NAT_REPLY
  26 SENT_OUTBOUND
  27 SENT_REJECTED
  28 SENT_ECHO
  29 SENT_RELAYED
  30 SENT_SOCKET
  32 DROP_NO_BACKEND
  33 DROP_FRAGMENT
  34 DROP_UNTRUSTED
  35 DROP_INNER_INVALID
  36 DROP_INNER_PROTOCOL
  37 DROP_NO_SERVICE
  38 DROP_NOT_A_BACKEND
  39 DROP_CONNTRACK_FULL
  40 DROP_PORT_COLLISION
  41 DROP_UNKNOWN_FLOW
  42 DROP_UNKNOWN_FINAL
  43 DROP_PASS_LIMIT
  44 DROP_ECN
  45 DROP_TABLE
  46 DROP_REWRITE
  47 DROP_NO_ROUTE
  48 DROP_ENDPOINT_GONE
  49 DROP_OUTER_FRAGMENT
  50 DROP_ANSWER_LIMIT
  51 DROP_TOO_BIG
  52 DROP_SOURCE_RANGE
  53 DROP_UNKNOWN_PORT
  54 DROP_NAT_EXHAUSTED
  55 DROP_PROGRAM
  56 DROP_OPTION_ROOM
  57 DROP_BIND
  58 DROP_PORT_TAKEN
  59 DROP_SOURCE

struct affinity 12
  0 ipv4_t pod
  4 __u32 backend
  8 jiffies_t seen

struct affinity6 24
  0 ipv6_t pod
  16 __u32 backend
  20 jiffies_t seen

struct affinity_key 8
  0 service_id_t service
  4 ipv4_t client

struct affinity_key6 20
  0 service_id_t service
  4 ipv6_t client

struct backend 16
  0 ipv4_t address
  4 port_t port
  6 __u16 nexthop
  8 __u32 counter
  12 __u32 flags

struct backend6 32
  0 ipv6_t address
  16 port_t port
  18 __u16 nexthop
  20 __u32 counter
  24 __u32 flags
  28 __u32 reserved

struct capture 104
  0 time_ns_t deadline
  8 time_ns_t second
  16 __u64 packets
  24 __u64 left_out
  32 __u64 lost
  40 __u64 verdicts
  48 ipv6_t address
  64 ipv6_t mask
  80 __u32 session
  84 __u32 taken
  88 __u32 rate
  92 __u32 snap_bytes
  96 __u32 places
  100 port_t port
  102 __u8 version
  103 __u8 reserved

struct captured_frame 48
  0 time_ns_t time
  8 __u64 packet
  16 __u32 session
  20 ifindex_t ifindex
  24 __u32 frame_bytes
  28 __u32 segment_bytes
  32 service_id_t service
  36 __u16 cpu
  38 verdict_t verdict
  39 place_t place
  40 __u32 flags
  44 __u32 reserved

struct clock_reading 16
  0 time_ns_t monotonic
  8 __u64 jiffies

struct endpoint 24
  0 ifindex_t ifindex
  4 __s32 netns
  8 mac_t pod_mac
  14 mac_t node_mac
  20 identity_t identity

struct endpoint_key 4
  0 ipv4_t address

struct endpoint_key6 16
  0 ipv6_t address

struct flow 72
  0 ipv4_t client
  4 ipv4_t service_address
  8 ipv4_t pod
  12 ipv4_t alias_address
  16 port_t client_port
  18 port_t service_port
  20 port_t pod_port
  22 port_t alias_port
  24 service_id_t service
  28 __u16 nexthop
  30 __u16 nexthop_generation
  32 __u32 counter
  36 jiffies_t seen
  40 __u32 flags
  44 identity_t client_identity
  48 __u64 packets
  56 __u64 bytes
  64 jiffies_t created
  68 __u32 claimed

struct flow6 120
  0 ipv6_t client
  16 ipv6_t service_address
  32 ipv6_t pod
  48 ipv6_t alias_address
  64 port_t client_port
  66 port_t service_port
  68 port_t pod_port
  70 port_t alias_port
  72 service_id_t service
  76 __u16 nexthop
  78 __u16 nexthop_generation
  80 __u32 counter
  84 jiffies_t seen
  88 __u32 flags
  92 identity_t client_identity
  96 __u64 packets
  104 __u64 bytes
  112 jiffies_t created
  116 __u32 claimed

struct flow_key 16
  0 ipv4_t source
  4 ipv4_t destination
  8 port_t source_port
  10 port_t destination_port
  12 __u8 protocol
  13 __u8 direction
  14 __u16 reserved

struct flow_key6 40
  0 ipv6_t source
  16 ipv6_t destination
  32 port_t source_port
  34 port_t destination_port
  36 __u8 protocol
  37 __u8 direction
  38 __u16 reserved

struct former_owners 12
  0 ipv4_t[3] owner

struct former_owners6 48
  0 ipv6_t[3] owner

struct fragment 8
  0 port_t source_port
  2 port_t destination_port
  4 jiffies_t seen

struct fragment_key 16
  0 ipv4_t source
  4 ipv4_t destination
  8 __u32 id
  12 __u8 protocol
  13 __u8[3] reserved

struct fragment_key6 40
  0 ipv6_t source
  16 ipv6_t destination
  32 __u32 id
  36 __u8 protocol
  37 __u8[3] reserved

struct frontend 16
  0 ipv4_t address
  4 port_t port
  6 __u8 protocol
  7 __u8 kind
  8 __u32 service
  12 __u32 spill

struct frontend6 32
  0 ipv6_t address
  16 port_t port
  18 __u8 protocol
  19 __u8 kind
  20 __u32 service
  24 __u32 spill
  28 __u32 reserved

struct frontend_bucket 64
  0 struct frontend[4] slot

struct frontend_bucket6 128
  0 struct frontend6[4] slot

struct limit_window 12
  0 jiffies_t since
  4 __u32 passed
  8 __u32 told

struct metric 16
  0 __u64 packets
  8 __u64 bytes

struct nexthop 40
  0 ifindex_t ifindex
  4 __u16 mtu
  6 __u16 flags
  8 mac_t destination
  14 mac_t source
  20 ipv4_t gateway
  24 ipv4_t outer_source
  28 __u32 checksum
  32 ipv4_t peer
  36 __u32 reserved

struct nexthop6 72
  0 ifindex_t ifindex
  4 __u16 mtu
  6 __u16 flags
  8 mac_t destination
  14 mac_t source
  20 ipv6_t gateway
  36 ipv6_t outer_source
  52 __u32 checksum
  56 ipv6_t peer

struct packet_event 48
  0 time_ns_t time
  8 ifindex_t ifindex
  12 __u32 length
  16 ipv4_t source
  20 ipv4_t destination
  24 port_t source_port
  26 port_t destination_port
  28 __u8 protocol
  29 __u8 tcp_flags
  30 verdict_t verdict
  31 place_t place
  32 ipv4_t outer_source
  36 ipv4_t outer_destination
  40 ipv4_t backend
  44 service_id_t service

struct packet_event6 112
  0 time_ns_t time
  8 ifindex_t ifindex
  12 __u32 length
  16 ipv6_t source
  32 ipv6_t destination
  48 port_t source_port
  50 port_t destination_port
  52 __u8 protocol
  53 __u8 tcp_flags
  54 verdict_t verdict
  55 place_t place
  56 ipv6_t outer_source
  72 ipv6_t outer_destination
  88 ipv6_t backend
  104 service_id_t service
  108 __u32 reserved

struct peer 4
  0 ipv4_t node

struct peer6 16
  0 ipv6_t node

struct ring_row 64
  0 __u16[32] backend

struct runtime 8
  0 __u32 events
  4 __u32 reserved

struct service 32
  0 service_id_t id
  4 __u32 ring
  8 __u32 ring_size
  12 __u32 backends
  16 __u32 backend_count
  20 __u32 flags
  24 jiffies_t changed
  28 __u32 affinity_age

struct slot_key 8
  0 service_id_t service
  4 __u32 slot

struct socket_peer 24
  0 netns_cookie_t netns
  8 ipv4_t service_address
  12 service_id_t service
  16 jiffies_t created
  20 port_t service_port
  22 __u16 reserved

struct socket_peer6 40
  0 netns_cookie_t netns
  8 ipv6_t service_address
  24 service_id_t service
  28 jiffies_t created
  32 port_t service_port
  34 __u16 reserved
  36 __u32 reserved2

struct socket_peer_key 16
  0 socket_cookie_t cookie
  8 ipv4_t backend
  12 port_t port
  14 __u8 protocol
  15 __u8 reserved

struct socket_peer_key6 32
  0 socket_cookie_t cookie
  8 ipv6_t backend
  24 port_t port
  26 __u8 protocol
  27 __u8 reserved
  28 __u32 reserved2

struct source_range 4
  0 __u32 listed

struct source_range_key 12
  0 __u32 prefix_length
  4 service_id_t service
  8 ipv4_t address

struct source_range_key6 24
  0 __u32 prefix_length
  4 service_id_t service
  8 ipv6_t address

struct target 8
  0 port_t port
  2 __u16 flags
  4 __u32 counter

struct target_key 8
  0 service_id_t service
  4 ipv4_t pod

struct target_key6 20
  0 service_id_t service
  4 ipv6_t pod

struct traffic 32
  0 __u64 packets
  8 __u64 bytes
  16 __u64 connections
  24 __u64 adopted

struct trusted 4
  0 __u32 kind

struct trusted_key 8
  0 __u32 prefix_length
  4 ipv4_t address

struct trusted_key6 20
  0 __u32 prefix_length
  4 ipv6_t address

map affinities lru_hash
  key struct affinity_key
  value struct affinity
  entries 65536
  flags 0

map affinities6 lru_hash
  key struct affinity_key6
  value struct affinity6
  entries 65536
  flags 0

map backends array
  key __u32
  value struct backend
  entries 16384
  flags 1024

map backends6 array
  key __u32
  value struct backend6
  entries 16384
  flags 1024

map capture_copies percpu_array
  key 4 bytes
  value 16712 bytes
  entries 1
  flags 0

map captured_frames ringbuf
  key 0 bytes
  value 0 bytes
  entries 1048576
  flags 0

map captures array
  key __u32
  value struct capture
  entries 1
  flags 1024

map conntrack hash
  key struct flow_key
  value struct flow
  entries 65536
  flags 0

map conntrack6 hash
  key struct flow_key6
  value struct flow6
  entries 65536
  flags 0

map counters array
  key __u32
  value struct traffic
  entries 65536
  flags 1024

map edge_programs prog_array
  key 4 bytes
  value 4 bytes
  entries 16
  flags 0

map edge_programs6 prog_array
  key 4 bytes
  value 4 bytes
  entries 16
  flags 0

map endpoints hash
  key struct endpoint_key
  value struct endpoint
  entries 4096
  flags 1

map endpoints6 hash
  key struct endpoint_key6
  value struct endpoint
  entries 4096
  flags 1

map events ringbuf
  key 0 bytes
  value 0 bytes
  entries 1048576
  flags 0

map former_owners hash
  key struct slot_key
  value struct former_owners
  entries 1048576
  flags 1

map former_owners6 hash
  key struct slot_key
  value struct former_owners6
  entries 1048576
  flags 1

map fragments lru_hash
  key struct fragment_key
  value struct fragment
  entries 8192
  flags 0

map fragments6 lru_hash
  key struct fragment_key6
  value struct fragment
  entries 8192
  flags 0

map frontends array
  key __u32
  value struct frontend_bucket
  entries 1024
  flags 1024

map frontends6 array
  key __u32
  value struct frontend_bucket6
  entries 1024
  flags 1024

map host_programs prog_array
  key 4 bytes
  value 4 bytes
  entries 16
  flags 0

map host_programs6 prog_array
  key 4 bytes
  value 4 bytes
  entries 16
  flags 0

map limits array
  key __u32
  value struct limit_window
  entries 65536
  flags 0

map metrics array
  key __u32
  value struct metric
  entries 4096
  flags 1024

map nexthops array
  key __u32
  value struct nexthop
  entries 256
  flags 1024

map nexthops6 array
  key __u32
  value struct nexthop6
  entries 256
  flags 1024

map node_programs prog_array
  key 4 bytes
  value 4 bytes
  entries 16
  flags 0

map node_programs6 prog_array
  key 4 bytes
  value 4 bytes
  entries 16
  flags 0

map peers hash
  key struct endpoint_key
  value struct peer
  entries 16384
  flags 1

map peers6 hash
  key struct endpoint_key6
  value struct peer6
  entries 16384
  flags 1

map pod_programs prog_array
  key 4 bytes
  value 4 bytes
  entries 16
  flags 0

map pod_programs6 prog_array
  key 4 bytes
  value 4 bytes
  entries 16
  flags 0

map rings array
  key __u32
  value struct ring_row
  entries 65536
  flags 1024

map runtime array
  key __u32
  value struct runtime
  entries 1
  flags 1024

map scratch percpu_array
  key 4 bytes
  value 256 bytes
  entries 1
  flags 0

map scratch6 percpu_array
  key 4 bytes
  value 520 bytes
  entries 1
  flags 0

map services array
  key __u32
  value struct service
  entries 1024
  flags 1024

map socket_peers lru_hash
  key struct socket_peer_key
  value struct socket_peer
  entries 65536
  flags 0

map socket_peers6 lru_hash
  key struct socket_peer_key6
  value struct socket_peer6
  entries 65536
  flags 0

map source_ranges lpm_trie
  key struct source_range_key
  value struct source_range
  entries 65536
  flags 1

map source_ranges6 lpm_trie
  key struct source_range_key6
  value struct source_range
  entries 65536
  flags 1

map targets hash
  key struct target_key
  value struct target
  entries 65536
  flags 1

map targets6 hash
  key struct target_key6
  value struct target
  entries 65536
  flags 1

map trusted lpm_trie
  key struct trusted_key
  value struct trusted
  entries 16384
  flags 1

map trusted6 lpm_trie
  key struct trusted_key6
  value struct trusted
  entries 16384
  flags 1

config accept_option __u8
config answer_limit __u32
config clamp_mss __u16
config counter_stride __u32
config dispatch __u8
config fragments_pass __u8
config fragments_track __u8
config frontend_mask __u32
config frontend_mask6 __u32
config hash_seed __u64
config limit_window __u32
config nat_port_min __u16
config node_address ipv4_t
config node_address6 ipv6_t
config node_clients __u8
config node_netns __u64
config node_port_max __u16
config node_port_min __u16
config outer_host_mask __u32
config outer_prefix ipv4_t
config pass_limit __u32
config quiet_jiffies __u32
config socket_lookup __u8

program edge_ingress edge xdp xdp
program edge_nat edge xdp xdp
program edge_nat_new edge xdp xdp
program edge_balance edge xdp xdp
program edge_nat_back edge xdp xdp
program edge_ingress6 edge6 xdp xdp
program edge_nat6 edge6 xdp xdp
program edge_nat_new6 edge6 xdp xdp
program edge_balance6 edge6 xdp xdp
program edge_nat_back6 edge6 xdp xdp
program clock host syscall syscall
program from_network host tc sched_cls
program host_fragment host tc sched_cls
program host_nat host tc sched_cls
program host_nat_new host tc sched_cls
program host_balance host tc sched_cls
program host_nat_back host tc sched_cls
program host_plain host tc sched_cls
program host_deliver host tc sched_cls
program host_told host tc sched_cls
program host_foreign host tc sched_cls
program host_icmp host tc sched_cls
program host_icmp_nat host tc sched_cls
program host_answer host tc sched_cls
program from_network6 host6 tc sched_cls
program host_fragment6 host6 tc sched_cls
program host_nat6 host6 tc sched_cls
program host_nat_new6 host6 tc sched_cls
program host_balance6 host6 tc sched_cls
program host_nat_back6 host6 tc sched_cls
program host_plain6 host6 tc sched_cls
program host_deliver6 host6 tc sched_cls
program host_told6 host6 tc sched_cls
program host_foreign6 host6 tc sched_cls
program host_icmp6 host6 tc sched_cls
program host_icmp_nat6 host6 tc sched_cls
program host_answer6 host6 tc sched_cls
program from_node node tc sched_cls
program node_new node tc sched_cls
program node_icmp node tc sched_cls
program node_fragment node tc sched_cls
program node_answer node tc sched_cls
program from_node6 node6 tc sched_cls
program node_new6 node6 tc sched_cls
program node_icmp6 node6 tc sched_cls
program node_fragment6 node6 tc sched_cls
program node_answer6 node6 tc sched_cls
program from_pod pod tc sched_cls
program pod_fragment pod tc sched_cls
program pod_outbound pod tc sched_cls
program pod_new pod tc sched_cls
program pod_icmp pod tc sched_cls
program pod_answer pod tc sched_cls
program from_pod6 pod6 tc sched_cls
program pod_fragment6 pod6 tc sched_cls
program pod_outbound6 pod6 tc sched_cls
program pod_new6 pod6 tc sched_cls
program pod_icmp6 pod6 tc sched_cls
program pod_answer6 pod6 tc sched_cls
program connect4 socket cgroup/connect4 cgroup_sock_addr
program sendmsg4 socket cgroup/sendmsg4 cgroup_sock_addr
program recvmsg4 socket cgroup/recvmsg4 cgroup_sock_addr
program getpeername4 socket cgroup/getpeername4 cgroup_sock_addr
program bind4 socket cgroup/bind4 cgroup_sock_addr
program connect_mapped socket cgroup/connect6 cgroup_sock_addr
program recvmsg_mapped socket cgroup/recvmsg6 cgroup_sock_addr
program getpeer_mapped socket cgroup/getpeername6 cgroup_sock_addr
program bind_mapped socket cgroup/bind6 cgroup_sock_addr
program connect6 socket6 cgroup/connect6 cgroup_sock_addr
program sendmsg6 socket6 cgroup/sendmsg6 cgroup_sock_addr
program recvmsg6 socket6 cgroup/recvmsg6 cgroup_sock_addr
program getpeername6 socket6 cgroup/getpeername6 cgroup_sock_addr
program bind6 socket6 cgroup/bind6 cgroup_sock_addr
`;
