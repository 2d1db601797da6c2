// SPDX-License-Identifier: Apache-2.0
import assert from "node:assert/strict";
import { test } from "node:test";
import {
  type Address,
  addressToBytes,
  formatAddress,
  parseAddress,
  parseIpv4,
} from "../../net/address.ts";
import { Backend6, Frontend6, FrontendKind, Service } from "../gen/abi.ts";
import { createHotMaps } from "../testdata/hot-maps.ts";
import { bucketOf6, type FrontendKey } from "./hash.ts";
import type { NexthopSource, ServiceImage } from "./images.ts";
import { openTables } from "./tables.ts";

const ROWS = { buckets: 16, services: 12, rings: 64, backends: 32 };
const key = (address: string, port = 80): FrontendKey => ({
  address: parseAddress(address),
  port,
  protocol: 6,
  kind: FrontendKind.service,
});
const FOUR = key("192.0.2.1");
const SIX = key("2001:db8::1");

function image(...pods: readonly string[]): ServiceImage {
  return {
    flags: 0,
    affinityAge: 0,
    ring: Uint16Array.from({ length: 41 }, (_, slot) => slot % pods.length),
    backends: pods.map((pod, index) => ({
      address: parseAddress(pod),
      port: 8080,
      local: index === 0,
      counter: index + 1,
    })),
  };
}

/** Gives every address the same row. */
class FixedNexthops implements NexthopSource {
  readonly wanted = new Set<string>();
  readonly #row: number;
  reroute: (rows: ReadonlyMap<Address, number>) => void = () => undefined;

  constructor(row: number) {
    this.#row = row;
  }

  follow(rerouted: (rows: ReadonlyMap<Address, number>) => void): void {
    this.reroute = rerouted;
  }

  acquire(address: Address): number {
    this.wanted.add(formatAddress(address));
    return this.#row;
  }

  release(address: Address): void {
    this.wanted.delete(formatAddress(address));
  }
}

function setUp() {
  const maps = createHotMaps(ROWS, true);
  const nexthops = new FixedNexthops(4);
  const wideNexthops = new FixedNexthops(6);
  return {
    maps,
    nexthops,
    wideNexthops,
    open: () => openTables({ maps, nexthops, wideNexthops, now: () => 1000 }),
    [Symbol.dispose]: () => maps[Symbol.dispose](),
  };
}

/** A lookup as the packet path does it, through bpf(2): the service's row and its backends. */
function find6({ maps }: ReturnType<typeof setUp>, wanted: FrontendKey) {
  const at = (map: typeof maps.frontends | undefined, index: number): DataView => {
    const bytes = map?.lookup(new Uint8Array(Uint32Array.of(index).buffer));
    assert.ok(bytes);
    return new DataView(bytes.buffer);
  };
  const bucket = at(maps.wide?.frontends, bucketOf6(wanted, ROWS.buckets - 1));
  for (let slot = 0; slot < 4; slot++) {
    const offset = slot * Frontend6.size;
    const bytes = Buffer.from(bucket.buffer, offset, 16);
    if (!bytes.equals(addressToBytes(wanted.address))) continue;
    const { service: row, kind } = Frontend6.decode(bucket, offset);
    if (kind !== wanted.kind) continue;
    const { id, backends, backendCount } = Service.decode(at(maps.services, row), 0);
    const found = Array.from({ length: backendCount }, (_, index) => {
      const { address, nexthop } = Backend6.decode(at(maps.wide?.backends, backends + index), 0);
      return `${formatAddress(address)} by ${nexthop}`;
    });
    return { row, id, backends: found };
  }
  return undefined;
}

test("a service of IPv6 stands in IPv6's tables, and its way in IPv6's next hops", async () => {
  using f = setUp();
  using tables = await f.open();
  await tables.images.apply([
    { key: 7, value: image("10.0.0.1", "10.0.0.2") },
    { key: 8, value: image("fd00::1", "fd00::2") },
  ]);
  await tables.frontends.apply([
    { key: FOUR, value: 7 },
    { key: SIX, value: 8 },
  ]);
  assert.deepEqual(find6(f, SIX)?.backends, ["fd00::1 by 0", "fd00::2 by 6"]);
  assert.deepEqual([...f.nexthops.wanted], ["10.0.0.2"]);
  assert.deepEqual([...f.wideNexthops.wanted], ["fd00::2"]);
  f.wideNexthops.reroute(new Map([[parseAddress("fd00::2"), 9]]));
  assert.deepEqual(find6(f, SIX)?.backends, ["fd00::1 by 0", "fd00::2 by 9"]);
  f.nexthops.reroute(new Map([[parseIpv4("10.0.0.2"), 9]]));
  await tables.images.apply([{ key: 8, value: image("fd00::3") }]);
  assert.deepEqual(find6(f, SIX)?.backends, ["fd00::3 by 0"]);
  await tables.settled();
  assert.deepEqual(
    tables.fill().map(({ table, used }) => `${table} ${used}`),
    ["frontends 1", "services 2", "rings 4", "backends 2", "frontends6 1", "backends6 1"],
  );
  tables.frontends.remove([{ key: SIX }]);
  assert.equal(find6(f, SIX), undefined);
});

test("a restart finds the services of both families where they were", async () => {
  using f = setUp();
  const first = await f.open();
  const values = [
    { key: 7, value: image("10.0.0.1", "10.0.0.2") },
    { key: 8, value: image("fd00::1", "fd00::2") },
  ];
  const node = { ...key("::", 30_080), kind: FrontendKind.nodePort };
  await first.images.apply(values);
  await first.frontends.apply([
    { key: FOUR, value: 7 },
    { key: SIX, value: 8 },
    { key: node, value: 8 },
  ]);
  const before = find6(f, SIX);
  await first.settled();
  first[Symbol.dispose]();
  f.wideNexthops.wanted.clear();
  using second = await f.open();
  const found = [...second.found()].map(({ id, frontends, image: { backends } }) => [
    id,
    frontends.map(({ address, port }) => `${formatAddress(address)} ${port}`).sort(),
    backends.map(({ address }) => formatAddress(address)),
  ]);
  assert.deepEqual(found, [
    [7, ["192.0.2.1 80"], ["10.0.0.1", "10.0.0.2"]],
    [8, ["2001:db8::1 80", ":: 30080"], ["fd00::1", "fd00::2"]],
  ]);
  await second.images.apply(values);
  assert.deepEqual(find6(f, SIX), before, "what is there is not written again");
  assert.deepEqual([...f.wideNexthops.wanted], ["fd00::2"]);
});

test("without tables of IPv6, a service of it is refused and harms nobody", async () => {
  using maps = createHotMaps(ROWS);
  using tables = await openTables({ maps, nexthops: new FixedNexthops(4), now: () => 1000 });
  assert.throws(
    () => void tables.images.apply([{ key: 8, value: image("fd00::1") }]),
    /there are no tables of ipv6 on this node/,
  );
  await tables.images.apply([{ key: 7, value: image("10.0.0.1") }]);
  await tables.frontends.apply([{ key: FOUR, value: 7 }]);
  assert.equal([...tables.found()].length, 1);
});
