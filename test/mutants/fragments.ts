// SPDX-License-Identifier: Apache-2.0
// Faults in how packets in pieces are followed, and errors about SNAT.

import type { Mutant } from "./list.ts";

export const FRAGMENT_MUTANTS: readonly Mutant[] = [
  {
    name: "pieces of all datagrams are one",
    file: "stage/fragment.h",
    from: "\t    .id = packet->fragment_id,\n",
    to: "",
  },
  {
    name: "pieces of any protocol follow",
    file: "stage/fragment.h",
    from: "\t    .protocol = packet->protocol,\n",
    to: "",
  },
  {
    name: "pieces follow with their ports swapped",
    file: "stage/fragment.h",
    from: "packet->source_port = ports->source_port;",
    to: "packet->source_port = ports->destination_port;",
  },
  {
    name: "ports are written into later pieces",
    file: "stage/translation.h",
    from: "\tif (packet_is_later(packet))\n\t\treturn true;\n\tports",
    to: "\tports",
  },
  {
    name: "checksums are written into later pieces",
    file: "stage/skb.h",
    from: "if (packet_is_later(packet) || packet->protocol == IPPROTO_SCTP)",
    to: "if (packet->protocol == IPPROTO_SCTP)",
  },
  {
    name: "pieces behind an outer header teach nothing",
    file: "stage/deliver.h",
    from: "\t\tfragment_learn(packet);\n\treturn verdict;",
    to: "\t\t;\n\treturn verdict;",
  },
  {
    name: "first pieces teach for an hour",
    file: "stage/fragment.h",
    from: "FRAGMENT_AGE_WINDOWS 30",
    to: "FRAGMENT_AGE_WINDOWS 3000",
  },
  {
    name: "pieces say their service by what they haven't got",
    file: "stage/to-node.h",
    from: "packet->fragment ? DISPATCH_IPIP : dispatch",
    to: "dispatch",
  },
  {
    name: "owners are noted in pieces",
    file: "stage/deliver.h",
    from: " && !packet->fragment)",
    to: ")",
  },
  {
    name: "pods' first pieces teach nothing",
    file: "pod.bpf.c",
    from: "if (piece && fragment_is_first(packet))",
    to: "if (false)",
  },
  {
    name: "first pieces of replies to SNAT teach nothing",
    file: "host.bpf.c",
    from: "(service || nat_may_be_reply(packet) || endpoint",
    to: "(service || endpoint",
  },
  {
    name: "pods are told of missing backends with every piece",
    file: "stage/outbound.h",
    from: " || packet_is_later(packet) ? DROP",
    to: " ? DROP",
  },
  {
    name: "errors about SNAT tell the client the pod's ports",
    file: "stage/errand.h",
    from: "quoted_request(&to->quoted, flow);",
    to: "quoted_reply(&to->quoted, flow);",
  },
  {
    name: "errors about SNAT reach the pod from the service",
    file: "stage/errand.h",
    from: "to->source = flow->alias_address;",
    to: "to->source = flow->service_address;",
  },
];
