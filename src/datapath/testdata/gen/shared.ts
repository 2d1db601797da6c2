// generated from build/bpf/*.bpf.o by src/datapath/generate.ts (make generate). Do not edit.
// SPDX-License-Identifier: Apache-2.0

import {
  getArray,
  getBytes,
  getUint48,
  setArray,
  setBytes,
  setUint48,
  setZeros,
  type Brand,
  type Codec,
  type ConfigVar,
  type MapShape,
  type ProgramSpec,
  type TypedMapSpec,
} from "../../../kernel/codec.ts";
import type { Ipv4 } from "../../../net/address.ts";
import type { Mac } from "../../../net/mac.ts";

/** identity_t */
export type Identity = Brand<number, "Identity">;
/** port_t */
export type Port = Brand<number, "Port">;
/** time_ns_t */
export type TimeNs = Brand<bigint, "TimeNs">;

const u16Codec: Codec<number> = {
  name: "__u16",
  size: 2,
  decode: (view, offset) => view.getUint16(offset, true),
  encode: (view, offset, value) => {
    view.setUint16(offset, value, true);
  },
};

const u32Codec: Codec<number> = {
  name: "__u32",
  size: 4,
  decode: (view, offset) => view.getUint32(offset, true),
  encode: (view, offset, value) => {
    view.setUint32(offset, value, true);
  },
};

const ipv4Codec: Codec<Ipv4> = {
  name: "ipv4_t",
  size: 4,
  decode: (view, offset) => view.getUint32(offset) as Ipv4,
  encode: (view, offset, value) => {
    view.setUint32(offset, value);
  },
};

const boolCodec: Codec<boolean> = {
  name: "_Bool",
  size: 1,
  decode: (view, offset) => view.getUint8(offset) !== 0,
  encode: (view, offset, value) => {
    view.setUint8(offset, value ? 1 : 0);
  },
};

const u64Codec: Codec<bigint> = {
  name: "__u64",
  size: 8,
  decode: (view, offset) => view.getBigUint64(offset, true),
  encode: (view, offset, value) => {
    view.setBigUint64(offset, value, true);
  },
};

const s16Codec: Codec<number> = {
  name: "__s16",
  size: 2,
  decode: (view, offset) => view.getInt16(offset, true),
  encode: (view, offset, value) => {
    view.setInt16(offset, value, true);
  },
};

const macCodec: Codec<Mac> = {
  name: "mac_t",
  size: 6,
  decode: (view, offset) => getUint48(view, offset) as Mac,
  encode: (view, offset, value) => {
    setUint48(view, offset, value);
  },
};

/** enum colour */
export const Colour = {
  /** of roses */
  red: 1,
  /** of the sea, and "more" */
  deepBlue: 200,
} as const;
export type Colour = (typeof Colour)[keyof typeof Colour];
/** The names of enum colour for people, by value. */
export const colourNames: { readonly [value: number]: string } = {
  "1": "red",
  "200": "deep_blue",
};
/** What the values of enum colour mean, by value. */
export const colourTexts: { readonly [value: number]: string } = {
  "1": "of roses",
  "200": "of the sea, and \"more\"",
};

/** enum mixed */
export const Mixed = {
  passAll: -1,
  dropAll: 1,
} as const;
export type Mixed = (typeof Mixed)[keyof typeof Mixed];
/** The names of enum mixed for people, by value. */
export const mixedNames: { readonly [value: number]: string } = {
  "-1": "pass_all",
  "1": "drop_all",
};

/** struct peer */
export interface Peer {
  /** where it answers */
  readonly address: Ipv4;
  readonly port: Port;
}
export const Peer: Codec<Peer> = {
  name: "struct peer",
  size: 8,
  decode: (view, offset) => ({
    address: view.getUint32(offset) as Ipv4,
    port: view.getUint16(offset + 4) as Port,
  }),
  encode: (view, offset, value) => {
    view.setUint32(offset, value.address);
    view.setUint16(offset + 4, value.port);
    view.setUint16(offset + 6, 0);
  },
};

/** range_t */
export interface Range {
  readonly low: number;
  readonly high: number;
}
export const Range: Codec<Range> = {
  name: "range_t",
  size: 4,
  decode: (view, offset) => ({
    low: view.getUint16(offset, true),
    high: view.getUint16(offset + 2, true),
  }),
  encode: (view, offset, value) => {
    view.setUint16(offset, value.low, true);
    view.setUint16(offset + 2, value.high, true);
  },
};

/** struct many: a bit of all */
export interface Many {
  /** the first is preferred */
  readonly peers: readonly [Peer, Peer];
  readonly slots: readonly number[];
  readonly bytes: Uint8Array;
  readonly yes: boolean;
  readonly mac: Mac;
  readonly mixed: Mixed;
  readonly identities: readonly [Identity, Identity, Identity];
  readonly range: Range;
  readonly colour: Colour;
  readonly seen: TimeNs;
}
export const Many: Codec<Many> = {
  name: "struct many",
  size: 88,
  decode: (view, offset) => ({
    peers: [Peer.decode(view, offset), Peer.decode(view, offset + 8)],
    slots: getArray(u16Codec, view, offset + 16, 12),
    bytes: getBytes(view, offset + 40, 5),
    yes: view.getUint8(offset + 45) !== 0,
    mac: getUint48(view, offset + 46) as Mac,
    mixed: view.getInt32(offset + 52, true) as Mixed,
    identities: [
      view.getUint32(offset + 56, true) as Identity,
      view.getUint32(offset + 60, true) as Identity,
      view.getUint32(offset + 64, true) as Identity,
    ],
    range: Range.decode(view, offset + 68),
    colour: view.getUint8(offset + 72) as Colour,
    seen: view.getBigUint64(offset + 80, true) as TimeNs,
  }),
  encode: (view, offset, value) => {
    Peer.encode(view, offset, value.peers[0]);
    Peer.encode(view, offset + 8, value.peers[1]);
    setArray(u16Codec, view, offset + 16, 12, value.slots, "struct many.slots");
    setBytes(view, offset + 40, 5, value.bytes, "struct many.bytes");
    view.setUint8(offset + 45, value.yes ? 1 : 0);
    setUint48(view, offset + 46, value.mac);
    view.setInt32(offset + 52, value.mixed, true);
    view.setUint32(offset + 56, value.identities[0], true);
    view.setUint32(offset + 60, value.identities[1], true);
    view.setUint32(offset + 64, value.identities[2], true);
    Range.encode(view, offset + 68, value.range);
    view.setUint8(offset + 72, value.colour);
    setZeros(view, offset + 73, 7);
    view.setBigUint64(offset + 80, value.seen, true);
  },
};

/** struct numbers */
export interface Numbers {
  readonly u8: number;
  readonly s8: number;
  readonly u16: number;
  readonly s32: number;
  readonly s64: bigint;
  readonly u64: bigint;
  readonly s16: number;
  readonly be16: number;
  readonly be32: number;
  readonly be64: bigint;
  readonly u32: number;
}
export const Numbers: Codec<Numbers> = {
  name: "struct numbers",
  size: 48,
  decode: (view, offset) => ({
    u8: view.getUint8(offset),
    s8: view.getInt8(offset + 1),
    u16: view.getUint16(offset + 2, true),
    s32: view.getInt32(offset + 4, true),
    s64: view.getBigInt64(offset + 8, true),
    u64: view.getBigUint64(offset + 16, true),
    s16: view.getInt16(offset + 24, true),
    be16: view.getUint16(offset + 26),
    be32: view.getUint32(offset + 28),
    be64: view.getBigUint64(offset + 32),
    u32: view.getUint32(offset + 40, true),
  }),
  encode: (view, offset, value) => {
    view.setUint8(offset, value.u8);
    view.setInt8(offset + 1, value.s8);
    view.setUint16(offset + 2, value.u16, true);
    view.setInt32(offset + 4, value.s32, true);
    view.setBigInt64(offset + 8, value.s64, true);
    view.setBigUint64(offset + 16, value.u64, true);
    view.setInt16(offset + 24, value.s16, true);
    view.setUint16(offset + 26, value.be16);
    view.setUint32(offset + 28, value.be32);
    view.setBigUint64(offset + 32, value.be64);
    view.setUint32(offset + 40, value.u32, true);
    view.setUint32(offset + 44, 0);
  },
};

/** The maps that the objects declare. */
export const maps = {
  /** no keys */
  events: {
    name: "events",
    type: "ringbuf",
    keySize: 0,
    valueSize: 0,
    maxEntries: 4096,
    flags: 0,
  } satisfies MapShape,
  /** __u32 → struct numbers */
  numberRows: {
    name: "number_rows",
    type: "array",
    keySize: 4,
    valueSize: 48,
    maxEntries: 4,
    flags: 0,
    key: u32Codec,
    value: Numbers,
    layout: "0cc8032226778c2d",
  } satisfies TypedMapSpec<number, Numbers>,
  /** struct peer → struct many */
  peers: {
    name: "peers",
    type: "hash",
    keySize: 8,
    valueSize: 88,
    maxEntries: 16,
    flags: 1,
    key: Peer,
    value: Many,
    layout: "fb245414e5f36021",
  } satisfies TypedMapSpec<Peer, Many>,
} as const;

/** Constants of the programs, set before load. */
export interface Config {
  /** where packets leave */
  readonly gateway: Ipv4;
  /** whether it's on */
  readonly enabled: boolean;
  /** more than 2^53 */
  readonly big: bigint;
  /** may be below zero */
  readonly offset: number;
  /** the router's MAC */
  readonly router: Mac;
  /** nobody gives it a value */
  readonly unset: number;
}
/** The constants by their names here: how C knows them, and what it says of them. */
export const config: { readonly [Key in keyof Config]: ConfigVar<Config[Key]> } = {
  gateway: {
    name: "gateway",
    codec: ipv4Codec,
    initial: 167772161 as Ipv4,
    doc: "where packets leave",
  },
  enabled: {
    name: "enabled",
    codec: boolCodec,
    initial: true,
    doc: "whether it's on",
  },
  big: {
    name: "big",
    codec: u64Codec,
    initial: 9223372036854775809n,
    doc: "more than 2^53",
  },
  offset: {
    name: "offset",
    codec: s16Codec,
    initial: -2,
    doc: "may be below zero",
  },
  router: {
    name: "router",
    codec: macCodec,
    initial: 0x020000000007 as Mac,
    doc: "the router's MAC",
  },
  unset: {
    name: "unset",
    codec: u32Codec,
    initial: 0,
    doc: "nobody gives it a value",
  },
};

/** The programs of the objects. */
export const programs = {
  fromTest: { name: "from_test", object: "shared", section: "tc", type: "sched_cls" },
} as const satisfies { readonly [key: string]: ProgramSpec };

/** The sha256 of bpf/abi.txt's text below its first line. */
export const abiDigest = "cb648865fc10a87db02425f3bce0c10a182df1301161e68255401e979a58d20e";
/** That text. */
export const abiText = `
typedef colour_t __u8
typedef identity_t __u32
typedef ipv4_t __be32
typedef mac_t __u8[6]
typedef port_t __be16

typedef range_t struct 4
  0 __u16 low
  2 __u16 high
typedef time_ns_t __u64

enum colour 4
  1 COLOUR_RED
  200 COLOUR_DEEP_BLUE

enum mixed 4
  -1 PASS_ALL
  1 DROP_ALL

struct many 88
  0 struct peer[2] peers
  16 __u16[12] slots
  40 __u8[5] bytes
  45 _Bool yes
  46 mac_t mac
  52 enum mixed mixed
  56 identity_t[3] identities
  68 range_t range
  72 colour_t colour
  73 __u8[7] reserved1
  80 time_ns_t seen

struct numbers 48
  0 __u8 u8
  1 __s8 s8
  2 __u16 u16
  4 __s32 s32
  8 __s64 s64
  16 __u64 u64
  24 __s16 s16
  26 __be16 be16
  28 __be32 be32
  32 __be64 be64
  40 __u32 u32
  44 __u32 reserved

struct peer 8
  0 ipv4_t address
  4 port_t port
  6 __u8[2] reserved

map events ringbuf
  key 0 bytes
  value 0 bytes
  entries 4096
  flags 0

map number_rows array
  key __u32
  value struct numbers
  entries 4
  flags 0

map peers hash
  key struct peer
  value struct many
  entries 16
  flags 1

config big __u64
config enabled _Bool
config gateway ipv4_t
config offset __s16
config router mac_t
config unset __u32

program from_test shared tc sched_cls
`;
