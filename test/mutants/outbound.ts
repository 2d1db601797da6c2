// SPDX-License-Identifier: Apache-2.0
// Faults in what becomes of pods' own packets to services, and of what backends answer.

import type { Mutant } from "./list.ts";

const OUTBOUND: readonly Omit<Mutant, "file">[] = [
  {
    name: "pods get what clients outside get",
    from: "frontend_key(address, port, protocol, FRONTEND_INTERNAL)",
    to: "frontend_key(address, port, protocol, FRONTEND_SERVICE)",
  },
  {
    name: "pods find node ports at every address",
    from: "return found && node_address_kind(address) ? found : NULL;",
    to: "return found;",
  },
  {
    name: "pods find one node port too few",
    from: "number > node_port_max",
    to: "number >= node_port_max",
  },
  {
    name: "a port of a direct connection is taken",
    from: "if (outbound_port_used(skb, flow, packet->protocol, asker))\n\t\t\tcontinue;\n",
    to: "",
  },
  {
    name: "a pod's port is taken because it listens there",
    from: "used = sk->state != TCP_LISTEN_STATE;",
    to: "used = true;",
  },
  {
    name: "a pod's own datagram socket takes its port",
    from: "used = sk->state == TCP_ESTABLISHED_STATE;",
    to: "used = true;",
  },
  {
    name: "a pod asks itself by its own address",
    from: "same_address(flow->pod, flow->client) ? itself() : flow->client;",
    to: "flow->client;",
  },
  {
    name: "a RST of a pod is answered",
    from: "packet->tcp_flags & TCP_RST || packet_is_later(packet) ? DROP",
    to: "packet_is_later(packet) ? DROP",
  },
  {
    name: "a FIN of a pod makes a flow",
    from: "packet_makes_none(packet))\n\t\treturn DROP_UNKNOWN_FLOW;",
    to: "packet->tcp_flags & TCP_RST)\n\t\treturn DROP_UNKNOWN_FLOW;",
  },
  {
    name: "large packets of pods without DF are answered",
    from: "if (!fits && ip_dont_fragment(ip)) {",
    to: "if (!fits) {",
  },
  {
    name: "packets of pods aren't counted",
    from: "\ttraffic_count(flow->counter, packet);\n",
    to: "",
  },
  {
    name: "packets of pods don't update their flow",
    from: "\tflow_update(flow, packet, false, false);\n",
    to: "",
  },
  {
    name: "what the kernel forwards for a pod lives one hop less",
    from: "if (!routed || !fits)\n\t\tto.ttl = packet->ttl;\n",
    to: "if (!routed && !fits)\n\t\tto.ttl = packet->ttl;\n",
  },
  {
    name: "a pod's packet whose TTL ends goes on",
    from: "\tpacket->service = flow->service;\n\tif (packet->ttl <= 1)\n\t\treturn PASS_TTL;\n",
    to: "\tpacket->service = flow->service;\n",
  },
  {
    name: "a pod's flow that is over goes on",
    from: "!(flow->flags & FLOW_OUTBOUND) || flow_is_past(flow, packet)",
    to: "!(flow->flags & FLOW_OUTBOUND)",
  },
  {
    name: "answers to pods don't update their flow",
    from: "\tflow_update(flow, packet, true, true);\n",
    to: "",
  },
  {
    name: "a pod answers in another's name",
    from: "\tif (!sender_find(skb, packet->source))\n\t\treturn PASS_NOT_OURS;\n\tif (packet->ttl",
    to: "\tif (packet->ttl",
  },
];

const ICMP: readonly Omit<Mutant, "file">[] = [
  {
    name: "a pod says in another's name what it can't take",
    from: " || !sender_find(skb, packet->source)",
    to: "",
  },
  {
    name: "errors of pods name the pod",
    from: "to->source = flow->service_address;",
    to: "to->source = flow->pod;",
  },
  {
    name: "errors of pods about answers name the client",
    from: "to->source = flow->alias_address;",
    to: "to->source = flow->client;",
  },
  {
    name: "errors of pods live as long",
    from: "to->ttl = packet->ttl - 1;",
    to: "to->ttl = packet->ttl;",
  },
];

const ERRANDS: readonly Omit<Mutant, "file">[] = [
  {
    name: "errors of pods have no limit",
    from: "if (!answer_allowed(packet->service))",
    to: "if (0)",
  },
  {
    name: "errors of pods are as large as they like",
    from: "if (packet->total_bytes > way.mtu)",
    to: "if (0)",
  },
];

const QUOTES: readonly Omit<Mutant, "file">[] = [
  {
    name: "quoted requests keep their port",
    from: "to->destination_port = flow->service_port;",
    to: "to->destination_port = flow->pod_port;",
  },
  {
    name: "an error's header keeps its sender",
    from: "header_translate(ip, &error, to->source,",
    to: "header_translate(ip, &error, quote->sender,",
  },
];

const NODE: readonly Omit<Mutant, "file">[] = [
  {
    name: "the node forwards its own packets",
    from: "\tto.ttl = packet->ttl;\n",
    to: "",
  },
  {
    name: "the node asks itself over the wire",
    from: "if (!endpoint && !itself) {",
    to: "if (!endpoint) {",
  },
  {
    name: "large packets of the node go all the same",
    from: "if (bytes > way.mtu) {",
    to: "if (0) {",
  },
  {
    name: "the node's packets aren't counted",
    from: "\ttraffic_count(flow->counter, packet);\n",
    to: "",
  },
  {
    name: "the node answers pods by any device",
    from: "!own && !sender_find(skb, flow->client))",
    to: "false)",
  },
  {
    name: "the node's flows are those of pods",
    from: ".flags = FLOW_OUTBOUND | FLOW_NODE,",
    to: ".flags = FLOW_OUTBOUND,",
  },
];

const inFile =
  (file: string) =>
  (fault: Omit<Mutant, "file">): Mutant => ({ file, ...fault });

export const OUTBOUND_MUTANTS: readonly Mutant[] = [
  ...OUTBOUND.map(inFile("stage/outbound.h")),
  ...ICMP.map(inFile("stage/outbound-icmp.h")),
  ...ERRANDS.map(inFile("stage/errand.h")),
  ...QUOTES.map(inFile("stage/quote.h")),
  ...NODE.map(inFile("node.bpf.c")),
  {
    file: "stage/endpoint.h",
    name: "a pod speaks for another one",
    from: "endpoint && endpoint->ifindex == skb->ifindex ? endpoint : NULL",
    to: "endpoint",
  },
  {
    file: "stage/plain.h",
    name: "answers of backends elsewhere live one hop less",
    from: "outbound_answer(packet, flow, packet->ttl);\n\tsum_follow(skb, packet, &to);\n\treturn outbound_deliver",
    to: "outbound_answer(packet, flow, packet->ttl - 1);\n\tsum_follow(skb, packet, &to);\n\treturn outbound_deliver",
  },
  {
    file: "stage/plain.h",
    name: "answers of any flow's pod go to a pod",
    from: "(FLOW_OUTBOUND | FLOW_NODE)) != (FLOW_OUTBOUND | node)",
    to: "FLOW_NODE) != node",
  },
  {
    file: "stage/relay.h",
    name: "what a router says of a pod's packet comes from the service",
    from: "if (same_address(quote->sender, flow->pod))",
    to: "if (1)",
  },
  {
    file: "stage/skb.h",
    name: "what goes home isn't for the device by which it comes",
    from: "ethernet_write(eth, way.source, way.source);",
    to: "ethernet_write(eth, way.destination, way.source);",
  },
];
