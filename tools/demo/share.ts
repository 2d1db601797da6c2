// SPDX-License-Identifier: Apache-2.0

// Load from the client: who got how much of it, and what the switch saw.

import { until } from "../../src/lab/process.ts";
import { formatIpv4 } from "../../src/net/address.ts";
import { buildPacket, ethernet, icmp, ipv4 } from "../../src/net/packet.ts";
import { bar } from "./draw.ts";
import type { Play, Scene } from "./scene.ts";
import { BALANCER, type Stage, VIP } from "./stage.ts";

const BAR_COLUMNS = 28;
/** Standard deviations that a pod's share of random flows may be off. */
const TOLERANCE = 6;
/** Connections that wrk has at any time. */
const UNDERWAY = 32;
const COUNT_LIMIT_MS = 20_000;
/** IPv4's record-route option, padded to 8 bytes. */
const RECORD_ROUTE = Uint8Array.of(7, 7, 4, 0, 0, 0, 0, 0);

interface Load {
  readonly requests: number;
  /** What wrk says of errors; empty when there was none. */
  readonly errors: string;
  readonly seconds: number;
}

/** Opens a connection for each request, for so long. */
async function load({ lab }: Stage, seconds: number): Promise<Load> {
  const options = [
    "-t1",
    "--timeout",
    "10s",
    `-c${UNDERWAY}`,
    `-d${seconds}s`,
    "-H",
    "Connection: close",
  ];
  const text = await lab.output("client", ["wrk", ...options, `http://${VIP}/`]);
  const errors = /Socket errors: (.*)|Non-2xx.*/.exec(text);
  return {
    requests: Number(/(\d+) requests in/.exec(text)?.[1] ?? 0),
    errors: errors?.[0].toLowerCase() ?? "",
    seconds,
  };
}

/** Requests that each pod's nginx has logged. */
function logged(stage: Stage): Map<string, number> {
  return new Map(
    stage.pods.map(({ place }) => [place.name, stage.accesses(place.name).length] as const),
  );
}

/** What the balancer counts as new connections, over all backends. */
async function countedConnections(stage: Stage): Promise<number> {
  const view = await stage.service("web");
  const backends = view.ports.flatMap((port) => port.backends);
  return backends.reduce((total, { traffic }) => total + Number(traffic?.connections ?? 0), 0);
}

/** A packet with an IPv4 option, to see that the switch counts those. */
async function probeOptions({ lab }: Stage): Promise<number> {
  const { plan } = lab;
  const target = plan.nodes[1]?.address.address;
  const before = (await lab.counters()).options.packets;
  const frame = buildPacket(
    ethernet({ source: plan.clientWire[0].mac, target: plan.clientWire[1].mac }),
    ipv4({
      source: plan.clientAddress.address,
      options: RECORD_ROUTE,
      ...(target === undefined ? {} : { target }),
    }),
    icmp({ type: 8 }),
  );
  lab.sendFrame("client", plan.clientWire[0].device, frame);
  const counted = async (): Promise<number> => (await lab.counters()).options.packets - before;
  await until("the switch to count", COUNT_LIMIT_MS, async () => (await counted()) > 0);
  return await counted();
}

function showShares(
  { screen, stage }: Scene,
  counts: ReadonlyMap<string, number>,
  ring: Ring,
): number {
  const total = [...counts.values()].reduce((sum, count) => sum + count, 0);
  let even = true;
  const rows = stage.pods.map(({ place, address }) => {
    const count = counts.get(place.name) ?? 0;
    const expected = ring.get(formatIpv4(address)) ?? 0;
    const deviation = Math.sqrt(total * expected * (1 - expected));
    if (Math.abs(count - total * expected) > TOLERANCE * deviation) even = false;
    const drawn = bar(screen, (count / total) * 8, BAR_COLUMNS);
    return [
      place.name,
      `${count}`,
      `${((count / total) * 100).toFixed(1)} %`,
      `${(expected * 100).toFixed(1)} %`,
      screen.paint("green", drawn),
    ];
  });
  screen.table(["POD", ">CONNECTIONS", ">SHARE", ">OF THE RING", ""], rows);
  screen.fact(even, "every pod got its share of the Maglev ring, as far as chance allows");
  return total;
}

/** Part of the ring that belongs to each backend's address. */
type Ring = ReadonlyMap<string, number>;

async function ringOf(stage: Stage): Promise<Ring> {
  const view = await stage.service("web");
  return new Map(view.ports[0]?.backends.map(({ address, share }) => [address, share]));
}

/** Shares of load and the switch's counters. */
export const playShare: Play = async (scene) => () => showShare(scene);

async function showShare(scene: Scene): Promise<number> {
  const { screen, stage, quick, pause } = scene;
  screen.title("Load");
  const seconds = quick ? 1 : 2;
  screen.command(`wrk -t1 -c${UNDERWAY} -d${seconds}s -H 'Connection: close' http://${VIP}/`);
  await stage.lab.resetCounters();
  const [before, countedBefore, sentBefore] = [
    logged(stage),
    await countedConnections(stage),
    (await stage.verdicts(BALANCER))["sent encapsulated"] ?? 0,
  ];
  const result = await screen.during("loading", load(stage, seconds));
  const after = logged(stage);
  const counts = new Map([...after].map(([pod, count]) => [pod, count - (before.get(pod) ?? 0)]));
  const counted = (await countedConnections(stage)) - countedBefore;
  const switched = await stage.lab.counters();
  const sent = ((await stage.verdicts(BALANCER))["sent encapsulated"] ?? 0) - sentBefore;
  const errors = result.errors === "" ? "" : ` and ${result.errors}`;
  const total = showShares(scene, counts, await ringOf(stage));
  screen.fact(
    result.errors === "" && result.requests > 0 && total >= result.requests,
    `wrk counts ${result.requests} answers${errors}, nginx ${total} requests, ` +
      `the balancer ${counted} connections`,
  );
  screen.fact(
    counted >= total && counted <= (total + UNDERWAY + 1) * 1.01,
    "the balancer counted each of them, and what wrk had under way when it ended",
  );
  await pause(4);

  screen.title("What the switch saw of it");
  const probed = await probeOptions(stage);
  screen.table(
    ["COUNTED BY NFTABLES ON THE SWITCH", ">PACKETS"],
    [
      ["forwarded in all", `${switched.total.packets}`],
      ["IP-in-IP, protocol 4: on every switch's fast path", `${switched.ipip.packets}`],
      ["with an IPv4 option: on the slow path of many", `${switched.options.packets}`],
    ],
  );
  screen.fact(
    switched.options.packets === 0 && probed > 0,
    "no packet carried an option; one sent on purpose was counted, so the counter works",
  );
  screen.fact(
    switched.ipip.packets > 0 && switched.ipip.packets <= sent,
    `the balancer counts ${sent} IP-in-IP packets that it sent; what GRO merges is one to the switch`,
  );
  return 4;
}
