// SPDX-License-Identifier: Apache-2.0
// `encapsulate: first`: connections of one client port to two addresses that lead to one pod.

import { NEAR } from "./cluster.ts";
import {
  arriving,
  CLIENT_PORT,
  intoNear,
  ipipToNear,
  RST,
  SYN,
  tcpTo,
  toService,
} from "./frames.ts";
import { ALIASES, aliased, nearToo } from "./owner-rows.ts";
import type { Row } from "./row.ts";
import { ONE_ASSOCIATION } from "./sctp-rows.ts";
import { expectCounted, expectFlows, portsTaken } from "./tables.ts";
import { coming as byGeneve } from "./told-rows.ts";

const HOST = ["host"] as const;
const first = { packet: ipipToNear(toService("near", SYN)) };

export const TWIN_ROWS: readonly Row[] = [
  {
    title: "a second address's SYN from a port that another connection has there is dropped",
    places: HOST,
    before: [first],
    coming: { packet: nearToo },
    verdict: "DROP_PORT_TAKEN",
    check: (stage) => {
      expectFlows(stage, "request 1", "reply 0");
      expectCounted(stage, 0, 0, 0, 1);
    },
  },
  {
    title: "by Geneve as well",
    places: HOST,
    before: [first],
    coming: { packet: byGeneve("nearToo", SYN) },
    verdict: "DROP_PORT_TAKEN",
    check: (stage) => expectFlows(stage, "request 1", "reply 0"),
  },
  {
    title: "a SYN whose port another connection was given there is dropped",
    places: HOST,
    poke: portsTaken([CLIENT_PORT]),
    coming: first,
    verdict: "DROP_PORT_TAKEN",
    check: (stage) => expectFlows(stage, "reply 0"),
  },
  {
    title: "a second address's SYN gets in once the first connection is over",
    places: HOST,
    before: [first, { packet: nearToo }, { packet: ipipToNear(toService("near", RST)) }],
    coming: { packet: nearToo },
    verdict: "SENT_POD",
    leaving: aliased(CLIENT_PORT),
    check: (stage) => expectFlows(stage, "request 1", "reply 0"),
  },
  {
    title: "a repeated SYN of the connection that has the port is a packet of it",
    places: HOST,
    before: [first],
    coming: first,
    verdict: "SENT_POD",
    leaving: intoNear(tcpTo(NEAR, 8080, SYN)),
    check: (stage) => expectFlows(stage, "request 2", "reply 0"),
  },
  {
    title: "what comes to the service's address goes on doing so, and gets another port",
    places: HOST,
    before: [first],
    coming: { packet: arriving(toService("nearToo", SYN)) },
    verdict: "SENT_POD",
    leaving: aliased(ALIASES[0]),
  },
  ONE_ASSOCIATION,
];
