// SPDX-License-Identifier: Apache-2.0
import assert from "node:assert/strict";
import { test } from "node:test";
import { defaultConfig } from "../config/load.ts";
import { tableLimits, usableMemory } from "./table-sizes.ts";

const GIB = 2 ** 30;

test("tables of flows are as large as the memory allows, within bounds", () => {
  const config = defaultConfig();
  const sizes = [0.25, 2, 8, 9, 16, 64, 1024].map((memory) => {
    const { flows, sockets, affinities } = tableLimits(config, memory * GIB);
    return [flows, sockets, affinities];
  });
  assert.deepEqual(sizes, [
    [16_384, 16_384, 16_384],
    [32_768, 16_384, 16_384],
    [131_072, 32_768, 32_768],
    [131_072, 32_768, 32_768],
    [262_144, 65_536, 65_536],
    [1_048_576, 262_144, 262_144],
    [1_048_576, 262_144, 262_144],
  ]);
});

test("a number in the file wins over the memory", () => {
  const config = defaultConfig();
  const asked = {
    tables: { ...config.tables, affinities: 17 },
    conntrack: { ...config.conntrack, maxEntries: 2_000_000 },
    socket: { ...config.socket, maxEntries: 1024 },
  };
  const { flows, sockets, affinities, services } = tableLimits(asked, GIB);
  assert.deepEqual([flows, sockets, affinities], [2_000_000, 1024, 17]);
  assert.equal(services, config.tables.services);
});

test("a machine has some memory", () => {
  assert.ok(usableMemory() > 2 ** 26);
  assert.ok(usableMemory() < 2 ** 50);
});
