// SPDX-License-Identifier: Apache-2.0
// Faults in what is written into packets, and where they are sent.

import type { Fault, Mutant } from "./list.ts";

const inFile = (file: string, faults: readonly Fault[]): readonly Mutant[] =>
  faults.map((fault) => ({ file, ...fault }));

const ENCAP = inFile("stage/encap.h", [
  {
    name: "outer header without DF",
    file: "stage/ip4.h",
    from: "outer->frag_off = IP_DF;",
    to: "outer->frag_off = 0;",
  },
  {
    name: "TOS isn't copied",
    file: "stage/ip4.h",
    from: "IP_VERSION_IHL | tos << 8;",
    to: "IP_VERSION_IHL;",
  },
  {
    name: "outer length without the outer header",
    file: "stage/ip4.h",
    from: "packet->tos, bpf_htons(packet->total_bytes + bytes), source",
    to: "packet->tos, bpf_htons(packet->total_bytes), source",
  },
  {
    name: "outer checksum without length",
    file: "stage/ip4.h",
    from: "sum += ((__u32)tos << 8) + total +",
    to: "sum += ((__u32)tos << 8) +",
  },
  {
    name: "outer checksum without TOS",
    file: "stage/ip4.h",
    from: "sum += ((__u32)tos << 8) + total",
    to: "sum += total",
  },
  {
    name: "outer source by the slots' hash",
    file: "stage/ip4.h",
    from: "packet->spread & outer_host_mask",
    to: "packet->hash & outer_host_mask",
  },
  {
    name: "outer source in host order",
    file: "stage/ip4.h",
    from: "bpf_htonl(packet->spread & outer_host_mask)",
    to: "(packet->spread & outer_host_mask)",
  },
  {
    name: "hops aren't counted",
    file: "stage/ip4.h",
    from: "\touter->daddr = destination;\n\touter->ttl = ttl;\n",
    to: "\touter->daddr = destination;\n",
  },
  {
    name: "outer checksum without the hop",
    file: "stage/ip4.h",
    from: "(__u16)~packet->outer_ttl + ttl;",
    to: "0;",
  },
]);

const CHECKSUM = inFile("stage/checksum.h", [
  {
    name: "carries are folded once",
    from: "\tsum = (sum & 0xffff) + (sum >> 16);\n\treturn",
    to: "\treturn",
  },
  {
    name: "old words are added, not taken off",
    from: "checksum_word(~from)",
    to: "checksum_word(from)",
  },
]);

const ICMP = inFile("stage/icmp.h", [
  {
    name: "MTU in the wrong byte order",
    file: "stage/icmp4.h",
    from: "__u16 next = bpf_htons(mtu)",
    to: "__u16 next = mtu",
  },
  {
    name: "too little is quoted",
    file: "stage/icmp4.h",
    from: "packet->header_bytes + 8",
    to: "packet->header_bytes + 4",
  },
  {
    name: "ICMP checksum without its MTU",
    file: "stage/icmp4.h",
    from: "+ next + quote_sum",
    to: "+ quote_sum",
  },
  {
    name: "the client answers itself",
    file: "stage/icmp4.h",
    from: "\tip->check = ~checksum_fold(sum);\n\tip->saddr = packet->destination;",
    to: "\tip->check = ~checksum_fold(sum);\n\tip->saddr = packet->source;",
  },
]);

const ANSWER = inFile("stage/answer.h", [
  {
    name: "an RST is answered",
    from: " || packet->tcp_flags & TCP_RST ||",
    to: " ||",
  },
  {
    name: "who asks for a drop gets an answer",
    from: "if (!(service->flags & SERVICE_REJECT) || ",
    to: "if (",
  },
  { name: "an ACK is reset as a SYN is", from: "if (packet->tcp_flags & TCP_ACK)", to: "if (0)" },
  {
    name: "resets leave out that a SYN counts",
    from: "bytes += !!(packet->tcp_flags & TCP_SYN) + ",
    to: "bytes += ",
  },
  {
    name: "resets leave out the payload",
    from: "packet->total_bytes > headers ?",
    to: "0 ?",
  },
  {
    name: "a reset's checksum leaves out its number",
    from: "checksum_word(reset->acknowledged) +",
    to: "",
  },
  {
    name: "pings with IP options are answered",
    from: "packet->header_bytes == sizeof(*ip) &&",
    to: "",
  },
  {
    name: "pings of any address are answered",
    from: " &&\n\t       service_has_address(packet->destination)",
    to: "",
  },
  {
    name: "a ping's answer keeps its checksum",
    from: "checksum_apply(icmp->checksum, (__u16)~ICMP_ECHO + ICMP_ECHO_REPLY)",
    to: "icmp->checksum",
  },
]);

const EDGE = inFile("edge.bpf.c", [
  {
    name: "unknown ports of services are the kernel's",
    from: "? DROP_UNKNOWN_PORT : PASS_NOT_OURS",
    to: "? PASS_NOT_OURS : PASS_NOT_OURS",
  },
  { name: "TTL stays", file: "stage/ip4.h", from: "\tip->ttl--;\n", to: "" },
  {
    name: "checksum without the TTL",
    file: "stage/ip4.h",
    from: "change + (__u16)~bpf_htons(0x0100)",
    to: "change",
  },
  {
    name: "TCP checksum without the port",
    from: "change + (__u16)~packet->destination_port + backend->port",
    to: "change",
  },
  { name: "edge: the service's port stays", from: "\ttcp->dest = backend->port;\n", to: "" },
]);

const HOST = inFile("host.bpf.c", [
  {
    name: "outer options stay",
    file: "stage/deliver.h",
    from: "bpf_skb_adjust_room(skb, -(packet->l3 - ETH_HLEN),",
    to: "bpf_skb_adjust_room(skb, -OUTER_BYTES,",
  },
  {
    name: "swapped ports of plain packets",
    file: "stage/plain.h",
    from: "\t    .source_port = packet->destination_port,\n",
    to: "\t    .source_port = packet->source_port,\n",
  },
  {
    name: "plain packets are the pod's",
    file: "stage/plain.h",
    from: "flow_update(flow, packet, false, true);",
    to: "flow_update(flow, packet, true, true);",
  },
  {
    name: "plain packets leave their flow half-open",
    file: "stage/conntrack.h",
    from: "\t\t\tif (reply_entry)\n",
    to: "\t\t\tif (0)\n",
  },
  {
    name: "the client's port isn't changed",
    file: "stage/deliver.h",
    from: ".source_port = flow->alias_port,",
    to: ".source_port = packet->source_port,",
  },
  {
    name: "the service's port stays",
    file: "stage/deliver.h",
    from: ".destination_port = flow->pod_port,",
    to: ".destination_port = packet->destination_port,",
  },
  {
    name: "passed packets aren't measured",
    file: "stage/deliver.h",
    from: "if (bytes + passage.extra > passage.way.mtu)\n\t\treturn has_outer(packet)",
    to: "if (0)\n\t\treturn has_outer(packet)",
  },
  {
    name: "MTU without room for the outer header",
    file: "stage/deliver.h",
    from: "way->mtu - extra",
    to: "way->mtu",
  },
  {
    name: "frames for others are taken",
    file: "stage/host-read.h",
    from: "skb->pkt_type != PACKET_HOST",
    to: "0",
  },
  {
    name: "notes for what came by memory",
    file: "stage/deliver.h",
    from: " && hop != HOP_KNOWN",
    to: "",
  },
  {
    name: "notes for what nobody passed",
    file: "stage/deliver.h",
    from: "decision.known && hop && hop",
    to: "decision.known && hop",
  },
  {
    name: "a note's word stays in the packet",
    file: "stage/deliver.h",
    from: "\tbpf_skb_store_bytes(skb, at, &held, sizeof(held), 0);\n",
    to: "",
  },
  {
    name: "a note's header stays on the packet",
    file: "stage/deliver.h",
    from: "\tbpf_skb_store_bytes(skb, 0, &headers, sizeof(headers), 0);\n",
    to: "",
  },
  {
    name: "notes elsewhere in the packet",
    file: "stage/deliver.h",
    from: "#define NOTE_OFFSET 4",
    to: "#define NOTE_OFFSET 8",
  },
  {
    name: "pass for another owner",
    file: "stage/peer.h",
    from: "way_find(skb, own_address(), by_node ? passage->node : packet->backend,\n",
    to: "way_find(skb, by_node ? passage->node : packet->backend, own_address(),\n",
  },
]);

const TRANSLATION = inFile("stage/translation.h", [
  {
    name: "IPv4 checksum without the TTL",
    file: "stage/ip4.h",
    from: "(__u16)~packet->ttl + ttl;",
    to: "0;",
  },
  { name: "destination port stays", from: "\tports->dest = to->destination_port;\n", to: "" },
  {
    name: "source port is left out of the checksum",
    from: "checksum_word(~(__u32)packet->source_port) + to->source_port +",
    to: "",
  },
]);

const ASIDE = inFile("stage/aside.h", [
  {
    name: "MACs aren't swapped",
    from: "ethernet_write(eth, client, own);\n\ticmp_write",
    to: "ethernet_write(eth, own, client);\n\ticmp_write",
  },
]);

const XDP = inFile("stage/xdp.h", [
  {
    name: "edge: a UDP packet without a checksum gets one",
    from: "\tif (!udp->check)\n\t\treturn true;\n",
    to: "",
  },
  {
    name: "edge: a computed checksum of 0 is sent",
    from: "\t\tudp->check = 0xffff;\n",
    to: "\t\tudp->check = 0;\n",
  },
  {
    name: "TX for another device",
    from: "ifindex == ctx->ingress_ifindex ? XDP_TX",
    to: "ifindex != ctx->ingress_ifindex ? XDP_TX",
  },
]);

const SKB = inFile("stage/skb.h", [
  {
    name: "route to the source",
    file: "stage/ip4.h",
    from: "fib->ipv4_dst = destination;",
    to: "fib->ipv4_dst = source;",
  },
  {
    name: "segments without TCP's options",
    from: "packet->header_bytes + packet->l4_bytes + segment",
    to: "packet->header_bytes + 20 + segment",
  },
  {
    name: "UDP without a checksum gets one",
    from: "udp ? BPF_F_MARK_MANGLED_0 : 0",
    to: "0",
  },
  {
    name: "L4 checksum without ports",
    from: "return !bpf_l4_csum_replace(skb, at, 0, translation_ports(packet, to), flags);",
    to: "return !bpf_l4_csum_replace(skb, at, 0, 0, flags);",
  },
  {
    name: "neighbours are taken for known",
    from: "way->neighbour = found == BPF_FIB_LKUP_RET_SUCCESS;",
    to: "way->neighbour = true;",
  },
]);

const POD = inFile("pod.bpf.c", [
  { name: "pod: a TTL of 1 is sent on", from: "if (packet->ttl <= 1)", to: "if (packet->ttl < 1)" },
  {
    name: "small MSS are raised",
    file: "stage/mss.h",
    from: "if (bpf_ntohs(offered) > largest)",
    to: "if (bpf_ntohs(offered) < largest)",
  },
  {
    name: "MSS at odd places",
    file: "stage/mss.h",
    from: "if ((at - first) & 1)",
    to: "if (0)",
  },
  {
    name: "MSS of packets that are no SYN",
    file: "stage/mss.h",
    from: "packet->tcp_flags & TCP_SYN",
    to: "packet->protocol == IPPROTO_TCP",
  },
  { name: "replies keep their TTL", from: "\tto.ttl -= routed && fits;\n", to: "" },
  {
    name: "replies that just fit are too big",
    from: "bytes <= way.mtu;",
    to: "bytes < way.mtu;",
  },
  {
    name: "replies that are too big are sent",
    from: "fits = !routed || bytes <= way.mtu;",
    to: "fits = true;",
  },
  {
    name: "replies with DF are cut",
    from: "if (!fits && ip_dont_fragment(ip))",
    to: "if (0)",
  },
  {
    name: "replies to the pod's idea of the client's port",
    from: ".destination_port = flow->client_port,",
    to: ".destination_port = packet->destination_port,",
  },
  {
    name: "replies from the pod's address",
    from: ".source = flow->service_address,",
    to: ".source = packet->source,",
  },
  {
    name: "replies are the client's",
    from: "flow_update(flow, packet, true, true);",
    to: "flow_update(flow, packet, false, true);",
  },
]);

export const REWRITE_MUTANTS: readonly Mutant[] = [
  ...TRANSLATION,
  ...ASIDE,
  ...XDP,
  ...ENCAP,
  ...CHECKSUM,
  ...ICMP,
  ...ANSWER,
  ...EDGE,
  ...HOST,
  ...SKB,
  ...POD,
];
