// SPDX-License-Identifier: Apache-2.0
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import type { Address } from "../net/address.ts";
import { findCandidates, selectBackends } from "./selection.ts";
import { lastByte, slice } from "./testing.ts";

const PORT = { name: "", port: 80, protocol: "tcp" } as const;
const EVERYONE = { hasNode: () => true, hasJoined: () => true };

test("neither the order of slices nor of endpoints changes who is selected", () => {
  const text = fc
    .tuple(
      fc.integer({ min: 1, max: 6 }),
      fc.constantFrom("", " terminating", " down"),
      fc.constantFrom("", "@n1", "@n2"),
      fc.constantFrom("", "*0", "*7"),
    )
    .map((parts) => parts.join(""));
  const slices = fc.array(fc.tuple(fc.array(text, { maxLength: 6 }), fc.constantFrom(8080, 8081)), {
    maxLength: 4,
  });
  fc.assert(
    fc.property(slices, fc.infiniteStream(fc.nat()), (list, randoms) => {
      const shuffle = <T>(items: readonly T[]): T[] =>
        items
          .map((item) => ({ item, at: randoms.next().value ?? 0 }))
          .sort((a, b) => a.at - b.at)
          .map(({ item }) => item);
      const make = ([endpoints, port]: [string[], number], index: number) =>
        slice(`web-${index}`, endpoints, { port });
      const select = (from: [string[], number][]) =>
        selectBackends(findCandidates(PORT, "ipv4", from.map(make)), EVERYONE);
      const other = shuffle(list).map(([endpoints, port]): [string[], number] => [
        shuffle(endpoints),
        port,
      ]);
      assert.deepEqual(select(other), select(list));
    }),
  );
});

test("a pod that has not joined waits, but not when it would be alone", () => {
  const candidates = findCandidates(PORT, "ipv4", [slice("web", ["1 terminating", "2", "3"])]);
  const told = (joined: readonly number[]): string => {
    const hasJoined = (address: Address): boolean => joined.includes(lastByte(address));
    const { ring, others } = selectBackends(candidates, { hasNode: () => true, hasJoined });
    return [ring, others]
      .map((list) => list.map(({ address, state }) => `${lastByte(address)} ${state}`).join(", "))
      .join(" | ");
  };
  assert.equal(told([1, 2]), "2 ready | 1 terminating, 3 joining");
  assert.equal(told([1]), "1 terminating | 2 joining, 3 joining");
  assert.equal(told([]), "2 ready, 3 ready | 1 terminating");
});

test("pods that terminate get new flows even if they have not joined, if they still serve", () => {
  const web = slice("web", ["1 terminating", "2 down"]);
  const endpoints = web.endpoints.map((endpoint) => ({ ...endpoint, serving: true }));
  const candidates = findCandidates(PORT, "ipv4", [{ ...web, endpoints }]);
  const { ring } = selectBackends(candidates, { hasNode: () => true, hasJoined: () => false });
  assert.deepEqual(
    ring.map(({ address }) => lastByte(address)),
    [1],
  );
});

test("a protocol or a name that no slice has finds nobody", () => {
  const slices = [slice("web", ["1"])];
  assert.equal(findCandidates({ ...PORT, protocol: "udp" }, "ipv4", slices).length, 0);
  assert.equal(findCandidates({ ...PORT, name: "http" }, "ipv4", slices).length, 0);
});
