// SPDX-License-Identifier: Apache-2.0
// Programs read the tables while they are written at full rate.

import assert from "node:assert/strict";
import { once } from "node:events";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { Worker } from "node:worker_threads";
import { openObject } from "../../kernel/object.ts";
import { ipv4FromNumber } from "../../net/address.ts";
import { FrontendKind } from "../gen/abi.ts";
import { compile } from "../testdata/compile.ts";
import type { ServiceImage } from "./images.ts";
import { openTables } from "./tables.ts";

// An emulated machine (test/kernels) is too slow for this to mean anything.
const TIMED = process.env.CILIATE_EMULATED ? { skip: "measures time, and this is emulated" } : {};

const SERVICES = 4;
const BUCKETS = 16;
const LIMIT_MS = 60_000;

interface Seen {
  readonly published: number;
  readonly whole: number;
  readonly mixed: number;
}

const directory = mkdtempSync(join(tmpdir(), "ciliate-stress-"));
after(() => rmSync(directory, { recursive: true, force: true }));
const objectPath = join(directory, "reader.bpf.o");
writeFileSync(objectPath, compile(join(import.meta.dirname, "../testdata/reader.bpf.c")));

/** An image whose every part says which generation of which service it is of. */
function imageOf(id: number, generation: number): ServiceImage {
  const count = 1 + (generation % 7);
  const size = [61, 97, 131][generation % 3] ?? 61;
  return {
    flags: generation & 0xffff,
    affinityAge: generation,
    ring: Uint16Array.from({ length: size }, (_, slot) => (slot + generation) % count),
    backends: Array.from({ length: count }, (_, index) => ({
      address: ipv4FromNumber(0x0a000000 + index),
      port: generation & 0xffff,
      local: true,
      counter: id,
    })),
  };
}

/**
 * Publishes under a reader's eyes for so long, and on until it has seen enough, within a limit;
 * counts what it saw.
 */
async function publish(
  durationMs: number,
  isEnough: (seen: Seen) => boolean,
  grace?: () => Promise<void>,
): Promise<Seen> {
  using object = openObject(objectPath);
  const rows = { frontends: BUCKETS, services: 4096, rings: 16_384, backends: 16_384 };
  for (const map of object.maps.values()) map.maxEntries = Math.min(map.maxEntries, 256);
  for (const [name, entries] of Object.entries(rows)) object.map(name).maxEntries = entries;
  using loaded = object.load();
  const [frontends, services, rings, backends] = ["frontends", "services", "rings", "backends"].map(
    (name) => loaded.map(name),
  );
  assert(frontends && services && rings && backends);
  using tables = await openTables({
    maps: { frontends, services, rings, backends },
    nexthops: { acquire: () => 0, release: () => undefined, follow: () => undefined },
    now: () => 0,
    ...(grace === undefined ? {} : { grace }),
  });
  const ids = Array.from({ length: SERVICES }, (_, index) => index + 1);
  const images = (generation: number) =>
    ids.map((key) => ({ key, value: imageOf(key, generation) }));
  assert.deepEqual(await tables.images.apply(images(1)), []);
  for (let port = 1; port <= BUCKETS * 2; port++) {
    const address = ipv4FromNumber(0xc0000200 + port);
    const key = { address, port, protocol: 6, kind: FrontendKind.service };
    await tables.frontends.apply([{ key, value: ids[port % SERVICES] ?? 0 }]);
  }
  const stop = new Int32Array(new SharedArrayBuffer(4));
  const url = new URL("../testdata/run-reader.ts", import.meta.url);
  const id = loaded.program("read_tables").id;
  const worker = new Worker(url, { workerData: { id, stop: stop.buffer } });
  using outcomes = loaded.map("outcomes").mmap({ readOnly: true });
  const counts = new BigUint64Array(outcomes.buffer);
  let published = 0;
  const seen = (): Seen => {
    const [whole = 0n, mixed = 0n] = counts;
    return { published, whole: Number(whole), mixed: Number(mixed) };
  };
  const begun = performance.now();
  const isOver = (): boolean => {
    const took = performance.now() - begun;
    return took > LIMIT_MS || (took > durationMs && isEnough(seen()));
  };
  for (let generation = 2; !isOver(); generation++) {
    assert.deepEqual(await tables.images.apply(images(generation)), []);
    published += SERVICES;
    // As a reconciler does between chunks.
    await new Promise<void>((resolve) => setImmediate(resolve));
  }
  Atomics.store(stop, 0, 1);
  await once(worker, "exit");
  await tables.settled();
  return seen();
}

const isEnough = ({ published, whole }: Seen): boolean => published > 1000 && whole > 500;

test("no program ever reads half of an image", async (t) => {
  const { whole, mixed, published } = await publish(4000, isEnough);
  t.diagnostic(`${published} images published, ${whole} read whole`);
  assert(isEnough({ published, whole, mixed }), `${published} published, ${whole} read`);
  assert.equal(mixed, 0);
});

test(
  "without a grace period programs do read halves, so the test above can tell",
  TIMED,
  async (t) => {
    const { whole, mixed, published } = await publish(
      2000,
      (seen) => seen.mixed > 0,
      async () => undefined,
    );
    t.diagnostic(`${published} images published, ${whole} read whole, ${mixed} mixed`);
    assert(mixed > 0, "the reader is too fast, or the writer too slow, to meet");
  },
);
