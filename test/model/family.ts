// SPDX-License-Identifier: Apache-2.0
// What the page says of a packet's header, and how families differ in it.

/** A number for IPv4, a bigint for IPv6: one is never equal to the other. */
export type Address = number | bigint;

/** An IP header in a frame. */
export interface Ip {
  readonly family: Family;
  /** Where in the frame it begins. */
  readonly at: number;
  /** With options, or with extension headers. */
  readonly headerLength: number;
  readonly totalLength: number;
  readonly tos: number;
  readonly ttl: number;
  /** What the header carries, behind extension headers. */
  readonly protocol: number;
  readonly source: Address;
  readonly destination: Address;
  readonly fragment: boolean;
  /** A piece behind the first, which has no ports. */
  readonly later: boolean;
  /** Of the packet whose piece it is; 0 where nothing says it. */
  readonly id: number;
  readonly dontFragment: boolean;
}

/** What a header without options has in it. */
export interface HeaderFields {
  readonly tos: number;
  readonly ttl: number;
  readonly protocol: number;
  readonly source: Address;
  readonly destination: Address;
  /** Bytes behind the header. */
  readonly carried: number;
  /** Of a header in front of a packet: g of its flow's hash. */
  readonly spread: number;
}

/** What an ICMP message of the datapath's own says: its first two bytes and its last four. */
export interface IcmpHead {
  readonly type: number;
  readonly code: number;
  readonly rest: number;
}

export interface Family {
  readonly etherType: number;
  /** What stands where there is no address. */
  readonly nobody: Address;
  readonly addressBytes: number;
  /** Who a pod is that talks to itself. */
  readonly itself: Address;
  /** Whether an address may be one host's: none of this network's, loopback or a group's. */
  isHost(address: Address): boolean;
  /** Of a header without options, which is what an outer one is. */
  readonly headerBytes: number;
  readonly longestHeader: number;
  /** Where a header has its fields. */
  readonly fields: {
    readonly length: number;
    readonly ttl: number;
    readonly source: number;
    readonly destination: number;
  };
  /** Protocol numbers of its own. */
  readonly protocols: { readonly icmp: number; readonly outer: number };
  readonly icmp: {
    readonly echo: number;
    readonly echoReply: number;
    readonly errors: ReadonlySet<number>;
    readonly tos: number;
    /** Whether its checksum covers the addresses. */
    readonly covers: boolean;
    tooBig(mtu: number): IcmpHead;
    readonly portUnreachable: IcmpHead;
    /** Bytes of a packet that an error quotes. */
    quoted(ip: Ip): number;
  };
  /** How much less than IPv4's a segment of TCP has room for, by the way of dispatch. */
  mssLess(dispatch: number): number;
  /** The valid header at `at`, of a packet that ends before `end`. */
  parse(frame: Uint8Array, at: number, end: number): Ip | undefined;
  getAddress(bytes: Uint8Array, at: number): Address;
  setAddress(bytes: Uint8Array, at: number, address: Address): void;
  /** TOS, or the traffic class, of the header at `at`. */
  setTos(frame: Uint8Array, at: number, tos: number): void;
  /** Changes fields of a header; a checksum that was wrong stays as wrong as it was. */
  change(frame: Uint8Array, ip: Pick<Ip, "at" | "headerLength">, change: () => void): void;
  header(fields: HeaderFields): Uint8Array;
  /** What an error quotes at `at`, if it is about a packet with ports; the addresses as sent. */
  quote(frame: Uint8Array, at: number, end: number): QuotedHeader | undefined;
}

export interface QuotedHeader {
  readonly headerLength: number;
  readonly totalLength: number;
  readonly protocol: number;
  readonly source: Address;
  readonly destination: Address;
}

/** Whether the first bits of two addresses are the same. */
export function samePrefix(a: Address, b: Address, bits: number): boolean {
  const width = typeof a === "bigint" ? 128 : 32;
  const shift = BigInt(width - bits);
  return BigInt(a) >> shift === BigInt(b) >> shift;
}
