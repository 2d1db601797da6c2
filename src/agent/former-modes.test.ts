// SPDX-License-Identifier: Apache-2.0
import assert from "node:assert/strict";
import { test } from "node:test";
import type { ServiceId } from "../datapath/gen/abi.ts";
import { createFormerModes } from "./former-modes.ts";

function port(key: string, more: object = {}) {
  return { key, id: 1 as ServiceId, family: "ipv4" as const, snat: false, wasOther: true, ...more };
}

test("a former mode is forgotten after two sweeps that saw none of its flows", () => {
  let settled = true;
  let rows = [
    port("quiet"),
    port("busy", { id: 2 }),
    port("now-snat", { id: 3, snat: true }),
    port("never", { id: 4, wasOther: false }),
    port("wide", { id: 5, family: "ipv6" }),
  ];
  let forgotten: string[] = [];
  const swept = createFormerModes({
    ports: () => rows,
    settled: () => settled,
    forget: (key) => forgotten.push(key),
  });
  const sweep = (table: string, ...ids: number[]): string[] => {
    forgotten = [];
    swept(table, { snatServices: new Set(ids as ServiceId[]) });
    return forgotten;
  };
  settled = false;
  assert.deepEqual(sweep("conntrack", 2), []);
  settled = true;
  assert.deepEqual(sweep("conntrack", 2), []);
  assert.deepEqual(sweep("conntrack6"), []);
  assert.deepEqual(sweep("conntrack", 2), ["quiet"]);
  rows = rows.slice(1);
  assert.deepEqual(sweep("conntrack"), []);
  assert.deepEqual(sweep("conntrack", 2), []);
  assert.deepEqual(sweep("conntrack"), []);
  assert.deepEqual(sweep("conntrack"), ["busy"]);
  assert.deepEqual(sweep("conntrack6"), ["wide"]);
});
