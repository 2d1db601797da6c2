// SPDX-License-Identifier: Apache-2.0
// SNAT against masquerading: new connections a second, questions by UDP a second, and the CPU time
// of each, on the same three namespaces. Backends are elsewhere and answer to the node, so packets
// pass our programs at tc both ways.

import { cpus } from "node:os";
import { type Ifindex, NexthopFlag, ServiceFlag } from "../src/datapath/gen/abi.ts";
import { attachTcx } from "../src/kernel/link.ts";
import { inNamespace } from "../src/kernel/netns.ts";
import { formatIpv4, parseIpv4 } from "../src/net/address.ts";
import { type Bed, createBed } from "./bed.ts";
import type { Budget } from "./budget.ts";
import { buildCrr, crrServer, type RunClient, sampleCrr } from "./crr-program.ts";
import { printTable, type Results } from "./results.ts";
import { iptablesRules, nftablesRules, type RuleSet } from "./rules.ts";
import { type Summary, summarize } from "./statistics.ts";
import { BACKENDS_PER_SERVICE, createWorld, SERVICE_PORT, TARGET_PORT, VIPS } from "./world.ts";

/** The node's address on the servers' wire: what they see as their client. */
const NODE_ADDRESS = parseIpv4("192.168.2.1");
const WAYS = ["ciliate", "nftables", "iptables", "iptables-legacy"] as const;
const PROTOCOLS = ["tcp", "udp"] as const;
type Way = (typeof WAYS)[number];
type Protocol = (typeof PROTOCOLS)[number];

interface Contender {
  readonly way: Way;
  readonly protocol: Protocol;
  readonly bed: Bed;
  /** A second. */
  readonly rates: number[];
  /** µs of CPU time of the whole machine for each: client's and server's too, alike for all. */
  readonly costs: number[];
}

export async function benchMasquerade(results: Results, { rounds }: Budget): Promise<void> {
  buildCrr();
  await using stack = new AsyncDisposableStack();
  const contenders: Contender[] = [];
  for (const way of WAYS) {
    const beds = await prepare(way, stack);
    for (const protocol of PROTOCOLS) {
      contenders.push({ way, protocol, bed: beds[protocol], rates: [], costs: [] });
    }
  }
  for (let round = 0; round <= rounds; round++) {
    for (const contender of contenders) await sample(contender, round > 0);
  }
  report(contenders, results);
}

async function sample(contender: Contender, counts: boolean): Promise<void> {
  const { bed, protocol, rates, costs } = contender;
  const to = formatIpv4(VIPS);
  const run: RunClient = (argv) => bed.run("client", argv);
  const { rate, cost } = await sampleCrr(run, protocol, to, SERVICE_PORT);
  if (!counts) return;
  rates.push(rate);
  costs.push(cost);
}

async function prepare(
  way: Way,
  stack: AsyncDisposableStack,
): Promise<Readonly<Record<Protocol, Bed>>> {
  const rules: RuleSet = { services: 1, backendsOf: () => BACKENDS_PER_SERVICE };
  const make = async (protocol: Protocol): Promise<Bed> => {
    const bed = stack.use(createBed(0));
    await bed.start("server", crrServer(TARGET_PORT));
    if (way === "ciliate") await attach(bed, stack);
    else await load(bed, way, rules, protocol);
    return bed;
  };
  return { tcp: await make("tcp"), udp: await make("udp") };
}

async function load(
  bed: Bed,
  way: Exclude<Way, "ciliate">,
  rules: RuleSet,
  protocol: Protocol,
): Promise<void> {
  const of = (text: string): string => text.replaceAll("tcp", protocol);
  if (way === "nftables") await bed.run("node", ["nft", "-f", "-"], of(nftablesRules(rules)));
  else {
    const restore = way === "iptables" ? "iptables-nft-restore" : "iptables-legacy-restore";
    await bed.run("node", [restore, "--noflush"], of(iptablesRules(rules)));
  }
  const timeouts = ["time_wait", "close", "last_ack", "fin_wait", "close_wait"].map(
    (state) => `net.netfilter.nf_conntrack_tcp_timeout_${state}=1`,
  );
  const udp = ["", "_stream"].map((kind) => `net.netfilter.nf_conntrack_udp_timeout${kind}=1`);
  await bed.run("node", ["sysctl", "-q", "-w", ...timeouts, ...udp]);
}

async function attach(bed: Bed, stack: AsyncDisposableStack): Promise<void> {
  const { uplink, podDevice, podMac, nodeMac } = bed;
  const constants = { nodeAddress: NODE_ADDRESS };
  const world = stack.use(await createWorld({ services: 1, constants }));
  const { maps, programs } = world.datapath;
  const nexthop = maps.nexthops.lookup(1);
  if (nexthop === undefined) throw new Error("the bench's world has no next hop");
  // Not for XDP: a veth takes redirected frames only if its peer runs XDP itself.
  maps.nexthops.update(1, {
    ...nexthop,
    ifindex: podDevice as Ifindex,
    flags: NexthopFlag.resolved,
    destination: podMac,
    source: nodeMac,
  });
  for (const [row, service] of [...maps.services.entries()]) {
    if (service.id === 0) continue;
    maps.services.update(row, { ...service, flags: service.flags | ServiceFlag.snat });
  }
  inNamespace(bed.path.node, () => {
    for (const ifindex of [uplink, podDevice]) {
      stack.use(attachTcx({ program: programs.fromNetwork, ifindex, direction: "ingress" }));
    }
  });
}

function report(contenders: readonly Contender[], results: Results): void {
  const rows = [["", "a second", "of ours", "CPU µs each", "of ours"]];
  for (const protocol of PROTOCOLS) {
    const own = contenders.filter((one) => one.protocol === protocol);
    const ours = own.find(({ way }) => way === "ciliate");
    if (ours === undefined) continue;
    const [rate, cost] = [summarize(ours.rates), summarize(ours.costs)];
    const name = `lab.masquerade.${protocol}`;
    results.add(`${name}.rate`, "1/s", rate);
    results.add(`${name}.cpu`, "µs", cost, `both of ${cpus().length} CPUs, client and server too`);
    for (const { way, rates, costs } of own) {
      const [itsRate, itsCost] = [summarize(rates), summarize(costs)];
      rows.push([
        `${protocol} ${way}`,
        itsRate.value.toFixed(0),
        (itsRate.value / rate.value).toFixed(2),
        itsCost.value.toFixed(1),
        (itsCost.value / cost.value).toFixed(2),
      ]);
      if (way === "ciliate") continue;
      const [by, vs] = [way.replace("-", "_"), `${Math.round(itsRate.value)} 1/s`];
      results.add(`${name}.ratio_vs_${by}`, "ratio", ratio(rate, itsRate), vs);
      const cpu = `${itsCost.value.toFixed(1)} µs`;
      results.add(`${name}.cpu_ratio_vs_${by}`, "ratio", ratio(cost, itsCost), cpu);
    }
  }
  printTable("SNAT and masquerading, one service of 10 backends, medians", rows);
}

function ratio(ours: Summary, theirs: Summary): Summary {
  return {
    value: ours.value / theirs.value,
    min: ours.min / theirs.max,
    max: ours.max / theirs.min,
  };
}
