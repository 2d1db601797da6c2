// SPDX-License-Identifier: Apache-2.0
import assert from "node:assert/strict";
import { test } from "node:test";
import { formatAddress } from "../net/address.ts";
import {
  DEFAULT_POLICY,
  type Service,
  type ServicePolicy,
  type ServicePort,
  scopedFrontends,
} from "./rows.ts";
import { createBench, ip, owners, service, show, slice } from "./testing.ts";

const LOCAL = "default/web:80/tcp/local";
const CLUSTER_IP = ip("10.96.0.1");

/** A service with a way in of every sort. */
function web(policy: Partial<ServicePolicy> = {}, more: Partial<Service> = {}): Service {
  const ports = [{ name: "", port: 80, protocol: "tcp", nodePort: 30080 }] as const;
  const whole = { ...DEFAULT_POLICY, ...policy };
  return service("web", { clusterAddresses: [CLUSTER_IP], ports, policy: whole, ...more });
}

/** `192.0.2.10:80 in:10.96.0.1:80 :30080`. */
function found(row: ServicePort | undefined): string {
  return (row === undefined ? [] : scopedFrontends(row))
    .map(({ address, port, inside }) => {
      const at = `${address === 0 ? "" : formatAddress(address)}:${port}`;
      return inside ? `in:${at}` : at;
    })
    .join(" ");
}

test("one row serves every way in while its backends are the same", async () => {
  const { writer, settled, port } = createBench();
  writer.putService(web());
  writer.putSlice(slice("web", ["1@n1", "2@n2"]));
  await settled();
  assert.deepEqual([...writer.ports.keys()], ["default/web:80/tcp"]);
  assert.equal(found(port()), "192.0.2.10:80 in:10.96.0.1:80 :30080");
});

test("externalTrafficPolicy Local gives clients outside the pods of this node", async () => {
  const { writer, settled, port } = createBench();
  writer.putService(web({ externalLocal: true }));
  writer.putSlice(slice("web", ["1@n1", "2@n2", "3 down@n1"]));
  await settled();
  assert.equal(found(port(LOCAL)), "192.0.2.10:80 :30080");
  assert.equal(show(port(LOCAL)?.backends), "1 ready");
  assert.equal(show(port(LOCAL)?.draining), "3 not-ready");
  assert.equal(found(port()), "in:192.0.2.10:80 in:10.96.0.1:80 in::30080");
  assert.equal(show(port()?.backends), "1 ready, 2 ready");
});

test("internalTrafficPolicy Local is for cluster IPs", async () => {
  const { writer, settled, port } = createBench();
  writer.putService(web({ internalLocal: true }));
  writer.putSlice(slice("web", ["1@n1", "2@n2"]));
  await settled();
  assert.equal(found(port(LOCAL)), "in:10.96.0.1:80");
  assert.equal(found(port()), "192.0.2.10:80 :30080");
  writer.putService(web({ internalLocal: true, externalLocal: true }));
  await settled();
  assert.equal(found(port(LOCAL)), "192.0.2.10:80 in:10.96.0.1:80 :30080");
  assert.equal(found(port()), "in:192.0.2.10:80 in::30080");
  writer.putService(
    service("web", {
      addresses: [],
      clusterAddresses: [CLUSTER_IP],
      policy: { ...DEFAULT_POLICY, internalLocal: true },
    }),
  );
  await settled();
  assert.deepEqual([...writer.ports.keys()], [LOCAL]);
});

test("pods that terminate serve a node that has no other ones", async () => {
  const { writer, settled, port } = createBench();
  writer.putService(web({ externalLocal: true }));
  writer.putSlice(slice("web", ["1 terminating@n1", "2@n2"]));
  await settled();
  assert.equal(show(port(LOCAL)?.backends), "1 terminating");
  assert.equal(show(port()?.backends), "2 ready");
});

test("a pod of this node doesn't wait until others know it", async () => {
  const { writer, settled, advance, port } = createBench({ timing: { joinMs: 500 } });
  writer.putService(web({ externalLocal: true }));
  writer.putSlice(slice("web", ["1@n1"]));
  await settled();
  writer.putSlice(slice("web", ["1@n1", "3@n1"]));
  await settled();
  assert.equal(show(port(LOCAL)?.backends), "1 ready, 3 ready");
  assert.equal(show(port()?.backends), "1 ready");
  await advance(500);
  assert.equal(show(port()?.backends), "1 ready, 3 ready");
});

test("flows go on when a policy becomes Local, and when it is Cluster again", async () => {
  const { writer, settled, port } = createBench();
  writer.putService(service("web"));
  writer.putSlice(slice("web", ["1@n1", "2@n2"]));
  await settled();
  const before = owners(port());
  writer.putService(service("web", { policy: { ...DEFAULT_POLICY, externalLocal: true } }));
  await settled();
  const moved = before.map((owner) => (owner === "1" ? "1" : "1 < 2"));
  assert.deepEqual(owners(port(LOCAL)), moved);
  assert.deepEqual(owners(port()), before);
  writer.putService(
    service("web", {
      addresses: [],
      clusterAddresses: [CLUSTER_IP],
      policy: { ...DEFAULT_POLICY, internalLocal: true },
    }),
  );
  await settled();
  assert.equal(port(), undefined);
  writer.putService(service("web", { addresses: [], clusterAddresses: [CLUSTER_IP] }));
  await settled();
  assert.equal(port(LOCAL), undefined);
  assert.deepEqual(
    owners(port()),
    before.map((owner) => (owner === "1" ? "1" : "2 < 1")),
  );
});

test("pods that aren't ready serve a service that publishes them", async () => {
  const { writer, settled, port } = createBench();
  writer.putService(web({ publishNotReady: true }));
  writer.putSlice(slice("web", ["1 down", "2"]));
  await settled();
  assert.equal(show(port()?.backends), "1 ready, 2 ready");
});

test("a service's mode wins over the node's, and both change without a new ring", async () => {
  const { writer, settled, port } = createBench();
  writer.putService(web());
  writer.putService(service("dns", { port: "53/udp", addresses: [ip("192.0.2.53")] }));
  writer.putSlice(slice("web", ["1", "2"]));
  await settled();
  const modes = (): unknown[] => [port()?.snat, port("default/dns:53/udp")?.snat];
  assert.deepEqual(modes(), [false, false]);
  const { ring, id } = port() ?? {};
  for (const [mode, wanted] of [
    ["snat", [true, true]],
    ["hybrid", [false, true]],
  ] as const) {
    writer.setDefaults({ mode, algorithm: "maglev", reject: true });
    await settled();
    assert.deepEqual(modes(), wanted);
  }
  writer.putService(web({ mode: "snat" }));
  await settled();
  assert.deepEqual(modes(), [true, true]);
  assert.equal(port()?.ring, ring);
  assert.equal(port()?.id, id);
});

test("chance chooses backends of SNAT, and a service that asks for it by DSR is told", async () => {
  const { writer, settled, port } = createBench();
  const warnings = (): string[] => [...writer.warnings()].map(({ id, text }) => `${id}: ${text}`);
  writer.putSlice(slice("web", ["1", "2"]));
  const settle = async (policy: Partial<Service["policy"]>): Promise<unknown[]> => {
    writer.putService(web(policy));
    await settled();
    return [port()?.random, warnings().length];
  };
  assert.deepEqual(await settle({}), [false, 0]);
  const { ring } = port() ?? {};
  assert.deepEqual(await settle({ mode: "snat" }), [false, 0]);
  assert.deepEqual(await settle({ mode: "snat", algorithm: "random" }), [true, 0]);
  assert.deepEqual(await settle({ algorithm: "random" }), [false, 1]);
  assert.deepEqual(warnings(), [
    "Service default/web: default/web:80/tcp is balanced by maglev: DSR keeps no flows that " +
      'chance could be remembered by; set "ciliate.io/forwarding-mode: snat", or leave the ' +
      "algorithm out",
  ]);
  writer.setDefaults({ mode: "snat", algorithm: "random", reject: true });
  assert.deepEqual(await settle({}), [true, 0]);
  assert.deepEqual(await settle({ algorithm: "maglev" }), [false, 0]);
  assert.deepEqual(await settle({ mode: "dsr" }), [false, 0]);
  assert.equal(port()?.ring, ring);
});

test("a service that has changed its mode says so until told, and after a restart", async () => {
  const first = createBench();
  first.writer.putService(web());
  first.writer.putSlice(slice("web", ["1", "2"]));
  await first.settled();
  const ways = (row = first.port()): unknown[] => [row?.snat, row?.wasOther];
  assert.deepEqual(ways(), [false, false]);
  first.writer.putService(web({ mode: "snat" }));
  await first.settled();
  assert.deepEqual(ways(), [true, true]);
  first.writer.putService(web({ mode: "dsr" }));
  await first.settled();
  assert.deepEqual(ways(), [false, true]);

  const row = first.port();
  assert.ok(row !== undefined);
  const kept = { id: row.id, frontends: scopedFrontends(row), ring: row.ring };
  for (const [snat, wasOther, wanted] of [
    [false, true, [false, true]],
    [true, false, [false, true]],
    [false, false, [false, false]],
  ] as const) {
    const services = [{ ...kept, backends: row.backends, snat, wasOther, lately: false }];
    const again = createBench({ kernel: { services, targets: [], formerOwners: [] } });
    again.writer.putService(web());
    again.writer.putSlice(slice("web", ["1", "2"]));
    await again.settled();
    assert.deepEqual(ways(again.port()), wanted);
  }

  first.writer.forgetFormerMode(row.key);
  assert.deepEqual(ways(), [false, false]);
  first.writer.putSlice(slice("web", ["1", "3"]));
  await first.settled();
  assert.deepEqual(ways(), [false, false]);
  first.writer.putService(web({ mode: "snat" }));
  await first.settled();
  assert.deepEqual(ways(), [true, true]);
});

test("a port of UDP says for the time of a flow that it has become SNAT's", async () => {
  const first = createBench({ timing: { udpMs: 60_000 } });
  const key = "default/dns:53/udp";
  const dns = (mode: "dsr" | "snat"): Service => {
    const policy = { ...DEFAULT_POLICY, mode };
    return service("dns", { port: "53/udp", addresses: [ip("192.0.2.53")], policy });
  };
  const change = async (mode: "dsr" | "snat"): Promise<boolean | undefined> => {
    first.writer.putService(dns(mode));
    await first.settled();
    return first.port(key)?.lately;
  };
  assert.equal(await change("dsr"), false);
  assert.equal(await change("snat"), true);
  await first.advance(50_000);
  assert.equal(first.port(key)?.lately, true);
  await first.advance(10_001);
  assert.equal(first.port(key)?.lately, false);
  assert.equal(await change("dsr"), false);
  assert.equal(await change("snat"), true);

  const row = first.port(key);
  assert.ok(row !== undefined);
  const { id, ring, backends, snat, wasOther, lately } = row;
  const way = { snat, wasOther, lately };
  const services = [{ id, frontends: scopedFrontends(row), ring, backends, ...way }];
  const kernel = { services, targets: [], formerOwners: [] };
  const again = createBench({ kernel, timing: { udpMs: 60_000 } });
  again.writer.putService(dns("snat"));
  await again.settled();
  assert.equal(again.port(key)?.lately, true);
  await again.advance(60_001);
  assert.equal(again.port(key)?.lately, false);
});

test("node ports and cluster IPs belong to one service as other frontends do", async () => {
  const { writer, settled } = createBench();
  writer.putService(web());
  await settled();
  const other = web(
    {},
    { key: "default/other", name: "other", addresses: [], clusterAddresses: [] },
  );
  writer.putService(other);
  writer.putService(service("third", { addresses: [CLUSTER_IP] }));
  await settled();
  assert.deepEqual(
    [...writer.refusals()].map(({ id, text }) => `${id}: ${text}`),
    [
      "Service default/other: node port 30080/tcp is Service default/web's: take it out of one of them",
      "Service default/third: 10.96.0.1:80/tcp is Service default/web's: take it out of one of them",
    ],
  );
  writer.deleteService("default/web");
  await settled();
  assert.deepEqual([...writer.refusals()], []);
  assert.equal(found(writer.ports.get("default/other:80/tcp")), ":30080");
});

test("a node port out of range is left out with a warning", async () => {
  const { writer, settled, port } = createBench({ nodePorts: { first: 31_000, last: 32_000 } });
  writer.putService(web());
  await settled();
  assert.equal(found(port()), "192.0.2.10:80 in:10.96.0.1:80");
  assert.deepEqual(
    [...writer.warnings()].map(({ id, field, text }) => `${id} ${field}: ${text}`),
    [
      "Service default/web spec.ports[0].nodePort: node port 30080 is left out: served are 31000-32000 (nodePort.range)",
    ],
  );
});

test("after a restart, ways in from inside and outside find the rows that they had", async () => {
  const first = createBench();
  first.writer.putService(service("a", { addresses: [ip("192.0.2.99")] }));
  first.writer.putService(web({ externalLocal: true }));
  first.writer.putSlice(slice("web", ["1@n1", "2@n2"]));
  await first.settled();
  const rows = [first.port(), first.port(LOCAL)].filter((row) => row !== undefined);
  assert.equal(rows.length, 2);
  const services = rows.map((row) => ({
    id: row.id,
    frontends: scopedFrontends(row),
    ring: row.ring,
    backends: row.backends,
    snat: row.snat,
    wasOther: row.wasOther,
    lately: row.lately,
  }));
  const again = createBench({ kernel: { services, targets: [], formerOwners: [] } });
  again.writer.putService(web({ externalLocal: true }));
  again.writer.putSlice(slice("web", ["1@n1", "2@n2"]));
  await again.settled();
  assert.deepEqual(
    [again.port()?.id, again.port(LOCAL)?.id],
    rows.map(({ id }) => id),
  );
});
