// SPDX-License-Identifier: Apache-2.0
// Pods as clients over IPv6: the programs are those of IPv4 with other addresses, so only what has
// addresses in it is looked at here: headers, checksums, what ICMPv6 quotes.

import assert from "node:assert/strict";
import { rmSync } from "node:fs";
import { join } from "node:path";
import { after, before, suite, test } from "node:test";
import {
  type Frontend6,
  FrontendKind,
  type Identity,
  type Ifindex,
  type Jiffies,
  type Port,
  type ServiceId,
  verdictNames,
} from "../../src/datapath/gen/abi.ts";
import { type Datapath, openDatapath } from "../../src/datapath/load.ts";
import { listPins, unpin } from "../../src/kernel/bpffs.ts";
import { ANY_IPV4, ANY_IPV6, type Ipv6, parseIpv4, parseIpv6 } from "../../src/net/address.ts";
import { formatFrame, frameFaults } from "../../src/net/dissect.ts";
import {
  buildPacket,
  ethernet,
  icmpv6,
  ipv6,
  type LayerInit,
  payload,
  tcp,
  udp,
} from "../../src/net/packet.ts";
import { GATEWAYS, nodeMac, podDevice, podMac, UPLINK_MACS } from "../differential/places.ts";
import { OBJECTS, Runner } from "../differential/real.ts";
import { deviceOf, openWorld, type World } from "../differential/world.ts";

const PODS = [parseIpv6("fd00:10::1"), parseIpv6("fd00:10::2")] as const;
const [ASKER, SERVER] = PODS;
/** Services of each of the pods, and one without. */
const VIPS = ["2001:db8::1", "2001:db8::2", "2001:db8::3"].map(parseIpv6);
const [ITS_OWN, OF_SERVER, OF_NOBODY] = VIPS;
/** Who a pod is that talks to itself. */
const ITSELF = parseIpv6("fd00:c111:a7e::1");
const NODE = parseIpv6("fd00::1");
const VIP_PORT = 80;
const POD_PORT = 8080;
const CLIENT_PORT = 40_000;
const HOPS = 64;
const PROTOCOLS = [6, 17] as const;

const pins = `/sys/fs/bpf/ciliate-outbound6-${process.pid}`;
const stage: { datapath?: Datapath; world?: World; runner?: Runner } = {};

function load(): Datapath {
  return openDatapath({
    objects: OBJECTS,
    pins,
    limits: {
      services: 16,
      backends: 16,
      ringEntries: 1024,
      formerOwners: 16,
      endpoints: 16,
      nodes: 16,
      sourceRanges: 16,
      affinities: 16,
      sockets: 16,
      flows: 64,
    },
    constants: {
      nodeAddress: parseIpv4("10.0.0.1"),
      nodeAddress6: NODE,
      natPortMin: 32_768,
      nodePortMin: 30_000,
      nodePortMax: 32_767,
      nodeNetns: 0n,
      hashSeed: 0n,
      outerPrefix: ANY_IPV4,
      outerHostMask: 0,
      dispatch: 0,
      acceptOption: 0,
      clampMss: 0,
      fragmentsTrack: 0,
      fragmentsPass: 0,
      nodeClients: 1,
      socketLookup: 1,
      quietJiffies: 100,
      passLimit: 100,
      answerLimit: 100,
      limitWindow: 100,
    },
  });
}

/** Each bucket has what is looked for in a few of them. */
function fillFrontends({ wide, sizes }: Datapath, protocol: number): void {
  const slots = VIPS.map(
    (address, service): Frontend6 => ({
      address,
      port: VIP_PORT as Port,
      protocol,
      kind: FrontendKind.service,
      service,
      spill: 0,
    }),
  );
  const [a, b, c] = slots;
  assert.ok(a && b && c && wide);
  for (let bucket = 0; bucket <= sizes.frontendMask6; bucket++) {
    wide.frontends.update(bucket, { slot: [a, b, c, { ...a, address: ANY_IPV6, kind: 0 }] });
  }
}

function fill(datapath: Datapath, world: World): void {
  const { maps, wide } = datapath;
  assert.ok(wide !== undefined, "the node has no IPv6");
  for (const [pod, address] of PODS.entries()) {
    wide.endpoints.update(
      { address },
      {
        ifindex: deviceOf(world, podDevice(pod)) as Ifindex,
        netns: -1,
        podMac: podMac(pod),
        nodeMac: nodeMac(pod),
        identity: 0 as Identity,
      },
    );
    wide.backends.update(pod, {
      address,
      port: POD_PORT as Port,
      nexthop: 0,
      counter: 1 + pod,
      flags: 1,
    });
  }
  for (const row of VIPS.keys()) {
    maps.services.update(row, {
      id: (row + 1) as ServiceId,
      ring: 0,
      ringSize: 1,
      backends: row,
      backendCount: row < PODS.length ? 1 : 0,
      flags: 0,
      changed: 0 as Jiffies,
      affinityAge: 0,
    });
  }
}

interface Ends {
  readonly source: Ipv6 | undefined;
  readonly target: Ipv6 | undefined;
  readonly sourcePort?: number;
  readonly targetPort?: number;
  readonly hopLimit?: number;
}

function packet(protocol: number, ends: Ends, flags = 2): LayerInit[] {
  const { source = ANY_IPV6, target = ANY_IPV6, hopLimit = HOPS } = ends;
  const ports = { sourcePort: ends.sourcePort ?? 0, targetPort: ends.targetPort ?? 0 };
  const l4 = protocol === 6 ? tcp({ ...ports, flags }) : udp(ports);
  return [ipv6({ source, target, hopLimit }), l4, payload("question")];
}

const fromPod = (pod: number, layers: readonly LayerInit[]): Uint8Array =>
  buildPacket(ethernet({ source: podMac(pod), target: nodeMac(pod) }), ...layers);
const intoPod = (pod: number, layers: readonly LayerInit[]): Uint8Array =>
  buildPacket(ethernet({ source: nodeMac(pod), target: podMac(pod) }), ...layers);

/** Sends a frame from a pod's device, or from the node; what leaves must be as wanted. */
function expectSent(
  from: number | "node",
  frame: Uint8Array,
  verdict: string,
  wanted: Uint8Array,
): void {
  const { world, runner } = stage;
  assert.ok(world && runner);
  const [place, device] =
    from === "node" ? (["node", "up0"] as const) : (["pod", podDevice(from)] as const);
  const ifindex = deviceOf(world, device);
  const run = world.run(() => runner.run(place, { frame, ifindex, gsoSize: 0 }));
  assert.deepEqual(
    run.counted.map((one) => verdictNames[one.verdict]),
    [verdict],
  );
  assert.equal(formatFrame(run.frame), formatFrame(wanted));
  assert.deepEqual(Buffer.from(run.frame), Buffer.from(wanted));
  assert.deepEqual(frameFaults(run.frame), []);
}

const ask = (target: Ipv6 | undefined, more: Partial<Ends> = {}): Ends => ({
  source: ASKER,
  target,
  sourcePort: CLIENT_PORT,
  targetPort: VIP_PORT,
  ...more,
});
const back = ({ source, target, sourcePort = 0, targetPort = 0, ...more }: Ends): Ends => ({
  ...more,
  source: target,
  target: source,
  sourcePort: targetPort,
  targetPort: sourcePort,
});
/** What the pods get of it. */
const asked: Ends = ask(SERVER, { targetPort: POD_PORT, hopLimit: HOPS - 1 });
const askedItself: Ends = { ...asked, source: ITSELF, target: ASKER };

suite("pods as clients over IPv6", () => {
  before(async () => {
    const world = await openWorld();
    stage.world = world;
    const datapath = world.run(load);
    stage.datapath = datapath;
    fill(datapath, world);
    stage.runner = new Runner(datapath);
  });
  after(() => {
    stage.runner?.close();
    stage.datapath?.[Symbol.dispose]();
    stage.world?.close();
    for (const one of listPins(pins)) unpin(join(pins, one));
    rmSync(pins, { recursive: true, force: true });
  });

  for (const protocol of PROTOCOLS) {
    const name = protocol === 6 ? "TCP" : "UDP";
    const send = (ends: Ends): LayerInit[] => packet(protocol, ends);

    test(`${name} to a service goes to its pod, and the answer comes from the service`, () => {
      assert.ok(stage.datapath);
      fillFrontends(stage.datapath, protocol);
      const toServer = intoPod(1, send(asked));
      expectSent(0, fromPod(0, send(ask(OF_SERVER))), "sent_outbound", toServer);
      const reply = fromPod(1, send({ ...back(asked), hopLimit: HOPS }));
      const answer = send({ ...back(ask(OF_SERVER)), hopLimit: HOPS - 1 });
      expectSent(1, reply, "sent_reply", intoPod(0, answer));
    });

    test(`${name} of a pod to itself goes by another address`, () => {
      expectSent(0, fromPod(0, send(ask(ITS_OWN))), "sent_outbound", intoPod(0, send(askedItself)));
      const reply = fromPod(0, send({ ...back(askedItself), hopLimit: HOPS }));
      const answer = send({ ...back(ask(ITS_OWN)), hopLimit: HOPS - 1 });
      expectSent(0, reply, "sent_reply", intoPod(0, answer));
    });
  }

  test("the node asks a pod of it, and the answer comes from the service", () => {
    const asking = { ...ask(OF_SERVER), source: NODE };
    const seen = { ...asked, source: NODE, hopLimit: HOPS };
    const out = { source: UPLINK_MACS.up0, target: GATEWAYS[0].mac ?? UPLINK_MACS.up1 };
    const frame = buildPacket(ethernet(out), ...packet(17, asking));
    expectSent("node", frame, "sent_outbound", intoPod(1, packet(17, seen)));
    // No route of IPv6 leads to the service: the kernel takes the answer where it came.
    const answer = packet(17, { ...back(asking), hopLimit: HOPS - 1 });
    expectSent(1, fromPod(1, packet(17, back(seen))), "pass_stack", fromPod(1, answer));
  });

  test("a pod is told by ICMPv6 that a service of UDP has no backend", () => {
    const question = packet(17, ask(OF_NOBODY));
    const quoted = buildPacket(...question).subarray(0, 48);
    const answer = [
      ipv6({ source: OF_NOBODY ?? ANY_IPV6, target: ASKER, hopLimit: 64 }),
      icmpv6({ type: 1, code: 4 }),
      payload(quoted),
    ];
    expectSent(0, fromPod(0, question), "sent_rejected", intoPod(0, answer));
  });

  test("what a pod can't take is told in the service's name, about what was sent", () => {
    const error = (source: Ipv6 | undefined, about: Ends, hopLimit: number): LayerInit[] => [
      ipv6({ source: source ?? ANY_IPV6, target: about.source ?? ANY_IPV6, hopLimit }),
      icmpv6({ type: 1, code: 4 }),
      payload(buildPacket(...packet(17, about))),
    ];
    const got = { ...asked, hopLimit: 60 };
    const sent = ask(OF_SERVER, { hopLimit: 60 });
    const said = fromPod(1, error(SERVER, got, HOPS));
    expectSent(1, said, "sent_relayed", intoPod(0, error(OF_SERVER, sent, HOPS - 1)));
    const unwanted = fromPod(0, error(ASKER, back(sent), HOPS));
    expectSent(0, unwanted, "sent_relayed", intoPod(1, error(ASKER, back(got), HOPS - 1)));
  });
});
