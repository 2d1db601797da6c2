// SPDX-License-Identifier: Apache-2.0
import assert from "node:assert/strict";
import { test } from "node:test";
import { nearest } from "./nearest.ts";

const keys = ["acceleration", "encapsulate", "devices", "mtu", "udp"];

test("nearest() forgives a few slips and no more", () => {
  assert.equal(nearest("acelerate", keys), "acceleration");
  assert.equal(nearest("Devcies", keys), "devices");
  assert.equal(nearest("mut", keys), "mtu");
  assert.equal(nearest("tcp", keys), undefined);
  assert.equal(nearest("", keys), undefined);
  assert.equal(nearest("x", []), undefined);
});

test("nearest() prefers fewer slips, then the first", () => {
  assert.equal(nearest("list", ["lost", "list", "last"]), "list");
  assert.equal(nearest("lust", ["lost", "list", "last"]), "lost");
});
