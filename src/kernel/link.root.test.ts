// SPDX-License-Identifier: Apache-2.0

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { join } from "node:path";
import { after, test } from "node:test";
import { check } from "./error.ts";
import * as sys from "./ffi.ts";
import { attachTcx, attachXdp, BpfLink, type Direction, queryTcx } from "./link.ts";
import { openObject } from "./object.ts";
import { hasFeature } from "./probe.ts";
import { buildObject, makePinDirectory } from "./testdata/build.ts";

const NEEDS_TCX = hasFeature("tcx") ? {} : { skip: "tcx came with Linux 6.6" };

// A namespace without a name: it goes, devices and all, with this process.
const CLONE_NEWNET = 0x4000_0000;
check(sys.unshare(CLONE_NEWNET), "make", "a network namespace");
execFileSync("ip", ["link", "add", "cil0", "type", "veth", "peer", "name", "cil1"]);
const cil0 = sys.interfaceIndex("cil0");
const loopback = 1;
const object = openObject(buildObject("sample"));
const loaded = object.load();
after(() => {
  loaded.close();
  object.close();
});
const [count, grow, emit] = ["count_tc", "grow_tc", "emit"].map((name) => loaded.program(name)) as [
  ReturnType<typeof loaded.program>,
  ReturnType<typeof loaded.program>,
  ReturnType<typeof loaded.program>,
];
const pass = loaded.program("pass_xdp");
const drop = loaded.program("drop_xdp");

function order(direction: Direction): number[] {
  return queryTcx(cil0, direction).programs.map(({ programId }) => programId);
}

test("tcx programs run in the order of their positions, ours and others'", NEEDS_TCX, () => {
  const direction = "ingress";
  assert.deepEqual(order(direction), []);
  using last = attachTcx({ program: count, ifindex: cil0, direction });
  using first = attachTcx({ program: grow, ifindex: cil0, direction, position: "first" });
  assert.deepEqual(order(direction), [grow.id, count.id]);
  const position = { after: { linkId: first.id } };
  using middle = attachTcx({ program: emit, ifindex: cil0, direction, position });
  assert.deepEqual(queryTcx(cil0, direction).programs, [
    { programId: grow.id, linkId: first.id },
    { programId: emit.id, linkId: middle.id },
    { programId: count.id, linkId: last.id },
  ]);
  middle.close();
  const before = { before: { linkId: last.id } };
  using again = attachTcx({ program: emit, ifindex: cil0, direction, position: before });
  assert.equal(again.info().ifindex, cil0);
  assert.deepEqual(order(direction), [grow.id, emit.id, count.id]);
  assert.deepEqual(order("egress"), []);
});

test("a program that was attached without a link is an anchor too", NEEDS_TCX, () => {
  const direction = "egress";
  const attr = new Uint8Array(32);
  const view = new DataView(attr.buffer);
  for (const [index, value] of [cil0, count.fd, 47].entries())
    view.setUint32(index * 4, value, true);
  check(sys.bpf(8, attr), "attach", "without a link"); // BPF_PROG_ATTACH
  assert.deepEqual(queryTcx(cil0, direction).programs, [{ programId: count.id, linkId: 0 }]);
  const position = { before: { programId: count.id } };
  using link = attachTcx({ program: grow, ifindex: cil0, direction, position });
  assert.equal(link.type, "tcx");
  assert.deepEqual(order(direction), [grow.id, count.id]);
  check(sys.bpf(9, attr), "detach", "without a link"); // BPF_PROG_DETACH
});

test("tcx refuses what it cannot do, and says why", NEEDS_TCX, () => {
  const to = { ifindex: cil0, direction: "ingress" } as const;
  using link = attachTcx({ program: count, ...to });
  const { revision } = queryTcx(cil0, "ingress");
  using other = attachTcx({ program: grow, ...to, expectedRevision: revision });
  assert.notEqual(other.id, link.id);
  const attach = (more: object) => () => attachTcx({ program: emit, ...to, ...more });
  assert.throws(attach({ expectedRevision: revision }), {
    code: "ESTALE",
    object: "device cil0",
    detail: "the programs on it have changed: query them again",
  });
  assert.throws(attach({ program: count }), { code: "EEXIST", detail: /attached there already/ });
  assert.throws(attach({ position: { after: { programId: emit.id } } }), { code: "ENOENT" });
  assert.throws(attach({ ifindex: 4000 }), {
    code: "ENODEV",
    object: "device with index 4000",
  });
});

test("a link's program is replaced in place, but not under another's hands", NEEDS_TCX, () => {
  using link = attachTcx({ program: count, ifindex: cil0, direction: "ingress" });
  link.update(grow);
  assert.equal(link.info().programId, grow.id);
  assert.throws(() => link.update(emit, count), {
    code: "EPERM",
    detail: "another program than count_tc runs there",
  });
  link.update(emit, grow);
  assert.deepEqual(order("ingress"), [emit.id]);
});

test("a pinned link outlives its descriptor, and detaches when told", NEEDS_TCX, () => {
  const path = join(makePinDirectory(), "from_network");
  const made = attachTcx({ program: count, ifindex: cil0, direction: "ingress" });
  made.pin(path);
  made.close();
  assert.deepEqual(order("ingress"), [count.id]);
  using pinned = BpfLink.openPinned(path);
  assert.equal(pinned.id, made.id);
  using byId = BpfLink.openId(made.id);
  byId.detach();
  assert.deepEqual(order("ingress"), []);
  assert.equal(pinned.info().ifindex, 0);
  assert.throws(() => pinned.update(grow), { code: "ENOLINK", detail: /detached/ });
  assert.throws(() => made.info(), /tcx link \d+ is closed/);
});

test("a device takes one XDP program, and the first one stays", () => {
  using link = attachXdp({ program: pass, ifindex: cil0, mode: "native" });
  assert.deepEqual(link.info(), {
    id: link.id,
    type: "xdp",
    programId: pass.id,
    ifindex: cil0,
    cgroupId: 0n,
  });
  assert.throws(() => attachXdp({ program: drop, ifindex: cil0, mode: "native" }), {
    code: "EBUSY",
    detail: /already, which is left alone/,
  });
  assert.throws(() => attachXdp({ program: drop, ifindex: cil0, mode: "generic" }), {
    code: "EEXIST",
    detail: /of the other mode already/,
  });
  link.update(drop, pass);
  assert.equal(link.info().programId, drop.id);
});

test("a device without native XDP is refused in words and takes generic XDP", () => {
  assert.throws(() => attachXdp({ program: pass, ifindex: loopback, mode: "native" }), {
    code: "EOPNOTSUPP",
    object: "device lo",
    detail: /use the generic mode, or tc/,
  });
  using link = attachXdp({ program: pass, ifindex: loopback, mode: "generic" });
  assert.equal(link.info().ifindex, loopback);
});

test("a program of another type is not taken for XDP", () => {
  const wrong = { program: count, ifindex: cil0, mode: "native" } as const;
  assert.throws(() => attachXdp(wrong), { code: "EINVAL", detail: "" });
});

test("an XDP program runs with the ingress device that it is attached to", () => {
  using link = attachXdp({ program: pass, ifindex: cil0, mode: "native" });
  const xdp = { ingressIfindex: cil0 };
  assert.equal(link.info().ifindex, cil0);
  const result = pass.testRun({ data: new Uint8Array(64), xdp });
  assert.equal(result.xdp.ingressIfindex, cil0);
});

test("a link goes with its device and says so", () => {
  execFileSync("ip", ["link", "add", "cil2", "type", "veth", "peer", "name", "cil3"]);
  const ifindex = sys.interfaceIndex("cil2");
  using link = attachXdp({ program: pass, ifindex, mode: "native" });
  execFileSync("ip", ["link", "del", "cil2"]);
  assert.equal(link.info().ifindex, 0);
  assert.throws(() => link.update(drop), { code: "ENOLINK", detail: /its device is gone/ });
});
