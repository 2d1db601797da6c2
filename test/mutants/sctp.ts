// SPDX-License-Identifier: Apache-2.0
// Faults in how SCTP is read, and what is left alone of it.

import type { Mutant } from "./list.ts";

export const SCTP_MUTANTS: readonly Mutant[] = [
  {
    name: "SCTP: an INIT opens nothing",
    file: "stage/parse.h",
    from: "SCTP_CHUNK(1, TCP_SYN)",
    to: "SCTP_CHUNK(1, 0)",
  },
  {
    name: "SCTP: an ABORT ends nothing",
    file: "stage/parse.h",
    from: "SCTP_CHUNK(6, TCP_RST)",
    to: "SCTP_CHUNK(6, 0)",
  },
  {
    name: "SCTP: a SHUTDOWN ACK ends nothing",
    file: "stage/parse.h",
    from: "SCTP_CHUNK(8, TCP_FIN)",
    to: "SCTP_CHUNK(8, 0)",
  },
  {
    name: "SCTP: ports are translated",
    file: "stage/packet.h",
    from: "return protocol == IPPROTO_SCTP;",
    to: "return false;",
  },
  {
    name: "SCTP: tc translates a checksum of TCP",
    file: "stage/skb.h",
    from: "packet_is_later(packet) || packet->protocol == IPPROTO_SCTP",
    to: "packet_is_later(packet)",
  },
  {
    name: "SCTP: XDP translates a checksum of UDP",
    file: "stage/xdp.h",
    from: "\tif (protocol == IPPROTO_SCTP)\n\t\treturn true;\n",
    to: "",
  },
  {
    name: "SCTP: SNAT wants high ports of clients",
    file: "stage/nat.h",
    from: "bpf_ntohs(port) >= nat_port_min || ports_stay(protocol)",
    to: "bpf_ntohs(port) >= nat_port_min",
  },
  {
    name: "SCTP: packets that were cut already are told by a size they haven't got",
    file: "stage/skb.h",
    from: "segment == GSO_BY_FRAGMENTS",
    to: "false",
  },
  {
    name: "SCTP: a checksum of TCP is translated where SCTP is quoted",
    file: "stage/quote.h",
    from: "(packet->protocol == IPPROTO_SCTP ||",
    to: "(false ||",
  },
];
