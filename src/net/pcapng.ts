// SPDX-License-Identifier: Apache-2.0
// Blocks of a pcapng file (draft-ietf-opsawg-pcapng): little-endian, times in nanoseconds.

/** What packets are said to be captured on; the first that a file names is device 0. */
export interface PcapDevice {
  readonly name: string;
  readonly description: string;
  /** Bytes kept of a frame at most. */
  readonly snapBytes: number;
}

/** One Ethernet frame. */
export interface PcapPacket {
  readonly device: number;
  /** Nanoseconds since 1970. */
  readonly timeNs: bigint;
  /** What was kept of it. */
  readonly bytes: Uint8Array;
  /** How long it was. */
  readonly lengthBytes: number;
  readonly direction: "in" | "out";
  readonly comment: string;
}

const BLOCK = { section: 0x0a0d0d0a, device: 1, packet: 6 } as const;
const BYTE_ORDER = 0x1a2b3c4d;
const UNKNOWN_LENGTH = 0xffffffffffffffffn;
const LINK_ETHERNET = 1;
const OPTION = {
  end: 0,
  comment: 1,
  application: 4,
  deviceName: 2,
  deviceDescription: 3,
  resolution: 9,
  flags: 2,
} as const;
const NANOSECONDS = 9;
const DIRECTION = { in: 1, out: 2 } as const;
/** An option's length has 16 bits. */
const OPTION_BYTES_MAX = 0xffff;

type Part = Uint8Array;

function words(...values: readonly number[]): Part {
  const view = new DataView(new ArrayBuffer(values.length * 4));
  for (const [index, value] of values.entries()) view.setUint32(index * 4, value, true);
  return new Uint8Array(view.buffer);
}

function padded(bytes: Uint8Array): Part {
  const whole = new Uint8Array((bytes.length + 3) & ~3);
  whole.set(bytes);
  return whole;
}

function option(code: number, value: Uint8Array): Part[] {
  return [words(code | (value.length << 16)), padded(value)];
}

function textOption(code: number, text: string): Part[] {
  const bytes = new TextEncoder().encode(text);
  return option(code, bytes.subarray(0, OPTION_BYTES_MAX));
}

function block(type: number, ...parts: readonly Part[]): Uint8Array {
  const length = parts.reduce((sum, part) => sum + part.length, 12);
  const whole = new Uint8Array(length);
  let at = 0;
  for (const part of [words(type, length), ...parts, words(length)]) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}

/** What a file begins with. `application` wrote it. */
export function pcapngSection(application: string): Uint8Array {
  const version = words(1); // 1.0
  const length = new Uint8Array(new BigUint64Array([UNKNOWN_LENGTH]).buffer);
  const options = [...textOption(OPTION.application, application), words(OPTION.end)];
  return block(BLOCK.section, words(BYTE_ORDER), version, length, ...options);
}

/** Names a device; before the first of its packets. */
export function pcapngDevice({ name, description, snapBytes }: PcapDevice): Uint8Array {
  return block(
    BLOCK.device,
    words(LINK_ETHERNET, snapBytes),
    ...textOption(OPTION.deviceName, name),
    ...textOption(OPTION.deviceDescription, description),
    ...option(OPTION.resolution, Uint8Array.of(NANOSECONDS)),
    words(OPTION.end),
  );
}

/** One packet. */
export function pcapngPacket(packet: PcapPacket): Uint8Array {
  const { device, timeNs, bytes, lengthBytes, direction, comment } = packet;
  const [high, low] = [Number(timeNs >> 32n), Number(timeNs & 0xffffffffn)];
  return block(
    BLOCK.packet,
    words(device, high, low, bytes.length, lengthBytes),
    padded(bytes),
    ...textOption(OPTION.comment, comment),
    ...option(OPTION.flags, words(DIRECTION[direction])),
    words(OPTION.end),
  );
}
