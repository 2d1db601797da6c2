// SPDX-License-Identifier: Apache-2.0
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import test, { type TestContext } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { formatAddress } from "../../net/address.ts";
import { parseMac } from "../../net/mac.ts";
import { formatPrefix, parseInterfaceAddress, parsePrefix } from "../../net/prefix.ts";
import { createNamespace, deleteNamespace } from "../netns.ts";
import { addAddress, listAddresses } from "./address.ts";
import { createVeth, deleteLink, getLink, setLink } from "./link.ts";
import { setNeighbour } from "./neighbour.ts";
import { addRoute, deleteRoute, listRoutes } from "./route.ts";
import { type Netlink, openNetlink } from "./socket.ts";
import { type NetworkEvent, type WatchOptions, watchNetwork } from "./watch.ts";

let counter = 0;

function scratch(t: TestContext): { path: string; netlink: Netlink } {
  const name = `ciliate-watch-${process.pid}-${counter++}`;
  const path = createNamespace(name);
  t.after(() => deleteNamespace(name));
  const netlink = openNetlink({ namespace: path });
  t.after(() => netlink.close());
  return { path, netlink };
}

function watch(t: TestContext, options: WatchOptions): NetworkEvent[] {
  const events: NetworkEvent[] = [];
  const watcher = watchNetwork((event) => events.push(event), options);
  t.after(() => watcher.close());
  return events;
}

async function until(condition: () => boolean, what: string): Promise<void> {
  const end = performance.now() + 5000;
  while (!condition()) {
    assert.ok(performance.now() < end, `after 5 s still not: ${what}`);
    // Not a timer: a test has none.
    await new Promise(setImmediate);
  }
}

function describe(event: NetworkEvent): string {
  switch (event.kind) {
    case "link":
      return `${event.change} link ${event.link.name}`;
    case "address":
      return `${event.change} address ${formatPrefix(event.address.address)}`;
    case "route": {
      const { destination, table } = event.route;
      return `${event.change} route ${formatPrefix(destination)} in ${table}`;
    }
    case "neighbour": {
      const { address, state } = event.neighbour;
      return `${event.change} neighbour ${formatAddress(address)} ${state}`;
    }
    case "resync":
      return "resync";
  }
}

test("a watch begins with a resync and then tells of every change in order", async (t) => {
  const { path, netlink } = scratch(t);
  const events = watch(t, { namespace: path });
  const told = () => new Set(events.map(describe));
  await until(() => told().has("resync"), "resync");
  netlink.run(createVeth({ name: "a" }, { name: "b" }));
  const { index } = getLink(netlink, "a");
  netlink.run(setLink(index, { up: true }));
  const address = parseInterfaceAddress("10.9.0.1/24");
  const destination = parsePrefix("10.99.0.0/16");
  netlink.runAll([
    addAddress({ device: index, address }),
    addRoute({ destination, device: index, table: 77 }),
    deleteRoute({ destination, device: index, table: 77 }),
    setNeighbour(index, address.address, parseMac("02:00:00:00:00:01")),
    deleteLink(index),
  ]);
  await until(() => told().has("deleted link a") && told().has("deleted link b"), "links gone");
  const wanted = [
    "resync",
    "set link a",
    "set address 10.9.0.1/24",
    "set route 10.99.0.0/16 in 77",
    "deleted route 10.99.0.0/16 in 77",
    "set neighbour 10.9.0.1 permanent",
    "deleted link a",
  ];
  const told1 = events.map(describe);
  const places = wanted.map((text) => told1.indexOf(text));
  assert.ok(
    !places.includes(-1),
    `${wanted[places.indexOf(-1)]} is missing in ${told1.join("; ")}`,
  );
  assert.deepEqual(
    places,
    places.toSorted((a, b) => a - b),
  );
});

test("a watch hears only the kinds that it asked for", async (t) => {
  const { path, netlink } = scratch(t);
  const events = watch(t, { namespace: path, kinds: ["address"] });
  const { index } = getLink(netlink, "lo");
  netlink.run(setLink(index, { up: true }));
  netlink.run(addAddress({ device: index, address: parseInterfaceAddress("10.9.0.1/32") }));
  await until(() => events.some(({ kind }) => kind === "address"), "an address");
  assert.deepEqual(new Set(events.map(({ kind }) => kind)), new Set(["resync", "address"]));
});

test("after more changes than the queue holds comes a resync, and then the truth", async (t) => {
  const { path, netlink } = scratch(t);
  netlink.run(setLink(getLink(netlink, "lo").index, { up: true }));
  const seen = new Set<string>();
  let resyncs = 0;
  const watcher = watchNetwork(
    (event) => {
      if (event.kind === "resync") {
        resyncs++;
        seen.clear();
        for (const route of listRoutes(netlink, 9)) seen.add(formatPrefix(route.destination));
      } else if (event.kind === "route" && event.route.table === 9) {
        const key = formatPrefix(event.route.destination);
        if (event.change === "set") seen.add(key);
        else seen.delete(key);
      }
    },
    { namespace: path, kinds: ["route"] },
  );
  t.after(() => watcher.close());
  const { index } = getLink(netlink, "lo");
  const routes = Array.from({ length: 12_000 }, (_, n) => ({
    destination: parsePrefix(`10.${n >> 8}.${n & 255}.0/24`),
    device: index,
    table: 9,
  }));
  await until(() => resyncs === 1, "first resync");
  // All in one turn of the event loop, so that the watch can't keep up.
  netlink.runAll(routes.map(addRoute));
  netlink.runAll(routes.slice(0, 6000).map(deleteRoute));
  await until(() => resyncs === 2, "second resync");
  await until(() => seen.size === 6000, `6000 routes, not ${seen.size}`);
  const truth = new Set(listRoutes(netlink, 9).map((route) => formatPrefix(route.destination)));
  assert.deepEqual(seen, truth);
});

test("a change is heard without polling, and a closed watch hears nothing", async (t) => {
  // No timer fires from here on.
  t.mock.timers.enable({ apis: ["setInterval", "setTimeout"] });
  const { path, netlink } = scratch(t);
  const { index } = getLink(netlink, "lo");
  netlink.run(setLink(index, { up: true }));
  let heard = 0;
  const watcher = watchNetwork(() => heard++, { namespace: path, kinds: ["address"] });
  await until(() => heard === 1, "resync");
  for (let n = 1; n <= 20; n++) {
    netlink.run(addAddress({ device: index, address: parseInterfaceAddress(`10.9.0.${n}/32`) }));
    await until(() => heard === n + 1, `event ${n}`);
  }
  t.mock.timers.reset();
  watcher.close();
  netlink.run(addAddress({ device: index, address: parseInterfaceAddress("10.9.1.1/32") }));
  await delay(20);
  assert.equal(heard, 21);
  const owned = listAddresses(netlink).filter(({ address }) =>
    formatPrefix(address).startsWith("10."),
  );
  assert.equal(owned.length, 21);
});

test("a watch keeps no process alive, and a change after its end kills none", () => {
  const code = `
    import { watchNetwork } from "./watch.ts";
    const watch = watchNetwork(() => {}, {});
    process.on("exit", () => { watch.close(); process.kill(process.pid, "SIGURG"); });
  `;
  execFileSync(process.execPath, ["--input-type=module", "-e", code], {
    cwd: import.meta.dirname,
    timeout: 30_000,
  });
});
