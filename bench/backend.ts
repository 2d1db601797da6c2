// SPDX-License-Identifier: Apache-2.0
// The backend's side: an IPIP packet into its pod (host.strip), and the pod's answer to the client
// (host.reply), with few and many services and flows.

import {
  type Ifindex,
  Place,
  type Port,
  type ServiceId,
  Verdict,
} from "../src/datapath/gen/abi.ts";
import { inNamespace } from "../src/kernel/netns.ts";
import type { BpfProgram } from "../src/kernel/program.ts";
import { type Ipv4, parseIpv4 } from "../src/net/address.ts";
import { type Mac, writeMac } from "../src/net/mac.ts";
import type { Budget } from "./budget.ts";
import { frameInIpip, frameOfReply, frameTo } from "./frame.ts";
import { formatSummary, printTable, type Results } from "./results.ts";
import { createSite, type Site } from "./site.ts";
import {
  createSkbRunner,
  type FieldsOfFamilies,
  frameOfFlow,
  IN_IPIP,
  REPLY,
  type SkbRunner,
} from "./skb.ts";
import { type Contender, interleave } from "./statistics.ts";
import { MANY_FLOWS, openWrapper, type Traffic } from "./variation.ts";
import {
  BACKENDS,
  BACKENDS_PER_SERVICE,
  createWorld,
  NODE_MAC,
  TARGET_PORT,
  VIPS,
  type World,
} from "./world.ts";

const SERVICES = [1, 100, 10_000] as const;
const FLOWS = [1, MANY_FLOWS] as const;
/** A node that the worlds trust. */
const SENDER = parseIpv4("10.0.0.5");
const POD_MAC = 0x02_00_00_00_00_11 as Mac;
const NODE_SIDE_MAC = 0x02_00_00_00_00_12 as Mac;
const POD_DEVICE = 1000 as Ifindex;

/** A world in which one pod of the node has flows of one service. */
interface Field {
  readonly services: number;
  readonly world: World;
  readonly service: number;
  readonly pod: Ipv4;
}

interface Step {
  readonly name: "strip" | "reply";
  readonly title: string;
  readonly place: Place;
  readonly verdict: Verdict;
  readonly fields: FieldsOfFamilies;
  /** The floor of bench/floor.bpf.c that does the least of the same. */
  programOf(world: World): BpfProgram;
  frameOf(field: Field): Uint8Array;
}

const STEPS: readonly Step[] = [
  {
    name: "strip",
    title: "IPIP of a known flow into its pod (from_network)",
    place: Place.host,
    verdict: Verdict.sentPod,
    fields: IN_IPIP,
    programOf: (world) => world.datapath.programs.fromNetwork,
    frameOf: ({ service, pod }) =>
      frameInIpip(frameTo((VIPS + service) as Ipv4, "tcp_established"), SENDER, pod),
  },
  {
    name: "reply",
    title: "a pod's answer to the client, by the FIB (from_pod)",
    place: Place.pod,
    verdict: Verdict.sentReply,
    fields: REPLY,
    programOf: (world) => world.datapath.programs.fromPod,
    frameOf: ({ pod }) => frameOfReply(pod, TARGET_PORT),
  },
];

/** Measures both, after every flow was made by its SYN. */
export async function benchBackend(results: Results, budget: Budget): Promise<void> {
  using stack = new DisposableStack();
  const site = stack.use(createSite());
  const wrapper = stack.use(openWrapper());
  const runner = createSkbRunner(budget);
  const fields: Field[] = [];
  for (const services of SERVICES) {
    const world = stack.use(await createWorld({ services }));
    const service = services >> 1;
    const pod = (BACKENDS + service * BACKENDS_PER_SERVICE) as Ipv4;
    const field = { services, world, service, pod };
    adoptFlows(field);
    fields.push(field);
  }
  for (const step of STEPS) {
    const rows = [["flows", "services", "ns"]];
    for (const flows of FLOWS) {
      const samplers = fields.map((field) => sampler(step, field, flows, runner, site));
      const nothing = wrapper.object.program("nothing_tc");
      const found = interleave(samplers, budget.rounds, {
        name: "nothing",
        sample: () => run(step, nothing, fields[0] as Field, flows, runner, site),
      });
      for (const { services } of fields) {
        const summary = found.get(`${services}`);
        if (summary === undefined) continue;
        const flowsText = flows === 1 ? "1_flow" : "64k_flows";
        results.add(`host.${step.name}.${flowsText}.${services}_services.ns`, "ns", summary);
        if (flows > 1 && services === 1) results.add(`host.${step.name}.ns`, "ns", summary);
        rows.push([String(flows), String(services), formatSummary(summary)]);
      }
    }
    printTable(`${step.title}, net ns per packet: median (min–max)`, rows);
  }
}

/** Makes the pod one of this node, and gives it MANY_FLOWS connections. */
function adoptFlows({ world, service, pod }: Field): void {
  const { maps, programs } = world.datapath;
  maps.endpoints.update(
    { address: pod },
    {
      ifindex: POD_DEVICE,
      netns: -1,
      podMac: POD_MAC,
      nodeMac: NODE_SIDE_MAC,
      identity: 0 as never,
    },
  );
  maps.targets.update(
    { service: (service + 1) as ServiceId, pod },
    { port: TARGET_PORT as Port, flags: 1, counter: 0 },
  );
  const frame = frameInIpip(frameTo((VIPS + service) as Ipv4, "tcp_syn"), SENDER, pod);
  for (let flow = 0; flow < MANY_FLOWS; flow++) {
    programs.fromNetwork.testRun({ data: frameOfFlow({ frame, flows: 1 }, flow, IN_IPIP) });
  }
  const sent = world.count(Place.host, Verdict.sentPod);
  if (sent !== MANY_FLOWS) throw new Error(`${sent} of ${MANY_FLOWS} flows were taken up`);
}

function run(
  step: Step,
  program: BpfProgram,
  field: Field,
  flows: number,
  runner: SkbRunner,
  site: Site,
): number {
  const frame = step.frameOf(field);
  writeMac(frame, 0, NODE_MAC); // the uplink's
  const traffic: Traffic = { frame, flows };
  return inNamespace(site.path, () => runner.run(program, traffic, step.fields, site.uplink));
}

function sampler(
  step: Step,
  field: Field,
  flows: number,
  runner: SkbRunner,
  site: Site,
): Contender {
  const { world, services } = field;
  const program = step.programOf(world);
  return {
    name: `${services}`,
    sample() {
      const before = world.countOthers(step.place, step.verdict);
      const ns = run(step, program, field, flows, runner, site);
      if (world.countOthers(step.place, step.verdict) !== before) {
        throw new Error(`${program.name} ended packets otherwise than in verdict ${step.verdict}`);
      }
      return ns;
    },
  };
}
