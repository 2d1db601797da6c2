// SPDX-License-Identifier: Apache-2.0
// Faults in what becomes of ICMP errors.

import type { Fault, Mutant } from "./list.ts";

const FAULTS: readonly Fault[] = [
  {
    name: "redirects are relayed",
    file: "stage/icmp4.h",
    from: "return type == ICMP_DEST_UNREACH ||",
    to: "return type == 5 || type == ICMP_DEST_UNREACH ||",
  },
  {
    name: "errors about what somebody else sent are relayed",
    file: "stage/icmp4.h",
    from: "ip->saddr == packet->destination &&",
    to: "",
  },
  {
    name: "errors about later fragments are relayed",
    file: "stage/icmp4.h",
    from: "!(ip->frag_off & IP_FRAGMENT_OFFSET) &&",
    to: "",
  },
  {
    name: "ports are read behind what is quoted",
    file: "stage/quote.h",
    from: "quote->l4 + QUOTED_L4_BYTES > quote->end ||",
    to: "",
  },
  {
    name: "a quoted checksum that isn't there is written",
    file: "stage/quote.h",
    from: "if (at + sizeof(before) > quote->end)",
    to: "if (0)",
  },
  {
    name: "quoted UDP without a checksum gets one",
    file: "stage/quote.h",
    from: "if (udp && !before)",
    to: "if (0)",
  },
  {
    name: "the error's checksum forgets the quoted one",
    file: "stage/quote.h",
    from: "\t*sum += (__u16)~before + after;\n",
    to: "",
  },
  {
    name: "quoted ports are the other way round",
    file: "stage/quote.h",
    from: "{to->source_port, to->destination_port}",
    to: "{to->destination_port, to->source_port}",
  },
  {
    name: "relays to other nodes have no limit",
    from: "struct passage passage = {};\n\n\tif (!answer_allowed(packet->service))",
    to: "struct passage passage = {};\n\n\tif (0)",
  },
  { name: "errors don't count hops", from: "\t*hop += 1;\n", to: "" },
  { name: "errors go by memory twice", from: "if (hop > HOP_LAST)", to: "if (0)" },
  {
    name: "errors go to pods of the node that sends them",
    from: "\tif (endpoint_find(owner))\n\t\treturn;\n",
    to: "",
  },
  {
    name: "errors begin with the first owner again",
    from: "elsewhere.met ? elsewhere.behind : elsewhere.first",
    to: "elsewhere.first",
  },
  {
    name: "errors about flows that were reset go to their pods",
    from: "flow->flags & (FLOW_REMOTE | FLOW_RESET)",
    to: "flow->flags & FLOW_REMOTE",
  },
  {
    name: "errors about flows of SNAT go to no pod of this node",
    file: "stage/errand.h",
    from: "if (flow && flow->flags & FLOW_SNAT)",
    to: "if (0)",
  },
];

export const RELAY_MUTANTS: readonly Mutant[] = FAULTS.map((fault) => ({
  file: "stage/relay.h",
  ...fault,
}));
