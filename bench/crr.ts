// SPDX-License-Identifier: Apache-2.0
// New connections a second through a service's address, on the same three namespaces: by our
// programs, by the rules that kube-proxy writes, and by forwarding alone to a pod's own address.

import type { Identity, Ifindex, Port, ServiceId } from "../src/datapath/gen/abi.ts";
import { attachTcx, attachXdp } from "../src/kernel/link.ts";
import { inNamespace } from "../src/kernel/netns.ts";
import { formatIpv4, type Ipv4 } from "../src/net/address.ts";
import { type Bed, createBed } from "./bed.ts";
import type { Budget } from "./budget.ts";
import { buildCrr, crrServer, type RunClient, sampleCrr } from "./crr-program.ts";
import { printTable, type Results } from "./results.ts";
import { iptablesRules, nftablesRules, type RuleSet } from "./rules.ts";
import { type Summary, summarize } from "./statistics.ts";
import { BACKENDS_PER_SERVICE, createWorld, SERVICE_PORT, TARGET_PORT, VIPS } from "./world.ts";

const WAYS = ["ciliate", "nftables", "iptables", "iptables-legacy"] as const;
type Way = (typeof WAYS)[number];

/** A bed on which connections to one address go one way. */
interface Contender {
  readonly way: Way | "forwarding";
  readonly services: number;
  readonly bed: Bed;
  readonly to: string;
  readonly port: number;
  readonly samples: number[];
}

/** A quick budget has no more than 100 services: rules for 10 000 take minutes to load. */
export async function benchCrr(results: Results, { rounds }: Budget): Promise<void> {
  const thorough = rounds > 5;
  buildCrr();
  await using stack = new AsyncDisposableStack();
  const contenders: Contender[] = [];
  for (const services of thorough ? [1, 1000, 10_000] : [1, 100]) {
    for (const way of WAYS) contenders.push(await prepare(way, services, stack));
  }
  contenders.push(await prepareForwarding(stack));
  for (let round = 0; round <= rounds; round++) {
    for (const { bed, to, port, samples } of contenders) {
      const run: RunClient = (argv) => bed.run("client", argv);
      const { rate } = await sampleCrr(run, "tcp", to, port);
      if (round > 0) samples.push(rate);
    }
  }
  report(contenders, results);
}

/** All rules are for services in front of the one that is called, which comes last. */
async function prepare(
  way: Way,
  services: number,
  stack: AsyncDisposableStack,
): Promise<Contender> {
  const last = services - 1;
  const bed = stack.use(createBed(last));
  await bed.start("server", crrServer(TARGET_PORT));
  const rules: RuleSet = {
    services,
    backendsOf: (service) => (service === last ? BACKENDS_PER_SERVICE : 2),
  };
  if (way === "ciliate") await attach(bed, services, stack);
  else await load(bed, way, rules);
  const to = formatIpv4((VIPS + last) as Ipv4);
  return { way, services, bed, to, port: SERVICE_PORT, samples: [] };
}

async function prepareForwarding(stack: AsyncDisposableStack): Promise<Contender> {
  const bed = stack.use(createBed(0));
  await bed.start("server", crrServer(TARGET_PORT));
  const to = formatIpv4(bed.pods[0] as Ipv4);
  return { way: "forwarding", services: 0, bed, to, port: TARGET_PORT, samples: [] };
}

async function load(bed: Bed, way: Exclude<Way, "ciliate">, rules: RuleSet): Promise<void> {
  if (way === "nftables") await bed.run("node", ["nft", "-f", "-"], nftablesRules(rules));
  else {
    const restore = way === "iptables" ? "iptables-nft-restore" : "iptables-legacy-restore";
    await bed.run("node", [restore, "--noflush"], iptablesRules(rules));
  }
  // Entries of closed connections would fill the table at this rate.
  const timeouts = ["time_wait", "close", "last_ack", "fin_wait", "close_wait"].map(
    (state) => `net.netfilter.nf_conntrack_tcp_timeout_${state}=1`,
  );
  await bed.run("node", ["sysctl", "-q", "-w", ...timeouts]);
}

async function attach(bed: Bed, services: number, stack: AsyncDisposableStack): Promise<void> {
  const world = stack.use(await createWorld({ services, local: true }));
  const { maps, programs } = world.datapath;
  for (const [index, pod] of bed.pods.entries()) {
    maps.endpoints.update(
      { address: pod },
      {
        ifindex: bed.podDevice as Ifindex,
        netns: -1,
        podMac: bed.podMac,
        nodeMac: bed.nodeMac,
        identity: 0 as Identity,
      },
    );
    const counter = (services - 1) * BACKENDS_PER_SERVICE + index + 1;
    maps.targets.update(
      { service: services as ServiceId, pod },
      { port: TARGET_PORT as Port, flags: 1, counter },
    );
  }
  inNamespace(bed.path.node, () => {
    const { edgeIngress, fromNetwork, fromPod } = programs;
    const { uplink, podDevice } = bed;
    stack.use(attachXdp({ program: edgeIngress, ifindex: uplink, mode: "native" }));
    stack.use(attachTcx({ program: fromNetwork, ifindex: uplink, direction: "ingress" }));
    stack.use(attachTcx({ program: fromPod, ifindex: podDevice, direction: "ingress" }));
  });
}

function report(contenders: readonly Contender[], results: Results): void {
  const summaryOf = (way: Contender["way"], services: number): Summary | undefined => {
    const found = contenders.find((one) => one.way === way && one.services === services);
    return found === undefined ? undefined : summarize(found.samples);
  };
  const rows = [["services", ...WAYS, "of nftables", "of iptables"]];
  for (const services of new Set(contenders.map((contender) => contender.services))) {
    const [ours, nftables, iptables, legacy] = WAYS.map((way) => summaryOf(way, services));
    if (ours === undefined || nftables === undefined || iptables === undefined) continue;
    const ratios: string[] = [];
    for (const [name, other] of [
      ["nftables", nftables],
      ["iptables", iptables],
    ] as const) {
      const ratio = ours.value / other.value;
      const range = { value: ratio, min: ours.min / other.max, max: ours.max / other.min };
      const vs = `${Math.round(ours.value)} against ${Math.round(other.value)} conn/s`;
      const key = `lab.crr.ratio_vs_${name}`;
      results.add(`${key}.${services}_services`, "ratio", range, vs);
      if (services === 1) results.add(key, "ratio", range, vs);
      ratios.push(ratio.toFixed(2));
    }
    const cells = [ours, nftables, iptables, legacy].map((one) => `${Math.round(one?.value ?? 0)}`);
    rows.push([`${services}`, ...cells, ...ratios]);
    results.add(`lab.crr.${services}_services.rate`, "conn/s", ours);
  }
  const forwarding = summaryOf("forwarding", 0);
  if (forwarding !== undefined) results.add("lab.crr.forwarding.rate", "conn/s", forwarding);
  const plain = Math.round(forwarding?.value ?? 0);
  printTable(`New connections a second (plain forwarding ${plain}), medians`, rows);
}
