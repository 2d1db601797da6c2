// SPDX-License-Identifier: Apache-2.0

// What /metrics says of packets, services, tables and the way rows take to the kernel.

import type { Collector, CollectorFigures, FlowTableFigures } from "../conntrack/collector.ts";
import type { TrafficCount, VerdictCount } from "../datapath/metrics.ts";
import type { EndpointWriter } from "../endpoint/writer.ts";
import { placeText, verdictText } from "../flow/words.ts";
import { sourceRangesOf } from "../lb/entries.ts";
import type { ServicePort } from "../lb/rows.ts";
import { type Address, type Family, formatAddressPort, isIpv4 } from "../net/address.ts";
import type { MetricRegistry, MetricType, Sample } from "../telemetry/metrics.ts";
import type { NodeDatapath } from "./datapath.ts";
import { createEntryCount, type EntryCount } from "./entry-count.ts";
import type { Services } from "./services.ts";
import { nameOf, type SnatPortsWatch } from "./snat-ports.ts";
import type { EndedSockets } from "./sockets.ts";

type Collect = (
  name: string,
  type: MetricType,
  help: string,
  samples: () => Iterable<Sample>,
) => void;

/** Adds the metrics of everything that the agent wires. */
export function addFeatureMetrics(
  registry: MetricRegistry,
  node: NodeDatapath,
  services: Services,
  { sockets, ...counts }: Counts & { readonly sockets: EndedSockets },
): void {
  const collect: Collect = (name, type, help, samples) =>
    registry.collect({ name: `ciliate_${name}`, type, help }, samples);
  addPacketMetrics(collect, node);
  addServiceMetrics(collect, services);
  addTableMetrics(collect, node, services, counts);
  addReconcilerMetrics(collect, services);
  addSourceMetrics(collect, services);
  addConntrackMetrics(collect, counts.conntrack);
  addSnatMetrics(collect, counts.snatPorts);
  const closed = "Sockets closed as their backend or service was gone.";
  collect("sockets_closed_total", "counter", closed, () =>
    Object.entries(sockets.closed()).map(([protocol, value]) => ({ labels: { protocol }, value })),
  );
}

function addPacketMetrics(collect: Collect, { metrics }: NodeDatapath): void {
  const samples = function* (pick: (count: VerdictCount) => number): Generator<Sample> {
    for (const count of metrics.read()) {
      const [verdict = "", ...reason] = verdictText(count.verdict).split(" ");
      const labels = { place: placeText(count.place), verdict, reason: reason.join("_") };
      if (count.packets > 0 || verdict === "drop") yield { labels, value: pick(count) };
    }
  };
  const doc = "by place, verdict (pass, sent, drop) and reason";
  collect("packets_total", "counter", `Packets ${doc}.`, () => samples(({ packets }) => packets));
  collect("bytes_total", "counter", `Bytes of frames ${doc}.`, () => samples(({ bytes }) => bytes));
}

const TRAFFIC = ["packets", "bytes", "connections", "adopted"] as const;
const TRAFFIC_HELP: Readonly<Record<keyof TrafficCount, string>> = {
  packets: "Packets that this node sent to",
  bytes: "Bytes of frames that this node sent to",
  connections: "New connections that this node sent to",
  adopted: "Flows that this node took up for",
};

function addServiceMetrics(collect: Collect, { lb, traffic }: Services): void {
  for (const what of TRAFFIC) {
    collect(
      `service_${what}_total`,
      "counter",
      `${TRAFFIC_HELP[what]} a service, since the agent started.`,
      function* () {
        for (const row of lb.ports.rows()) {
          yield { labels: portLabels(row), value: traffic.ofPort(row.key)[what] };
        }
      },
    );
    collect(
      `backend_${what}_total`,
      "counter",
      `${TRAFFIC_HELP[what]} a backend of a service.`,
      function* () {
        for (const row of lb.ports.rows()) {
          for (const backend of [...row.backends, ...row.draining]) {
            const address = formatAddressPort(backend.address, backend.port);
            const labels = { ...portLabels(row), backend: address };
            yield { labels, value: traffic.ofBackend(backend.counter)[what] };
          }
        }
      },
    );
  }
  collect("services", "gauge", "Services known.", () => [{ value: lb.services.size }]);
  collect("service_ports", "gauge", "Ports of services known.", () => [{ value: lb.ports.size }]);
  const forgotten = "Ring slots whose former owners were forgotten, as there was no room.";
  collect("former_owners_forgotten_total", "counter", forgotten, () => [
    { value: lb.figures().formerForgotten },
  ]);
  const uncounted = "Times that a backend found no free counter.";
  collect("uncounted_backends_total", "counter", uncounted, () => [
    { value: lb.figures().uncounted },
  ]);
}

/** A port may have several rows: of IPv6, and with pods of this node only. */
function portLabels({ service, port, protocol, family, local }: ServicePort) {
  return {
    service,
    port: `${port}/${protocol}`,
    ...(family === "ipv6" ? { family } : {}),
    ...(local ? { policy: "local" } : {}),
  };
}

/** What has to walk through a table to know how full it is. */
export interface Counts {
  readonly conntrack: Collector;
  readonly counted: readonly CountedTable[];
  readonly snatPorts: SnatPortsWatch;
}

/** A table whose entries are counted on demand. */
export interface CountedTable {
  readonly table: string;
  readonly limit: number;
  readonly count: EntryCount;
}

/** Those of a node, of each family. For one entry more they forget the least used one. */
export function countedTables({ datapath }: NodeDatapath): CountedTable[] {
  const { maps, wide } = datapath;
  const all = [maps.affinities, maps.fragments, maps.socketPeers];
  const wideOnes = wide === undefined ? [] : [wide.affinities, wide.fragments, wide.socketPeers];
  return [...all, ...wideOnes].map(({ raw, spec }) => {
    return { table: spec.name, limit: raw.info.maxEntries, count: createEntryCount(raw) };
  });
}

/** How full a table is. */
export interface TableUse {
  readonly table: string;
  readonly used: number;
  readonly limit: number;
  /** What its fullness does to traffic, and the way out; empty when it does nothing. */
  readonly problem: string;
}

/** Every table with a limit; of those that are counted on demand, those that have been. */
export function tableUses(
  { tables, datapath, formerOwners, nexthops, wide }: NodeDatapath,
  { nodeName, lb, endpoints, ownBackends, nodes }: Services,
  { conntrack, counted, snatPorts }: Counts,
): readonly TableUse[] {
  const { entries, counterStride } = datapath.sizes;
  const of = (
    table: string,
    used: number,
    problem = "",
    limit = entries[table] ?? 0,
  ): TableUse => ({
    table,
    used,
    limit,
    problem,
  });
  const perFamily = (table: string, addresses: readonly Address[]): TableUse[] => {
    const narrow = addresses.filter(isIpv4).length;
    if (wide === undefined) return [of(table, narrow)];
    return [of(table, narrow), of(`${table}6`, addresses.length - narrow)];
  };
  const { counters, formerLostPorts } = lb.figures();
  return [
    ...tables.fill().map(({ table, used, limit }) => of(table, used, "", limit)),
    of("counters", counters, "", counterStride - 1),
    of("former_owners", formerOwners.used, lostOwners(formerLostPorts)),
    waysUse("nexthops", nexthops.status().length, entries["nexthops"] ?? 0),
    ...(wide === undefined
      ? []
      : [
          of("former_owners6", wide.formerOwners.used),
          waysUse("nexthops6", wide.nexthops.status().length, entries["nexthops6"] ?? 0),
        ]),
    ...perFamily("endpoints", [...podAddresses(endpoints, nodeName), ...ownBackends.keys()]),
    ...perFamily(
      "trusted",
      [...nodes.trusted.rows()].map(({ prefix }) => prefix.address),
    ),
    ...conntrack.figures().tables.map(flowTableUse),
    snatPorts.use(),
    of("source_ranges", rangesIn(lb.ports.rows(), "ipv4")),
    ...(wide === undefined ? [] : [of("source_ranges6", rangesIn(lb.ports.rows(), "ipv6"))]),
    // No problem when they are full: they are so after a while, of entries that nobody needs.
    ...counted.flatMap(({ table, limit, count: { entries } }) =>
      entries === undefined ? [] : [of(table, entries, "", limit)],
    ),
  ];
}

function podAddresses({ endpoints }: EndpointWriter, node: string): Address[] {
  return endpoints.by("node", node).flatMap(({ addresses }) => addresses);
}

function rangesIn(ports: Iterable<ServicePort>, family: Family): number {
  let ranges = 0;
  for (const port of ports) {
    if (port.family === family) ranges += sourceRangesOf(port)?.length ?? 0;
  }
  return ranges;
}

const ENTRIES_PER_FLOW = 2;

function flowTableUse({ table, entries, limit, pressure, halfOpenMs }: FlowTableFigures): TableUse {
  const full = entries + ENTRIES_PER_FLOW > limit;
  const dropped = full ? "full, new flows are dropped" : "nearly full";
  const early = `flows that nobody has answered are forgotten after ${halfOpenMs / 1000} s`;
  const problem = pressure === "none" ? "" : `${dropped}, and ${early}; raise conntrack.maxEntries`;
  return { table, used: entries, limit, problem };
}

/** Nobody is refused when ways out have no rows left, but they do without. */
export function waysUse(table: string, used: number, limit: number): TableUse {
  const isFull = used + 1 >= limit; // row 0 is no way's
  const problem = isFull
    ? "full, packets by other ways are routed one by one; raise tables.nodes"
    : "";
  return { table, used, limit, problem };
}

/** Other tables that are full refuse rows, and the row's refusal says so. */
function lostOwners(ports: number): string {
  if (ports === 0) return "";
  const who = ports === 1 ? "a service port" : `${ports} service ports`;
  return `no room for those of ${who}, whose connections may break; raise tables.formerOwners`;
}

function addTableMetrics(
  collect: Collect,
  node: NodeDatapath,
  services: Services,
  counts: Counts,
): void {
  const samples = (pick: (use: TableUse) => number) => (): Sample[] => {
    // For the next scrape; a walk that fails is tried again then.
    for (const { count } of counts.counted) void count.count().catch(() => undefined);
    return tableUses(node, services, counts).map((use) => ({
      labels: { table: use.table },
      value: pick(use),
    }));
  };
  collect(
    "table_entries",
    "gauge",
    "Entries in use by kernel table.",
    samples((use) => use.used),
  );
  collect(
    "table_limit",
    "gauge",
    "Entries that a kernel table holds.",
    samples((use) => use.limit),
  );
}

function addReconcilerMetrics(collect: Collect, { reconciler }: Services): void {
  type Figures = ReturnType<typeof reconciler.figures>;
  const add = (
    name: string,
    type: MetricType,
    help: string,
    value: (figures: Figures) => number,
  ): void => {
    collect(`reconciler_${name}`, type, help, () => [{ value: value(reconciler.figures()) }]);
  };
  add("pending_rows", "gauge", "Rows that aren't in force yet.", (f) => f.pendingRows);
  add("failed_rows", "gauge", "Rows that failed and are tried again.", (f) => f.failedRows);
  add("lag_seconds", "gauge", "Age of the oldest change not in force.", (f) => f.lagMs / 1000);
  add("written_total", "counter", "Entries written.", (f) => f.written);
  add("removed_total", "counter", "Entries removed.", (f) => f.removed);
  add("pruned_total", "counter", "Entries of before that nothing wanted.", (f) => f.pruned);
  add("failures_total", "counter", "Failed attempts.", (f) => f.failures);
  add(
    "longest_hold_seconds",
    "gauge",
    "Longest hold of the event loop.",
    (f) => f.longestHoldMs / 1000,
  );
}

/** What is known of where rows come from. */
interface Sources {
  readonly manifests: Pick<Services["manifests"], "figures">;
  readonly api: Pick<Services["api"], "size">;
  readonly complete: Pick<Services["complete"], "open">;
}

/** For addFeatureMetrics, and for tests. */
export function addSourceMetrics(collect: Collect, { manifests, api, complete }: Sources): void {
  // A walk over all problems: the first metric of a scrape makes it, and the others show the same.
  let figures = manifests.figures();
  const add = (name: string, help: string, value: () => number): void =>
    collect(name, "gauge", help, () => [{ value: value() }]);
  add("manifest_files", "Manifest files read.", () => {
    figures = manifests.figures();
    return figures.files;
  });
  add("manifest_objects", "Objects that manifests define.", () => figures.objects);
  add("manifest_errors", "Faults of manifests.", () => figures.errors);
  add(
    "manifest_load_seconds",
    "From the last change of manifests to its rows.",
    () => figures.lastLoadMs / 1000,
  );
  add("api_objects", "Objects that the API was given.", () => api.size);
  add("synced", "Whether all sources have told everything.", () => (complete.open ? 1 : 0));
}

function addSnatMetrics(collect: Collect, snatPorts: SnatPortsWatch): void {
  const limit = "Ports of this node that clients of one backend can get by SNAT.";
  collect("snat_ports", "gauge", limit, () => [{ value: snatPorts.ports }]);
  const used = "Ports that flows of SNAT have, by backend; of the backends with most.";
  collect("snat_ports_used", "gauge", used, () =>
    snatPorts.most().map((ports) => ({ labels: { backend: nameOf(ports) }, value: ports.used })),
  );
}

function addConntrackMetrics(collect: Collect, conntrack: Collector): void {
  collect("conntrack_removed_total", "counter", "Flow entries removed, by why.", () =>
    Object.entries(conntrack.figures().removed).map(([reason, value]) => ({
      labels: { reason },
      value,
    })),
  );
  const figure = (name: string, help: string, pick: (figures: CollectorFigures) => number): void =>
    collect(`conntrack_${name}`, "gauge", help, () => [{ value: pick(conntrack.figures()) }]);
  const walk = "How long the last walk took, with its pauses.";
  figure("walk_seconds", walk, ({ lastSweepMs }) => lastSweepMs / 1000);
  const cost = "Processor time of the last walk.";
  figure("walk_cpu_seconds", cost, ({ lastCostMs }) => lastCostMs / 1000);
  const hold = "Longest hold of the event loop by a walk.";
  figure("longest_hold_seconds", hold, ({ longestHoldMs }) => longestHoldMs / 1000);
}
