// SPDX-License-Identifier: Apache-2.0
// Faults in how packets say their service by Geneve and options, and in who believes them.

import type { Mutant } from "./list.ts";

const GENEVE: readonly Mutant[] = [
  {
    name: "Geneve leaves by the same port for all flows",
    file: "stage/geneve.h",
    from: "bpf_htons(0x8000 | (packet->spread & 0x7fff))",
    to: "bpf_htons(0x8000)",
  },
  {
    name: "Geneve's UDP is as long as its packet",
    file: "stage/geneve.h",
    from: "packet->total_bytes + GENEVE_BYTES - sizeof(ip_t)",
    to: "packet->total_bytes + GENEVE_BYTES",
  },
  {
    name: "Geneve's option isn't critical",
    file: "stage/geneve.h",
    from: "geneve->flags = GENEVE_CRITICAL;",
    to: "geneve->flags = 0;",
  },
  {
    name: "Geneve has no identity",
    file: "stage/geneve.h",
    from: "geneve->vni = GENEVE_WORLD;",
    to: "geneve->vni = 0;",
  },
  {
    name: "Geneve says the backend's port",
    file: "stage/geneve.h",
    from: "geneve->port = packet->destination_port;",
    to: "geneve->port = packet->source_port;",
  },
  {
    name: "Geneve of other versions is read",
    file: "stage/geneve.h",
    from: "!(geneve->words >> 6) && ",
    to: "",
  },
  {
    name: "Geneve without Ethernet is read",
    file: "stage/geneve.h",
    from: " && geneve->protocol == GENEVE_ETHERNET",
    to: "",
  },
  {
    name: "options of others' classes say services",
    file: "stage/geneve.h",
    from: " && geneve->option_class == GENEVE_CLASS",
    to: "",
  },
  {
    name: "options of other types say services",
    file: "stage/geneve.h",
    from: "\t       geneve->option_type == GENEVE_SERVICE && geneve->option_words",
    to: "\t       geneve->option_words",
  },
  {
    name: "Geneve goes to pods whose node is known",
    file: "stage/geneve.h",
    from: "is_address(nexthop->peer) ? nexthop->peer : backend->address",
    to: "backend->address",
  },
  {
    name: "the inner Ethernet header has the outer one's MACs",
    file: "stage/dispatch-skb.h",
    from: "\t__builtin_memcpy((void *)outer + GENEVE_BYTES - ETH_HLEN, eth, ETH_HLEN);\n\tethernet_write(eth, way->destination, way->source);",
    to: "\tethernet_write(eth, way->destination, way->source);\n\t__builtin_memcpy((void *)outer + GENEVE_BYTES - ETH_HLEN, eth, ETH_HLEN);",
  },
  {
    name: "Geneve of the host has IPIP's protocol",
    file: "stage/dispatch-skb.h",
    from: "GENEVE_BYTES, IPPROTO_UDP);",
    to: "GENEVE_BYTES, IPPROTO_OUTER);",
  },
  {
    name: "Geneve of the edge goes to the pod",
    file: "stage/dispatch-xdp.h",
    from: "geneve_target(nexthop, backend)",
    to: "backend->address",
  },
  {
    name: "no room is counted for Geneve",
    file: "stage/dispatch.h",
    from: "\tif (dispatch == DISPATCH_GENEVE)\n\t\treturn GENEVE_BYTES;",
    to: "\tif (dispatch == DISPATCH_GENEVE)\n\t\treturn OUTER_BYTES;",
  },
  {
    name: "the host counts no room for Geneve",
    file: "stage/dispatch.h",
    from: "\tif (how == DISPATCH_GENEVE)\n\t\treturn GENEVE_BYTES;",
    to: "\tif (how == DISPATCH_GENEVE)\n\t\treturn OUTER_BYTES;",
  },
  {
    name: "what travels in Geneve loses a hop",
    file: "stage/dispatch.h",
    from: "packet->ttl - (dispatch == DISPATCH_OPTION)",
    to: "packet->ttl - 1",
  },
  {
    name: "what goes on with an option loses no hop",
    file: "stage/dispatch.h",
    from: "packet->ttl - (dispatch == DISPATCH_OPTION)",
    to: "packet->ttl",
  },
];

const OPTIONS: readonly Mutant[] = [
  {
    name: "headers grow beyond their limit by an option",
    file: "stage/option.h",
    from: "sizeof(struct option) > IP_HEADER_MAX",
    to: "0 > IP_HEADER_MAX",
  },
  {
    name: "clients' options are erased everywhere",
    file: "stage/option.h",
    from: "if (!accept_option || ",
    to: "if (",
  },
  {
    name: "clients' options stay where options are believed",
    file: "stage/option.h",
    from: "\tif (option)\n\t\toption_erase(ip, option);",
    to: "\tif (!option)\n\t\treturn;",
  },
  {
    name: "an option has its port in network order",
    file: "stage/option4.h",
    from: ".port = __builtin_bswap16(port),",
    to: ".port = port,",
  },
  {
    name: "an option's address is read in network order",
    file: "stage/option4.h",
    from: "return __builtin_bswap32(option->address);",
    to: "return option->address;",
  },
  {
    name: "options of other lengths are read",
    file: "stage/option4.h",
    from: " || option->bytes != sizeof(*option)",
    to: "",
  },
  {
    name: "options are read behind the header",
    file: "stage/option4.h",
    from: "packet->header_bytes < sizeof(*ip) + sizeof(*option) || ",
    to: "",
  },
  {
    name: "an erased option of IPv6 is padding",
    file: "stage/option6.h",
    from: "#define OPTION_SKIPPED 0x1e",
    to: "#define OPTION_SKIPPED 1",
  },
  {
    name: "an erased option's address stays",
    file: "stage/option4.h",
    from: "\toption->address = OPTION_NOP << 16 | OPTION_NOP;\n",
    to: "",
  },
  {
    name: "the header forgets that its option is gone",
    file: "stage/option4.h",
    from: "\tip->ihl -= sizeof(*option) / 4;\n",
    to: "",
  },
  {
    name: "XDP sends options at the end of life",
    file: "stage/dispatch-xdp.h",
    from: "\tif (packet.ttl <= 1)\n\t\treturn PASS_TTL;\n",
    to: "",
  },
  {
    name: "XDP lets a client's option stand behind its own",
    file: "stage/dispatch-xdp.h",
    from: "\toption_refuse(start_of(ctx) + ETH_HLEN, end_of(ctx), &packet);\n",
    to: "",
  },
];

const TOLD: readonly Mutant[] = [
  {
    name: "Geneve to pods is nobody's",
    file: "stage/told.h",
    from: "(same_address(packet->destination, own_address()) ||\n\t\tendpoint_find(packet->destination))",
    to: "same_address(packet->destination, own_address())",
  },
  {
    name: "Geneve to other nodes is read",
    file: "stage/told.h",
    from: " &&\n\t       (same_address(packet->destination, own_address()) ||\n\t\tendpoint_find(packet->destination))",
    to: "",
  },
  {
    name: "options are believed everywhere",
    file: "stage/told.h",
    from: "return accept_option && packet",
    to: "return packet",
  },
  {
    name: "strangers' Geneve is believed",
    file: "stage/told.h",
    from: "\tif (!sender_of(packet))\n\t\treturn DROP_UNTRUSTED;\n",
    to: "",
  },
  {
    name: "strangers follow flows in Geneve",
    file: "stage/told.h",
    from: "\tif (!sender_of(packet) || (void *)(eth + 1)",
    to: "\tif ((void *)(eth + 1)",
  },
  {
    name: "packets end behind their Geneve",
    file: "stage/told.h",
    from: "packet->total_bytes - GENEVE_BYTES));",
    to: "skb->len - packet->l3));",
  },
  {
    name: "Geneve ends before its packet begins",
    file: "stage/told.h",
    from: " ||\n\t    packet->total_bytes < GENEVE_BYTES)",
    to: ")",
  },
  {
    name: "later packets end behind their Geneve",
    file: "stage/told.h",
    from: "packet->total_bytes - TOLD_BARE)",
    to: "skb->len - inner.l3)",
  },
  {
    name: "congestion within Geneve is lost",
    file: "stage/told.h",
    from: "\tto.tos = tos;\n",
    to: "\tto.tos = packet->tos;\n",
  },
  {
    name: "later packets in Geneve leave no trace",
    file: "stage/told.h",
    from: "\tflow_update(flow, packet, false, true);\n",
    to: "",
  },
  {
    name: "an option leads whoever is refused",
    file: "stage/told.h",
    from: "\tif (source_refused(service, packet->source))\n\t\treturn DROP_SOURCE_RANGE;\n",
    to: "",
  },
  {
    name: "what is told finds no port of another node",
    file: "stage/told.h",
    from: "\tasked.told = true;\n",
    to: "",
  },
  {
    name: "what was taken off a told packet isn't counted",
    file: "host.bpf.c",
    from: "taken = scratch_taken(held);\n\tpacket = scratch_packet(held, skb->len + taken);",
    to: "taken = scratch_taken(held);\n\tpacket = scratch_packet(held, skb->len);",
  },
  {
    name: "answers to told packets are counted without what was taken off",
    file: "stage/answer-skb.h",
    from: "\tpacket->frame_bytes = held->frame_bytes;\n",
    to: "",
  },
];

const SIZES_AND_TRUST: readonly Mutant[] = [
  {
    name: "SNAT leaves a client's option for others to believe",
    file: "stage/nat-skb.h",
    from: "\toption_refuse(skb_start(skb) + ETH_HLEN, skb_end(skb), packet);\n",
    to: "",
  },
  {
    name: "SNAT of the edge leaves a client's option for others to believe",
    file: "stage/nat-xdp.h",
    from: "\toption_refuse(eth + ETH_HLEN, end_of(ctx), packet);\n",
    to: "",
  },
  {
    name: "who has no address is trusted with everybody",
    file: "stage/deliver.h",
    from: "\tif (!is_address(packet->source))\n\t\treturn NULL;\n",
    to: "",
  },
  {
    name: "clients of IPv6 are told less than 1280",
    file: "stage/icmp6.h",
    from: "bpf_htonl(mtu && mtu < MTU_MIN ? MTU_MIN : mtu)",
    to: "bpf_htonl(mtu)",
  },
];

const FOREIGN: readonly Mutant[] = [
  {
    name: "a foreign balancer leads whoever is refused",
    file: "stage/foreign.h",
    from: "\tif (source_refused(service, packet->source))\n\t\treturn DROP_SOURCE_RANGE;\n",
    to: "",
  },
  {
    name: "pieces of a foreign balancer's outer header are read",
    file: "stage/foreign.h",
    from: "\tif (packet->fragment)\n\t\treturn DROP_OUTER_FRAGMENT;\n",
    to: "",
  },
  {
    name: "a foreign balancer's packet goes on at its own TTL",
    file: "stage/foreign.h",
    from: "passage_take(skb, packet, IP_DEFAULT_TTL, &passage, action)",
    to: "passage_take(skb, packet, packet->outer_ttl, &passage, action)",
  },
  {
    name: "a foreign balancer's packet is too big for nothing",
    file: "stage/foreign.h",
    from: "\tif (bytes + passage.extra > passage.way.mtu)\n\t\treturn DROP_TOO_BIG;\n",
    to: "",
  },
  {
    name: "a foreign balancer's packet waits for a pod that is gone",
    file: "stage/foreign.h",
    from: "\t\tif (!endpoint)\n\t\t\treturn DROP_ENDPOINT_GONE;\n",
    to: "",
  },
  {
    name: "what a foreign balancer loses is counted",
    file: "stage/foreign.h",
    from: "if (verdict < DROP_NO_BACKEND)\n\t\ttraffic_count",
    to: "if (verdict)\n\t\ttraffic_count",
  },
];

const SUMS: readonly Mutant[] = [
  {
    name: "an option goes, and a device's sum stays",
    file: "stage/told.h",
    from: "\tbpf_csum_update(skb, option_change(ip, &option));\n",
    to: "",
  },
  {
    name: "IPv6: a device's sum is that of the option's packet",
    file: "stage/told.h",
    from: "\t/* See sum_follow. */\n\tsum_follow(skb, packet, &to);\n",
    to: "",
  },
];

export const TOLD_MUTANTS: readonly Mutant[] = [
  ...GENEVE,
  ...OPTIONS,
  ...TOLD,
  ...SIZES_AND_TRUST,
  ...FOREIGN,
  ...SUMS,
];
