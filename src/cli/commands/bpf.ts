// SPDX-License-Identifier: Apache-2.0
import type { Context, Run } from "../command.ts";
import { CliError } from "../exit.ts";
import { type Cell, type Column, formatAge, formatBytes } from "../output.ts";

const DEFAULT_PINS = "/sys/fs/bpf/ciliate";

/** The door to the pinned tables: what is behind it loads libbpf. */
const door = () => import("../../datapath/dump.ts");

type Dumps = Awaited<ReturnType<typeof door>>;

interface Listing<Row> {
  readonly read: (dumps: Dumps, directory: string) => Iterable<Row>;
  readonly columns: readonly Column[];
  readonly cells: (row: Row) => readonly Cell[];
  readonly empty: string;
}

function listing<Row>({ read, columns, cells, empty }: Listing<Row>): Run {
  return async (context) => {
    const directory = pinsOf(context);
    const dumps = await door();
    const rows = readAll(directory, () => read(dumps, directory));
    if (context.output.format === "json") context.output.json(rows);
    else context.output.table({ columns, rows: rows.map(cells), empty });
    return 0;
  };
}

function pinsOf({ option, env }: Context): string {
  return option("bpffs") ?? env["CILIATE_BPFFS"] ?? DEFAULT_PINS;
}

function readAll<Row>(directory: string, read: () => Iterable<Row>): Row[] {
  try {
    return [...read()];
  } catch (error) {
    const code = error instanceof Error && "code" in error ? error.code : undefined;
    if (code === "ENOENT") {
      const hint = "has an agent run on this node? --bpffs names another directory";
      throw new CliError("notFound", `there are no tables in ${directory}: ${hint}`);
    }
    if (code === "EPERM" || code === "EACCES") {
      throw new CliError("failed", `may not read the tables in ${directory}: run as root`);
    }
    throw error;
  }
}

interface Way {
  readonly local: boolean;
  readonly device: number;
  readonly gateway: string;
}

function wayText({ local, device, gateway }: Way): string {
  if (local) return "a pod here";
  return device === 0 ? "the routing table" : `${gateway} on device ${device}`;
}

const right = (title: string): Column => ({ title, align: "right" });

export const listFrontends = listing({
  read: (dumps, directory) => dumps.dumpFrontends(directory),
  columns: [
    { title: "FRONTEND" },
    { title: "KIND" },
    { title: "PROTOCOL" },
    right("ID"),
    right("ROW"),
    right("BACKENDS"),
    right("RING"),
    { title: "FLAGS" },
  ],
  cells: (row) => [
    row.frontend,
    row.kind,
    row.protocol,
    row.id,
    row.row,
    row.backends,
    row.ringSize,
    row.flags.join(","),
  ],
  empty: "no frontends",
});

export const listBackends = listing({
  read: (dumps, directory) => dumps.dumpBackends(directory),
  columns: [
    right("SERVICE"),
    right("INDEX"),
    { title: "BACKEND" },
    { title: "BY" },
    right("CONNECTIONS"),
    right("PACKETS"),
    right("BYTES"),
  ],
  cells: (row) => [
    row.service,
    row.index,
    row.backend,
    wayText(row),
    row.connections,
    row.packets,
    formatBytes(row.bytes),
  ],
  empty: "no backends",
});

export const listRings = listing({
  read: (dumps, directory) => dumps.dumpRings(directory),
  columns: [right("SERVICE"), right("RING"), { title: "BACKEND" }, right("SLOTS"), right("SHARE")],
  cells: (row) => [
    row.service,
    row.ringSize,
    row.backend,
    row.slots,
    `${(row.share * 100).toFixed(2)} %`,
  ],
  empty: "no rings",
});

export const listFlows = listing({
  read: (dumps, directory) => dumps.dumpFlows(directory),
  columns: [
    { title: "PROTOCOL" },
    { title: "CLIENT" },
    { title: "SERVICE" },
    { title: "POD" },
    right("AGE"),
    right("IDLE"),
    right("PACKETS"),
    right("BYTES"),
    { title: "FLAGS" },
  ],
  cells: (row) => [
    row.protocol,
    row.client,
    row.service,
    row.pod,
    formatAge(row.ageSeconds),
    formatAge(row.idleSeconds),
    row.packets,
    formatBytes(row.bytes),
    row.flags.join(","),
  ],
  empty: "no flows",
});

export const listSockets = listing({
  read: (dumps, directory) => dumps.dumpSockets(directory),
  columns: [
    { title: "PROTOCOL" },
    right("SOCKET"),
    right("NAMESPACE"),
    { title: "SERVICE" },
    { title: "BACKEND" },
    right("AGE"),
  ],
  cells: (row) => [
    row.protocol,
    String(row.cookie),
    String(row.netns),
    row.service,
    row.backend,
    formatAge(row.ageSeconds),
  ],
  empty: "no sockets",
});

export const listMetrics = listing({
  read: (dumps, directory) => dumps.dumpMetrics(directory),
  columns: [{ title: "PLACE" }, { title: "VERDICT" }, right("PACKETS"), right("BYTES")],
  cells: (row) => [row.place, row.verdict, row.packets, formatBytes(row.bytes)],
  empty: "no packet has met the datapath",
});
