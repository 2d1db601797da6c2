// SPDX-License-Identifier: Apache-2.0
// Every program, packet by packet. State comes from YAML, by way of the agent's writers.

import assert from "node:assert/strict";
import { availableParallelism } from "node:os";
import { after, before, suite, test } from "node:test";
import { Place, Verdict } from "../../src/datapath/gen/abi.ts";
import type { Family } from "../../src/net/address.ts";
import { buildPacket } from "../../src/net/packet.ts";
import { AFFINITY_ROWS, AFFINITY_SNAT_ROWS } from "./affinity-rows.ts";
import { ANSWER_ROWS } from "./answer-rows.ts";
import { BALANCE_ROWS, FIRST_ROWS } from "./balance-rows.ts";
import { CHANGE_ROWS } from "./change-rows.ts";
import { FAR, GATEWAY_MAC, OTHER_NODE, OTHER_NODE_MAC } from "./cluster.ts";
import { DISPATCH_ROWS, GENEVE_ROWS, OPTION_ROWS } from "./dispatch-rows.ts";
import { FOREIGN_ROWS } from "./foreign-rows.ts";
import {
  FRAGMENT_ROWS,
  FRAGMENT_SNAT_ROWS,
  OWN_FRAGMENT_ROWS,
  PIECES_WITH_OPTIONS,
  piecesInIpip,
} from "./fragment-rows.ts";
import { arriving, ipipTo, SYN, toService } from "./frames.ts";
import { HERE_ANSWER_ROWS, HERE_FRAGMENT_ROWS } from "./here-answer-rows.ts";
import { HERE_OPTION_ROWS, HERE_ROWS } from "./here-rows.ts";
import { IPV6_ROWS, mssRows } from "./ipv6-rows.ts";
import { judgeFrames } from "./judge.ts";
import { NO_CLIENT_ROWS, NO_CLIENT_SNAT_ROWS } from "./no-client-rows.ts";
import { NODE_PORT_ROWS, serveNodePorts } from "./node-port-rows.ts";
import { NOTE_ROWS } from "./note-rows.ts";
import { OUTBOUND_END_ROWS } from "./outbound-end-rows.ts";
import { OUTBOUND_ICMP_ROWS } from "./outbound-icmp-rows.ts";
import { OUTBOUND_ROWS } from "./outbound-rows.ts";
import { OWN_ROWS } from "./own-rows.ts";
import { OWNER_ROWS } from "./owner-rows.ts";
import { BY_NODE_ROWS, PEER_ROWS } from "./peer-rows.ts";
import { POD_ROWS } from "./pod-rows.ts";
import { RECEIVE_ROWS } from "./receive-rows.ts";
import { RELAY_ROWS } from "./relay-rows.ts";
import { expectVerdicts, type Seen, testRows } from "./row.ts";
import {
  SCTP_FRAGMENT_ROWS,
  SCTP_GENEVE_ROWS,
  SCTP_OPTION_ROWS,
  SCTP_ROWS,
  SCTP_SNAT_ROWS,
} from "./sctp-rows.ts";
import { SNAT_ERROR_ROWS } from "./snat-error-rows.ts";
import { SNAT_REPLY_ROWS } from "./snat-reply-rows.ts";
import { SNAT_ROWS, serveBySnat } from "./snat-rows.ts";
import { SOURCE_ROWS, SOURCE_SNAT_ROWS } from "./source-rows.ts";
import { openStage, type Stage } from "./stage.ts";
import { TWIN_ROWS } from "./twin-rows.ts";

const PLACES = 8;
const VERDICTS = 64;
const FAMILIES = ["ipv4", "ipv6"] as const;
const seen: Readonly<Record<Family, Seen>> = {
  ipv4: { verdicts: new Set(), frames: [] },
  ipv6: { verdicts: new Set(), frames: [] },
};

function suiteOn(
  title: string,
  config: string,
  rows: Parameters<typeof testRows>[0],
  prepare: (stage: Stage) => void = () => undefined,
): void {
  for (const family of FAMILIES) {
    suite(`${title}, by ${family}`, () => {
      let stage: Stage;
      before(async () => {
        stage = await openStage(config, family);
        prepare(stage);
      });
      after(() => stage[Symbol.asyncDispose]());
      testRows(rows, family, () => stage, seen[family]);
    });
  }
}

suiteOn("a node that drops fragments", "fragments: drop", [
  ...BALANCE_ROWS,
  ...RECEIVE_ROWS,
  ...OWNER_ROWS,
  ...NOTE_ROWS,
  ...POD_ROWS,
  ...OUTBOUND_ROWS,
  ...OUTBOUND_END_ROWS,
  ...OUTBOUND_ICMP_ROWS,
  ...SOURCE_ROWS,
  ...RELAY_ROWS,
  ...AFFINITY_ROWS,
  ...ANSWER_ROWS,
  ...NO_CLIENT_ROWS,
  ...DISPATCH_ROWS,
  ...FOREIGN_ROWS,
  ...HERE_ROWS,
  ...HERE_ANSWER_ROWS,
  ...PEER_ROWS,
  ...SCTP_ROWS,
]);
suiteOn(
  "a node with encapsulate: first, fragments: pass and hashed outer sources",
  "encapsulate: first\nfragments: pass\nouterSource: 172.20.0.0/16",
  [...FIRST_ROWS, ...TWIN_ROWS],
);
suiteOn("a node that sends Geneve", "dispatch: geneve", [
  ...GENEVE_ROWS,
  ...mssRows(94),
  ...SCTP_GENEVE_ROWS,
  ...piecesInIpip(OTHER_NODE_MAC, (piece) => ipipTo(OTHER_NODE, ipipTo(FAR, piece))),
  ...BY_NODE_ROWS,
]);
suiteOn("a node that sends options", "dispatch: opt", [
  ...OPTION_ROWS,
  ...mssRows(24),
  ...SCTP_OPTION_ROWS,
  ...HERE_OPTION_ROWS,
  ...piecesInIpip(GATEWAY_MAC),
  ...PIECES_WITH_OPTIONS,
]);
suiteOn(
  "a node whose services are forwarded by SNAT",
  "",
  [
    ...SNAT_ROWS,
    ...SNAT_REPLY_ROWS,
    ...SNAT_ERROR_ROWS,
    ...SOURCE_SNAT_ROWS,
    ...AFFINITY_SNAT_ROWS,
    ...NO_CLIENT_SNAT_ROWS,
    ...SCTP_SNAT_ROWS,
    ...CHANGE_ROWS,
  ],
  serveBySnat,
);
suiteOn("a node", "fragments: drop", [...IPV6_ROWS, ...mssRows(40)]);
suiteOn("a node that tracks fragments", "", [
  ...FRAGMENT_ROWS,
  ...SCTP_FRAGMENT_ROWS,
  ...HERE_FRAGMENT_ROWS,
]);
suiteOn("a node that tracks fragments and forwards by SNAT", "", FRAGMENT_SNAT_ROWS, serveBySnat);
suiteOn("a node that serves node ports", "fragments: drop", NODE_PORT_ROWS, serveNodePorts);
suiteOn("a node whose sockets are left alone", "socket: {enabled: false}", [
  ...OWN_ROWS,
  ...OWN_FRAGMENT_ROWS,
]);

for (const cpu of [0, availableParallelism() - 1]) {
  test(`CPU ${cpu} counts in its own part of metrics and counters`, async () => {
    await using stage = await openStage();
    const row = (cpu * PLACES + Place.host) * VERDICTS + Verdict.sentEncapsulated;
    const before = stage.maps.metrics.lookup(row)?.packets ?? 0n;
    const frame = buildPacket(...arriving(toService("far", SYN)));
    stage.send({ place: "host", frame, cpu });
    assert.equal(stage.maps.metrics.lookup(row)?.packets, before + 1n);
    const rows = stage.maps.counters.raw.info.maxEntries;
    const stride = stage.counterStride;
    const counted = [...stage.maps.counters.entries()].filter(([, { packets }]) => packets > 0n);
    assert.deepEqual(
      counted.map(([index]) => Math.floor(index / stride)),
      [cpu],
    );
    assert.ok(rows >= stride * availableParallelism());
  });
}

test("every verdict that can occur at the edge has a row", () => {
  for (const family of FAMILIES) {
    expectVerdicts(
      "edge",
      [
        "PASS_NOT_OURS",
        "PASS_LOCAL",
        "PASS_UNRESOLVED",
        "PASS_FRAGMENT",
        "PASS_TTL",
        "SENT_ENCAPSULATED",
        "SENT_PLAIN",
        "SENT_FRAG_NEEDED",
        "SENT_NAT",
        "SENT_NAT_REPLY",
        "DROP_NO_BACKEND",
        "DROP_FRAGMENT",
        "DROP_CONNTRACK_FULL",
        "DROP_UNKNOWN_FLOW",
        "DROP_TABLE",
        "DROP_ANSWER_LIMIT",
        "DROP_NAT_EXHAUSTED",
        "DROP_SOURCE_RANGE",
        "DROP_SOURCE",
        "DROP_UNKNOWN_PORT",
        ...(family === "ipv4" ? (["DROP_OPTION_ROOM"] as const) : []),
        "SENT_REJECTED",
        "SENT_ECHO",
      ],
      seen[family],
    );
  }
});

test("every verdict that can occur at the host has a row", () => {
  for (const family of FAMILIES) {
    expectVerdicts(
      "host",
      [
        "PASS_NOT_OURS",
        "PASS_FRAGMENT",
        "PASS_TTL",
        "PASS_STACK",
        // Routers never cut IPv6.
        ...(family === "ipv4" ? (["PASS_TOO_BIG"] as const) : []),
        "SENT_ENCAPSULATED",
        "SENT_PLAIN",
        "SENT_POD",
        "SENT_PASSED",
        "SENT_FINAL",
        "SENT_NOTED",
        "SENT_RELAYED",
        "SENT_FRAG_NEEDED",
        "SENT_NAT",
        "SENT_NAT_REPLY",
        "DROP_NO_BACKEND",
        "DROP_FRAGMENT",
        "DROP_UNTRUSTED",
        "DROP_INNER_INVALID",
        "DROP_INNER_PROTOCOL",
        "DROP_NO_SERVICE",
        "DROP_NOT_A_BACKEND",
        "DROP_CONNTRACK_FULL",
        "DROP_PORT_COLLISION",
        "DROP_UNKNOWN_FLOW",
        "DROP_UNKNOWN_FINAL",
        "DROP_PASS_LIMIT",
        "DROP_ECN",
        "DROP_TABLE",
        "DROP_REWRITE",
        "DROP_NO_ROUTE",
        "DROP_ENDPOINT_GONE",
        "DROP_OUTER_FRAGMENT",
        "DROP_ANSWER_LIMIT",
        "DROP_TOO_BIG",
        "DROP_NAT_EXHAUSTED",
        "DROP_SOURCE_RANGE",
        "DROP_SOURCE",
        "DROP_UNKNOWN_PORT",
        "DROP_PORT_TAKEN",
        "SENT_REJECTED",
        "SENT_ECHO",
      ],
      seen[family],
    );
  }
});

test("every verdict that can occur at a pod has a row", () => {
  for (const family of FAMILIES) {
    expectVerdicts(
      "pod",
      [
        "PASS_NOT_OURS",
        "PASS_TTL",
        "PASS_STACK",
        "PASS_TOO_BIG",
        "SENT_REPLY",
        "SENT_OUTBOUND",
        "SENT_FRAG_NEEDED",
        "SENT_REJECTED",
        "SENT_ECHO",
        "SENT_RELAYED",
        "DROP_NO_BACKEND",
        "DROP_CONNTRACK_FULL",
        "DROP_PORT_COLLISION",
        "DROP_UNKNOWN_FLOW",
        "DROP_TABLE",
        "DROP_NO_ROUTE",
        "DROP_ENDPOINT_GONE",
        "DROP_ANSWER_LIMIT",
        "DROP_TOO_BIG",
      ],
      seen[family],
    );
  }
});

test("every verdict that can occur at packets of the node has a row", () => {
  for (const family of FAMILIES) {
    expectVerdicts(
      "node",
      [
        "PASS_NOT_OURS",
        "SENT_OUTBOUND",
        "SENT_REPLY",
        "SENT_REJECTED",
        "SENT_FRAG_NEEDED",
        "SENT_RELAYED",
        "DROP_UNKNOWN_FLOW",
        "DROP_NO_ROUTE",
        "DROP_ANSWER_LIMIT",
      ],
      seen[family],
    );
  }
});

test("tshark finds nothing wrong with any frame that left", () => {
  for (const { frames } of Object.values(seen)) {
    assert.ok(frames.length > 60, `${frames.length} frames`);
    assert.deepEqual(judgeFrames(frames), []);
  }
});
