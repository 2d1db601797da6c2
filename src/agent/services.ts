// SPDX-License-Identifier: Apache-2.0

// From sources to the kernel's tables: writers, gates, the reconciler.

import { join } from "node:path";
import type { Dispatch } from "../config/dispatch.ts";
import type { Config } from "../config/schema.ts";
import type { FormerSlots } from "../datapath/former-owners.ts";
import type {
  EndpointKey6,
  Peer6,
  ServiceId,
  SourceRange,
  SourceRangeKey6,
  Target,
  TargetKey6,
  Trusted,
  TrustedKey6,
} from "../datapath/gen/abi.ts";
import { createMapTarget } from "../datapath/map-target.ts";
import type { Devices } from "../device/devices.ts";
import { endpointEntries, ownEntries, type Reached } from "../endpoint/entries.ts";
import { createEndpointWriter, type EndpointWriter } from "../endpoint/writer.ts";
import { servicePortEntries } from "../lb/entries.ts";
import { createHealthChecks, type HealthChecks } from "../lb/health-check.ts";
import { createHostPorts } from "../lb/host-ports.ts";
import { type FamilyState, readKernelState } from "../lb/kernel-state.ts";
import { createOwnBackends, type OwnBackends } from "../lb/own-backends.ts";
import type { KernelState } from "../lb/restore.ts";
import { type LbRefusal, LbWriter } from "../lb/writer.ts";
import { ParserPool } from "../lb/yaml/pool.ts";
import { ManifestSource } from "../lb/yaml/source.ts";
import { type Address, FAMILIES, type Family, type Ipv6, isIpv4 } from "../net/address.ts";
import type { Prefix } from "../net/prefix.ts";
import { createNodeAddresses } from "../node/addresses.ts";
import { nodeAddressEntries, peerEntries, trustedEntries } from "../node/entries.ts";
import { createNodeWriter, type NodeWriter } from "../node/writer.ts";
import { createSyncGate, type SyncGate } from "../state/gate.ts";
import { createNoTarget } from "../state/no-target.ts";
import { Reconciler } from "../state/reconciler.ts";
import { openAppliedFiles } from "./applied.ts";
import type { NodeDatapath } from "./datapath.ts";
import { createPeers, followPeers } from "./peers.ts";
import { boundSockets, portConflicts } from "./port-conflicts.ts";
import type { Settings } from "./settings.ts";
import { type ApiSource, createApiSource, type Writers } from "./sources.ts";
import { createTraffic, type Traffic } from "./traffic.ts";
import type { NodeIdentity } from "./uplinks.ts";

/** Everything between sources and kernel tables. */
export interface Services extends AsyncDisposable {
  /** This node's name. */
  readonly nodeName: string;
  readonly lb: LbWriter;
  readonly endpoints: EndpointWriter;
  readonly nodes: NodeWriter;
  readonly reconciler: ServiceReconciler;
  readonly manifests: ManifestSource;
  readonly api: ApiSource;
  readonly traffic: Traffic;
  readonly healthChecks: HealthChecks;
  /** Addresses of this node that are backends. */
  readonly ownBackends: OwnBackends["backends"];
  /** Opens when all rows of now are in their tables. */
  readonly loaded: SyncGate;
  /** Opens when nothing of before can be missing any more: then what no row wants is removed. */
  readonly complete: SyncGate;
  readonly dispatch: Dispatch;
  /** Backends on other nodes to which there is no route now. */
  unrouted(): ReadonlySet<Address>;
  /** Begins to read the sources. */
  start(): void;
  /** Settles when the kernel's tables are as the rows want them, but for rows that failed. */
  settled(): Promise<void>;
}

type Targets = ReturnType<typeof targetsOf>;
export type ServiceReconciler = Reconciler<Targets>;

function targetsOf({ tables, datapath, formerOwners, endpoints, wide }: NodeDatapath) {
  const maps6 = datapath.wide;
  return {
    images: tables.images,
    frontends: tables.frontends,
    targets: createMapTarget(datapath.maps.targets, "tables.endpoints"),
    formerOwners,
    sourceRanges: createMapTarget(datapath.maps.sourceRanges, "tables.sourceRanges"),
    endpoints,
    trusted: createMapTarget(datapath.maps.trusted, "tables.nodes"),
    peers: createMapTarget(datapath.maps.peers, "tables.backends"),
    // Where IPv6 is off, no row has an entry of it.
    targets6:
      maps6 === undefined
        ? createNoTarget<TargetKey6, Target>("targets6")
        : createMapTarget(maps6.targets, "tables.endpoints"),
    formerOwners6: wide?.formerOwners ?? createNoTarget<ServiceId, FormerSlots>("former_owners6"),
    sourceRanges6:
      maps6 === undefined
        ? createNoTarget<SourceRangeKey6, SourceRange>("source_ranges6")
        : createMapTarget(maps6.sourceRanges, "tables.sourceRanges"),
    endpoints6: wide?.endpoints ?? createNoTarget<Ipv6, Reached>("endpoints6"),
    trusted6:
      maps6 === undefined
        ? createNoTarget<TrustedKey6, Trusted>("trusted6")
        : createMapTarget(maps6.trusted, "tables.nodes"),
    peers6:
      maps6 === undefined
        ? createNoTarget<EndpointKey6, Peer6>("peers6")
        : createMapTarget(maps6.peers, "tables.backends"),
  };
}

/** The tables' writers, with the ids of before from the kernel's tables. */
function openWriters(
  config: Config,
  identity: NodeIdentity,
  node: NodeDatapath,
  devices: Devices,
  gates: { readonly loaded: SyncGate; readonly complete: SyncGate },
) {
  const nodes = createNodeWriter();
  const endpoints = createEndpointWriter();
  const own =
    identity.address6 === undefined ? [identity.address] : [identity.address, identity.address6];
  const addresses = createNodeAddresses({
    devices,
    nodes: nodes.nodes,
    known: own,
  });
  const { sizes, maps } = node.datapath;
  const { targets } = maps;
  const states: FamilyState[] = [{ targets, formerOwners: node.formerOwners }];
  const { wide } = node.datapath;
  if (wide !== undefined && node.wide !== undefined) {
    states.push({ targets: wide.targets, formerOwners: node.wide.formerOwners });
  }
  const kernel = readKernelState(node.tables, states);
  const lb = new LbWriter({
    node: identity.name,
    endpoints: endpoints.endpoints,
    nodes: nodes.nodes,
    isOwn: (address) => addresses.addresses.get(address)?.own === true,
    ...gates,
    kernel,
    families: familiesOf(identity),
    ipv6Off: config.ipv6 === "off" ? undefined : identity.ipv6Off,
    nodePorts: config.nodePort.range === "off" ? undefined : config.nodePort.range,
    limits: {
      servicePorts: sizes.serviceIds - 1,
      backends: sizes.counterStride - 1,
      formerSlots: config.tables.formerOwners,
    },
    timing: { udpMs: config.conntrack.udp },
  });
  const hostPorts = createHostPorts({
    node: identity.name,
    endpoints: endpoints.endpoints,
    addresses: addresses.addresses,
    writer: lb,
  });
  const healthChecks = createHealthChecks({
    services: lb.services,
    ports: lb.ports,
    addresses: addresses.addresses,
  });
  const ownBackends = createOwnBackends({ lb, addresses: addresses.addresses });
  const peers =
    config.dispatch === "geneve"
      ? createPeers({
          tables: { endpoints, lb, nodes },
          ports: lb.ports,
          own,
          room: sizes.entries["peers"] ?? 0,
        })
      : undefined;
  return { nodes, endpoints, addresses, kernel, lb, hostPorts, healthChecks, ownBackends, peers };
}

type AllWriters = ReturnType<typeof openWriters>;

function openReconciler(
  config: Config,
  identity: NodeIdentity,
  node: NodeDatapath,
  { nodes, addresses, endpoints, lb, ownBackends, peers }: AllWriters,
  gate: SyncGate,
): ServiceReconciler {
  const reconciler: ServiceReconciler = new Reconciler({ targets: targetsOf(node), gate });
  const options = { encapsulate: config.encapsulate, jiffies: node.ticks.fromMs };
  const isServed = ({ address }: Pick<Prefix, "address">): boolean =>
    identity.address6 !== undefined || isIpv4(address);
  reconciler.add(nodes.trusted, (row) => (isServed(row.prefix) ? trustedEntries(row) : []));
  reconciler.add(addresses.addresses, nodeAddressEntries);
  reconciler.add(endpoints.endpoints, (row) =>
    endpointEntries(identity.name, row).filter(({ key }) => isServed({ address: key })),
  );
  reconciler.add(ownBackends.backends, ({ address }) => ownEntries(address));
  if (peers !== undefined) {
    reconciler.add(peers.rows, (row) => (isServed({ address: row.pod }) ? peerEntries(row) : []));
  }
  reconciler.add(lb.ports, (row) => servicePortEntries(options, row));
  return reconciler;
}

/** Takes what live keys of the node's file say, now and later. */
function followSettings(settings: Settings, { nodes, addresses, lb }: AllWriters): void {
  const follow = ({ trustedSources, nodePort, conntrack, ...rest }: Config): void => {
    nodes.trustPrefixes(trustedSources);
    addresses.serve(nodePort.addresses);
    lb.setUdpTimeout(conntrack.udp);
    const { mode, algorithm, noBackend } = rest;
    lb.setDefaults({ mode, algorithm, reject: noBackend === "reject" });
  };
  follow(settings.config);
  settings.onChange(follow);
}

/** Takes the ids of before from the kernel's tables, and puts the way to them together. */
export function createServices(
  settings: Settings,
  identity: NodeIdentity,
  node: NodeDatapath,
  devices: Devices,
): Services {
  const { config } = settings;
  const loaded = createSyncGate();
  const complete = createSyncGate();
  const writers = openWriters(config, identity, node, devices, { loaded, complete });
  const { nodes, endpoints, addresses, kernel, lb, hostPorts, healthChecks, ownBackends } = writers;
  const reconciler = openReconciler(config, identity, node, writers, complete);

  const traffic = createTraffic(lb.ports, node.counters, countersIn(kernel));
  const { api, parser } = openApi(config.paths.runtime, {
    writers: { lb, endpoints, nodes },
    warnings: () => warningsOf(config, identity, writers),
    gates: { loaded, complete },
  });
  const manifests = new ManifestSource({
    directories: config.manifests,
    sink: api.files,
    loaded: loaded.register("manifests"),
    complete: complete.register("manifests"),
  });
  // What was before is let go of only when what is now has its rows.
  const made = complete.register("services");
  void loaded.opened
    .then(() => hostPorts.follow())
    .then(() => lb.settled())
    .then(() => {
      made();
      healthChecks.start();
    });
  loaded.complete();
  complete.complete();

  followSettings(settings, writers);
  // What was before leads on until all that is now is known.
  let leave: () => void = () => undefined;
  const ways = [node.nexthops, ...(node.wide === undefined ? [] : [node.wide.nexthops])];
  if (config.dispatch === "geneve") {
    void loaded.opened.then(() => {
      const ends = ways.map((nexthops) => followPeers(writers, nexthops));
      leave = () => ends.forEach((end) => void end());
    });
  }

  return {
    nodeName: identity.name,
    lb,
    endpoints,
    nodes,
    reconciler,
    manifests,
    api,
    traffic,
    healthChecks,
    ownBackends: ownBackends.backends,
    loaded,
    complete,
    dispatch: config.dispatch,
    unrouted: () => new Set(ways.flatMap((nexthops) => nexthops.unrouted())),
    start() {
      api.start();
      manifests.start();
    },
    async settled() {
      hostPorts.follow();
      await lb.settled();
      await reconciler.idle();
    },
    async [Symbol.asyncDispose]() {
      await manifests.close();
      await parser.close();
      await healthChecks[Symbol.asyncDispose]();
      const followers = [hostPorts, ownBackends, addresses, writers.peers];
      for (const follower of followers) follower?.[Symbol.dispose]();
      leave();
      traffic[Symbol.dispose]();
      lb.close();
      reconciler.close();
    },
  };
}

/** Those that are served. */
function familiesOf({ address6 }: NodeIdentity): readonly Family[] {
  return address6 === undefined ? ["ipv4"] : FAMILIES;
}

function* warningsOf(
  { nodePort: { range, guard } }: Config,
  identity: NodeIdentity,
  { lb, addresses, healthChecks }: AllWriters,
): Generator<LbRefusal> {
  yield* healthChecks.problems();
  yield* portConflicts({
    services: lb.services,
    addresses: addresses.addresses,
    range: range === "off" ? undefined : range,
    families: familiesOf(identity),
    bound: guard ? boundSockets : () => [],
  });
}

interface ApiParts {
  readonly writers: Writers;
  readonly warnings: () => Iterable<LbRefusal>;
  readonly gates: { readonly loaded: SyncGate; readonly complete: SyncGate };
}

function openApi(runtime: string, { writers, warnings, gates }: ApiParts) {
  const parser = new ParserPool({ workers: 1 });
  const api = createApiSource({
    writers,
    kept: openAppliedFiles(join(runtime, "applied"), parser),
    parser,
    warnings,
    loaded: gates.loaded.register("api"),
    complete: gates.complete.register("api"),
  });
  return { api, parser };
}

function* countersIn({ services, targets }: KernelState): Generator<number> {
  for (const { backends } of services) for (const { counter } of backends) yield counter;
  for (const { counter } of targets) yield counter;
}
