// SPDX-License-Identifier: Apache-2.0
// Faults in what becomes of packets when the node itself is a backend.

import type { Mutant } from "./list.ts";

export const HERE_MUTANTS: readonly Mutant[] = [
  {
    name: "what is for the node itself goes to no device",
    file: "stage/give.h",
    from: "\tif (endpoint_is_node(endpoint))\n\t\treturn true;\n",
    to: "",
  },
  {
    name: "a foreign balancer's packets to the node are the node's",
    file: "stage/deliver.h",
    from: "(!endpoint || (own && !node))",
    to: "!endpoint",
  },
  {
    name: "a tunnel between nodes carries nothing that is for no service",
    file: "stage/deliver.h",
    from: "!is_balanced(packet)",
    to: "(is_balanced(packet), false)",
  },
  {
    name: "a tunnel between nodes carries no other protocols",
    file: "stage/deliver.h",
    from: "(verdict != PASS_LOCAL || (*parsed",
    to: "((*parsed",
  },
  {
    name: "a tunnel between nodes may not be in pieces",
    file: "stage/deliver.h",
    from: "return own && *hop != HOP_NOTE ? PASS_NOT_OURS : DROP_OUTER_FRAGMENT;",
    to: "return DROP_OUTER_FRAGMENT;",
  },
  {
    name: "a tunnel between nodes carries no pings",
    file: "stage/relay.h",
    from: "return pod_find(packet->outer_destination) ? verdict : PASS_NOT_OURS;",
    to: "return verdict;",
  },
  {
    name: "the outer header to the node itself stays behind a foreign balancer's choice",
    file: "stage/foreign.h",
    from: "return endpoint_is_node(endpoint) ? foreign_itself(skb, packet, held)",
    to: "return false ? foreign_itself(skb, packet, held)",
  },
  {
    name: "a foreign balancer's congestion mark is lost on its way to the node",
    file: "stage/foreign.h",
    from: "\tif (!ecn_decapsulate(packet, &to.tos))\n\t\treturn DROP_ECN;\n",
    to: "\tto.tos = packet->tos;\n",
  },
  {
    name: "the node's answers keep its address",
    file: "node.bpf.c",
    from: "outside ? flow->flags & FLOW_SNAT :",
    to: "outside ? true :",
  },
  {
    name: "a packet for the node with an option of no service is dropped",
    file: "stage/told.h",
    from: "return pod_find(packet->destination) ? DROP_NO_SERVICE : PASS_NOT_OURS;",
    to: "return DROP_NO_SERVICE;",
  },
  {
    name: "the MSS that the node offers stays",
    file: "node.bpf.c",
    from: "\tif (outside)\n\t\tclamp(skb, packet);\n",
    to: "",
  },
  {
    name: "the node's packets to services are translated where its sockets are",
    file: "node.bpf.c",
    from: "if (!node_clients ||\n\t    !inside_find(",
    to: "if (!inside_find(",
  },
  {
    name: "what the node says of packets that it can't take keeps its address",
    file: "node.bpf.c",
    from: "return go_on(skb, NODE_PROGRAM_ICMP);",
    to: "return PASS_NOT_OURS;",
  },
  {
    name: "what the node says to pods comes from the service",
    file: "node.bpf.c",
    from: "flow->flags & (FLOW_SNAT | FLOW_OUTBOUND) ||",
    to: "flow->flags & FLOW_SNAT ||",
  },
  {
    name: "what is said in another's name of the node's packets comes from the service",
    file: "node.bpf.c",
    from: " ||\n\t    !same_address(quote->sender, flow->pod))",
    to: ")",
  },
  {
    name: "what the node says of a pod's packets comes from the service",
    file: "node.bpf.c",
    from: "if (!itself || !endpoint_is_node(itself))",
    to: "if (!itself)",
  },
  {
    name: "who is no backend any more speaks for the service",
    file: "node.bpf.c",
    from: "if (!itself || !endpoint_is_node(itself))",
    to: "if (itself && !endpoint_is_node(itself))",
  },
  {
    name: "the node's errors have gone by a router",
    file: "node.bpf.c",
    from: "to->ttl = packet->ttl;\n",
    to: "to->ttl = packet->ttl - 1;\n",
  },
  {
    name: "the node says as much as it likes in a service's name",
    file: "node.bpf.c",
    from: "\tif (!answer_allowed(packet->service))\n\t\treturn DROP_ANSWER_LIMIT;\n",
    to: "",
  },
  {
    name: "first pieces of the node's answers teach nothing",
    file: "node.bpf.c",
    from: "if (verdict == SENT_REPLY && fragment_is_first(packet))",
    to: "if (verdict != SENT_REPLY && fragment_is_first(packet))",
  },
  {
    name: "first pieces of the node that answer nobody teach",
    file: "node.bpf.c",
    from: "\tif (!flow)\n\t\treturn PASS_NOT_OURS;\n\tverdict = node_reply",
    to: "\tif (fragment_is_first(packet))\n\t\tfragment_learn(packet);\n\tif (!flow)\n\t\treturn PASS_NOT_OURS;\n\tverdict = node_reply",
  },
  {
    name: "pieces of the node's answers are translated where nobody tracks fragments",
    file: "node.bpf.c",
    from: "if (parsed == PARSED_FRAGMENT && fragments_track)",
    to: "if (parsed == PARSED_FRAGMENT)",
  },
];
