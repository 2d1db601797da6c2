// SPDX-License-Identifier: Apache-2.0
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import test from "node:test";
import { KernelError } from "../error.ts";
import { createNamespace, deleteNamespace } from "../netns.ts";
import { type LoadedObject, openObject } from "../object.ts";
import { openPacketSocket } from "../packet-socket.ts";
import { writeSysctls } from "../sysctl.ts";
import { buildObject, u32 } from "../testdata/build.ts";
import { createVeth, getLink, setLink } from "./link.ts";
import { openNetlink } from "./socket.ts";
import {
  addClsact,
  deleteBpfFilter,
  deleteClsact,
  type FilterPlace,
  hasClsact,
  listBpfFilters,
  replaceBpfFilter,
} from "./traffic-control.ts";

const TC_ACT_UNSPEC = 0xffffffff;
const TC_ACT_SHOT = 2;
const NO_MARK = u32(0);
const file = buildObject("sample");

function loadCounter(verdict: number): LoadedObject {
  const object = openObject(file);
  for (const program of object.programs.values()) program.autoload = program.name === "count_tc";
  object.map(".rodata").initialValue?.set(u32(verdict));
  const loaded = object.load();
  loaded.map("counters").update(NO_MARK, new Uint8Array(16));
  return loaded;
}

/** What a program has counted. */
function packets(loaded: LoadedObject): number {
  const value = loaded.map("counters").lookup(NO_MARK) ?? new Uint8Array(4);
  return new DataView(value.buffer).getUint32(0, true);
}

test("a filter is attached, replaced in place and detached, and packets meet it", (t) => {
  const name = `ciliate-tc-${process.pid}`;
  const path = createNamespace(name);
  t.after(() => deleteNamespace(name));
  // Else IPv6's own packets count as well.
  writeSysctls({ "net/ipv6/conf/default/disable_ipv6": 1 }, path);
  using netlink = openNetlink({ namespace: path });
  netlink.run(createVeth({ name: "a", up: true }, { name: "b" }));
  netlink.run(setLink(getLink(netlink, "b").index, { up: true }));
  const device = getLink(netlink, "a").index;
  const place: FilterPlace = { device, direction: "ingress", priority: 50, handle: 1 };
  using passing = loadCounter(TC_ACT_UNSPEC);
  using dropping = loadCounter(TC_ACT_SHOT);
  const attach = (fd: number) => netlink.run(replaceBpfFilter(place, fd, "count"));

  assert.ok(!hasClsact(netlink, device));
  assert.deepEqual(listBpfFilters(netlink, device, "ingress"), []);
  assert.throws(
    () => attach(passing.program("count_tc").fd),
    (error) =>
      error instanceof KernelError && /count as 50 at ingress of device/.test(error.message),
  );
  netlink.run(addClsact(device));
  assert.ok(hasClsact(netlink, device));
  attach(passing.program("count_tc").fd);
  const expected = { ...place, name: "count", programId: passing.program("count_tc").id };
  assert.deepEqual(listBpfFilters(netlink, device, "ingress"), [expected]);
  assert.deepEqual(listBpfFilters(netlink, device, "egress"), []);
  const shown = execFileSync("tc", [
    "-n",
    name,
    "filter",
    "show",
    "dev",
    "a",
    "ingress",
  ]).toString();
  assert.match(shown, /pref 50 bpf chain 0 handle 0x1 count direct-action/);

  const send = (): void => {
    using socket = openPacketSocket("b", path);
    socket.send(new Uint8Array(60));
  };
  send();
  assert.deepEqual([packets(passing), packets(dropping)], [1, 0]);
  attach(dropping.program("count_tc").fd);
  send();
  assert.deepEqual([packets(passing), packets(dropping)], [1, 1]);
  const [replaced, ...others] = listBpfFilters(netlink, device, "ingress");
  assert.equal(replaced?.programId, dropping.program("count_tc").id);
  assert.deepEqual(others, []);
  netlink.run(deleteBpfFilter(place));
  assert.deepEqual(listBpfFilters(netlink, device, "ingress"), []);
  assert.throws(
    () => netlink.run(deleteBpfFilter(place)),
    (error) => error instanceof KernelError && error.code === "ENOENT",
  );
  netlink.run(deleteClsact(device));
  assert.ok(!hasClsact(netlink, device));
});
