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
    from: "\t\t\tfragment_learn(packet);\n",
    to: "\t\t\t;\n",
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
