// SPDX-License-Identifier: Apache-2.0
import assert from "node:assert/strict";
import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { readdirSync, renameSync, rmdirSync } from "node:fs";
import { join } from "node:path";
import { after, beforeEach, describe, test } from "node:test";
import { listPins, unpin } from "../kernel/bpffs.ts";
import { check } from "../kernel/error.ts";
import * as sys from "../kernel/ffi.ts";
import { attachXdp, queryTcx } from "../kernel/link.ts";
import { findLink } from "../kernel/netlink/link.ts";
import { openNetlink } from "../kernel/netlink/socket.ts";
import { listBpfFilters } from "../kernel/netlink/traffic-control.ts";
import { hasFeature } from "../kernel/probe.ts";
import { ANY_IPV6, parseIpv4, parseIpv6 } from "../net/address.ts";
import { type Attacher, createAttacher, devicesWith } from "./attach.ts";
import { FrontendKind, type Port, type ServiceId } from "./gen/abi.ts";
import { type Datapath, type DatapathOptions, openDatapath } from "./load.ts";
import type { Limits } from "./sizes.ts";
import { openTables } from "./tables/tables.ts";

const CLONE_NEWNET = 0x4000_0000;
check(sys.unshare(CLONE_NEWNET), "make", "a network namespace");

const pins = `/sys/fs/bpf/ciliate-load-${process.pid}`;
const LIMITS: Limits = {
  services: 64,
  backends: 256,
  ringEntries: 65_536,
  formerOwners: 1024,
  endpoints: 16,
  nodes: 16,
  sourceRanges: 16,
  affinities: 16,
  sockets: 16,
  flows: 1024,
};
const OPTIONS: DatapathOptions = {
  objects: join(import.meta.dirname, "../../build/bpf"),
  pins,
  limits: LIMITS,
  constants: {
    nodeAddress: parseIpv4("10.0.0.1"),
    nodeAddress6: ANY_IPV6,
    natPortMin: 32_768,
    nodePortMin: 0,
    nodePortMax: 0,
    nodeNetns: 0n,
    hashSeed: 0n,
    outerPrefix: parseIpv4("0.0.0.0"),
    outerHostMask: 0,
    dispatch: 0,
    acceptOption: 0,
    clampMss: 0,
    fragmentsTrack: 1,
    fragmentsPass: 0,
    nodeClients: 0,
    socketLookup: 0,
    quietJiffies: 100,
    passLimit: 100,
    answerLimit: 100,
    limitWindow: 100,
  },
};

function removePins(): void {
  for (const name of listPins(pins)) unpin(join(pins, name));
}

after(() => {
  removePins();
  rmdirSync(pins);
});

const key = { address: parseIpv4("192.0.2.1"), port: 80, protocol: 6, kind: FrontendKind.service };
const nexthops = { acquire: () => 0, release: () => undefined, follow: () => undefined };

async function tablesOf({ maps }: Datapath) {
  return await openTables({
    maps: {
      frontends: maps.frontends.raw,
      services: maps.services.raw,
      rings: maps.rings.raw,
      backends: maps.backends.raw,
    },
    nexthops,
    now: () => 1,
  });
}

/** Verifying IPv6's programs takes several times as long as the rest: only where it matters. */
const DUAL_STACK: DatapathOptions = {
  ...OPTIONS,
  constants: { ...OPTIONS.constants, nodeAddress6: parseIpv6("fd00::1") },
};

describe("loading the packet path", () => {
  beforeEach(removePins);

  test("pins its maps, and uses them again the next time", async () => {
    const image = { flags: 0, affinityAge: 0, ring: new Uint16Array(0), backends: [] };
    let mapId = 0;
    {
      using first = openDatapath(OPTIONS);
      assert.deepEqual(first.notes, []);
      mapId = first.maps.services.raw.id;
      using tables = await tablesOf(first);
      await tables.images.apply([{ key: 5, value: image }]);
      await tables.frontends.apply([{ key, value: 5 }]);
    }
    assert(listPins(pins).includes("conntrack"));
    using second = openDatapath(OPTIONS);
    assert.deepEqual(second.notes, []);
    assert.equal(second.maps.services.raw.id, mapId);
    using tables = await tablesOf(second);
    assert.deepEqual(
      [...tables.found()].map(({ id, frontends }) => ({ id, frontends })),
      [{ id: 5, frontends: [key] }],
    );
  });

  test("without IPv6 none of its maps is there, also where there were some", () => {
    const wide = () => listPins(pins).filter((name) => /6(_\d+)?$/.test(name));
    {
      using first = openDatapath(DUAL_STACK);
      assert.notEqual(first.wide, undefined);
      assert(wide().includes("frontends6"), wide().join(" "));
    }
    using second = openDatapath(OPTIONS);
    assert.equal(second.wide, undefined);
    assert.deepEqual(
      wide().filter((name) => !name.includes("programs")),
      [],
    );
  });

  test("a map of another size takes over what is in the old one, and says so", async () => {
    {
      using first = openDatapath(OPTIONS);
      using tables = await tablesOf(first);
      const image = { flags: 0, affinityAge: 0, ring: new Uint16Array(0), backends: [] };
      await tables.images.apply([{ key: 5, value: image }]);
      await tables.frontends.apply([{ key, value: 5 }]);
      const target = { port: 8080 as Port, flags: 1, counter: 3 };
      first.maps.targets.update({ service: 5 as ServiceId, pod: key.address }, target);
    }
    const limits = { ...LIMITS, services: 1000, backends: 512, endpoints: 8192 };
    using second = openDatapath({ ...OPTIONS, limits });
    assert(
      second.notes.includes("map backends has room for 512 entries now, 256 before"),
      second.notes.join("\n"),
    );
    using tables = await tablesOf(second);
    assert.deepEqual(
      [...tables.found()].map(({ id, frontends }) => ({ id, frontends })),
      [{ id: 5, frontends: [key] }],
    );
    assert.equal([...second.maps.targets.entries()].length, 1);
  });

  test("signals keep no program from being loaded", async () => {
    const heard = (): void => undefined;
    process.on("SIGURG", heard);
    // Much more often than a program is verified; without a pause, nothing else would go on.
    const flood = spawn("sh", ["-c", `while kill -URG ${process.pid}; do sleep 0.001; done`]);
    const ended = once(flood, "exit");
    try {
      await once(process, "SIGURG");
      using datapath = openDatapath(OPTIONS);
      assert.ok(datapath.programs.fromNetwork.id > 0);
    } finally {
      flood.kill("SIGKILL");
      await ended;
      process.off("SIGURG", heard);
    }
  });

  test("a failed load leaves pins as they were", () => {
    openDatapath(OPTIONS)[Symbol.dispose]();
    const before = readdirSync(pins);
    assert.throws(() => openDatapath({ ...OPTIONS, objects: "/nowhere" }), /cannot open object/);
    assert.deepEqual(readdirSync(pins), before);
  });
});

describe("attaching the packet path", () => {
  execFileSync("ip", ["link", "add", "cil0", "type", "veth", "peer", "name", "cil1"]);
  const netlink = openNetlink();
  after(() => netlink.close());
  const uplink = { name: "cil0", ifindex: sys.interfaceIndex("cil0") };
  const pod = { name: "cil1", ifindex: sys.interfaceIndex("cil1") };
  const NONE = { uplinks: [], pods: [], acceleration: "off", ownPackets: false } as const;
  const BOTH = { ...NONE, uplinks: [uplink], pods: [pod], acceleration: "native" } as const;

  const attacherOf = ({ programs }: Datapath, tcx?: boolean): Attacher =>
    createAttacher({ programs, pins, netlink, ...(tcx === undefined ? {} : { tcx }) });
  const xdpOf = (name: string) => findLink(netlink, name)?.xdp;
  const tcxOf = (ifindex: number): number[] =>
    queryTcx(ifindex, "ingress").programs.map(({ programId }) => programId);

  beforeEach(removePins);

  test("programs run while links are pinned, and a restart replaces them", (t) => {
    if (!hasFeature("tcx")) return t.skip("tcx came with Linux 6.6");
    {
      using first = openDatapath(OPTIONS);
      const statuses = attacherOf(first).sync(BOTH);
      assert.deepEqual(
        statuses.map(({ name, role, xdp, tc, reason }) => ({ name, role, xdp, tc, reason })),
        [
          { name: "cil0", role: "uplink", xdp: "native", tc: "tcx", reason: "" },
          { name: "cil1", role: "pod", xdp: "none", tc: "tcx", reason: "" },
        ],
      );
      assert.deepEqual(tcxOf(uplink.ifindex), [first.programs.fromNetwork.id]);
      // As a kill in the middle of pinning leaves them.
      first.maps.services.raw.pin(join(pins, "new-1-1-services"));
      for (const name of [`link_edge_ingress_${uplink.ifindex}`, `link_from_pod_${pod.ifindex}`]) {
        renameSync(join(pins, name), join(pins, `new-1-2-${name}`));
      }
    }
    assert.equal(xdpOf("cil0")?.mode, "native", "it outlives who attached it");
    using second = openDatapath(OPTIONS);
    const attacher = attacherOf(second);
    attacher.sync(BOTH);
    attacher.sync(BOTH);
    assert.deepEqual(tcxOf(uplink.ifindex), [second.programs.fromNetwork.id]);
    assert.deepEqual(tcxOf(pod.ifindex), [second.programs.fromPod.id]);
    assert.equal(xdpOf("cil0")?.programId, second.programs.edgeIngress.id);
    assert.deepEqual(
      listPins(pins).filter((name) => name.startsWith("new-")),
      [],
    );
    attacher.sync({ ...BOTH, acceleration: "generic" });
    assert.equal(xdpOf("cil0")?.mode, "generic");
    attacher.sync(NONE);
    assert.equal(xdpOf("cil0")?.mode, "none");
    assert.deepEqual(tcxOf(uplink.ifindex), []);
    assert.deepEqual(tcxOf(pod.ifindex), []);
  });

  test("a foreign XDP program stays, and status says so", () => {
    using datapath = openDatapath(OPTIONS);
    const program = datapath.programs.edgeIngress;
    using foreign = attachXdp({ program, ifindex: uplink.ifindex, mode: "native" });
    const attacher = attacherOf(datapath);
    for (const acceleration of ["native", "generic"] as const) {
      const [status] = attacher.sync({ ...BOTH, acceleration });
      assert.equal(status?.xdp, "none");
      assert.match(status?.reason ?? "", /balanced in tc: .* which is left alone/);
      assert.notEqual(status?.tc, "none");
    }
    assert.equal(foreign.info().ifindex, uplink.ifindex);
    attacher.sync(NONE);
    assert.equal(xdpOf("cil0")?.programId, program.id, "detaching takes only ours");
  });

  test("a driver without native XDP leaves balancing to tc, and status says why", () => {
    using datapath = openDatapath(OPTIONS);
    execFileSync("ip", ["link", "add", "cilbr", "type", "bridge"]);
    const bridge = { name: "cilbr", ifindex: sys.interfaceIndex("cilbr") };
    const attacher = attacherOf(datapath);
    const [status] = attacher.sync({ ...NONE, uplinks: [bridge], acceleration: "native" });
    assert.equal(status?.xdp, "none");
    assert.match(status?.reason ?? "", /no native XDP/);
    attacher.sync(NONE);
    execFileSync("ip", ["link", "del", "cilbr"]);
  });

  test("an uplink that must go without XDP loses it, says why, and gets it back", () => {
    using datapath = openDatapath(OPTIONS);
    const attacher = attacherOf(datapath);
    attacher.sync(BOTH);
    const [status] = attacher.sync({ ...BOTH, uplinks: [{ ...uplink, withoutXdp: "the moon" }] });
    assert.deepEqual([status?.xdp, status?.reason], ["none", "balanced in tc: the moon"]);
    assert.notEqual(status?.tc, "none");
    assert.equal(xdpOf("cil0")?.mode, "none");
    attacher.sync(BOTH);
    assert.equal(xdpOf("cil0")?.mode, "native");
    attacher.sync(NONE);
  });

  test("a device that vanishes and comes back gets its program again", () => {
    using datapath = openDatapath(OPTIONS);
    const attacher = attacherOf(datapath);
    const make = () => {
      execFileSync("ip", ["link", "add", "cil2", "type", "veth", "peer", "name", "cil3"]);
      return { name: "cil2", ifindex: sys.interfaceIndex("cil2") };
    };
    const wanted = (device: ReturnType<typeof make>) => ({ ...NONE, pods: [device] });
    const first = make();
    const count = (): number => listPins(pins).filter((name) => name.startsWith("link_")).length;
    attacher.sync(wanted(first));
    execFileSync("ip", ["link", "del", "cil2"]);
    const [gone] = attacher.sync(wanted(first));
    assert.equal(gone?.tc, "none");
    assert.match(gone?.reason ?? "", /no such device/);
    const [back] = attacher.sync(wanted(make()));
    assert.notEqual(back?.tc, "none");
    assert.equal(back?.reason, "");
    if (hasFeature("tcx")) assert.equal(count(), 1);
    attacher.sync(NONE);
    assert.equal(count(), 0);
    execFileSync("ip", ["link", "del", "cil2"]);
  });

  test("without tcx, filters of clsact do the same", () => {
    using first = openDatapath(OPTIONS);
    const filters = (ifindex: number) =>
      listBpfFilters(netlink, ifindex, "ingress").map(({ name, programId }) => [name, programId]);
    const [status] = attacherOf(first, false).sync(BOTH);
    assert.equal(status?.tc, "clsact");
    assert.equal(status?.reason, "");
    using second = openDatapath(OPTIONS);
    const attacher = attacherOf(second, false);
    attacher.sync(BOTH);
    attacher.sync(BOTH);
    const { fromNetwork, fromPod } = second.programs;
    assert.deepEqual(filters(uplink.ifindex), [["ciliate_from_network", fromNetwork.id]]);
    assert.deepEqual(devicesWith(pins, netlink, "from_network"), [uplink.ifindex]);
    attacher.sync({ ...BOTH, uplinks: [] });
    assert.deepEqual(filters(uplink.ifindex), []);
    assert.deepEqual(filters(pod.ifindex), [["ciliate_from_pod", fromPod.id]]);
    attacher.sync(NONE);
    assert.deepEqual(filters(pod.ifindex), []);
  });

  for (const tcx of [true, false]) {
    test(`the node's packets meet us while they shall, ${tcx ? "with" : "without"} tcx`, (t) => {
      if (tcx && !hasFeature("tcx")) return t.skip("tcx came with Linux 6.6");
      using datapath = openDatapath(OPTIONS);
      const attacher = attacherOf(datapath, tcx);
      const idsAt = (ifindex: number, direction: "ingress" | "egress"): number[] =>
        tcx
          ? queryTcx(ifindex, direction).programs.map(({ programId }) => programId)
          : listBpfFilters(netlink, ifindex, direction).map(({ programId }) => programId);
      const { fromNode, fromNetwork, fromPod } = datapath.programs;
      for (const ownPackets of [true, true, false]) {
        for (const { tc, reason } of attacher.sync({ ...BOTH, ownPackets })) {
          assert.deepEqual([tc, reason], [tcx ? "tcx" : "clsact", ""]);
          assert.deepEqual(devicesWith(pins, netlink, "from_pod"), [pod.ifindex]);
        }
        for (const { ifindex } of [uplink, pod]) {
          assert.deepEqual(idsAt(ifindex, "egress"), ownPackets ? [fromNode.id] : []);
        }
        assert.deepEqual(idsAt(uplink.ifindex, "ingress"), [fromNetwork.id]);
        assert.deepEqual(idsAt(pod.ifindex, "ingress"), [fromPod.id]);
      }
      for (const ownReplies of [true, false]) {
        attacher.sync({ ...BOTH, ownPackets: false, ownReplies });
        const wanted = ownReplies ? [fromNode.id] : [];
        assert.deepEqual(idsAt(uplink.ifindex, "egress"), wanted, "what it answers");
        assert.deepEqual(idsAt(pod.ifindex, "egress"), []);
      }
      attacher.sync(NONE);
      assert.deepEqual(idsAt(uplink.ifindex, "ingress"), []);
    });
  }
});
