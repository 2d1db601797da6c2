// SPDX-License-Identifier: Apache-2.0
// 10 000 services with 100 000 backends: from files to rows, and from rows to kernel tables, in
// this process, by the parts that the agent is made of.

import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createFormerOwnersTarget, type FormerSlots } from "../src/datapath/former-owners.ts";
import type {
  ServiceId,
  SourceRange,
  SourceRangeKey6,
  Target,
  TargetKey6,
} from "../src/datapath/gen/abi.ts";
import { createMapTarget } from "../src/datapath/map-target.ts";
import { openTables } from "../src/datapath/tables/tables.ts";
import { createEndpointWriter } from "../src/endpoint/writer.ts";
import { servicePortEntries } from "../src/lb/entries.ts";
import type { ManifestRow } from "../src/lb/shape/object.ts";
import { LbWriter } from "../src/lb/writer.ts";
import { ManifestSource } from "../src/lb/yaml/source.ts";
import { ANY_IPV4 } from "../src/net/address.ts";
import { createNodeWriter } from "../src/node/writer.ts";
import { createSyncGate } from "../src/state/gate.ts";
import { createNoTarget } from "../src/state/no-target.ts";
import { Reconciler } from "../src/state/reconciler.ts";
import type { Budget } from "./budget.ts";
import { manifestOf, nodesText } from "./manifests.ts";
import { printTable, type Results } from "./results.ts";
import { type Summary, summarize } from "./statistics.ts";
import { BACKENDS_PER_SERVICE, createWorld } from "./world.ts";

export const SERVICES = 10_000;
const FILES = 100;
const ROUNDS = 3;
const PORT_OPTIONS = { encapsulate: "all", jiffies: (spanMs: number) => spanMs / 4 } as const;

/** Writes 10 000 services as 100 files; the first `halved` ones with half their backends. */
export function writeManifests(directory: string, halved = 0): void {
  const share = SERVICES / FILES;
  const backends = (index: number): number =>
    index < halved ? BACKENDS_PER_SERVICE / 2 : BACKENDS_PER_SERVICE;
  writeFileSync(join(directory, "bench-nodes.yaml"), nodesText());
  for (let file = 0; file < FILES; file++) {
    const text = manifestOf(file * share, (file + 1) * share, backends);
    writeFileSync(join(directory, `services-${file}.yaml`), text);
  }
}

export async function benchProgram(results: Results, { rounds }: Budget): Promise<void> {
  const directory = mkdtempSync(join(tmpdir(), "ciliate-bench-"));
  const [parse, program]: [number[], number[]] = [[], []];
  try {
    writeManifests(directory);
    for (let round = 0; round < (rounds > 5 ? ROUNDS : 1); round++) {
      const { rows, seconds } = await readAll(directory);
      parse.push(seconds);
      program.push(await programAll(rows));
    }
  } finally {
    rmSync(directory, { recursive: true });
  }
  const format = ({ value, min, max }: Summary): string =>
    `${value.toFixed(2)} (${min.toFixed(2)}–${max.toFixed(2)})`;
  const [parsed, programmed] = [summarize(parse), summarize(program)];
  results.add("control.parse_10k_services.seconds", "s", parsed);
  results.add("control.program_10k_services.seconds", "s", programmed);
  printTable("10 000 services with 10 backends each, seconds: median (min–max)", [
    ["100 YAML files → validated rows", format(parsed)],
    ["validated rows → kernel tables, rings included", format(programmed)],
  ]);
}

/** Reads the files as the agent does, off the main thread. */
async function readAll(
  directory: string,
): Promise<{ readonly rows: readonly ManifestRow[]; readonly seconds: number }> {
  const rows: ManifestRow[] = [];
  const start = performance.now();
  const { promise: loaded, resolve } = Promise.withResolvers<void>();
  const source = new ManifestSource({
    directories: [directory],
    sink: { put: (row) => void rows.push(row), delete: () => undefined, refusals: () => [] },
    loaded: resolve,
    complete: () => undefined,
  });
  source.start();
  await loaded;
  const seconds = (performance.now() - start) / 1000;
  await source.close();
  const services = rows.filter(({ kind }) => kind !== "Node");
  if (services.length === 2 * SERVICES) return { rows: services, seconds };
  throw new Error(`${services.length} of ${2 * SERVICES} rows read`);
}

/** Seconds until every row is in the kernel's tables. */
async function programAll(rows: readonly ManifestRow[]): Promise<number> {
  using world = await createWorld({ services: 0 });
  const { maps, sizes } = world.datapath;
  using tables = await openTables({
    maps: {
      frontends: maps.frontends.raw,
      services: maps.services.raw,
      rings: maps.rings.raw,
      backends: maps.backends.raw,
    },
    nexthops: { acquire: () => 1, release: () => undefined, follow: () => undefined },
    now: () => 0,
  });
  const gate = createSyncGate();
  gate.complete();
  const lb = new LbWriter({
    node: "node1",
    endpoints: createEndpointWriter().endpoints,
    nodes: createNodeWriter().nodes,
    loaded: gate,
    complete: gate,
    limits: {
      servicePorts: sizes.serviceIds - 1,
      backends: sizes.counterStride - 1,
      formerSlots: 1_048_576,
    },
  });
  const reconciler = new Reconciler({
    targets: {
      images: tables.images,
      frontends: tables.frontends,
      targets: createMapTarget(maps.targets, "tables.endpoints"),
      formerOwners: createFormerOwnersTarget(maps.formerOwners, ANY_IPV4),
      sourceRanges: createMapTarget(maps.sourceRanges, "tables.sourceRanges"),
      targets6: createNoTarget<TargetKey6, Target>("targets6"),
      formerOwners6: createNoTarget<ServiceId, FormerSlots>("former_owners6"),
      sourceRanges6: createNoTarget<SourceRangeKey6, SourceRange>("source_ranges6"),
    },
    gate,
  });
  reconciler.add(lb.ports, (row) => servicePortEntries(PORT_OPTIONS, row));
  const start = performance.now();
  for (const content of rows) {
    if (content.kind === "Service") lb.putService(content.row);
    else if (content.kind === "EndpointSlice") lb.putSlice(content.row);
  }
  await lb.settled();
  await reconciler.idle();
  const seconds = (performance.now() - start) / 1000;
  const used = tables.fill().find(({ table }) => table === "backends")?.used;
  lb.close();
  reconciler.close();
  if (used === SERVICES * BACKENDS_PER_SERVICE) return seconds;
  throw new Error(`${used} of ${SERVICES * BACKENDS_PER_SERVICE} backends are in the tables`);
}
