// SPDX-License-Identifier: Apache-2.0
import assert from "node:assert/strict";
import { test } from "node:test";
import { changeRing } from "./former-owners.ts";
import { createBench, ip, owners, service, show, slice } from "./testing.ts";

test("who owned a slot before is remembered, newest first, while its pod lives", async () => {
  const { writer, settled, port } = createBench();
  writer.putService(service("web"));
  const before: string[][] = [];
  for (const pods of [["1", "2", "3"], ["1", "2"], ["1", "2", "4"], ["4"]]) {
    writer.putSlice(slice("web", pods));
    await settled();
    before.push(owners(port()).map((line) => line.split(" ")[0] ?? ""));
  }
  for (const [slot, line] of owners(port()).entries()) {
    const history = before.map((ring) => ring[slot] ?? "").reverse();
    const [owner, ...former] = [...new Set(history)];
    const expected = former.length === 0 ? owner : `${owner} < ${former.join(" ")}`;
    assert.equal(line, expected, `slot ${slot}`);
  }
});

test("pods whose Pod row has gone are no former owners, after a moment's grace", async () => {
  const { writer, endpoints, settled, advance, port } = createBench();
  for (const last of [1, 2, 3]) {
    const key = `default/web-${last}`;
    endpoints.set({
      key,
      addresses: [ip(last)],
      node: "n2",
      attachment: undefined,
      hostPorts: undefined,
    });
  }
  writer.putService(service("web"));
  writer.putSlice(slice("web", ["1", "2", "3"]));
  await settled();
  writer.putSlice(slice("web", ["1"]));
  await settled();
  const former = (): string[] => [
    ...new Set(owners(port()).flatMap((line) => line.split(" < ")[1] ?? [])),
  ];
  assert.deepEqual(former().sort(), ["2", "3"]);
  endpoints.delete("default/web-2");
  await settled();
  await advance(4000);
  assert.deepEqual(former().sort(), ["2", "3"], "the row may only have moved to another file");
  await advance(2000);
  assert.deepEqual(former(), ["3"]);
  await advance(10 * 3600_000);
  assert.deepEqual(former(), ["3"], "a pod with a row lives");
});

test("pods that never had a Pod row are forgotten two hours after they were named", async () => {
  const { writer, settled, advance, port } = createBench();
  writer.putService(service("web"));
  writer.putSlice(slice("web", ["1", "2"]));
  await settled();
  writer.putSlice(slice("web", ["1"]));
  await settled();
  await advance(7_100_000);
  assert.ok(port()?.former !== undefined);
  await advance(200_000);
  assert.equal(port()?.former, undefined);
});

test("a pod whose Pod row went while a slice named it is dead when no slice does", async () => {
  const { writer, endpoints, settled, advance, port } = createBench();
  endpoints.set({
    key: "default/web-2",
    addresses: [ip(2)],
    node: "n2",
    attachment: undefined,
    hostPorts: undefined,
  });
  writer.putService(service("web"));
  writer.putSlice(slice("web", ["1", "2"]));
  await settled();
  endpoints.delete("default/web-2");
  await settled();
  await advance(60_000);
  assert.equal(show(port()?.backends), "1 ready, 2 ready", "the slice names it");
  writer.putSlice(slice("web", ["1"]));
  await settled();
  await advance(6000);
  assert.equal(port()?.former, undefined);
});

test("former owners on a node that leaves the cluster go with it", async () => {
  const { writer, nodes, settled, port } = createBench();
  for (const name of ["n1", "n2"]) nodes.set({ name, addresses: [], podPrefixes: [] });
  writer.putService(service("web"));
  writer.putSlice(slice("web", ["1@n1", "2@n2"]));
  await settled();
  writer.putSlice(slice("web", ["1@n1"]));
  await settled();
  assert.ok(port()?.former !== undefined);
  nodes.delete("n2");
  await settled();
  assert.equal(port()?.former, undefined);
});

test("another weight is another ring, with former owners", async () => {
  const { writer, settled, port } = createBench();
  writer.putService(service("web"));
  writer.putSlice(slice("web", ["1", "2"]));
  await settled();
  const even = port()?.ring;
  writer.putSlice(slice("web", ["1", "2*300"]));
  await settled();
  assert.notDeepEqual(port()?.ring, even);
  const moved = owners(port()).filter((line) => line === "2 < 1").length;
  assert.ok(moved > 240 && moved < 300, `${moved} slots moved`);
});

test("former owners of UDP services go after one lifetime of a flow", async () => {
  const { writer, settled, advance, port } = createBench({ timing: { udpMs: 60_000 } });
  writer.putService(service("dns", { port: "53/udp" }));
  const name = { service: "dns", protocol: "udp" } as const;
  writer.putSlice(slice("dns", ["1", "2"], name));
  await settled();
  writer.putSlice(slice("dns", ["1"], name));
  await settled();
  const key = "default/dns:53/udp";
  assert.ok(port(key)?.former !== undefined);
  await advance(59_000);
  assert.ok(port(key)?.former !== undefined);
  await advance(2000);
  assert.equal(port(key)?.former, undefined);
});

test("pods of a node that has left get nothing, and are no former owners", async () => {
  const { writer, nodes, settled, port } = createBench();
  const node = (name: string) => ({ name, addresses: [], podPrefixes: [] });
  writer.putService(service("web"));
  writer.putSlice(slice("web", ["1@n1", "2@n2", "3@n3", "4"]));
  await settled();
  assert.equal(show(port()?.backends), "1 ready, 2 ready, 3 ready, 4 ready", "no node is known");
  nodes.set(node("n1"));
  nodes.set(node("n2"));
  await settled();
  assert.equal(show(port()?.backends), "1 ready, 2 ready, 4 ready");
  assert.ok(owners(port()).every((line) => !line.includes("3")));
  nodes.delete("n2");
  await settled();
  assert.equal(show(port()?.backends), "1 ready, 4 ready");
  assert.ok(owners(port()).every((line) => !/[23]/.test(line)));
});

test("a pod of this node that left the service is still delivered to while it lives", async () => {
  const { writer, endpoints, settled, advance, port } = createBench();
  for (const [last, node] of [
    [1, "n1"],
    [2, "n2"],
  ] as const) {
    const key = `default/web-${last}`;
    endpoints.set({
      key,
      addresses: [ip(last)],
      node,
      attachment: undefined,
      hostPorts: undefined,
    });
  }
  writer.putService(service("web"));
  writer.putSlice(slice("web", ["1", "2", "3@n2"]));
  await settled();
  assert.equal(port()?.backends[0]?.local, true, "its Pod row says so");
  writer.putSlice(slice("web", ["3@n2"]));
  await settled();
  assert.equal(show(port()?.draining), "1 left");
  assert.equal(port()?.draining[0]?.counter, 1);
  endpoints.delete("default/web-1");
  await settled();
  await advance(6000);
  assert.equal(show(port()?.draining), "");
});

test("a ring that was empty for a while goes on from the last one that wasn't", async () => {
  const { writer, settled, port } = createBench();
  writer.putService(service("web"));
  writer.putSlice(slice("web", ["1", "2"]));
  await settled();
  writer.putSlice(slice("web", ["1 down", "2 down"]));
  await settled();
  writer.putSlice(slice("web", ["1", "2 down"]));
  await settled();
  assert.ok(owners(port()).includes("1 < 2"));
  assert.ok(owners(port()).includes("1"));
});

test("when former owners get too many, those of the ring that is quiet longest go", async () => {
  const { writer, settled, port } = createBench({ limits: { formerSlots: 1000 } });
  for (const name of ["a", "b"]) {
    writer.putService(service(name, { addresses: [ip(name === "a" ? 100 : 101)] }));
    writer.putSlice(slice(name, ["1", "2", "3"], { service: name }));
    await settled();
    writer.putSlice(slice(name, ["1", "2"], { service: name }));
    await settled();
  }
  assert.ok(port("default/a:80/tcp")?.former !== undefined);
  writer.putSlice(slice("b", ["1"], { service: "b" }));
  await settled();
  assert.equal(port("default/a:80/tcp")?.former, undefined);
  assert.ok(port("default/b:80/tcp")?.former !== undefined);
  assert.ok(writer.figures().formerForgotten > 300);
  assert.equal(writer.figures().formerLostPorts, 1);
  writer.deleteService("default/a");
  await settled();
  assert.equal(writer.figures().formerLostPorts, 0);
});

test("after a restart ids, counters and owners are those of the kernel's tables", async () => {
  const first = createBench();
  first.writer.putService(service("old", { addresses: [ip("192.0.2.9")] }));
  await first.settled();
  first.writer.putService(service("web"));
  first.writer.putSlice(slice("web", ["9", "1@n1", "2@n2"]));
  await first.settled();
  first.writer.putSlice(slice("web", ["1@n1", "2@n2"]));
  await first.settled();
  const row = first.port();
  assert.ok(row?.former !== undefined && row.id === 2);
  const again = createBench({
    kernel: {
      services: [
        {
          id: row.id,
          frontends: [{ address: ip("192.0.2.10"), port: 80, protocol: "tcp", inside: false }],
          ring: row.ring,
          backends: row.backends,
          snat: false,
          wasOther: false,
          lately: false,
        },
      ],
      targets: [
        {
          service: row.id,
          address: ip(1),
          port: 8080,
          counter: row.backends[0]?.counter ?? (0 as never),
        },
      ],
      formerOwners: owners(row).flatMap((line, slot) => {
        const former = line
          .split(" < ")[1]
          ?.split(" ")
          .map((last) => ip(Number(last)));
        return former === undefined ? [] : [{ service: row.id, slot, owners: former }];
      }),
    },
  });
  again.writer.putService(service("new", { addresses: [ip("192.0.2.8")] }));
  again.writer.putService(service("web"));
  const gone = slice("web-old", ["9"]);
  again.writer.putSlice(gone);
  again.writer.putSlice(slice("web", ["2@n2"]));
  again.writer.deleteSlice(gone.key);
  again.endpoints.set({
    key: "default/1",
    addresses: [ip(1)],
    node: "n1",
    attachment: undefined,
    hostPorts: undefined,
  });
  await again.settled();
  const restored = again.port();
  assert.equal(restored?.id, 2);
  assert.equal(again.port("default/new:80/tcp")?.id, 1);
  assert.deepEqual(
    restored?.backends.map(({ counter }) => counter),
    [row.backends[1]?.counter],
  );
  assert.equal(show(restored?.draining), "1 left");
  const change = { from: { ring: row.ring, owners: [ip(1), ip(2)] }, before: row.former };
  const to = { ring: restored?.ring ?? row.ring, owners: [ip(2)] };
  const all = { lives: () => true, expiresAtMs: Number.POSITIVE_INFINITY };
  assert.deepEqual(restored?.former, changeRing({ ...change, to, ...all }));
});

test("a ring that an agent before made in another way leaves its owners behind", async () => {
  const first = createBench();
  first.writer.putService(service("web"));
  first.writer.putSlice(slice("web", ["1@n1", "2@n2"]));
  await first.settled();
  const row = first.port();
  assert.ok(row !== undefined);
  const ring = row.ring.toReversed();
  const frontends = [
    { address: ip("192.0.2.10"), port: 80, protocol: "tcp", inside: false } as const,
  ];
  const { id, backends } = row;
  const again = createBench({
    kernel: {
      services: [{ id, frontends, ring, backends, snat: false, wasOther: false, lately: false }],
      targets: [],
      formerOwners: [],
    },
  });
  again.writer.putService(service("web"));
  again.writer.putSlice(slice("web", ["1@n1", "2@n2"]));
  await again.settled();
  const now = again.port();
  assert.deepEqual(now?.ring, row.ring);
  const pods = [ip(1), ip(2)];
  const change = { from: { ring, owners: pods }, to: { ring: row.ring, owners: pods } };
  const all = { before: undefined, lives: () => true, expiresAtMs: Number.POSITIVE_INFINITY };
  assert.deepEqual(now?.former, changeRing({ ...change, ...all }));
  assert.ok(now?.former !== undefined);
});

test("numbers from before that nobody takes are free once nothing can be missing", async () => {
  const { writer, say, settled, port } = createBench({
    limits: { servicePorts: 1, backends: 1 },
    kernel: {
      services: [
        {
          id: 1 as never,
          frontends: [{ address: ip("192.0.2.99"), port: 80, protocol: "tcp", inside: false }],
          ring: new Uint16Array(0),
          backends: [{ address: ip(7), port: 80, counter: 1 as never }],
          snat: false,
          wasOther: false,
          lately: false,
        },
      ],
      targets: [],
      formerOwners: [],
    },
  });
  writer.putService(service("web"));
  await settled();
  assert.equal(port(), undefined);
  assert.equal([...writer.refusals()].length, 1);
  say.complete();
  await settled();
  await settled();
  assert.equal(port()?.id, 1);
});
