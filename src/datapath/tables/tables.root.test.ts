// SPDX-License-Identifier: Apache-2.0
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { ANY_IPV4, type Ipv4, ipv4FromNumber, parseIpv4 } from "../../net/address.ts";
import { Backend, Frontend, FrontendKind, NodeAddress, Service } from "../gen/abi.ts";
import { createHotMaps } from "../testdata/hot-maps.ts";
import { bucketOf, type FrontendKey, highWord, lowWord } from "./hash.ts";
import type { NexthopSource, ServiceImage } from "./images.ts";
import { type HotTables, openTables } from "./tables.ts";

const SMALL = { buckets: 16, services: 12, rings: 64, backends: 32 };
const VIP = parseIpv4("192.0.2.1");

function key(port: number, address: Ipv4 = VIP): FrontendKey {
  return { address, port, protocol: 6, kind: FrontendKind.service };
}

/** A ring of 41 slots over so many backends. */
function image(count: number, changes: Partial<ServiceImage> = {}): ServiceImage {
  return {
    flags: 0,
    affinityAge: 0,
    ring: count === 0 ? new Uint16Array(0) : Uint16Array.from({ length: 41 }, (_, i) => i % count),
    backends: Array.from({ length: count }, (_, index) => ({
      address: ipv4FromNumber(0x0a000001 + index),
      port: 8080,
      local: index === 0,
      counter: index + 1,
    })),
    ...changes,
  };
}

class FakeNexthops implements NexthopSource {
  readonly wanted = new Map<Ipv4, number>();
  reroute: (rows: ReadonlyMap<Ipv4, number>) => void = () => undefined;

  follow(rerouted: (rows: ReadonlyMap<Ipv4, number>) => void): void {
    this.reroute = rerouted;
  }

  acquire(address: Ipv4): number {
    this.wanted.set(address, (this.wanted.get(address) ?? 0) + 1);
    return (address & 0xff) + 1;
  }

  release(address: Ipv4): void {
    const count = (this.wanted.get(address) ?? 0) - 1;
    if (count === 0) this.wanted.delete(address);
    else this.wanted.set(address, count);
  }
}

interface Fixture extends AsyncDisposable {
  readonly maps: ReturnType<typeof createHotMaps>;
  readonly nexthops: FakeNexthops;
  tables: HotTables;
  nowTicks: number;
  restart(): Promise<void>;
}

async function open(rows = SMALL, grace?: () => Promise<void>): Promise<Fixture> {
  const maps = createHotMaps(rows);
  const nexthops = new FakeNexthops();
  const start = (): Promise<HotTables> =>
    openTables({ maps, nexthops, now: () => fixture.nowTicks, ...(grace && { grace }) });
  const fixture: Fixture = {
    maps,
    nexthops,
    tables: undefined as unknown as HotTables,
    nowTicks: 1000,
    async restart() {
      fixture.tables[Symbol.dispose]();
      nexthops.wanted.clear();
      fixture.tables = await start();
    },
    async [Symbol.asyncDispose]() {
      await fixture.tables.settled();
      fixture.tables[Symbol.dispose]();
      maps[Symbol.dispose]();
    },
  };
  fixture.tables = await start();
  return fixture;
}

/** A lookup as the packet path does it, through bpf(2). */
function find({ maps }: Fixture, wanted: FrontendKey): { row: number; id: number } | undefined {
  const [low, high] = [lowWord(wanted), highWord(wanted)];
  const mask = maps.frontends.info.maxEntries - 1;
  const at = (map: (typeof maps)["frontends"], index: number): DataView => {
    const bytes = map.lookup(new Uint8Array(Uint32Array.of(index).buffer));
    assert(bytes);
    return new DataView(bytes.buffer);
  };
  for (let probe = 0; probe < 4; probe++) {
    const bucket = at(maps.frontends, (bucketOf(low, high, mask) + probe) & mask);
    for (let slot = 0; slot < 4; slot++) {
      const offset = slot * Frontend.size;
      if (bucket.getUint32(offset, true) !== low) continue;
      if (bucket.getUint32(offset + 4, true) !== high) continue;
      const row = Frontend.decode(bucket, offset).service;
      return { row, id: Service.decode(at(maps.services, row), 0).id };
    }
    if (Frontend.decode(bucket, 3 * Frontend.size).spill === 0) return undefined;
  }
  return undefined;
}

async function put(tables: HotTables, id: number, value: ServiceImage) {
  return await tables.images.apply([{ key: id, value }]);
}

async function lead(tables: HotTables, frontend: FrontendKey, id: number) {
  return await tables.frontends.apply([{ key: frontend, value: id }]);
}

describe("hot tables", () => {
  test("a frontend leads to its service, and a changed image takes its place", async () => {
    await using f = await open();
    await put(f.tables, 7, image(2));
    await lead(f.tables, key(80), 7);
    const before = find(f, key(80));
    assert.equal(before?.id, 7);
    await put(f.tables, 7, image(3));
    const after = find(f, key(80));
    assert.equal(after?.id, 7);
    assert.notEqual(after?.row, before?.row);
    const [found] = f.tables.found();
    assert.deepEqual(found?.image.backends, image(3).backends);
    assert.deepEqual(found?.image.ring, image(3).ring);
    assert.deepEqual(found?.frontends, [key(80)]);
    assert.equal(find(f, key(81)), undefined);
  });

  test("the ring's time changes only when some slot has another pod", async () => {
    await using f = await open();
    const changed = (): number | undefined => [...f.tables.found()][0]?.changed;
    await put(f.tables, 7, image(2));
    f.nowTicks = 2000;
    await put(f.tables, 7, image(2, { flags: 2 }));
    assert.equal(changed(), 1000);
    const others = image(2).backends.map((backend) => ({ ...backend, port: 9090 }));
    await put(f.tables, 7, image(2, { backends: others }));
    assert.equal(changed(), 1000);
    await put(f.tables, 7, image(2, { backends: others.toReversed() }));
    assert.equal(changed(), 2000);
  });

  test("what is there already is not written again", async () => {
    await using f = await open();
    await put(f.tables, 7, image(2));
    await lead(f.tables, key(80), 7);
    const before = find(f, key(80));
    await put(f.tables, 7, image(2));
    assert.deepEqual(find(f, key(80)), before);
    await put(f.tables, 7, image(2, { flags: 1 }));
    await f.tables.settled();
    const used = f.tables.fill().map(({ used: rows }) => rows);
    assert.deepEqual(used, [1, 1, 2, 2], "ring and backends are shared, not copied");
  });

  test("a restart keeps ids and places, and finds what leaked", async () => {
    await using f = await open();
    await put(f.tables, 7, image(2));
    await put(f.tables, 9, image(5));
    await lead(f.tables, key(80), 7);
    await lead(f.tables, key(443), 7);
    await lead(f.tables, key(53), 9);
    await put(f.tables, 11, image(4)); // no frontend leads there
    const before = [80, 443, 53].map((port) => find(f, key(port)));
    await f.restart();
    assert.deepEqual([...f.tables.images.keys()].toSorted(), [7, 9]);
    await put(f.tables, 7, image(2));
    await put(f.tables, 9, image(5));
    assert.deepEqual(
      [80, 443, 53].map((port) => find(f, key(port))),
      before,
    );
    assert.deepEqual(
      f.tables.fill().map(({ used }) => used),
      [3, 2, 4, 7],
    );
    assert.deepEqual([...f.nexthops.wanted.keys()].length, 4);
    f.tables.frontends.remove([{ key: key(443) }]);
    await put(f.tables, 7, image(3));
    assert.equal(find(f, key(443)), undefined);
    assert.equal(find(f, key(80))?.id, 7);
  });

  test("a crash between two frontends of a service is healed", async () => {
    await using f = await open();
    await put(f.tables, 7, image(2));
    await lead(f.tables, key(80), 7);
    await lead(f.tables, key(443), 7);
    const old = find(f, key(443))?.row ?? 0;
    await put(f.tables, 7, image(3));
    using mapping = f.maps.frontends.mmap();
    const words = new Uint32Array(mapping.buffer);
    const fresh = find(f, key(80))?.row;
    const slot = words.findIndex((word, at) => at % 4 === 2 && word === fresh);
    words[slot] = old;
    await f.restart();
    const rows = (): number[] => [80, 443].map((port) => find(f, key(port))?.row ?? 0);
    assert.notEqual(rows()[0], rows()[1]);
    await put(f.tables, 7, image(3));
    assert.equal(rows()[0], rows()[1]);
    await f.tables.settled();
    assert.deepEqual(
      f.tables.fill().map(({ used }) => used),
      [2, 1, 2, 3],
    );
  });

  test("a full table refuses what has no room in words, and harms nothing", async () => {
    await using f = await open();
    for (let id = 1; id <= 3; id++) {
      assert.deepEqual(await put(f.tables, id, image(8)), []);
      await lead(f.tables, key(id), id);
    }
    const [long] = await put(f.tables, 4, image(2, { ring: new Uint16Array(3000) }));
    assert.match(
      long?.error.message ?? "",
      /table rings for 94 rows in a row: 6 of its 64 are taken; raise tables.ringEntries/,
    );
    const [refusal] = await put(f.tables, 4, image(20));
    assert.match(
      refusal?.error.message ?? "",
      /table backends for 20 rows in a row: 24 of its 32 are taken; raise tables.backends/,
    );
    assert.deepEqual(
      f.tables.fill().map(({ used }) => used),
      [3, 3, 6, 24],
    );
    assert.deepEqual(
      [1, 2, 3].map((id) => find(f, key(id))?.id),
      [1, 2, 3],
    );
    f.tables.frontends.remove([{ key: key(3) }]);
    f.tables.images.remove([{ key: 3 }]);
    assert.deepEqual(await put(f.tables, 4, image(16)), [], "after a grace period there is room");
  });

  test("frontends spill into the next buckets and are found there until they go", async () => {
    await using f = await open({ ...SMALL, buckets: 4 });
    await put(f.tables, 7, image(1));
    const keys = Array.from({ length: 16 }, (_, index) => key(index + 1));
    for (const one of keys) assert.deepEqual(await lead(f.tables, one, 7), []);
    for (const one of keys) assert.equal(find(f, one)?.id, 7);
    const [refusal] = await lead(f.tables, key(17), 7);
    assert.match(
      refusal?.error.message ?? "",
      /16 of its 16 slots are taken; raise tables.services/,
    );
    await f.restart();
    for (const one of keys) assert.equal(find(f, one)?.id, 7);
    for (const one of keys.slice(0, 8)) f.tables.frontends.remove([{ key: one }]);
    for (const one of keys.slice(8)) assert.equal(find(f, one)?.id, 7);
    for (const one of keys.slice(8)) f.tables.frontends.remove([{ key: one }]);
    using mapping = f.maps.frontends.mmap({ readOnly: true });
    const spills = new Uint32Array(mapping.buffer).filter((word, at) => at % 4 === 3 && word !== 0);
    assert.equal(spills.length, 0);
  });

  test("an address leads nowhere and keeps its key", async () => {
    await using f = await open();
    const address = { address: VIP, port: 0, protocol: 0, kind: FrontendKind.address };
    await lead(f.tables, address, 0);
    assert.deepEqual(find(f, address), { row: 0, id: 0 });
    await f.restart();
    assert.deepEqual([...f.tables.frontends.keys()], [address]);
  });

  test("an address of a node says whose it is, and no service's row is read there", async () => {
    await using f = await open();
    await put(f.tables, 1, image(2));
    const node = { address: VIP, port: 0, protocol: 0, kind: FrontendKind.node };
    await lead(f.tables, node, NodeAddress.other);
    assert.equal(find(f, node)?.row, NodeAddress.other);
    await lead(f.tables, node, NodeAddress.own);
    assert.equal(find(f, node)?.row, NodeAddress.own);
    await f.restart();
    assert.deepEqual([...f.tables.found()], []);
    await put(f.tables, 1, image(3));
    assert.equal(find(f, node)?.row, NodeAddress.own);
  });

  test("a service keeps its row by whatever kind of frontend leads to it", async () => {
    await using f = await open();
    const node = { ...key(30_080), address: ANY_IPV4, kind: FrontendKind.nodePort };
    const inside = { ...key(80), kind: FrontendKind.internal };
    await put(f.tables, 7, image(2));
    await put(f.tables, 8, image(3, { affinityAge: 1234 }));
    await lead(f.tables, node, 7);
    await lead(f.tables, inside, 8);
    await f.restart();
    assert.deepEqual(
      [...f.tables.found()].map(({ id, frontends, image: { affinityAge } }) => [
        id,
        frontends,
        affinityAge,
      ]),
      [
        [7, [node], 0],
        [8, [inside], 1234],
      ],
    );
    await put(f.tables, 7, image(4));
    assert.equal(find(f, node)?.id, 7);
    const { row } = find(f, inside) ?? {};
    await put(f.tables, 8, image(3, { affinityAge: 99 }));
    assert.notEqual(find(f, inside)?.row, row);
  });

  test("a frontend of a removed image has no backend", async () => {
    await using f = await open();
    await put(f.tables, 7, image(2));
    await lead(f.tables, key(80), 7);
    f.tables.images.remove([{ key: 7 }]);
    assert.deepEqual(find(f, key(80)), { row: 0, id: 0 });
    assert.equal(f.nexthops.wanted.size, 0);
  });

  test("backends get another way in place", async () => {
    await using f = await open();
    await put(f.tables, 7, image(3));
    await lead(f.tables, key(80), 7);
    const row = find(f, key(80))?.row ?? 0;
    using services = f.maps.services.mmap({ readOnly: true });
    using backends = f.maps.backends.mmap({ readOnly: true });
    const { backends: first } = Service.decode(new DataView(services.buffer), row * Service.size);
    const nexthops = (): number[] =>
      [0, 1, 2].map(
        (index) =>
          Backend.decode(new DataView(backends.buffer), (first + index) * Backend.size).nexthop,
      );
    assert.deepEqual(nexthops(), [0, 3, 4]);
    f.nexthops.reroute(new Map([[ipv4FromNumber(0x0a000002), 300]]));
    assert.deepEqual(nexthops(), [0, 300, 4]);
    assert.equal(find(f, key(80))?.row, row);
  });

  test("nothing is used again before the grace period has passed", async () => {
    let pass = (): void => undefined;
    const graces: (() => void)[] = [];
    let held = false;
    const grace = (): Promise<void> =>
      held ? new Promise((resolve) => graces.push(resolve)) : Promise.resolve();
    await using f = await open({ ...SMALL, services: 3 }, grace);
    held = true;
    pass = () => {
      held = false;
      for (const resolve of graces.splice(0)) resolve();
    };
    await put(f.tables, 7, image(2));
    await put(f.tables, 7, image(3));
    let done = false;
    const third = put(f.tables, 7, image(4)).then((refusals) => {
      done = true;
      return refusals;
    });
    await new Promise((resolve) => setTimeout(resolve, 20));
    assert.equal(done, false, "both rows are taken or may still be read");
    pass();
    assert.deepEqual(await third, []);
  });

  test("10 000 services with 10 backends are written without waiting", async () => {
    const rows = { buckets: 16_384, services: 11_000, rings: 330_000, backends: 110_000 };
    let graces = 0;
    await using f = await open(rows, async () => {
      graces++;
    });
    const before = graces;
    const ring = Uint16Array.from({ length: 1021 }, (_, slot) => slot % 10);
    const batch = Array.from({ length: 10_000 }, (_, index) => ({
      key: index + 1,
      value: {
        flags: 0,
        affinityAge: 0,
        ring,
        backends: Array.from({ length: 10 }, (__, backend) => ({
          address: ipv4FromNumber(0x0a000000 + index * 10 + backend),
          port: 8080,
          local: false,
          counter: index * 10 + backend + 1,
        })),
      },
    }));
    assert.deepEqual(f.tables.images.apply(batch), []);
    const frontends = batch.map(({ key: id }) => ({
      key: key((id % 60_000) + 1, ipv4FromNumber(0xc0000000 + id)),
      value: id,
    }));
    assert.deepEqual(f.tables.frontends.apply(frontends), []);
    assert.equal(graces, before);
    const found = [...f.tables.found()];
    assert.equal(found.length, 10_000);
    assert.ok(
      found.every(({ frontends, image }) => frontends.length + image.backends.length === 11),
    );
  });
});
