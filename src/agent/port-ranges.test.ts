// SPDX-License-Identifier: Apache-2.0
import assert from "node:assert/strict";
import { test } from "node:test";
import { localPortWarning } from "./port-ranges.ts";

const NODE_PORTS = { first: 30_000, last: 32_767 };

test("connections that may come from node ports are warned of", () => {
  assert.match(localPortWarning(NODE_PORTS, "1024\t65535\n") ?? "", /30000-32767.*1024-65535/);
  assert.notEqual(localPortWarning(NODE_PORTS, "32767 60999"), undefined);
  assert.notEqual(localPortWarning(NODE_PORTS, "20000 30000"), undefined);
});

test("ranges apart are fine, and so are no node ports at all", () => {
  assert.equal(localPortWarning(NODE_PORTS, "32768\t60999\n"), undefined);
  assert.equal(localPortWarning(NODE_PORTS, "20000 29999"), undefined);
  assert.equal(localPortWarning("off", "1024\t65535"), undefined);
});
