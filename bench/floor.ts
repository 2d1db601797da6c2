// SPDX-License-Identifier: Apache-2.0
// The hand-minimal balancers of bench/floor.bpf.c, with the services that a world has.

import { parseBtf } from "../src/kernel/btf.ts";
import { declaredConfig } from "../src/kernel/btf-object.ts";
import { type BpfObject, type LoadedObject, openObject } from "../src/kernel/object.ts";
import { type Ipv4, writeIpv4 } from "../src/net/address.ts";
import { writeMac } from "../src/net/mac.ts";
import { PROTOCOL } from "../src/net/protocol.ts";
import { BUILD } from "./variation.ts";
import {
  BACKENDS,
  BACKENDS_PER_SERVICE,
  GATEWAY_MAC,
  NODE_ADDRESS,
  NODE_MAC,
  outerSum,
  SERVICE_PORT,
  VIPS,
} from "./world.ts";

const SLOTS = 65_536;
const SLOT_BYTES = 16;
const MULTIPLIER = 0x9e3779b97f4a7c15n;

/** Loads the floors and gives them `services` services of TCP and UDP. */
export function loadFloor(services: number): LoadedObject {
  using opened = openObject(`${BUILD}/floor.bpf.o`);
  writeOuter(opened);
  const floor = opened.load();
  using memory = floor.map(".bss.table").mmap();
  const slots = new DataView(memory.buffer);
  const reals = new Uint8Array(memory.buffer, SLOTS * SLOT_BYTES);
  for (let service = 0; service < services; service++) {
    const first = service * BACKENDS_PER_SERVICE;
    const vip = new Uint8Array(Uint32Array.of(first, BACKENDS_PER_SERVICE).buffer);
    for (const protocol of [PROTOCOL.tcp, PROTOCOL.udp]) {
      const key = keyOf((VIPS + service) as Ipv4, protocol);
      floor.map("vips").update(key, vip);
      putSlot(slots, key, vip);
    }
    for (let real = first; real < first + BACKENDS_PER_SERVICE; real++) {
      const value = new Uint8Array(8);
      const address = (BACKENDS + real) as Ipv4;
      writeIpv4(value, 0, address);
      new DataView(value.buffer).setUint32(4, outerSum(NODE_ADDRESS, address), true);
      reals.set(value, real * 8);
      floor.map("reals").update(new Uint8Array(Uint32Array.of(real).buffer), value);
    }
  }
  return floor;
}

/** What the outer header and the Ethernet header of every packet have in common. */
function writeOuter(object: BpfObject): void {
  const bytes = object.map(".rodata").initialValue;
  if (bytes === undefined) throw new Error("the floor has no constants");
  for (const { name, offset } of declaredConfig(parseBtf(object.btf))) {
    if (name !== "outer") continue;
    writeMac(bytes, offset, GATEWAY_MAC);
    writeMac(bytes, offset + 6, NODE_MAC);
    writeIpv4(bytes, offset + 12, NODE_ADDRESS);
  }
}

function keyOf(address: Ipv4, protocol: number): Uint8Array {
  const key = new Uint8Array(8);
  writeIpv4(key, 0, address);
  key.set([SERVICE_PORT >> 8, SERVICE_PORT & 0xff, protocol], 4);
  return key;
}

/** Where floor_none looks: the slot of the key's hash, or the first free one after it. */
function putSlot(slots: DataView, key: Uint8Array, vip: Uint8Array): void {
  const word = new DataView(key.buffer).getBigUint64(0, true);
  let index = Number(BigInt.asUintN(64, word * MULTIPLIER) >> 48n);
  while (slots.getUint32(index * SLOT_BYTES) !== 0) index = (index + 1) % SLOTS;
  const at = index * SLOT_BYTES;
  for (const [offset, byte] of [...key, ...vip].entries()) slots.setUint8(at + offset, byte);
}
