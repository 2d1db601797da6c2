// SPDX-License-Identifier: Apache-2.0
// Faults in what is parsed, found and chosen.

import type { Fault, Mutant } from "./list.ts";

const inFile = (file: string, faults: readonly Fault[]): readonly Mutant[] =>
  faults.map((fault) => ({ file, ...fault }));

const AFFINITY = inFile("stage/affinity.h", [
  {
    name: "clients are remembered for ever",
    from: "!(opens && jiffies_since(known->seen, entry.seen) > service->affinity_age)",
    to: "1",
  },
  {
    name: "any packet lets a client be remembered longer",
    from: "\t\t\tif (opens)\n",
    to: "\t\t\tif (1)\n",
  },
  {
    name: "any packet lets a client be remembered",
    from: "if (!backend || !opens)",
    to: "if (!backend)",
  },
  {
    name: "clients of pods that are gone are remembered",
    from: "\t\tbpf_map_delete_elem(&FAMILY(affinities), &key);\n",
    to: "",
  },
  {
    name: "a backend with another index isn't found",
    from: "bpf_loop(service->backend_count,",
    to: "bpf_loop(1,",
  },
  {
    name: "an index is believed without its pod",
    from: "if (backend && same_address(backend->address, known->pod))",
    to: "if (backend)",
  },
  {
    name: "a backend's new index is forgotten",
    from: "\tknown->backend = search.found;\n",
    to: "",
  },
]);

const SOURCE = inFile("stage/source.h", [
  {
    name: "who is listed is refused",
    from: "return listed == !!(service->flags & SERVICE_SOURCE_DENY);",
    to: "return listed != !!(service->flags & SERVICE_SOURCE_DENY);",
  },
  {
    name: "nobody is denied",
    from: "listed == !!(service->flags & SERVICE_SOURCE_DENY)",
    to: "!listed",
  },
  {
    name: "other services' lists count",
    from: "\t    .service = service->id,\n",
    to: "\t    .service = service->id ? 1 : 0,\n",
  },
  {
    name: "lists of networks are looked up by network alone",
    from: "8 * (sizeof(key.service) + sizeof(key.address))",
    to: "8 * (sizeof(key.service) + sizeof(key.address) - 1)",
  },
]);

const SERVICE = inFile("stage/service.h", [
  {
    name: "flows of SNAT are forgotten when their service becomes DSR",
    from: "(SERVICE_SNAT | SERVICE_WAS_SNAT)",
    to: "SERVICE_SNAT",
  },
  {
    name: "connections of DSR are forgotten when their service becomes SNAT",
    from: "return service->flags & SERVICE_WAS_DSR &&",
    to: "return false &&",
  },
  {
    name: "datagrams of a moment ago are SNAT's",
    file: "stage/nat.h",
    from: "return flow || service->flags & SERVICE_LATELY;",
    to: "return flow;",
  },
  {
    name: "datagrams that DSR had are forgotten",
    file: "stage/nat.h",
    from: "return flow || service->flags & SERVICE_LATELY;",
    to: "return service->flags & SERVICE_LATELY;",
  },
  {
    name: "datagrams of a moment ago lead to their service",
    file: "stage/remember.h",
    from: "flow->pod = packet->backend;",
    to: "flow->pod = packet->destination;",
  },
  {
    name: "datagrams of a moment ago are remembered anew",
    file: "stage/remember.h",
    from: "BPF_NOEXIST",
    to: "BPF_ANY",
  },
  {
    name: "chance leads beyond the ring",
    file: "stage/affinity.h",
    from: "slot_of(service, bpf_get_prandom_u32())",
    to: "bpf_get_prandom_u32() & 0xffff",
  },
  {
    name: "chance is left out",
    file: "stage/affinity.h",
    from: "if (service->flags & SERVICE_RANDOM)",
    to: "if (false)",
  },
  {
    name: "datagrams are passed on to whom chance didn't choose",
    file: "stage/owners.h",
    from: "(SERVICE_AFFINITY | SERVICE_RANDOM)",
    to: "SERVICE_AFFINITY",
  },
  {
    name: "slot by remainder",
    from: "return (__u64)hash * service->ring_size >> 32;",
    to: "return hash % (service->ring_size ? service->ring_size : 1);",
  },
  {
    name: "always the ring's first row",
    from: "service->ring + slot / RING_ROW_SLOTS",
    to: "service->ring",
  },
  {
    name: "the next slot's backend",
    from: "row->backend[slot % RING_ROW_SLOTS]",
    to: "row->backend[(slot + 1) % RING_ROW_SLOTS]",
  },
  {
    name: "a slot may point one backend too far",
    from: "if (index >= service->backend_count)",
    to: "if (index > service->backend_count)",
  },
  { name: "other services' backends", from: "\tindex += service->backends;\n", to: "" },
  {
    name: "all clients have one slot",
    from: "return hash_mix(source, destination, 0, protocol);",
    to: "return hash_mix(0, destination, 0, protocol);",
  },
  {
    name: "hash without protocol",
    file: "stage/ip4.h",
    from: "x = (x ^ b)",
    to: "x = (x ^ b >> 8)",
  },
  { name: "hash without seed", file: "stage/ip4.h", from: "(a ^ hash_seed)", to: "a" },
  {
    name: "keys that spilled over aren't looked for",
    from: "if (found || likely(!bucket->slot[3].spill))",
    to: "if (1)",
  },
  { name: "one bucket fewer is looked into", from: "probe < FRONTEND_PROBES", to: "probe < 3" },
  {
    name: "encapsulate: first, and the SYN travels plain",
    from: "!packet_is_syn(packet) && !former_owners_of",
    to: "!former_owners_of",
  },
  {
    name: "node ports at other nodes' addresses are served",
    from: "kind == NODE_ADDRESS_OWN || (inner && kind)",
    to: "kind",
  },
  {
    name: "what came to another node's port is nobody's",
    from: "kind == NODE_ADDRESS_OWN || (inner && kind)",
    to: "kind == NODE_ADDRESS_OWN",
  },
  {
    name: "the highest node port isn't one",
    from: "port > node_port_max",
    to: "port >= node_port_max",
  },
  {
    name: "fragments for an address that a node shares are services'",
    from: " &&\n\t       !node_address_kind(address)",
    to: "",
  },
  {
    name: "slots with former owners travel plain",
    from: " && !former_owners_of(service, packet->slot)",
    to: "",
  },
]);

const PARSE = inFile("stage/parse.h", [
  {
    name: "first fragments are whole packets",
    file: "stage/ip4.h",
    from: "bpf_htons(0x3fff)",
    to: "bpf_htons(0x1fff)",
  },
  {
    name: "DF makes a fragment",
    file: "stage/ip4.h",
    from: "bpf_htons(0x3fff)",
    to: "bpf_htons(0x7fff)",
  },
  {
    name: "a TCP header may lack a byte",
    from: "l4_room < sizeof(*tcp)",
    to: "l4_room + 1 < sizeof(*tcp)",
  },
  {
    name: "a packet may be a byte longer than its frame",
    file: "stage/ip4.h",
    from: "packet->total_bytes > room",
    to: "packet->total_bytes > room + 1",
  },
  {
    name: "a header may be longer than its packet",
    file: "stage/ip4.h",
    from: " || packet->total_bytes < packet->header_bytes ||",
    to: " ||",
  },
  { name: "TCP options aren't counted", from: "tcp->doff * 4", to: "sizeof(*tcp)" },
  {
    name: "any version but 6 is IPv4",
    file: "stage/ip4.h",
    from: "ip->version != 4",
    to: "ip->version == 6",
  },
]);

const EDGE = inFile("edge.bpf.c", [
  {
    name: "a local backend is forgotten",
    from: "return flow->flags & FLOW_SNAT ? nat_send(ctx, packet, flow, action) : PASS_LOCAL;",
    to: "return flow->flags & FLOW_SNAT ? nat_send(ctx, packet, flow, action) : PASS_NOT_OURS;",
  },
  {
    name: "what just fits is too big",
    from: "packet->total_bytes + extra > nexthop->mtu",
    to: "packet->total_bytes + extra >= nexthop->mtu",
  },
  {
    name: "unresolved next hops are used",
    from: "!(nexthop->flags & NEXTHOP_EDGE)",
    to: "!nexthop->ifindex",
  },
  {
    name: "edge: a TTL of 1 is sent on",
    from: "if (packet->ttl <= 1)",
    to: "if (packet->ttl < 1)",
  },
  {
    name: "one drop passes",
    from: "return verdict >= DROP_NO_BACKEND",
    to: "return verdict > DROP_NO_BACKEND",
  },
  {
    name: "fragments are dropped the other way round",
    from: "fragments_pass ? PASS_FRAGMENT : DROP_FRAGMENT",
    to: "fragments_pass ? DROP_FRAGMENT : PASS_FRAGMENT",
  },
]);

const RECEIVE = inFile("host.bpf.c", [
  {
    name: "VLAN tags are overlooked",
    file: "stage/host-read.h",
    from: "skb->protocol != ETHERTYPE || skb->vlan_present ||",
    to: "skb->protocol != ETHERTYPE ||",
  },
  {
    name: "everybody is trusted",
    file: "stage/deliver.h",
    from: "\tif (!sender)\n\t\treturn DROP_UNTRUSTED;\n",
    to: "",
  },
  {
    name: "load balancers' TTLs are believed",
    file: "stage/deliver.h",
    from: "sender && sender->kind == TRUST_NODE",
    to: "sender",
  },
  {
    name: "CE is lost on packets that can't carry it",
    file: "stage/deliver.h",
    from: "return inner;",
    to: "return true;",
  },
  {
    name: "ECT(1) outside is ignored",
    file: "stage/deliver.h",
    from: "if (outer == ECN_ECT1 && inner == ECN_ECT0)",
    to: "if (0)",
  },
  { name: "CE outside is ignored", file: "stage/deliver.h", from: "\t\t*tos |= ECN_CE;\n", to: "" },
  {
    name: "IPIP for anybody",
    file: "stage/deliver.h",
    from: "if (*hop != HOP_NOTE && (!endpoint || (own && !node)))",
    to: "if (0)",
  },
  {
    name: "fragments of IPIP are stripped",
    file: "stage/deliver.h",
    from: "\tif (packet->fragment)\n\t\treturn own && *hop != HOP_NOTE ? PASS_NOT_OURS : DROP_OUTER_FRAGMENT;\n",
    to: "",
  },
  {
    name: "the inner packet may be longer than the outer one",
    file: "stage/deliver.h",
    from: "packet->total_bytes - packet->header_bytes;\n\n",
    to: "packet->total_bytes;\n\n",
  },
  {
    name: "local traffic isn't counted",
    from: "\t\ttraffic_count(backend->counter, packet);\n\t\treturn hand_over(skb, &backend->address);\n\t}\n\tverdict = to_node",
    to: "\t\treturn hand_over(skb, &backend->address);\n\t}\n\tverdict = to_node",
  },
  {
    name: "SNAT for pods of this node",
    file: "edge.bpf.c",
    from: "\tif (backend->flags & BACKEND_LOCAL)\n\t\treturn PASS_LOCAL;\n\tpacket->backend",
    to: "\tpacket->backend",
  },
  {
    name: "what isn't sent is counted",
    from: "if (verdict == SENT_ENCAPSULATED || verdict == SENT_PLAIN)\n\t\ttraffic_count",
    to: "traffic_count",
  },
]);

const METRICS = inFile("stage/metrics.h", [
  {
    name: "events with source for destination",
    from: "event->destination = packet->destination;",
    to: "event->destination = packet->source;",
  },
  {
    name: "drops' listeners hear everything",
    from: "EVENT_TRACES | verdict / DROP_NO_BACKEND",
    to: "EVENT_TRACES | EVENT_DROPS",
  },
  { name: "all places are one", from: "* PLACE_SLOTS + place)", to: "* PLACE_SLOTS)" },
  { name: "packets counted as bytes", from: "metric->bytes += bytes;", to: "metric->bytes += 1;" },
  {
    name: "all CPUs share one part of counters",
    from: "bpf_get_smp_processor_id() * counter_stride + counter",
    to: "counter",
  },
  {
    name: "every packet is a connection",
    from: "traffic->connections += packet_is_syn(packet);",
    to: "traffic->connections++;",
  },
]);

export const SELECTION_MUTANTS: readonly Mutant[] = [
  ...SOURCE,
  ...AFFINITY,
  ...SERVICE,
  ...PARSE,
  ...EDGE,
  ...RECEIVE,
  ...METRICS,
];
