// SPDX-License-Identifier: Apache-2.0
// What programs see of services that are translated at their sockets, in each family.

import assert from "node:assert/strict";
import { join } from "node:path";
import { after, before, suite, test } from "node:test";
import { dumpSockets } from "../../src/datapath/dump.ts";
import { listPins } from "../../src/kernel/bpffs.ts";
import { createCgroup } from "../../src/kernel/cgroup.ts";
import { BpfLink } from "../../src/kernel/link.ts";
import { namespaceCookie } from "../../src/kernel/netns.ts";
import { connectTcp, connectUdp, sendUdp, udpOf, withSocket } from "./calls.ts";
import {
  affinityLasts,
  attach,
  BACKENDS,
  codeOf,
  countedBy,
  LOOPBACK,
  load,
  name,
  OTHER_BACKEND,
  OTHER_NODE,
  OWN_NODE,
  pins,
  type Spelling,
  scene,
  setUp,
  spell,
  tearDown,
  times,
  turnRing,
  VIP,
} from "./socket-stage.ts";

/** Calls enough that one of two backends is left out by chance once in a million. */
const MANY = 21;
const STRANGER = "127.1.2.3";
/** To Linux, the same as loopback. */
const UNSPECIFIED = "0.0.0.0";

const unique = (values: readonly string[]): string[] => [...new Set(values)].sort();

/** The tests of one spelling; `of` spells an address of the stage. */
function translation(spelling: Spelling): void {
  const of = (address: string): string => spell(spelling, address);
  const vip = of(VIP);
  const socket = udpOf(vip);

  test("TCP connects to any backend, and its peer is the service", async () => {
    const all = await times(MANY, () => connectTcp(vip, 80));
    assert.deepEqual(unique(all.map(({ backend }) => backend)), [...BACKENDS]);
    assert.deepEqual(unique(all.map(({ peer }) => peer)), [`${vip}:80`]);
  });

  test("connected UDP has any backend, and answers come from the service", async () => {
    const all = await times(MANY, () => connectUdp(vip, 80));
    assert.deepEqual(unique(all.map(({ backend }) => backend)), [...BACKENDS]);
    assert.deepEqual(unique(all.flatMap(({ peer, from }) => [peer, from])), [`${vip}:80`]);
  });

  test("an unconnected UDP socket keeps a backend for each service", async () => {
    const perSocket = await times(MANY, () =>
      withSocket(socket, async (udp) => {
        const answers = await times(3, () => sendUdp(udp, vip, 80));
        const other = await sendUdp(udp, vip, 82);
        assert.deepEqual(other, { backend: OTHER_BACKEND, from: `${vip}:82` });
        // The same backend, by another of the service's ports.
        const again = await sendUdp(udp, vip, 81);
        assert.deepEqual(again, { backend: OTHER_BACKEND, from: `${vip}:81` });
        assert.deepEqual(unique(answers.map(({ from }) => from)), [`${vip}:80`]);
        const backends = unique(answers.map(({ backend }) => backend));
        assert.equal(backends.length, 1, "a socket keeps its backend");
        return backends[0] ?? "";
      }),
    );
    assert.deepEqual(unique(perSocket), [...BACKENDS]);
  });

  test("who is inside gets the service for inside, if there is one", async () => {
    for (const port of [81, 82]) {
      const peer = `${vip}:${port}`;
      assert.deepEqual(await connectTcp(vip, port), { backend: OTHER_BACKEND, peer });
    }
  });

  test("node ports are at every node and at loopback, within their range", async () => {
    for (const [address, port] of [
      [of(OTHER_NODE), 30_000],
      [of(OTHER_NODE), 32_767],
      [of(OTHER_NODE), 30_081],
      [of(OWN_NODE), 30_000],
      [of(LOOPBACK), 30_080],
      [of(UNSPECIFIED), 30_080],
      ...(spelling === "ipv6" ? [] : ([[of(STRANGER), 30_080]] as const)),
    ] as const) {
      const peer = `${address}:${port}`;
      assert.deepEqual(await connectTcp(address, port), { backend: OTHER_BACKEND, peer });
    }
    // No node has this address, and these ports are none of node ports'.
    for (const [address, port] of [
      [vip, 30_080],
      [of(OTHER_NODE), 29_999],
      [of(OTHER_NODE), 32_768],
      [of(LOOPBACK), 29_999],
    ] as const) {
      const verdicts = await countedBy(async () => {
        assert.equal(await connectTcp(address, port).catch(codeOf), "ECONNREFUSED");
      });
      assert.deepEqual(verdicts, { "pass not ours": 1 }, `${address}:${port}`);
    }
  });

  test("without backends, a call is refused at once", async () => {
    const verdicts = await countedBy(async () => {
      assert.equal(await connectTcp(vip, 83).catch(codeOf), "ECONNREFUSED");
      assert.equal(await connectUdp(vip, 83).catch(codeOf), "ECONNREFUSED");
      const sent = withSocket(socket, (udp) => sendUdp(udp, vip, 83));
      assert.equal(await sent.catch(codeOf), "ECONNREFUSED");
    });
    assert.deepEqual(verdicts, { "drop no backend": 3 });
  });

  test("what is no service is left alone", async () => {
    const { ports } = scene();
    const backend = of(OTHER_BACKEND);
    const verdicts = await countedBy(async () => {
      const direct = await connectTcp(backend, ports.tcp);
      assert.deepEqual(direct, { backend: OTHER_BACKEND, peer: `${backend}:${ports.tcp}` });
      const from = `${backend}:${ports.udp}`;
      const datagram = await connectUdp(backend, ports.udp);
      assert.deepEqual(datagram, { backend: OTHER_BACKEND, peer: from, from });
      // TCP's port of a service that has the same for UDP only is another one.
      assert.equal(await connectTcp(vip, 85).catch(codeOf), "ECONNREFUSED");
    });
    // The kernel says the mapped peer of a connected socket again with each datagram.
    assert.deepEqual(verdicts, { "pass not ours": spelling === "mapped" ? 4 : 3 });
  });

  test("with affinity, all sockets of a namespace have one backend", async () => {
    const tcp = await times(MANY, () => connectTcp(vip, 84));
    const udp = await times(3, () => withSocket(socket, (one) => sendUdp(one, vip, 84)));
    const backends = [...tcp, ...udp].map(({ backend }) => backend);
    assert.equal(unique(backends).length, 1, "a namespace is one client");
  });

  test("with affinity, a namespace stays with its backend when the ring changes", async () => {
    const { maps, wide } = scene().datapath;
    const backends = spelling === "ipv6" ? (wide?.affinities ?? assert.fail()) : maps.affinities;
    const restore = affinityLasts(maps, 4);
    try {
      const { backend } = await connectTcp(vip, 84);
      const again = turnRing(maps, 4);
      const later = await times(3, () => connectTcp(vip, 84));
      assert.deepEqual(unique(later.map((one) => one.backend)), [backend]);
      assert.ok([...backends.entries()].length > 0);
      again();
    } finally {
      restore();
    }
  });

  test("a socket is remembered once for each backend", async () => {
    const { ports } = scene();
    const known = new Set([...dumpSockets(pins)].map(({ cookie }) => cookie));
    await withSocket(socket, (udp) => times(3, () => sendUdp(udp, vip, 82)));
    const fresh = [...dumpSockets(pins)].filter(({ cookie }) => !known.has(cookie));
    const [row] = fresh;
    assert.ok(row !== undefined && fresh.length === 1);
    const { cookie: _, ageSeconds, ...rest } = row;
    assert.ok(ageSeconds < 60);
    const shown = (address: string): string => (spelling === "ipv6" ? `[${of(address)}]` : address);
    assert.deepEqual(rest, {
      protocol: "udp",
      service: `${shown(VIP)}:82`,
      backend: `${shown(OTHER_BACKEND)}:${ports.udp}`,
      id: 12,
      netns: namespaceCookie(),
    });
  });

  test("connections are counted to their backend", async () => {
    const before = [connections(1), connections(11)];
    await times(3, () => connectTcp(vip, 82));
    await times(2, () => connectUdp(vip, 82));
    await withSocket(socket, (udp) => sendUdp(udp, vip, 82));
    // A datagram of an unconnected socket begins nothing.
    const [tcp = 0, udp = 0] = before;
    assert.deepEqual([connections(1) - tcp, connections(11) - udp], [3, 2]);
  });
}

/** Connections of a row of counters, on all CPUs. */
function connections(counter: number): number {
  const { maps, sizes } = scene().datapath;
  const cpus = maps.counters.raw.info.maxEntries / sizes.counterStride;
  return Array.from({ length: cpus }, (_, cpu) => {
    return Number(maps.counters.lookup(cpu * sizes.counterStride + counter)?.connections ?? 0n);
  }).reduce((sum, one) => sum + one);
}

/** The programs on the cgroup, by their pinned links. */
function attached(): Map<string, { readonly programId: number; readonly cgroupId: bigint }> {
  const links = listPins(pins).filter((pin) => pin.startsWith("link_"));
  return new Map(
    links.map((pin) => {
      using link = BpfLink.openPinned(join(pins, pin));
      const { programId, cgroupId } = link.info();
      return [pin, { programId, cgroupId }];
    }),
  );
}

const NAMES = ["bind", "connect", "getpeername", "recvmsg", "sendmsg"];
const LINKS = [
  ...NAMES.flatMap((hook) => [`link_${hook}4`, `link_${hook}6`]),
  ...["bind", "connect", "getpeer", "recvmsg"].map((hook) => `link_${hook}_mapped`),
].sort();

async function restarted(): Promise<void> {
  const { cgroup } = scene();
  const before = attached();
  assert.deepEqual([...before.keys()].sort(), LINKS);
  // As after the end of an agent, nothing but pins holds the programs.
  using next = load();
  attach(next, cgroup);
  for (const [program, { id }] of next.programs.sockets) {
    assert.equal(attached().get(`link_${program}`)?.programId, id);
    assert.notEqual(before.get(`link_${program}`)?.programId, id);
  }
  assert.equal((await connectTcp(VIP, 82)).backend, OTHER_BACKEND);
}

async function moved(): Promise<void> {
  const { cgroup, datapath } = scene();
  const other = createCgroup(`${name}/other`);
  assert.deepEqual(attach(datapath, other), { cgroup: other, reason: "" });
  assert.equal(await connectTcp(VIP, 82).catch(codeOf), "ECONNREFUSED");
  const gone = attach(datapath, "/sys/fs/cgroup/ciliate-nowhere");
  assert.equal(gone.cgroup, "");
  assert.match(gone.reason, /ciliate-nowhere/);
  assert.equal(attached().size, 0, "rather none than those of another cgroup");
  const plain = attach(datapath, "/tmp");
  assert.match(plain.reason, /no directory of a cgroup2 file system/);
  attach(datapath, cgroup);
  assert.equal((await connectTcp(VIP, 82)).backend, OTHER_BACKEND);
  assert.deepEqual(attach(datapath, undefined), { cgroup: "", reason: "" });
  assert.equal(attached().size, 0);
  assert.equal(await connectTcp(VIP, 82).catch(codeOf), "ECONNREFUSED");
  attach(datapath, cgroup);
}

suite("services at the socket", () => {
  before(setUp);
  after(tearDown);
  for (const spelling of ["ipv4", "mapped", "ipv6"] as const) {
    suite(spelling, () => translation(spelling));
  }
  test("another agent's programs take the place of those that are there", restarted);
  test("the programs move to another cgroup, or none, as wanted", moved);
});
