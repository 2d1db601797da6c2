// SPDX-License-Identifier: Apache-2.0
// A pod's connections to a service whose pod is on another node, in labs with agents: translated at
// the socket, packet by packet, and to the pod's own address. New connections a second, questions
// by UDP a second, and the CPU time of each.

import { createLab, type Lab } from "../src/lab/lab.ts";
import { podNamed } from "../src/lab/plan.ts";
import { until } from "../src/lab/process.ts";
import { removeLab } from "../src/lab/state.ts";
import { formatIpv4 } from "../src/net/address.ts";
import type { Budget } from "./budget.ts";
import {
  buildCrr,
  type CrrProtocol,
  crrProbe,
  crrServer,
  type RunClient,
  sampleCrr,
} from "./crr-program.ts";
import { printTable, type Results } from "./results.ts";
import { type Summary, summarize } from "./statistics.ts";

const VIP = "198.51.100.1";
const PORT = 80;
const TARGET_PORT = 8080;
const CLIENT = "pod1-1";
const SERVER = "pod2-1";
const LIMIT_MS = 20_000;

const WAYS = ["socket", "packet", "direct"] as const;
type Way = (typeof WAYS)[number];

interface Contender {
  readonly way: Way;
  readonly protocol: CrrProtocol;
  readonly lab: Lab;
  readonly rates: number[];
  /** µs of CPU time of the whole machine for each, client and server too. */
  readonly costs: number[];
}

export async function benchInside(results: Results, { rounds }: Budget): Promise<void> {
  buildCrr();
  const names = {
    socket: `bench${process.pid % 100_000}s`,
    packet: `bench${process.pid % 100_000}p`,
  };
  try {
    const labs = {
      socket: await prepare(names.socket, true),
      packet: await prepare(names.packet, false),
    };
    const contenders = (["tcp", "udp"] as const).flatMap((protocol) =>
      WAYS.map((way): Contender => {
        const lab = way === "packet" ? labs.packet : labs.socket;
        return { way, protocol, lab, rates: [], costs: [] };
      }),
    );
    for (let round = 0; round <= rounds; round++) {
      for (const contender of contenders) await sample(contender, round > 0);
    }
    report(contenders, results);
  } finally {
    for (const name of Object.values(names)) await removeLab(name);
  }
}

async function prepare(name: string, enabled: boolean): Promise<Lab> {
  const lab = await createLab({ name, nodes: 2, podsPerNode: 1, config: { socket: { enabled } } });
  lab.publish({
    name: "inside",
    addresses: [VIP],
    ports: (["TCP", "UDP"] as const).map((protocol) => ({
      name: protocol.toLowerCase(),
      port: PORT,
      targetPort: TARGET_PORT,
      protocol,
    })),
    backends: [SERVER],
  });
  lab.start(SERVER, crrServer(TARGET_PORT));
  // A port is free again after a second, so that ports don't limit connections.
  const ports = ["net.ipv4.ip_local_port_range=1024 65535", "net.ipv4.tcp_tw_reuse=1"];
  await lab.output(CLIENT, ["sysctl", "-q", "-w", ...ports]);
  await until("the service to answer", LIMIT_MS, async () => {
    const { code } = await lab.run(CLIENT, crrProbe(VIP, PORT));
    return code === 0;
  });
  return lab;
}

async function sample({ way, protocol, lab, rates, costs }: Contender, counts: boolean) {
  const direct = way === "direct";
  const to = direct ? formatIpv4(podNamed(lab.plan, SERVER).address) : VIP;
  const port = direct ? TARGET_PORT : PORT;
  const run: RunClient = (argv) => lab.output(CLIENT, argv);
  const { rate, cost } = await sampleCrr(run, protocol, to, port);
  if (!counts) return;
  rates.push(rate);
  costs.push(cost);
}

function report(contenders: readonly Contender[], results: Results): void {
  const rows = [["", "a second", "of direct", "CPU µs each", "of direct"]];
  for (const { way, protocol, rates, costs } of contenders) {
    const [rate, cost] = [summarize(rates), summarize(costs)];
    const direct = contenders.find((one) => one.protocol === protocol && one.way === "direct");
    const than = (mine: Summary, theirs: readonly number[] = []): string =>
      (mine.value / summarize(theirs).value).toFixed(2);
    const [ofRate, ofCost] = [than(rate, direct?.rates), than(cost, direct?.costs)];
    const name = `lab.inside.${protocol}.${way}`;
    const isDirect = way === "direct";
    results.add(`${name}.rate`, "1/s", rate, isDirect ? "" : `${ofRate} x direct`);
    results.add(`${name}.cpu`, "µs", cost, isDirect ? "" : `${ofCost} x direct`);
    const cells = [rate.value.toFixed(0), ofRate, cost.value.toFixed(1), ofCost];
    rows.push([`${protocol} ${way}`, ...cells]);
  }
  printTable("A pod's connections to a service on another node, medians", rows);
}
