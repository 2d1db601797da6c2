// SPDX-License-Identifier: Apache-2.0
import assert from "node:assert/strict";
import { test } from "node:test";
import { formatAddress, formatAddressPort } from "../net/address.ts";
import { parsePrefix4 } from "../net/prefix.ts";
import { type ServicePortEntry, servicePortEntries } from "./entries.ts";
import { eachSlot } from "./former-owners.ts";
import { DEFAULT_POLICY } from "./rows.ts";
import { createBench, ip, service, slice } from "./testing.ts";

const jiffies = (spanMs: number): number => spanMs / 4;

/** An entry on one line. */
function show(entry: ServicePortEntry): string {
  switch (entry.target) {
    case "targets":
    case "targets6": {
      const { key, value } = entry;
      const pod = `${formatAddress(key.pod)} → :${value.port}`;
      return `${entry.target} ${key.service} ${pod} flags ${value.flags} #${value.counter}`;
    }
    case "formerOwners":
    case "formerOwners6": {
      const some = [...eachSlot(entry.value)].length > 0 ? "slots" : "";
      return `${entry.target} ${entry.key} → ${some}`;
    }
    case "sourceRanges":
    case "sourceRanges6": {
      const { prefixLength, service, address } = entry.key;
      return `${entry.target} ${service} ${formatAddress(address)}/${prefixLength}`;
    }
    case "images": {
      const { flags, affinityAge, ring, backends } = entry.value;
      const list = backends.map(
        ({ address, port, local, counter }) =>
          `${formatAddressPort(address, port)}${local ? " local" : ""} #${counter}`,
      );
      const age = affinityAge === 0 ? "" : `, clients kept for ${affinityAge}`;
      const slots = `${ring.length} slots [${list.join(", ")}]`;
      return `images ${entry.key} → flags ${flags}${age}, ${slots}`;
    }
    case "frontends": {
      const { address, port, protocol, kind } = entry.key;
      const where = `${formatAddressPort(address, port)}/${protocol}`;
      return `frontends ${where} kind ${kind} → ${entry.value}`;
    }
  }
}

test("a service port's entries, who is found first written last", async () => {
  const { writer, settled, port } = createBench();
  writer.putService(service("web", { addresses: [ip("192.0.2.10"), ip("192.0.2.11")] }));
  writer.putSlice(slice("web", ["1@n1", "2@n2", "3@n1", "4@n2"]));
  await settled();
  writer.putSlice(slice("web", ["1@n1", "2@n2", "3 down@n1", "4 terminating@n2"]));
  await settled();
  const row = port();
  assert.ok(row !== undefined);
  assert.deepEqual(servicePortEntries({ encapsulate: "all", jiffies }, row).map(show), [
    "targets 1 10.0.0.1 → :8080 flags 1 #1",
    "targets 1 10.0.0.3 → :8080 flags 0 #3",
    "formerOwners 1 → slots",
    "images 1 → flags 66, 1021 slots [10.0.0.1:8080 local #1, 10.0.0.2:8080 #2]",
    "frontends 192.0.2.10:0/0 kind 2 → 0",
    "frontends 192.0.2.10:80/6 kind 1 → 1",
    "frontends 192.0.2.11:0/0 kind 2 → 0",
    "frontends 192.0.2.11:80/6 kind 1 → 1",
  ]);
});

test("a service without backends has its frontends, and an image without slots", async () => {
  const { writer, settled, port } = createBench();
  writer.putService(service("dns", { port: "53/udp" }));
  await settled();
  const row = port("default/dns:53/udp");
  assert.ok(row !== undefined);
  assert.deepEqual(servicePortEntries({ encapsulate: "first", jiffies }, row).map(show), [
    "images 1 → flags 65, 0 slots []",
    "frontends 192.0.2.10:0/0 kind 2 → 0",
    "frontends 192.0.2.10:53/17 kind 1 → 1",
  ]);
});

test("a cluster IP is found from inside only, a node port at any node", async () => {
  const { writer, settled, port } = createBench();
  const ports = [{ name: "", port: 80, protocol: "tcp", nodePort: 30080 }] as const;
  writer.putService(service("web", { addresses: [], clusterAddresses: [ip("10.96.0.1")], ports }));
  await settled();
  const row = port();
  assert.ok(row !== undefined);
  assert.deepEqual(servicePortEntries({ encapsulate: "all", jiffies }, row).map(show), [
    "images 1 → flags 64, 0 slots []",
    "frontends 10.96.0.1:80/6 kind 4 → 1",
    "frontends 0.0.0.0:30080/6 kind 3 → 1",
  ]);
});

test("a row for pods of this node has the outside, and the other one the inside", async () => {
  const { writer, settled, port } = createBench();
  const policy = { ...DEFAULT_POLICY, externalLocal: true };
  const ports = [{ name: "", port: 80, protocol: "tcp", nodePort: 30080 }] as const;
  writer.putService(service("web", { clusterAddresses: [ip("10.96.0.1")], ports, policy }));
  await settled();
  const frontends = (key: string): string[] => {
    const row = port(key);
    assert.ok(row !== undefined);
    return servicePortEntries({ encapsulate: "all", jiffies }, row).map(show).slice(1);
  };
  assert.deepEqual(frontends("default/web:80/tcp/local"), [
    "frontends 192.0.2.10:0/0 kind 2 → 0",
    "frontends 192.0.2.10:80/6 kind 1 → 2",
    "frontends 0.0.0.0:30080/6 kind 3 → 2",
  ]);
  assert.deepEqual(frontends("default/web:80/tcp"), [
    "frontends 192.0.2.10:80/6 kind 4 → 1",
    "frontends 10.96.0.1:80/6 kind 4 → 1",
    "frontends 0.0.0.0:30080/6 kind 4 → 1",
  ]);
});

test("what a service asks for is in its flags, and ranges come before them", async () => {
  const { writer, settled, port } = createBench();
  const policy = {
    ...DEFAULT_POLICY,
    affinityMs: 4000,
    sourceRanges: [parsePrefix4("198.51.100.0/24"), parsePrefix4("0.0.0.0/0")],
    sourceDeny: true,
    mode: "hybrid",
    algorithm: "random",
  } as const;
  writer.putService(service("web", { policy }));
  writer.putService(service("dns", { policy, addresses: [ip("192.0.2.11")], port: "53/udp" }));
  await settled();
  const entries = (key: string): string[] => {
    const row = port(key);
    assert.ok(row !== undefined);
    return servicePortEntries({ encapsulate: "all", jiffies }, row).map(show).slice(0, 3);
  };
  assert.deepEqual(entries("default/web:80/tcp"), [
    "sourceRanges 1 198.51.100.0/56",
    "sourceRanges 1 0.0.0.0/32",
    "images 1 → flags 120, clients kept for 1000, 0 slots []",
  ]);
  assert.deepEqual(
    entries("default/dns:53/udp")[2],
    "images 2 → flags 636, clients kept for 1000, 0 slots []",
  );
  writer.setDefaults({ mode: "dsr", algorithm: "maglev", reject: false });
  await settled();
  assert.deepEqual(
    entries("default/web:80/tcp")[2],
    "images 1 → flags 56, clients kept for 1000, 0 slots []",
  );
});

test("ranges are asked of clients outside only", async () => {
  const { writer, settled, port } = createBench();
  const policy = { ...DEFAULT_POLICY, sourceRanges: [parsePrefix4("198.51.100.0/24")] };
  writer.putService(service("web", { addresses: [], clusterAddresses: [ip("10.96.0.1")], policy }));
  await settled();
  const row = port();
  assert.ok(row !== undefined);
  assert.deepEqual(servicePortEntries({ encapsulate: "all", jiffies }, row).map(show), [
    "images 1 → flags 64, 0 slots []",
    "frontends 10.96.0.1:80/6 kind 4 → 1",
  ]);
});
