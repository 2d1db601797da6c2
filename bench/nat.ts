// SPDX-License-Identifier: Apache-2.0
// What a packet of SNAT costs at the edge: of a known flow, the first of a new one, and the pod's
// reply, beside one of DSR.

import {
  type Flow,
  type Flow6,
  FlowDirection,
  FlowFlag,
  type FlowKey,
  type FlowKey6,
  type Identity,
  type Ifindex,
  type Jiffies,
  Place,
  type Port,
  ServiceFlag,
  type ServiceId,
  Verdict,
} from "../src/datapath/gen/abi.ts";
import type { TypedMap } from "../src/datapath/maps.ts";
import { inNamespace } from "../src/kernel/netns.ts";
import { FAMILIES, type Family, type Ipv4 } from "../src/net/address.ts";
import { tcp } from "../src/net/packet.ts";
import { PROTOCOL, TCP_FLAG } from "../src/net/protocol.ts";
import type { Budget } from "./budget.ts";
import { CLIENT_PORT, CLIENTS, frameBetween, frameTo } from "./frame.ts";
import { formatSummary, printTable, type Results } from "./results.ts";
import { createSite, type Site } from "./site.ts";
import { type Contender, interleave, type Summary } from "./statistics.ts";
import { MANY_FLOWS, openWrapper, type Traffic, type Wrapper } from "./variation.ts";
import {
  BACKENDS,
  CLIENT_MAC,
  createWorld,
  NODE_ADDRESS,
  NODE_MAC,
  SERVICE_PORT,
  TARGET_PORT,
  VIPS,
  type World,
  wide,
} from "./world.ts";

const XDP_TX = 3;
/** What pods take for the client's port. */
const ALIAS_PORT = 40_000;
/** Pods that reply: the low 12 bits are the flow's. */
const REPLIERS = BACKENDS;

interface Round {
  readonly family: Family;
  readonly name: "established" | "syn" | "reply" | "dsr_ipip";
  readonly flows: number;
}

const ROUNDS: readonly Round[] = FAMILIES.flatMap((family) => [
  { family, name: "dsr_ipip", flows: 1 },
  { family, name: "established", flows: 1 },
  { family, name: "reply", flows: 1 },
  { family, name: "dsr_ipip", flows: MANY_FLOWS },
  { family, name: "established", flows: MANY_FLOWS },
  { family, name: "reply", flows: MANY_FLOWS },
  { family, name: "syn", flows: MANY_FLOWS },
]);

/** Where it is measured: one world of DSR, and three of SNAT, whose flows don't meet. */
interface Bench {
  readonly site: Site;
  readonly wrapper: Wrapper;
  readonly worlds: Readonly<Record<Round["name"], World>>;
  readonly budget: Budget;
}

/** A new flow can be made once; so its sample is as long as there are flows. */
export async function benchNat(results: Results, budget: Budget): Promise<void> {
  using stack = new DisposableStack();
  const site = stack.use(createSite());
  const egress = site.uplink as Ifindex;
  const open = async (): Promise<World> =>
    stack.use(await createWorld({ services: 1, wide: true, egress }));
  const worlds = {
    dsr_ipip: await open(),
    established: await open(),
    syn: await open(),
    reply: await open(),
  };
  for (const name of ["established", "syn", "reply"] as const) serveBySnat(worlds[name]);
  const bench: Bench = { site, wrapper: stack.use(openWrapper()), worlds, budget };
  for (const family of FAMILIES) makeFlows(bench, family);
  const zeros = new Map(FAMILIES.map((family) => [family, zeroOf(bench, family)]));
  const contenders = ROUNDS.map((round) => ({
    ...contenderOf(bench, round),
    zero: zeros.get(round.family) as Contender,
  }));
  report(interleave(contenders, budget.rounds), results);
}

/** Flows of a family that are there before anything is measured. */
function makeFlows(bench: Bench, family: Family): void {
  const { established, reply } = bench.worlds;
  const before = established.count(Place.edge, Verdict.sentNat);
  const traffic = { frame: frameTo(VIPS, "tcp_syn", family), flows: MANY_FLOWS };
  send(bench, "established", traffic, MANY_FLOWS);
  const made = established.count(Place.edge, Verdict.sentNat) - before;
  if (made !== MANY_FLOWS) throw new Error(`${made} of ${MANY_FLOWS} flows were made`);
  if (family === "ipv4") makeReplies(reply);
  else makeWideReplies(reply);
  for (const world of [established, reply]) scatter(conntrackOf(world, family));
}

/** What the wrapper costs by itself. */
function zeroOf(bench: Bench, family: Family): Contender {
  const traffic = { frame: frameTo(VIPS, "tcp_established", family), flows: MANY_FLOWS };
  const nothing = bench.wrapper.object.program("nothing");
  return {
    name: `nothing.${family}`,
    sample: () => run(bench, nothing, traffic, bench.budget.packets),
  };
}

function report(found: ReadonlyMap<string, Summary>, results: Results): void {
  const rows = [["packet", "flows", "ns", "of IPv4"]];
  for (const round of ROUNDS) {
    const { family, name, flows } = round;
    const summary = found.get(nameOf(round)) as Summary;
    const narrow = found.get(nameOf({ ...round, family: "ipv4" })) as Summary;
    const ratio = family === "ipv4" ? "" : (summary.value / narrow.value).toFixed(2);
    rows.push([`${family} ${name}`, String(flows), formatSummary(summary), ratio]);
    if (name === "dsr_ipip") continue;
    const key = family === "ipv4" ? "xdp.snat" : "xdp.ipv6.snat";
    const vs = ratio && `${ratio} x ipv4`;
    results.add(`${key}.${name}.${flowsText(round)}.ns`, "ns", summary, vs);
    if (flows > 1) results.add(`${key}.${name}.ns`, "ns", summary, vs);
  }
  printTable("SNAT in XDP, net ns per packet: median (min–max)", rows);
}

const flowsText = ({ flows }: Round): string => (flows === 1 ? "1_flow" : "64k_flows");
const nameOf = (round: Round): string => `${round.family}.${round.name}.${flowsText(round)}`;

function serveBySnat({ datapath: { maps } }: World): void {
  for (let row = 0; row < 16; row++) {
    const service = maps.services.lookup(row);
    if (service === undefined || service.id === 0) continue;
    maps.services.update(row, { ...service, flags: service.flags | ServiceFlag.snat });
  }
}

function contenderOf(bench: Bench, round: Round): Contender {
  const { family, name, flows } = round;
  const world = bench.worlds[name];
  const expected =
    name === "dsr_ipip"
      ? Verdict.sentEncapsulated
      : name === "reply"
        ? Verdict.sentNatReply
        : Verdict.sentNat;
  const frame =
    name === "reply"
      ? frameOfAnswer(family)
      : frameTo(VIPS, name === "syn" ? "tcp_syn" : "tcp_established", family);
  const packets =
    name === "syn" ? Math.min(MANY_FLOWS, bench.budget.packets) : bench.budget.packets;
  return {
    name: nameOf(round),
    sample() {
      if (name === "syn") forget(conntrackOf(world, family));
      const [others, sent] = [
        world.countOthers(Place.edge, expected),
        world.count(Place.edge, expected),
      ];
      const ns = send(bench, name, { frame, flows }, packets);
      if (
        world.countOthers(Place.edge, expected) !== others ||
        world.count(Place.edge, expected) === sent
      ) {
        throw new Error(`packets of ${nameOf(round)} ended otherwise than in verdict ${expected}`);
      }
      return ns;
    },
  };
}

function send(bench: Bench, name: Round["name"], traffic: Traffic, packets: number): number {
  const { edgeIngress } = bench.worlds[name].datapath.programs;
  return run(bench, edgeIngress, traffic, packets);
}

function run(
  { site, wrapper, budget: { cpu } }: Bench,
  program: Parameters<Wrapper["run"]>[0],
  traffic: Traffic,
  packets: number,
): number {
  const options = { packets, verdict: XDP_TX, ingress: site.uplink };
  return inNamespace(site.path, () =>
    wrapper.run(program, traffic, cpu === undefined ? options : { ...options, cpu }),
  );
}

type Conntrack = TypedMap<FlowKey, Flow> | TypedMap<FlowKey6, Flow6>;

function conntrackOf({ datapath: { maps, wide: wideMaps } }: World, family: Family): Conntrack {
  const found = family === "ipv4" ? maps.conntrack : wideMaps?.conntrack;
  if (found === undefined) throw new Error("the bench's world has no IPv6");
  return found;
}

/** Puts entries in memory in another order than that in which they are asked for. */
function scatter(conntrack: Conntrack): void {
  const { raw } = conntrack;
  const elements: { readonly key: Uint8Array; readonly value: Uint8Array }[] = [];
  const { keySize, valueSize } = raw.info;
  for (const { keys, values, count } of raw.lookupBatches(4096)) {
    for (let at = 0; at < count; at++) {
      const key = keys.slice(at * keySize, (at + 1) * keySize);
      elements.push({ key, value: values.slice(at * valueSize, (at + 1) * valueSize) });
    }
  }
  forget(conntrack);
  for (let at = elements.length - 1; at > 0; at--) {
    const other = Math.floor(Math.random() * (at + 1));
    const [one, two] = [elements[at], elements[other]];
    if (one !== undefined && two !== undefined) [elements[at], elements[other]] = [two, one];
  }
  for (const { key, value } of elements) raw.update(key, value);
}

function forget({ raw }: Conntrack): void {
  const batches: { readonly keys: Uint8Array; readonly count: number }[] = [];
  for (const { keys, count } of raw.lookupBatches(4096)) {
    batches.push({ keys: keys.slice(0, count * raw.info.keySize), count });
  }
  for (const { keys, count } of batches) raw.deleteBatch(keys, count);
  for (const { count } of raw.lookupBatches(4096)) {
    if (count > 0) throw new Error("flows are still there");
  }
}

/** What the first of the pods answers to this node. */
function frameOfAnswer(family: Family): Uint8Array {
  const l4 = tcp({ sourcePort: TARGET_PORT, targetPort: ALIAS_PORT, flags: TCP_FLAG.ack });
  const macs = { source: CLIENT_MAC, target: NODE_MAC };
  return frameBetween(family, macs, { source: REPLIERS, target: NODE_ADDRESS }, l4);
}

/** Flows that the wrapper's variations of the answer belong to. */
function makeReplies({ datapath: { maps } }: World): void {
  const elements: { key: FlowKey; value: Flow }[] = [];
  for (let number = 0; number < MANY_FLOWS; number++) {
    const value = flowOf(number);
    for (const key of keysOf(value)) elements.push({ key, value });
  }
  const [refused] = maps.conntrack.updateAll(elements);
  if (refused !== undefined) throw refused.error;
}

/** The same of IPv6. */
function makeWideReplies(world: World): void {
  const elements: { key: FlowKey6; value: Flow6 }[] = [];
  for (let number = 0; number < MANY_FLOWS; number++) {
    const flow = flowOf(number);
    const value: Flow6 = {
      ...flow,
      service: 2 as ServiceId,
      client: wide(flow.client),
      serviceAddress: wide(flow.serviceAddress),
      pod: wide(flow.pod),
      aliasAddress: wide(flow.aliasAddress),
    };
    for (const key of keysOf(flow)) {
      const [source, destination] = [wide(key.source), wide(key.destination)];
      elements.push({ key: { ...key, source, destination }, value });
    }
  }
  const [refused] = world.datapath.wide?.conntrack.updateAll(elements) ?? [];
  if (refused !== undefined) throw refused.error;
}

function keysOf(flow: Flow): FlowKey[] {
  const { client, serviceAddress, pod, aliasAddress } = flow;
  const { clientPort, servicePort, podPort, aliasPort } = flow;
  const protocol = PROTOCOL.tcp;
  return [
    {
      source: client,
      destination: serviceAddress,
      sourcePort: clientPort,
      destinationPort: servicePort,
      protocol,
      direction: FlowDirection.request,
    },
    {
      source: pod,
      destination: aliasAddress,
      sourcePort: podPort,
      destinationPort: aliasPort,
      protocol,
      direction: FlowDirection.reply,
    },
  ];
}

function flowOf(number: number): Flow {
  // The wrapper changes the upper byte of the source port.
  const port = (first: number): Port => (first ^ ((number >> 12) << 8)) as Port;
  return {
    client: (CLIENTS | (number & 0xfff)) as Ipv4,
    serviceAddress: VIPS,
    pod: (REPLIERS | (number & 0xfff)) as Ipv4,
    aliasAddress: NODE_ADDRESS,
    clientPort: port(CLIENT_PORT),
    servicePort: SERVICE_PORT as Port,
    podPort: port(TARGET_PORT),
    aliasPort: ALIAS_PORT as Port,
    service: 1 as ServiceId,
    nexthop: 1,
    nexthopGeneration: 0,
    counter: 1,
    seen: 0 as Jiffies,
    flags: FlowFlag.snat | FlowFlag.confirmed | FlowFlag.replied,
    clientIdentity: 0 as Identity,
    claimed: 0,
    packets: 0n,
    bytes: 0n,
    created: 0 as Jiffies,
  };
}
