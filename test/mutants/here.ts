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
];
