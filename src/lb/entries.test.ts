// SPDX-License-Identifier: Apache-2.0
import assert from "node:assert/strict";
import { test } from "node:test";
import { formatIpv4 } from "../net/address.ts";
import { type ServicePortEntry, servicePortEntries } from "./entries.ts";
import { eachSlot } from "./former-owners.ts";
import { createBench, ip, service, slice } from "./testing.ts";

/** An entry on one line. */
function show(entry: ServicePortEntry): string {
  switch (entry.target) {
    case "targets": {
      const { key, value } = entry;
      const { port, flags, counter } = value;
      return `targets ${key.service} ${formatIpv4(key.pod)} → :${port} flags ${flags} #${counter}`;
    }
    case "formerOwners":
      return `formerOwners ${entry.key} → ${[...eachSlot(entry.value)].length > 0 ? "slots" : ""}`;
    case "images": {
      const { flags, ring, backends } = entry.value;
      const list = backends.map(
        ({ address, port, local, counter }) =>
          `${formatIpv4(address)}:${port}${local ? " local" : ""} #${counter}`,
      );
      return `images ${entry.key} → flags ${flags}, ${ring.length} slots [${list.join(", ")}]`;
    }
    case "frontends": {
      const { address, port, protocol, kind } = entry.key;
      return `frontends ${formatIpv4(address)}:${port}/${protocol} kind ${kind} → ${entry.value}`;
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
  assert.deepEqual(servicePortEntries({ encapsulate: "all" }, row).map(show), [
    "targets 1 10.0.0.1 → :8080 flags 1 #1",
    "targets 1 10.0.0.3 → :8080 flags 0 #3",
    "formerOwners 1 → slots",
    "images 1 → flags 2, 1021 slots [10.0.0.1:8080 local #1, 10.0.0.2:8080 #2]",
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
  assert.deepEqual(servicePortEntries({ encapsulate: "first" }, row).map(show), [
    "images 1 → flags 1, 0 slots []",
    "frontends 192.0.2.10:0/0 kind 2 → 0",
    "frontends 192.0.2.10:53/17 kind 1 → 1",
  ]);
});
