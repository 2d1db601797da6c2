// SPDX-License-Identifier: Apache-2.0

// From sources to the kernel's tables: writers, gates, the reconciler.

import { join } from "node:path";
import type { Config } from "../config/schema.ts";
import { createMapTarget } from "../datapath/map-target.ts";
import { endpointEntries } from "../endpoint/entries.ts";
import { createEndpointWriter, type EndpointWriter } from "../endpoint/writer.ts";
import { servicePortEntries } from "../lb/entries.ts";
import { readKernelState } from "../lb/kernel-state.ts";
import type { KernelState } from "../lb/restore.ts";
import { LbWriter } from "../lb/writer.ts";
import { ParserPool } from "../lb/yaml/pool.ts";
import { ManifestSource } from "../lb/yaml/source.ts";
import { trustedEntries } from "../node/entries.ts";
import { createNodeWriter, type NodeWriter } from "../node/writer.ts";
import { createSyncGate, type SyncGate } from "../state/gate.ts";
import { Reconciler } from "../state/reconciler.ts";
import { openAppliedFiles } from "./applied.ts";
import type { NodeDatapath } from "./datapath.ts";
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
  /** Opens when all rows of now are in their tables. */
  readonly loaded: SyncGate;
  /** Opens when nothing of before can be missing any more: then what no row wants is removed. */
  readonly complete: SyncGate;
  /** Begins to read the sources. */
  start(): void;
  /** Settles when the kernel's tables are as the rows want them, but for rows that failed. */
  settled(): Promise<void>;
}

type Targets = ReturnType<typeof targetsOf>;
export type ServiceReconciler = Reconciler<Targets>;

function targetsOf({ tables, datapath, formerOwners, endpoints }: NodeDatapath) {
  return {
    images: tables.images,
    frontends: tables.frontends,
    targets: createMapTarget(datapath.maps.targets),
    formerOwners,
    endpoints,
    trusted: createMapTarget(datapath.maps.trusted),
  };
}

/** Takes the ids of before from the kernel's tables, and puts the way to them together. */
export function createServices(
  settings: Settings,
  identity: NodeIdentity,
  node: NodeDatapath,
): Services {
  const { config } = settings;
  const loaded = createSyncGate();
  const complete = createSyncGate();
  const nodes = createNodeWriter();
  const endpoints = createEndpointWriter();
  const { sizes, maps } = node.datapath;
  const kernel = readKernelState(node.tables, maps.targets, node.formerOwners);
  const lb = new LbWriter({
    node: identity.name,
    endpoints: endpoints.endpoints,
    nodes: nodes.nodes,
    loaded,
    complete,
    kernel,
    limits: {
      servicePorts: sizes.serviceIds - 1,
      backends: sizes.counterStride - 1,
      formerSlots: config.tables.formerOwners,
    },
    timing: { udpMs: config.conntrack.udp },
  });
  const reconciler: ServiceReconciler = new Reconciler({
    targets: targetsOf(node),
    gate: complete,
  });
  const { encapsulate } = config;
  reconciler.add(nodes.trusted, trustedEntries);
  reconciler.add(endpoints.endpoints, (row) => endpointEntries(identity.name, row));
  reconciler.add(lb.ports, (row) => servicePortEntries({ encapsulate }, row));

  const traffic = createTraffic(lb.ports, node.counters, countersIn(kernel));
  const { api, parser } = openApi(config.paths.runtime, { lb, endpoints, nodes }, loaded, complete);
  const manifests = new ManifestSource({
    directories: config.manifests,
    sink: api.files,
    loaded: loaded.register("manifests"),
    complete: complete.register("manifests"),
  });
  // What was before is let go of only when what is now has its rows.
  const made = complete.register("services");
  void loaded.opened.then(() => lb.settled()).then(made);
  loaded.complete();
  complete.complete();

  const follow = ({ trustedSources, conntrack }: Config): void => {
    nodes.trustPrefixes(trustedSources);
    lb.setUdpTimeout(conntrack.udp);
  };
  follow(config);
  settings.onChange(follow);

  return {
    nodeName: identity.name,
    lb,
    endpoints,
    nodes,
    reconciler,
    manifests,
    api,
    traffic,
    loaded,
    complete,
    start() {
      api.start();
      manifests.start();
    },
    async settled() {
      await lb.settled();
      await reconciler.idle();
    },
    async [Symbol.asyncDispose]() {
      await manifests.close();
      await parser.close();
      traffic[Symbol.dispose]();
      lb.close();
      reconciler.close();
    },
  };
}

function openApi(runtime: string, writers: Writers, loaded: SyncGate, complete: SyncGate) {
  const parser = new ParserPool({ workers: 1 });
  const api = createApiSource({
    writers,
    kept: openAppliedFiles(join(runtime, "applied"), parser),
    parser,
    loaded: loaded.register("api"),
    complete: complete.register("api"),
  });
  return { api, parser };
}

function* countersIn({ services, targets }: KernelState): Generator<number> {
  for (const { backends } of services) for (const { counter } of backends) yield counter;
  for (const { counter } of targets) yield counter;
}
