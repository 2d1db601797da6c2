// SPDX-License-Identifier: Apache-2.0
// Numbers by which headers name what follows them, as IANA has them.

export const ETHERTYPE = {
  ipv4: 0x0800,
  arp: 0x0806,
  ethernet: 0x6558,
  vlan: 0x8100,
  ipv6: 0x86dd,
} as const;

/** Of IPv4's protocol and IPv6's next header, which are one registry. */
export const PROTOCOL = {
  hopByHop: 0,
  icmp: 1,
  ipip: 4,
  tcp: 6,
  udp: 17,
  ipv6: 41,
  routing: 43,
  fragment: 44,
  icmpv6: 58,
  destinationOptions: 60,
  sctp: 132,
} as const;

/** UDP ports. */
export const UDP_PORT = { geneve: 6081 } as const;

/** TCP's flag bits. */
export const TCP_FLAG = {
  fin: 0x01,
  syn: 0x02,
  rst: 0x04,
  psh: 0x08,
  ack: 0x10,
  urg: 0x20,
  ece: 0x40,
  cwr: 0x80,
} as const;
