// SPDX-License-Identifier: Apache-2.0
import assert from "node:assert/strict";
import { test } from "node:test";
import { checkDispatch, whyNarrow6 } from "./room.ts";

const LEAST = [
  ["ipip", 572, 1320],
  ["geneve", 614, 1374],
  ["option", 560, 1304],
] as const;

test("a dispatch that leaves clients less than Linux sends is refused with what it leaves", () => {
  for (const [dispatch, least] of LEAST) {
    checkDispatch({ dispatch }, least);
    assert.throws(() => checkDispatch({ dispatch }, least - 1), {
      message:
        `dispatch ${dispatch} leaves clients 551 of ${least - 1} bytes, and Linux makes no ` +
        "packet smaller than 552 for a path: raise the uplinks' MTU, or choose another dispatch",
    });
  }
});

test("a device that can't carry 1280 bytes of IPv6 by a dispatch says what it would need", () => {
  for (const [dispatch, , least] of LEAST) {
    const narrow =
      `an MTU of ${least - 1} carries no IPv6 packet of 1280 bytes by dispatch ${dispatch}, and ` +
      `large datagrams to other nodes are dropped: raise it to ${least}, or use mode snat`;
    assert.equal(whyNarrow6({ dispatch, mtu: "auto" }, least), "");
    assert.equal(whyNarrow6({ dispatch, mtu: "auto" }, least - 1), narrow);
    assert.equal(whyNarrow6({ dispatch, mtu: least - 1 }, 9000), narrow);
    assert.equal(whyNarrow6({ dispatch, mtu: 9000 }, least - 1), narrow);
  }
});
