// SPDX-License-Identifier: Apache-2.0
import assert from "node:assert/strict";
import { test } from "node:test";
import { createEndpointWriter } from "../endpoint/writer.ts";
import type { OwnBackend } from "../lb/own-backends.ts";
import { type Address, parseIpv4 } from "../net/address.ts";
import { createSyncGate } from "../state/gate.ts";
import { createTable } from "../state/table.ts";
import { ownersOf } from "./flows.ts";

test("whose flows stay is known from the rows, as soon as all of them are read", () => {
  const complete = createSyncGate();
  const synced = complete.register("pods");
  complete.complete();
  const endpoints = createEndpointWriter();
  const [here, there, gone] = ["10.0.1.1", "10.0.2.1", "10.0.1.9"].map(parseIpv4);
  assert.ok(here && there && gone);
  const ownBackends = createTable<Address, OwnBackend>({
    name: "own-backends",
    key: ({ address }) => address,
  });
  const { isEndpoint, lives } = ownersOf({
    nodeName: "n1",
    complete,
    endpoints,
    ownBackends,
    lb: { lives: (address) => address !== gone },
  });
  const judged = () => [here, there, gone].map((address) => [isEndpoint(address), lives(address)]);
  const unknown = [undefined, undefined];
  assert.deepEqual(judged(), [unknown, unknown, unknown]);
  const attachment = { device: "lxc1", mac: undefined, netns: undefined };
  const hostPorts = undefined;
  endpoints.put({ key: "default/a", addresses: [here], node: "n1", attachment, hostPorts });
  endpoints.put({
    key: "default/b",
    addresses: [there],
    node: "n2",
    attachment: undefined,
    hostPorts,
  });
  assert.deepEqual(judged(), [unknown, unknown, unknown]);
  synced();
  assert.deepEqual(judged(), [
    [true, true],
    [false, true],
    [false, false],
  ]);
  ownBackends.set({ address: there });
  assert.equal(isEndpoint(there), true, "an address of the node itself");
});
