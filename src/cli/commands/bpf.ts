// SPDX-License-Identifier: Apache-2.0
import type { Run } from "../command.ts";
import { type Cell, type Column, formatAge, formatBytes } from "../output.ts";
import { pinsOf, reading } from "../pins.ts";

/** The doors to the pinned tables: what is behind them loads libbpf. */
const door = () => import("../../datapath/dump.ts");
const clientsDoor = () => import("../../datapath/dump-clients.ts");

interface Listing<Dumps, Row> {
  readonly read: (dumps: Dumps, directory: string) => Iterable<Row>;
  readonly columns: readonly Column[];
  readonly cells: (row: Row) => readonly Cell[];
  readonly empty: string;
}

function listing<Dumps, Row>(
  open: () => Promise<Dumps>,
  { read, columns, cells, empty }: Listing<Dumps, Row>,
): Run {
  return async (context) => {
    const directory = pinsOf(context);
    const dumps = await open();
    const rows = reading(directory, () => [...read(dumps, directory)]);
    if (context.output.format === "json") context.output.json(rows);
    else context.output.table({ columns, rows: rows.map(cells), empty });
    return 0;
  };
}

interface Way {
  readonly local: boolean;
  readonly device: number;
  readonly gateway: string;
}

function wayText({ local, device, gateway }: Way): string {
  if (local) return "here";
  return device === 0 ? "the routing table" : `${gateway} on device ${device}`;
}

const right = (title: string): Column => ({ title, align: "right" });

export const listFrontends = listing(door, {
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

export const listBackends = listing(door, {
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

export const listRings = listing(door, {
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

export const listFlows = listing(door, {
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

export const listSockets = listing(door, {
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

export const listNat = listing(clientsDoor, {
  read: (dumps, directory) => dumps.dumpNat(directory),
  columns: [
    { title: "PROTOCOL" },
    { title: "CLIENT" },
    { title: "SERVICE" },
    { title: "POD" },
    { title: "AS" },
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
    row.as,
    formatAge(row.ageSeconds),
    formatAge(row.idleSeconds),
    row.packets,
    formatBytes(row.bytes),
    row.flags.join(","),
  ],
  empty: "no translated clients",
});

export const listAffinities = listing(clientsDoor, {
  read: (dumps, directory) => dumps.dumpAffinities(directory),
  columns: [
    right("SERVICE"),
    { title: "FRONTEND" },
    { title: "CLIENT" },
    { title: "POD" },
    right("IDLE"),
    right("KEPT"),
  ],
  cells: (row) => [
    row.service,
    row.frontend || "-",
    row.client,
    row.pod,
    formatAge(row.idleSeconds),
    row.keptSeconds === 0 ? "-" : formatAge(row.keptSeconds),
  ],
  empty: "no client is kept with a pod",
});

export const listSourceRanges = listing(clientsDoor, {
  read: (dumps, directory) => dumps.dumpSourceRanges(directory),
  columns: [right("SERVICE"), { title: "FRONTEND" }, { title: "POLICY" }, { title: "CLIENTS" }],
  cells: (row) => [row.service, row.frontend || "-", row.policy, row.prefix],
  empty: "no service chooses its clients",
});

export const listMetrics = listing(door, {
  read: (dumps, directory) => dumps.dumpMetrics(directory),
  columns: [{ title: "PLACE" }, { title: "VERDICT" }, right("PACKETS"), right("BYTES")],
  cells: (row) => [row.place, row.verdict, row.packets, formatBytes(row.bytes)],
  empty: "no packet has met the datapath",
});
