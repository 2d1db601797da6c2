// SPDX-License-Identifier: Apache-2.0

// SYNs from sources that nobody has, against small tables: at the backend's node by DSR, and at the
// balancer by SNAT.

import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { until } from "../../src/lab/process.ts";
import type { Ipv4 } from "../../src/net/address.ts";
import { parseIpv4 } from "../../src/net/address.ts";
import { buildPacket, ethernet, ipv4, tcp } from "../../src/net/packet.ts";
import { TCP_FLAG } from "../../src/net/protocol.ts";
import { budget } from "./tools/budget.ts";
import { openWire } from "./tools/hostile.ts";
import { flowsAt, podEndpoint, since, untilBalanced, verdictsAt } from "./tools/inspect.ts";
import { createStage, type Stage, serviceOf, streamsTo, VIP, VIP_PORT } from "./tools/stage.ts";
import { STREAM_PORT } from "./tools/streams.ts";

const MAX_FLOWS = 1024;
const STREAMS = 100;
const FLOOD_MS = 1000 * budget("floodSeconds", 8);
/** Many times what fits, and few enough for a busy machine. */
const SYNS_PER_TURN = 50;
const TURN_MS = 10;
/** 198.18.0.0/15, which is for such tests (RFC 2544): no other place of the lab has it. */
const FIRST_SOURCE = 0xc612_0000;
const SOURCES = 2 ** 17;
/** For how long a half-open flow stays where there is room: for longer than room is waited for. */
const SYN_TIMEOUT = "25s";
const ROOM_LIMIT_MS = 15_000;
const LIMIT_MS = 45_000;

/** Sends SYNs from the client's device for a while; how many. */
async function flood({ lab }: Stage): Promise<number> {
  const [own, port] = lab.plan.clientWire;
  using wire = openWire(lab, "client", own.device);
  const head = ethernet({ source: own.mac, target: port.mac });
  const target = parseIpv4(VIP);
  const endMs = performance.now() + FLOOD_MS;
  let sent = 0;
  while (performance.now() < endMs) {
    for (let turn = 0; turn < SYNS_PER_TURN; turn++, sent++) {
      const source = (FIRST_SOURCE + ((sent * 40_503) % SOURCES)) as Ipv4;
      const sourcePort = 1024 + (sent % 60_000);
      const layers = [
        ipv4({ source, target }),
        tcp({ sourcePort, targetPort: VIP_PORT, flags: TCP_FLAG.syn }),
      ];
      wire.send(buildPacket(head, ...layers));
    }
    await sleep(TURN_MS);
  }
  return sent;
}

async function testFlood(t: TestContext, mode: "dsr" | "snat", node: string): Promise<void> {
  const stage = await createStage(t, ["pod2-1"], {
    nodes: 2,
    podsPerNode: 1,
    config: { mode, conntrack: { maxEntries: MAX_FLOWS, tcpClosing: "1s", tcpSyn: SYN_TIMEOUT } },
  });
  const { lab, client } = stage;
  // What a pod says again and again keeps a half-open flow for as long.
  await lab.output("pod2-1", ["sysctl", "-q", "-w", "net.ipv4.tcp_synack_retries=0"]);
  lab.publish(serviceOf(["pod2-1"]));
  await untilBalanced(lab, `${VIP}:${VIP_PORT}`, [podEndpoint(lab, "pod2-1", STREAM_PORT)]);
  const opened = await client.open("streams", streamsTo(STREAMS, { intervalMs: 500 }));
  assert.deepEqual([opened.open, opened.broken], [STREAMS, 0]);
  const flows = flowsAt(lab, node).length;
  const before = verdictsAt(lab, node);

  const sent = await flood(stage);
  const counts = since(before, verdictsAt(lab, node));
  const refused = Object.entries(counts).filter(([what]) => what.endsWith("conntrack full"));
  assert.ok(
    refused.some(([, count]) => count > 0),
    JSON.stringify(counts),
  );
  const during = await client.round("streams");
  assert.deepEqual([during.open, during.broken, during.wrong], [STREAMS, 0, 0]);

  // Who comes now finds room, and soon nothing is left of the strangers.
  await until("new connections", ROOM_LIMIT_MS, async () => {
    const group = `late${performance.now()}`;
    const { open } = await client.open(group, streamsTo(10, { openLimitMs: 2000 }));
    await client.finish(group);
    return open === 10;
  });
  await until(`${flows} flows again`, LIMIT_MS, () => flowsAt(lab, node).length <= flows + 20);
  const { open, broken, wrong } = await client.finish("streams");
  assert.deepEqual([open, broken, wrong], [STREAMS, 0, 0]);
  t.diagnostic(`${sent} SYNs by ${mode}; at ${node}: ${JSON.stringify(counts)}`);
}

for (const { mode, node } of [
  { mode: "dsr", node: "node2" },
  { mode: "snat", node: "node1" },
] as const) {
  test(`a flood of SYNs ends no connection by ${mode}`, (t) => testFlood(t, mode, node));
}
