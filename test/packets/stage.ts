// SPDX-License-Identifier: Apache-2.0
// A node as its agent makes it, but for its programs being attached: YAML goes through the sources,
// the writers and the reconciler into the kernel's tables, and packets through test runs.

import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { loadOptions, type NodeDatapath, openNodeDatapath } from "../../src/agent/datapath.ts";
import { createServices, type Services } from "../../src/agent/services.ts";
import { createSettings } from "../../src/agent/settings.ts";
import { parseConfig } from "../../src/config/load.ts";
import type { DatapathMaps, DatapathPrograms } from "../../src/datapath/load.ts";
import { openDevices } from "../../src/device/devices.ts";
import { listPins, unpin } from "../../src/kernel/bpffs.ts";
import { type Address, type Family, formatAddress } from "../../src/net/address.ts";
import { buildPacket } from "../../src/net/packet.ts";
import { createLogger } from "../../src/telemetry/log.ts";
import { podDevice, UPLINKS } from "../differential/places.ts";
import { type Run, Runner } from "../differential/real.ts";
import { deviceOf, openWorld, type World } from "../differential/world.ts";
import type { Place } from "../model/numbers.ts";
import { widenLayers } from "../wide/layers.ts";
import { BEFORE, clusterYaml, movedYaml, NODE, SERVICES } from "./cluster.ts";
import type { Packet } from "./frames.ts";
import { waitFor } from "./wait.ts";
import { openWide } from "./wide-datapath.ts";
import { WIDE_PORTS } from "./wide-ports.ts";

export interface Send {
  readonly place: Place;
  readonly frame: Uint8Array;
  /** Number of the uplink, or of the pod, whose device it comes from. */
  readonly from?: number;
  /** Its name, if it is another one. */
  readonly device?: string;
  readonly gsoSize?: number;
  /** A device has summed up the packet, and the sum has to stay right. */
  readonly summedUp?: boolean;
  /** Where it runs; anywhere when left out. */
  readonly cpu?: number;
}

export interface Stage extends AsyncDisposable {
  /** Directory of the node's pins. */
  readonly pins: string;
  readonly family: Family;
  /** Those of the family, as if they held IPv4. */
  readonly maps: DatapathMaps;
  /** Rows of counters that one CPU has. */
  readonly counterStride: number;
  readonly programs: DatapathPrograms;
  readonly world: World;
  /** The frame of the family that says the same; `shorter`: as rows have it. */
  build(packet: Packet, shorter?: number): Uint8Array;
  send(packet: Send): Run;
  /** Forgets all flows, and what was counted. */
  forget(): void;
}

const WIDENING = { seed: 42n, ports: WIDE_PORTS, hashedSource: NODE };
const NO_TRAFFIC = { packets: 0n, bytes: 0n, connections: 0n, adopted: 0n };
const IDENTITY = { name: "this", address: NODE, mtu: 1500 };

/** `more` is YAML for the node's file. */
export async function openStage(more = "", family: Family = "ipv4"): Promise<Stage> {
  await using parts = new AsyncDisposableStack();
  const world = await openWorld();
  parts.defer(() => world.close());
  const directory = mkdtempSync(join(tmpdir(), `ciliate-packets-${process.pid}-`));
  parts.defer(() => rmSync(directory, { recursive: true }));
  const pins = `/sys/fs/bpf/${directory.slice(tmpdir().length + 1)}`;
  parts.defer(() => removePins(pins));

  const settings = createSettings(parseConfig(nodeYaml(directory, pins, more), "packet tests"));
  const { config } = settings;
  const logger = createLogger({
    settings: { ...config.log, format: "text" },
    write: (line) => process.stderr.write(line),
  });
  const log = logger.for("datapath");
  const failed = (error: Error): void => log.error("devices are not followed", { error });
  const devices = parts.use(openDevices({ namespace: world.path, failed }));
  const node = parts.use(await openNodeDatapath({ config, identity: IDENTITY, devices, log }));
  const services = parts.use(createServices(settings, IDENTITY, node, devices));
  await fill(node, services);
  const datapath =
    family === "ipv4"
      ? node.datapath
      : parts.use(openWide(loadOptions(config, IDENTITY, node.ticks)));
  const { maps, programs } = datapath;
  const runner = new Runner(datapath);
  parts.defer(() => runner.close());
  const owned = parts.move();
  return {
    pins,
    family,
    maps,
    programs,
    counterStride: node.datapath.sizes.counterStride,
    world,
    build: (packet, shorter = 0) =>
      buildPacket(...(family === "ipv4" ? packet : widenLayers(packet, { ...WIDENING, shorter }))),
    send: (packet) => send(world, runner, packet),
    forget: () => forget(maps),
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}

function nodeYaml(directory: string, pins: string, more: string): string {
  return `
devices: [${UPLINKS.join(", ")}]
acceleration: generic
hashSeed: 42
manifests: [${directory}]
trustedSources: [172.31.0.0/16]
tables: {services: 64, backends: 256, ringEntries: 65536, formerOwners: 16384}
conntrack: {maxEntries: 1024}
paths: {bpffs: ${pins}, runtime: ${directory}}
log: {level: error}
${more}`;
}

/** Applies the cluster, lets services move, and waits until the tables say so. */
async function fill(node: NodeDatapath, services: Services): Promise<void> {
  services.start();
  await services.loaded.opened;
  for (const yaml of [clusterYaml(), movedYaml()]) {
    await services.api.apply(yaml);
    const isMoved = yaml !== clusterYaml();
    await waitFor(() => inForce(services, isMoved), "the change of services");
    await services.settled();
    await node.tables.settled();
    await node.nexthops.settled();
  }
}

/** Whether every service has the backends that it should have. New ones wait half a second. */
function inForce({ lb }: Services, moved: boolean): boolean {
  const names = Object.keys(SERVICES) as (keyof typeof SERVICES)[];
  return names.every((name) => {
    const { address, port, protocol, backends } = SERVICES[name];
    const wanted = moved ? backends : (BEFORE[name] ?? backends);
    const row = [...lb.ports.rows()].find(
      (one) =>
        one.addresses.includes(address) &&
        one.port === port &&
        one.protocol === protocol.toLowerCase(),
    );
    const text = (list: readonly Address[]): string => list.map(formatAddress).sort().join();
    return row !== undefined && text(row.backends.map((one) => one.address)) === text(wanted);
  });
}

function send(world: World, runner: Runner, packet: Send): Run {
  const { place, frame, from = 0, gsoSize = 0, cpu, summedUp = false } = packet;
  const usual = place === "pod" ? podDevice(from) : (UPLINKS[from] ?? "");
  const device = packet.device ?? usual;
  const ifindex = deviceOf(world, device);
  return world.run(() => runner.run(place, { frame, ifindex, gsoSize, summedUp }, cpu));
}

function forget(maps: DatapathMaps): void {
  maps.conntrack.deleteAll([...maps.conntrack.entries()].map(([key]) => key));
  maps.fragments.deleteAll([...maps.fragments.entries()].map(([key]) => key));
  maps.affinities.deleteAll([...maps.affinities.entries()].map(([key]) => key));
  for (const [row, traffic] of maps.counters.entries()) {
    if (traffic.packets + traffic.adopted > 0n) maps.counters.update(row, NO_TRAFFIC);
  }
  const ids = maps.limits.raw.info.maxEntries;
  for (let id = 0; id < ids; id++) {
    const window = maps.limits.lookup(id);
    if (window !== undefined) maps.limits.update(id, { ...window, passed: 0, told: 0 });
  }
}

function removePins(pins: string): void {
  for (const name of listPins(pins)) unpin(join(pins, name));
  rmSync(pins, { recursive: true, force: true });
}
