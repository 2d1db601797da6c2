// SPDX-License-Identifier: Apache-2.0
import assert from "node:assert/strict";
import { test } from "node:test";
import { type Address, formatIpv4, parseAddress } from "../net/address.ts";
import { clientText, namespaceClient } from "./dump-clients.ts";

test("a client that is a namespace is named by its cookie, where it is known", () => {
  const COOKIE = 4_108n;
  const known = new Map<Address, bigint>([[namespaceClient(COOKIE), COOKIE]]);
  assert.equal(formatIpv4(namespaceClient(COOKIE)).startsWith("0."), true);
  assert.equal(clientText(namespaceClient(COOKIE), known), "netns 4108");
  assert.equal(
    clientText(namespaceClient(7n), known),
    `netns of ${formatIpv4(namespaceClient(7n))}`,
  );
  assert.equal(clientText(COOKIE as Address, known), "netns 4108");
  for (const text of ["198.51.100.7", "1.2.3.4", "2001:db8::1", "fd00::1"]) {
    assert.equal(clientText(parseAddress(text), known), text);
  }
});
