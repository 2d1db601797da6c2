// SPDX-License-Identifier: Apache-2.0
// A bulk TCP stream from a client to a pod through DSR in a lab with agents, against plain
// forwarding to the pod's own address along the same wires: client, switch, balancer, switch, node,
// pod; answers skip the balancer both times.

import { createLab, type Lab } from "../src/lab/lab.ts";
import { nodeNamed, podNamed } from "../src/lab/plan.ts";
import { until } from "../src/lab/process.ts";
import { removeLab } from "../src/lab/state.ts";
import { formatIpv4 } from "../src/net/address.ts";
import { formatPrefix } from "../src/net/prefix.ts";
import type { Budget } from "./budget.ts";
import { printTable, type Results } from "./results.ts";
import { type Summary, summarize } from "./statistics.ts";

const VIP = "198.51.100.1";
const PORT = 5200;
const TARGET_PORT = 5201;
const POD = "pod2-1";
const TABLE = "100";
const ANSWER_LIMIT_MS = 20_000;
/** Native XDP needs checksums in software on the wires; tc works with all offloads on. */
const ACCELERATIONS = ["off", "native"] as const;

export async function benchThroughput(results: Results, { rounds }: Budget): Promise<void> {
  const rows = [["balancer in", "through DSR", "forwarded", "ratio"]];
  for (const acceleration of ACCELERATIONS) {
    const name = `bench${process.pid % 100_000}${acceleration.slice(0, 1)}`;
    try {
      const lab = await createLab({ name, nodes: 2, podsPerNode: 1, acceleration });
      const { dsr, forwarded } = await measure(lab, Math.min(rounds, 9));
      const ratio = dsr.value / forwarded.value;
      const range = { value: ratio, min: dsr.min / forwarded.max, max: dsr.max / forwarded.min };
      const place = acceleration === "off" ? "tc" : "xdp";
      const key = "lab.tcp_throughput";
      const vs = `${dsr.value.toFixed(2)} against ${forwarded.value.toFixed(2)} Gbit/s`;
      results.add(`${key}.${place}.ratio_vs_forwarding`, "ratio", range, vs);
      if (place === "tc") results.add(`${key}.ratio_vs_forwarding`, "ratio", range, vs);
      const format = ({ value, min, max }: Summary): string =>
        `${value.toFixed(2)} (${min.toFixed(2)}–${max.toFixed(2)})`;
      rows.push([place, format(dsr), format(forwarded), ratio.toFixed(2)]);
    } finally {
      await removeLab(name);
    }
  }
  printTable("One TCP stream up to a pod on another node, Gbit/s: median (min–max)", rows);
}

async function measure(lab: Lab, rounds: number): Promise<{ dsr: Summary; forwarded: Summary }> {
  const pod = formatIpv4(podNamed(lab.plan, POD).address);
  lab.publish({
    name: "bulk",
    addresses: [VIP],
    ports: [{ port: PORT, targetPort: TARGET_PORT }],
    backends: [POD],
  });
  lab.start(POD, ["iperf3", "-s", "-p", `${TARGET_PORT}`]);
  await routeThroughBalancer(lab);
  const [dsr, forwarded]: [number[], number[]] = [[], []];
  await until("the service to answer", ANSWER_LIMIT_MS, async () => {
    const { code } = await lab.run("client", ["nc", "-z", "-w", "1", VIP, `${PORT}`]);
    return code === 0;
  });
  for (let round = 0; round <= rounds; round++) {
    const [through, plain] = [await stream(lab, VIP, PORT), await stream(lab, pod, TARGET_PORT)];
    if (round === 0) continue;
    dsr.push(through);
    forwarded.push(plain);
  }
  return { dsr: summarize(dsr), forwarded: summarize(forwarded) };
}

/** What the client sends to the pod's own address goes by way of the balancer, too. */
async function routeThroughBalancer(lab: Lab): Promise<void> {
  const [balancer, node] = [nodeNamed(lab.plan, "node1"), nodeNamed(lab.plan, "node2")];
  const pods = formatPrefix(node.podCidr);
  const port = lab.plan.clientWire[1].device;
  const via = ["via", formatIpv4(balancer.address.address)];
  await lab.output("switch", ["ip", "route", "add", pods, ...via, "table", TABLE]);
  await lab.output("switch", ["ip", "rule", "add", "iif", port, "to", pods, "lookup", TABLE]);
}

/** Gbit/s that arrived, over a second. */
async function stream(lab: Lab, to: string, port: number): Promise<number> {
  const said = await lab.output("client", ["iperf3", "-J", "-t", "1", "-c", to, "-p", `${port}`]);
  return JSON.parse(said).end.sum_received.bits_per_second / 1e9;
}
