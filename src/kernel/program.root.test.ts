// SPDX-License-Identifier: Apache-2.0

import assert from "node:assert/strict";
import { join } from "node:path";
import { after, test } from "node:test";
import * as sys from "./ffi.ts";
import { openObject } from "./object.ts";
import { BpfProgram } from "./program.ts";
import { buildObject, makePinDirectory, readU32, u32 } from "./testdata/build.ts";

const object = openObject(buildObject("sample"));
const loaded = object.load();
after(() => {
  loaded.close();
  object.close();
});
const packet = new Uint8Array(64);

test("a program tells what it is and what it uses", () => {
  const info = loaded.program("emit").info();
  assert.equal(info.name, "emit");
  assert.equal(info.type, "sched_cls");
  assert.match(info.tag, /^[0-9a-f]{16}$/);
  assert.ok(info.verifiedInstructions > 0 && info.xlatedBytes > 0 && info.btfId > 0);
  const ids = ["rows", "events", ".rodata"].map((name) => loaded.map(name).id);
  assert.ok(ids.every((id) => info.mapIds.includes(id)));
});

test("a tc program runs on a context and hands it back changed", () => {
  loaded.map("counters").update(u32(7), new Uint8Array(16));
  const skb = { mark: 7, priority: 3, gsoSize: 100, gsoSegs: 3, wireLen: 900, cb: [9, 9, 9, 9, 5] };
  const result = loaded.program("count_tc").testRun({ data: packet, skb });
  assert.equal(result.retval, -1);
  assert.equal(result.data.byteLength, 64);
  assert.equal(result.skb.mark, 8);
  assert.equal(result.skb.priority, 3);
  assert.deepEqual(result.skb.cb, [100, 3, 1, 9, 5]);
  assert.equal(result.skb.wireLen, 900);
  const counter = loaded.map("counters").lookup(u32(7)) ?? new Uint8Array(16);
  assert.deepEqual([readU32(counter), readU32(counter, 2)], [1, 900]);
});

test("a run is repeated as often as asked, on the CPU asked for", () => {
  const cpus = new Uint8Array(128);
  sys.getAffinity(cpus);
  const run = { data: packet, dataOutBytes: 4000, repeat: 3, cpu: 0 };
  const result = loaded.program("grow_tc").testRun(run);
  assert.equal(result.data.byteLength, 64 + 3000);
  const now = new Uint8Array(128);
  sys.getAffinity(now);
  assert.deepEqual(now, cpus);
  assert.throws(() => loaded.program("grow_tc").testRun({ data: packet, cpu: 1000 }), {
    object: "CPU 1000",
  });
});

test("a packet that outgrows its room says how much it needs", () => {
  const run = { data: packet, dataOutBytes: 100 };
  assert.throws(() => loaded.program("grow_tc").testRun(run), {
    code: "ENOSPC",
    detail: "the packet grew to 1064 bytes: raise dataOutBytes",
  });
});

test("a packet without a whole Ethernet header is refused in words", () => {
  const run = { data: new Uint8Array(13) };
  assert.throws(() => loaded.program("count_tc").testRun(run), { detail: /14 bytes at least/ });
  const nowhere = { data: packet, skb: { ifindex: 0x7fff_ffff } };
  assert.throws(() => loaded.program("count_tc").testRun(nowhere), { detail: /no such ifindex/ });
});

test("an XDP program runs with the device and the metadata of its context", () => {
  const xdp = { ingressIfindex: 1, metadataBytes: 8 };
  const result = loaded.program("pass_xdp").testRun({ data: packet, xdp });
  assert.equal(result.retval, 2);
  assert.deepEqual(result.xdp, { ingressIfindex: 1, rxQueue: 0, metadataBytes: 8 });
  assert.equal(readU32(loaded.map("rows").lookup(u32(1)) ?? new Uint8Array(4)), 1);
  assert.equal(loaded.program("drop_xdp").testRun({ data: packet }).retval, 1);
});

test("live frames are as many as asked for, and no packet comes back", () => {
  const rows = loaded.map("rows");
  rows.update(u32(2), u32(0, 0, 0));
  const liveFrames = { batchSize: 4 };
  const result = loaded.program("count_xdp").testRun({ data: packet, repeat: 10, liveFrames });
  assert.equal(result.data.byteLength, 0);
  const count = readU32(rows.lookup(u32(2)) ?? new Uint8Array(4));
  assert.ok(count >= 10 && count < 20, `${count} runs`);
  const tooMany = { data: packet, liveFrames: { batchSize: 257 } };
  assert.throws(() => loaded.program("count_xdp").testRun(tooMany), { code: "E2BIG" });
});

test("a pinned program is found again by its path and by its id", () => {
  const path = join(makePinDirectory(), "pass_xdp");
  const program = loaded.program("pass_xdp");
  program.pin(path);
  using pinned = BpfProgram.openPinned(path);
  using same = BpfProgram.openId(program.id);
  assert.deepEqual([pinned.id, same.name], [program.id, "pass_xdp"]);
  loaded.program("drop_xdp").pinByRename(path);
  using replaced = BpfProgram.openPinned(path);
  assert.equal(replaced.name, "drop_xdp");
  assert.throws(() => BpfProgram.openPinned(`${path}-not`), { code: "ENOENT" });
});
