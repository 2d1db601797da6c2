// SPDX-License-Identifier: Apache-2.0
import { type Backend, type Sync, SyncState } from "../../api/gen/ciliate.ts";
import { type Cell, type Column, endpointText, enumWord, formatBytes } from "../output.ts";

export const BACKEND_COLUMNS: readonly Column[] = [
  { title: "BACKEND" },
  { title: "NODE" },
  { title: "CONDITION" },
  { title: "WEIGHT", align: "right" },
  { title: "SHARE", align: "right" },
  { title: "CONNECTIONS", align: "right" },
  { title: "PACKETS", align: "right" },
  { title: "BYTES", align: "right" },
];

export function backendCells(backend: Backend): Cell[] {
  const node = backend.local ? `${backend.node} (here)` : backend.node;
  return [
    endpointText(backend.address, backend.port),
    node.trim() || "-",
    conditionCell(backend.condition),
    backend.weight,
    `${(backend.share * 100).toFixed(1)} %`,
    backend.traffic?.connections ?? 0,
    backend.traffic?.packets ?? 0,
    formatBytes(backend.traffic?.bytes ?? 0),
  ];
}

function conditionCell(condition: string): Cell {
  if (condition === "ready") return { text: condition, colour: "green" };
  return { text: condition, colour: condition === "down" ? "red" : "yellow" };
}

/** Whether a row is in force in the kernel. */
export function syncCell(sync: Sync | undefined): Cell {
  const state = sync?.state ?? SyncState.UNSPECIFIED;
  const text = enumWord(state);
  if (state === SyncState.APPLIED) return { text, colour: "green" };
  if (state === SyncState.FAILED) return { text, colour: "red" };
  return { text, colour: "yellow" };
}
