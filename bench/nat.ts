// SPDX-License-Identifier: Apache-2.0
// What a packet of SNAT costs at the edge: of a known flow, the first of a new one, and the pod's
// reply, beside one of DSR.

import {
  type Flow,
  FlowDirection,
  FlowFlag,
  type FlowKey,
  type Identity,
  type Jiffies,
  Place,
  type Port,
  ServiceFlag,
  type ServiceId,
  Verdict,
} from "../src/datapath/gen/abi.ts";
import { inNamespace } from "../src/kernel/netns.ts";
import type { Ipv4 } from "../src/net/address.ts";
import { buildPacket, ethernet, ipv4, tcp, trailer } from "../src/net/packet.ts";
import { PROTOCOL, TCP_FLAG } from "../src/net/protocol.ts";
import type { Budget } from "./budget.ts";
import { CLIENT_PORT, CLIENTS, FRAME_BYTES, frameTo } from "./frame.ts";
import { formatSummary, printTable, type Results } from "./results.ts";
import { createSite, type Site } from "./site.ts";
import { type Contender, interleave } from "./statistics.ts";
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
} from "./world.ts";

const XDP_TX = 3;
/** What pods take for the client's port. */
const ALIAS_PORT = 40_000;
/** Pods that reply: the low 12 bits are the flow's. */
const REPLIERS = BACKENDS;

interface Round {
  readonly name: "established" | "syn" | "reply" | "dsr_ipip";
  readonly flows: number;
}

const ROUNDS: readonly Round[] = [
  { name: "dsr_ipip", flows: 1 },
  { name: "established", flows: 1 },
  { name: "reply", flows: 1 },
  { name: "dsr_ipip", flows: MANY_FLOWS },
  { name: "established", flows: MANY_FLOWS },
  { name: "reply", flows: MANY_FLOWS },
  { name: "syn", flows: MANY_FLOWS },
];

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
  const open = async (): Promise<World> =>
    stack.use(await createWorld({ services: 1, egress: site.uplink as never }));
  const worlds = {
    dsr_ipip: await open(),
    established: await open(),
    syn: await open(),
    reply: await open(),
  };
  for (const name of ["established", "syn", "reply"] as const) serveBySnat(worlds[name]);
  const bench: Bench = { site, wrapper: stack.use(openWrapper()), worlds, budget };
  const { established } = worlds;
  send(bench, "established", { frame: frameTo(VIPS, "tcp_syn"), flows: MANY_FLOWS }, MANY_FLOWS);
  const made = established.count(Place.edge, Verdict.sentNat);
  if (made !== MANY_FLOWS) throw new Error(`${made} of ${MANY_FLOWS} flows were made`);
  makeReplies(worlds.reply);
  scatter(established);
  scatter(worlds.reply);
  const rows = [["packet", "flows", "ns"]];
  const nothing: Contender = {
    name: "nothing",
    sample: () => {
      const traffic = { frame: frameTo(VIPS, "tcp_established"), flows: MANY_FLOWS };
      return run(bench, bench.wrapper.object.program("nothing"), traffic, budget.packets);
    },
  };
  const contenders = ROUNDS.map((round) => contenderOf(bench, round));
  const found = interleave(contenders, budget.rounds, nothing);
  for (const round of ROUNDS) {
    const summary = found.get(nameOf(round));
    if (summary === undefined) continue;
    const { name, flows } = round;
    rows.push([name, String(flows), formatSummary(summary)]);
    if (name !== "dsr_ipip") results.add(`xdp.snat.${nameOf(round)}.ns`, "ns", summary);
    if (name !== "dsr_ipip" && flows > 1) results.add(`xdp.snat.${name}.ns`, "ns", summary);
  }
  printTable("SNAT in XDP, net ns per packet: median (min–max)", rows);
}

const nameOf = ({ name, flows }: Round): string =>
  `${name}.${flows === 1 ? "1_flow" : "64k_flows"}`;

function serveBySnat({ datapath: { maps } }: World): void {
  for (let row = 0; row < 16; row++) {
    const service = maps.services.lookup(row);
    if (service === undefined || service.id === 0) continue;
    maps.services.update(row, { ...service, flags: service.flags | ServiceFlag.snat });
  }
}

function contenderOf(bench: Bench, round: Round): Contender {
  const { name, flows } = round;
  const world = bench.worlds[name];
  const expected =
    name === "dsr_ipip"
      ? Verdict.sentEncapsulated
      : name === "reply"
        ? Verdict.sentNatReply
        : Verdict.sentNat;
  const frame =
    name === "reply"
      ? frameOfReply()
      : frameTo(VIPS, name === "syn" ? "tcp_syn" : "tcp_established");
  const packets =
    name === "syn" ? Math.min(MANY_FLOWS, bench.budget.packets) : bench.budget.packets;
  return {
    name: nameOf(round),
    sample() {
      if (name === "syn") forget(world);
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

/** Puts entries in memory in another order than that in which they are asked for. */
function scatter(world: World): void {
  const { conntrack } = world.datapath.maps;
  const elements = [...conntrack.entries()].map(([key, value]) => ({ key, value }));
  forget(world);
  for (let at = elements.length - 1; at > 0; at--) {
    const other = Math.floor(Math.random() * (at + 1));
    const [one, two] = [elements[at], elements[other]];
    if (one !== undefined && two !== undefined) [elements[at], elements[other]] = [two, one];
  }
  const [refused] = conntrack.updateAll(elements);
  if (refused !== undefined) throw refused.error;
}

function forget({ datapath: { maps } }: World): void {
  maps.conntrack.deleteAll([...maps.conntrack.entries()].map(([key]) => key));
}

/** What the first of the pods answers to this node. */
function frameOfReply(): Uint8Array {
  return buildPacket(
    ethernet({ source: CLIENT_MAC, target: NODE_MAC }),
    ipv4({ source: REPLIERS, target: NODE_ADDRESS }),
    tcp({ sourcePort: TARGET_PORT, targetPort: ALIAS_PORT, flags: TCP_FLAG.ack }),
    trailer(new Uint8Array(FRAME_BYTES)),
  ).slice(0, FRAME_BYTES);
}

/** Flows that the wrapper's variations of the reply belong to. */
function makeReplies({ datapath: { maps } }: World): void {
  const elements: { key: FlowKey; value: Flow }[] = [];
  for (let number = 0; number < MANY_FLOWS; number++) {
    const value = flowOf(number);
    const { client, serviceAddress, pod, aliasAddress } = value;
    const { clientPort, servicePort, podPort, aliasPort } = value;
    const protocol = PROTOCOL.tcp;
    elements.push({
      key: {
        source: client,
        destination: serviceAddress,
        sourcePort: clientPort,
        destinationPort: servicePort,
        protocol,
        direction: FlowDirection.request,
      },
      value,
    });
    elements.push({
      key: {
        source: pod,
        destination: aliasAddress,
        sourcePort: podPort,
        destinationPort: aliasPort,
        protocol,
        direction: FlowDirection.reply,
      },
      value,
    });
  }
  const [refused] = maps.conntrack.updateAll(elements);
  if (refused !== undefined) throw refused.error;
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
    packets: 0n,
    bytes: 0n,
    created: 0 as Jiffies,
  };
}
