// SPDX-License-Identifier: Apache-2.0
// Faults in what is known of flows, and in who gets those that aren't known.

import type { Fault, Mutant } from "./list.ts";

const inFile = (file: string, faults: readonly Fault[]): readonly Mutant[] =>
  faults.map((fault) => ({ file, ...fault }));

const OWNERS = inFile("stage/owners.h", [
  {
    name: "hops' TTLs off by one",
    from: "(ttl - IP_DEFAULT_TTL - 1) / HOP_TTL_STEP + 1",
    to: "(ttl - IP_DEFAULT_TTL) / HOP_TTL_STEP + 1",
  },
  {
    name: "what a balancer remembers is the ring's to decide",
    from: "if (target && round == 1 && !decision->hop",
    to: "if (0 && !decision->hop",
  },
  {
    name: "what is passed on is taken for what a balancer remembers",
    from: "if (target && round == 1 && !decision->hop",
    to: "if (target && round == 1",
  },
  { name: "one hop fewer", from: "#define HOP_LAST 3 ", to: "#define HOP_LAST 2 " },
  {
    name: "listening sockets know every flow",
    from: "known = sk->state != TCP_LISTEN_STATE;",
    to: "known = true;",
  },
  {
    name: "one packet more than the limit",
    from: "window->passed++ < pass_limit",
    to: "window->passed++ <= pass_limit",
  },
  {
    name: "remembered owners count for the limit",
    from: "if (!remembered && !pass_allowed",
    to: "if (!pass_allowed",
  },
  {
    name: "a former owner is left out",
    from: "if (found)\n\t\t\treturn former->owner[i];",
    to: "if (found && i != 1)\n\t\t\treturn former->owner[i];",
  },
  {
    name: "former owners are asked from the last one on",
    from: "if (found)\n\t\t\treturn former->owner[i];",
    to: "if (found)\n\t\t\treturn former->owner[FORMER_OWNERS - 1];",
  },
  {
    name: "the present owner is asked as a former one",
    from: "if (same_address(former->owner[i], present))\n\t\t\tcontinue;\n",
    to: "",
  },
  {
    name: "a ring that is changing is believed",
    from: "return present && former && same_address(former->owner[0], present->address);",
    to: "return false;",
  },
  {
    name: "old rings are new",
    from: "jiffies_since(service->changed, jiffies_now()) < quiet_jiffies",
    to: "jiffies_since(service->changed, jiffies_now()) > quiet_jiffies",
  },
  {
    name: "unknown FINs are adopted",
    from: "\tif (packet_makes_none(packet))\n",
    to: "\tif (packet->tcp_flags & TCP_RST)\n",
  },
  {
    name: "nobody begins flows here",
    from: "\tif (!source_is_client(packet)) {\n",
    to: "\tif (0) {\n",
  },
  {
    name: "SNAT: nobody begins flows",
    file: "stage/nat.h",
    from: "\tif (!source_is_client(packet))\n",
    to: "\tif (0)\n",
  },
  {
    name: "services begin flows of UDP",
    file: "stage/service.h",
    from: "\t       (packet->protocol != IPPROTO_UDP ||\n",
    to: "\t       (1 ||\n",
  },
  {
    name: "nobody is answered",
    file: "stage/answer.h",
    from: "\tif (!address_is_host(packet->source))\n",
    to: "\tif (0)\n",
  },
  {
    name: "TCP without SYN and ACK is adopted",
    file: "stage/packet.h",
    from: "(packet->protocol == IPPROTO_TCP && !(packet->tcp_flags & (TCP_SYN | TCP_ACK)))",
    to: "0",
  },
  {
    name: "SCTP that goes on is not adopted",
    file: "stage/packet.h",
    from: "(packet->protocol == IPPROTO_TCP && !(packet->tcp_flags & (TCP_SYN | TCP_ACK)))",
    to: "!(packet->tcp_flags & (TCP_SYN | TCP_ACK))",
  },
  {
    name: "flows of SNAT are this node's pods'",
    from: "(FLOW_REMOTE | FLOW_SNAT)",
    to: "FLOW_REMOTE",
  },
  {
    name: "SYNs follow remembered owners",
    from: "if (flow && flow->flags & FLOW_REMOTE && !packet_is_syn(packet) &&",
    to: "if (flow && flow->flags & FLOW_REMOTE &&",
  },
  {
    name: "adopted TCP flows are counted as connections",
    from: "traffic->connections += packet->protocol == IPPROTO_UDP;",
    to: "traffic->connections++;",
  },
  {
    name: "flows keep the service's port",
    from: "flow->pod_port = target->port;",
    to: "flow->pod_port = packet->destination_port;",
  },
  {
    name: "a pod without a target adopts at last",
    from: "if (!target && (!decision->hop || decision->hop == HOP_FINAL)) {",
    to: "if (!target && !decision->hop) {",
  },
  {
    name: "pods of this node are sent to",
    from: "if (endpoint_find(next)) {",
    to: "if (0) {",
  },
  {
    name: "the present owner isn't told that it's final",
    from: "decision->hop == HOP_FINAL ? HOP_FINAL : decision->hop + 1",
    to: "decision->hop + 1",
  },
  {
    name: "notes about flows of our own",
    from: "endpoint_find(owner) || (known && !(known->flags & FLOW_REMOTE))",
    to: "endpoint_find(owner) || (known && known->flags == 0xffff)",
  },
  {
    name: "notes about pods of our own",
    from: "endpoint_find(owner) || (known",
    to: "(known",
  },
  {
    name: "packets to remembered owners count as hops",
    from: "decide_pass(decision, packet, flow->pod, HOP_KNOWN, true);",
    to: "decide_pass(decision, packet, flow->pod, decision->hop + 1, true);",
  },
]);

const NAT = inFile("stage/nat.h", [
  {
    name: "SNAT: the client's port is kept even if it is low",
    from: ">= nat_port_min || ports_stay(protocol)",
    to: ">= 1024 || ports_stay(protocol)",
  },
  { name: "SNAT: one candidate fewer", from: "#define NAT_TRIES 32", to: "#define NAT_TRIES 31" },
  {
    name: "SNAT: candidates above the lowest port are fewer",
    from: "__u32 ports = 65536 - nat_port_min;",
    to: "__u32 ports = 65535 - nat_port_min;",
  },
  {
    name: "SNAT: the node's own sockets are overlooked",
    from: "\tif (!sk)\n\t\treturn false;\n\tbpf_sk_release(sk);\n\treturn true;",
    to: "\tif (sk)\n\t\tbpf_sk_release(sk);\n\treturn false;",
  },
  {
    name: "SNAT: the node's own services are overlooked",
    from: "FRONTEND_SERVICE)))\n\t\treturn true;",
    to: "FRONTEND_SERVICE)))\n\t\treturn false;",
  },
  {
    name: "SNAT: known flows follow the ring",
    from: "if (!flow || flow->flags & FLOW_REMOTE)",
    to: "if (!flow || !packet_is_syn(packet) || flow->flags & FLOW_REMOTE)",
  },
  {
    name: "SNAT: flows that are over live on",
    from: "if (!flow_is_past(flow, packet))\n\t\treturn flow;",
    to: "return flow;",
  },
  {
    name: "SNAT: unknown FINs make flows",
    from: "\tif (packet_makes_none(packet))\n",
    to: "\tif (packet->tcp_flags & TCP_RST)\n",
  },
  {
    name: "SNAT: another generation of a next hop is used",
    from: "if (!(flags & needed) || flags / NEXTHOP_GENERATION != flow->nexthop_generation)",
    to: "if (!(flags & needed))",
  },
  {
    name: "SNAT: UDP flows aren't counted",
    from: "\tif (protocol != IPPROTO_UDP)\n\t\treturn true;",
    to: "\tif (protocol == IPPROTO_UDP)\n\t\treturn true;",
  },
]);

const NAT_XDP = inFile("stage/nat-xdp.h", [
  {
    name: "SNAT, edge: replies leave by any device",
    from: "|| fib.ifindex != ctx->ingress_ifindex",
    to: "",
  },
  {
    name: "SNAT, edge: replies without DF are answered",
    from: "found == BPF_FIB_LKUP_RET_FRAG_NEEDED && ip_dont_fragment(ip)",
    to: "found == BPF_FIB_LKUP_RET_FRAG_NEEDED",
  },
  {
    name: "SNAT, edge: replies are the client's",
    from: "flow_update(flow, packet, true, true);",
    to: "flow_update(flow, packet, false, true);",
  },
  {
    name: "SNAT, edge: counted by nobody",
    from: "\ttraffic_count(flow->counter, packet);\n",
    to: "",
  },
]);

const NAT_SKB = inFile("stage/nat-skb.h", [
  {
    name: "SNAT, host: what the kernel forwards has lost a hop",
    from: "\tto.ttl = packet->ttl;\n",
    to: "",
  },
  {
    name: "SNAT, host: the way by the client's address",
    from: "way_find(skb, own_address(), flow->pod, bytes, &way)",
    to: "way_find(skb, own_address(), flow->client, bytes, &way)",
  },
  {
    name: "SNAT, host: large replies without DF are answered",
    from: "if (!fits && ip_dont_fragment(ip))",
    to: "if (!fits)",
  },
]);

const LIMITS = inFile("stage/limits.h", [
  {
    name: "a clock that is behind makes what is new old",
    from: "return age > (__u32)-JIFFIES_AHEAD ? 0 : age;",
    to: "return age;",
  },
  {
    name: "what was never written is new",
    from: "return age > (__u32)-JIFFIES_AHEAD ? 0 : age;",
    to: "return (__s32)age < 0 ? 0 : age;",
  },
  {
    name: "the window never ends",
    from: "if (window && jiffies_since(window->since, now) >= limit_window)",
    to: "if (0)",
  },
  {
    name: "one answer more than the limit",
    from: "window->told++ < answer_limit",
    to: "window->told++ <= answer_limit",
  },
]);

const CONNTRACK = inFile("stage/conntrack.h", [
  {
    name: "FINs of the wrong side",
    from: "from_pod ? FLOW_FIN_POD : FLOW_FIN_CLIENT",
    to: "from_pod ? FLOW_FIN_CLIENT : FLOW_FIN_POD",
  },
  { name: "one FIN closes", from: "(flow->flags & both) == both", to: "flow->flags & both" },
  {
    name: "an RST closes nothing",
    from: "return flow->flags & FLOW_RESET || (flow",
    to: "return (flow",
  },
  {
    name: "flows to two addresses are one",
    from: "same_address(other->service_address, flow->service_address) &&",
    to: "",
  },
  {
    name: "closed flows aren't opened again",
    from: "|| (packet_is_syn(packet) && flow_is_over(flow))",
    to: "",
  },
  {
    name: "what was reset is known for ever",
    from: "flow->flags & FLOW_RESET || (packet_is_syn(packet)",
    to: "(packet_is_syn(packet)",
  },
  {
    name: "bytes without Ethernet and outer header",
    from: "flow->bytes += packet->frame_bytes;",
    to: "flow->bytes += packet->total_bytes;",
  },
  { name: "flows aren't seen", from: "\tflow->seen = jiffies_now();\n", to: "" },
  {
    name: "the other entry isn't told",
    from: "\t\tflow_flag(other, flags);\n",
    to: "\t\tflow_flag(other, 0);\n",
  },
  {
    name: "SYNs confirm",
    from: "return flow->flags & FLOW_REPLIED && !packet_is_syn(packet);",
    to: "return flow->flags & FLOW_REPLIED;",
  },
  {
    name: "what has no answer confirms",
    from: "return flow->flags & FLOW_REPLIED && !packet_is_syn(packet);",
    to: "return !packet_is_syn(packet);",
  },
  {
    name: "an INIT ACK confirms",
    from: "return packet->protocol == IPPROTO_TCP &&\n",
    to: "return 1 &&\n",
  },
  {
    name: "a pod's RST confirms",
    from: "!(packet->tcp_flags & (TCP_SYN | TCP_RST))",
    to: "!(packet->tcp_flags & TCP_SYN)",
  },
  {
    name: "what makes a flow confirms it",
    file: "stage/owners.h",
    from: "\tflow->flags = flags;\n",
    to: "\tflow->flags = flags | FLOW_CONFIRMED;\n",
  },
  {
    name: "the reply entry stays",
    file: "stage/forget.h",
    from: "flow_claim(other))\n\t\tbpf_map_delete_elem(&FAMILY(conntrack), reply);",
    to: "flow_claim(other))\n\t\tother->flags |= 0;",
  },
  {
    name: "another flow's reply entry goes",
    file: "stage/forget.h",
    from: "other && flow_is_same(other, flow) && ",
    to: "other && ",
  },
]);

const ALIAS = inFile("stage/alias.h", [
  {
    name: "other candidates for ports",
    from: "(try - 1) * 4099) & 0x7fff",
    to: "(try - 1) * 4098) & 0x7fff",
  },
  { name: "one candidate fewer", from: "#define ALIAS_TRIES 8", to: "#define ALIAS_TRIES 7" },
  { name: "candidates below 32768", from: "bpf_htons(0x8000 | (", to: "bpf_htons((" },
  {
    name: "ports of other flows are taken",
    from: "\tif (!flow_is_over(other))\n\t\treturn -EEXIST;\n",
    to: "",
  },
  {
    name: "closed flows keep their ports",
    from: "\tif (!flow_is_over(other))\n\t\treturn",
    to: "\tif (other)\n\t\treturn",
  },
  {
    name: "flows that are over keep their REQUEST entries",
    from: "\tflow_delete(other, protocol);\n",
    to: "\tbpf_map_delete_elem(&FAMILY(conntrack), key);\n",
  },
  {
    name: "encapsulate: first, and what can't be told apart gets another port",
    from: "\t\tif (plain)\n\t\t\treturn DROP_PORT_TAKEN;\n",
    to: "",
  },
  {
    name: "encapsulate: all, and another port is refused",
    file: "stage/service.h",
    from: "service->flags & SERVICE_ENCAPSULATE_FIRST && packet->protocol == IPPROTO_TCP &&\n\t       (has_outer",
    to: "packet->protocol == IPPROTO_TCP &&\n\t       (has_outer",
  },
  {
    name: "encapsulate: first, and SCTP is told that it travels plain",
    file: "stage/service.h",
    from: "packet->protocol == IPPROTO_TCP &&\n\t       (has_outer",
    to: "(has_outer",
  },
  {
    name: "encapsulate: first, and a balancer's own pod refuses ports",
    file: "stage/service.h",
    from: " &&\n\t       (has_outer(packet) || packet->told)",
    to: "",
  },
  {
    name: "encapsulate: first, and Geneve gets another port",
    file: "stage/service.h",
    from: "(has_outer(packet) || packet->told);\n",
    to: "has_outer(packet);\n",
  },
  {
    name: "half a flow is left behind",
    from: "\tbpf_map_delete_elem(&FAMILY(conntrack), &held->key);\n",
    to: "",
  },
]);

export const CONNTRACK_MUTANTS: readonly Mutant[] = [
  ...OWNERS,
  ...NAT,
  ...NAT_XDP,
  ...NAT_SKB,
  ...LIMITS,
  ...CONNTRACK,
  ...ALIAS,
];
