// SPDX-License-Identifier: Apache-2.0
import assert from "node:assert/strict";
import { test } from "node:test";
import { createBench, ip, service, slice } from "../lb/testing.ts";
import { routelessOf, whyRouteless } from "./routeless.ts";

test("backends without a route are counted, and some named, with what the dispatch needs", () => {
  assert.equal(whyRouteless([], "ipip"), "");
  assert.equal(
    whyRouteless([ip(1), ip(1)], "ipip"),
    "1 backend has no route from this node, and packets there are dropped: 10.0.0.1; " +
      "dispatch ipip sends to pods: route their addresses, or set dispatch: geneve",
  );
  assert.match(
    whyRouteless([1, 2, 3, 4, 5].map(ip), "geneve"),
    /^5 backends have .*: 10\.0\.0\.1, 10\.0\.0\.2, 10\.0\.0\.3 and 2 more; .* to nodes: route/,
  );
  assert.match(whyRouteless([ip(1)], "option"), /; dispatch option sends to pods/);
});

test("a service's own pods of this node need no route", async () => {
  const { writer, nodes, settled, port } = createBench();
  for (const name of ["n1", "n2"]) nodes.set({ name, addresses: [], podPrefixes: [] });
  writer.putService(service("web"));
  writer.putSlice(slice("web", ["1@n1", "2@n2", "3@n2"]));
  await settled();
  const row = port() ?? assert.fail();
  assert.deepEqual(routelessOf([row], new Set([ip(1), ip(3), ip(9)])), [ip(3)]);
});
