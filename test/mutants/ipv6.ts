// SPDX-License-Identifier: Apache-2.0
// Faults in what only IPv6 has.

import type { Fault, Mutant } from "./list.ts";

const inFile = (file: string, faults: readonly Fault[]): readonly Mutant[] =>
  faults.map((fault) => ({ file, ...fault }));

const HEADERS = inFile("stage/ip6.h", [
  {
    name: "IPv6: a used-up routing header is none of ours",
    from: "packet->protocol == NEXT_ROUTING && extension->routing.segments_left",
    to: "packet->protocol == NEXT_ROUTING",
  },
  {
    name: "IPv6: segments left don't matter",
    from: "packet->protocol == NEXT_ROUTING && extension->routing.segments_left",
    to: "packet->protocol == NEXT_ROUTING && extension->units > 60",
  },
  {
    name: "IPv6: extension headers are counted without their first eight bytes",
    from: "packet->header_bytes += 8 + extension->units * 8;",
    to: "packet->header_bytes += extension->units * 8;",
  },
  {
    name: "IPv6: three extension headers are all",
    from: "#define EXTENSIONS 4",
    to: "#define EXTENSIONS 3",
  },
  {
    name: "IPv6: destination options aren't walked",
    from: "packet->protocol != NEXT_DESTINATION && packet->protocol != NEXT_FRAGMENT)",
    to: "packet->protocol != NEXT_FRAGMENT)",
  },
  {
    name: "IPv6: the payload's length is the packet's",
    from: "packet->total_bytes = carried + sizeof(*ip);",
    to: "packet->total_bytes = carried;",
  },
  {
    name: "IPv6: the traffic class takes a bit of the flow label",
    from: "return bpf_ntohs(*(const __be16 *)ip) >> 4;",
    to: "return bpf_ntohs(*(const __be16 *)ip) >> 3;",
  },
  {
    name: "IPv6: a translated packet loses its flow label",
    from: "*first & bpf_htonl(0x000fffff)",
    to: "*first & bpf_htonl(0x00000000)",
  },
  {
    name: "IPv6: the class of a translated packet is another",
    from: "bpf_htonl(6U << 28 | (__u32)tos << 20);\n}\n\nstatic __always_inline void header_translate",
    to: "bpf_htonl(6U << 28 | (__u32)tos << 21);\n}\n\nstatic __always_inline void header_translate",
  },
  {
    name: "IPv6: a packet sent plain keeps its hop limit",
    from: "ip->hop_limit--;",
    to: "ip->hop_limit -= 0;",
  },
  {
    name: "IPv6: all outer headers have one flow label",
    from: "(packet->spread & 0xfffff)",
    to: "(packet->spread & 0)",
  },
  {
    name: "IPv6: outer length with the outer header",
    from: "bpf_htons(packet->total_bytes + bytes - sizeof(*outer));",
    to: "bpf_htons(packet->total_bytes + bytes);",
  },
  {
    name: "IPv6: outer headers without a class",
    from: "(__u32)packet->tos << 20 | (packet->spread",
    to: "(packet->spread",
  },
  {
    name: "IPv6: halves of a source are hashed in the other order",
    from: "x = hash_step(x, address_half(source, 0), 0xD6E8FEB86659FD93ULL);\n\tx = hash_step(x, address_half(source, 1)",
    to: "x = hash_step(x, address_half(source, 1), 0xD6E8FEB86659FD93ULL);\n\tx = hash_step(x, address_half(source, 0)",
  },
  {
    name: "IPv6: a frontend is found by half an address",
    from: "address_half(frontend->address, 0) == key.first &&\n\t       address_half(frontend->address, 1) == key.last",
    to: "address_half(frontend->address, 0) == key.first",
  },
  {
    name: "IPv6: checksums cover three words of an address",
    from: "checksum_change(from.word[2], to.word[2]) +\n\t       checksum_change(from.word[3], to.word[3])",
    to: "checksum_change(from.word[2], to.word[2])",
  },
  {
    name: "IPv6: the sum of a device forgets the class",
    from: "return (__u16)~bpf_htons(packet->tos << 4) + bpf_htons(tos << 4) +\n\t       (__u16)",
    to: "return (__u16)",
  },
]);

const MESSAGES = inFile("stage/icmp6.h", [
  {
    name: "ICMPv6: a ping is answered by a ping",
    from: "#define ICMP_ECHO_REPLY 129",
    to: "#define ICMP_ECHO_REPLY 128",
  },
  {
    name: "ICMPv6: too big is unreachable",
    from: "icmp->type = mtu ? ICMP_PACKET_TOO_BIG : ICMP_DEST_UNREACH;",
    to: "icmp->type = ICMP_DEST_UNREACH;",
  },
  {
    name: "ICMPv6: the MTU has two bytes",
    from: "bpf_htonl(mtu && mtu",
    to: "bpf_htons(mtu && mtu",
  },
  {
    name: "ICMPv6: the checksum without addresses",
    from: "address_sum(packet->source) + address_sum(packet->destination) +\n\t\t    bpf_htons(sizeof(*icmp)",
    to: "bpf_htons(sizeof(*icmp)",
  },
  {
    name: "ICMPv6: the checksum without a length",
    from: "bpf_htons(sizeof(*icmp) + quote_bytes) + ",
    to: "",
  },
  {
    name: "ICMPv6: more is quoted than has been summed up",
    from: "#define ICMP_QUOTE_MAX 96",
    to: "#define ICMP_QUOTE_MAX 88",
  },
  {
    name: "ICMPv6: parameter problems are no errors",
    from: "type <= ICMP_PARAMETER_PROBLEM",
    to: "type < ICMP_PARAMETER_PROBLEM",
  },
  {
    name: "ICMPv6: another source in a quote leaves the checksum as it was",
    from: "*sum += address_change(packet->destination, source) +",
    to: "*sum +=",
  },
  {
    name: "ICMPv6: quotes keep their source",
    from: "ipv6_t addresses[2] = {source, destination};",
    to: "ipv6_t addresses[2] = {packet->destination, destination};",
  },
]);

export const IPV6_MUTANTS: readonly Mutant[] = [...HEADERS, ...MESSAGES];
