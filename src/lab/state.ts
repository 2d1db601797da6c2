// SPDX-License-Identifier: Apache-2.0
// What a lab leaves on disk, and its removal by name alone: of a lab that was killed anywhere on
// its way up or down nothing else may be known.

import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmdirSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { dirname, join } from "node:path";
import { cgroupPath, removeCgroup } from "../kernel/cgroup.ts";
import { deleteNamespace, listNamespaces } from "../kernel/netns.ts";
import {
  CGROUP_PARENT,
  LabError,
  type LabSettings,
  labPaths,
  namespacePrefix,
  PIN_DIRECTORY,
  RUN_DIRECTORY,
} from "./plan.ts";
import { endProcess, identify, isAlive, type ProcessId, until } from "./process.ts";

const FORMAT = 1;
const KILL_LIMIT_MS = 10_000;

/** What lab.json says. */
export interface LabState {
  readonly format: typeof FORMAT;
  readonly phase: "starting" | "up";
  /** Who brings or brought it up. */
  readonly creator: ProcessId;
  readonly settings: LabSettings;
  /** By the node's name. */
  readonly agents: Readonly<Record<string, ProcessId>>;
}

/** A new lab's state. */
export function newState(settings: LabSettings): LabState {
  return {
    format: FORMAT,
    phase: "starting",
    creator: identify(process.pid),
    settings,
    agents: {},
  };
}

function stateFile(name: string): string {
  return join(labPaths(name).state, "lab.json");
}

/** Writes a file such that readers see the old text or the new, never half. */
export function replaceFile(path: string, text: string): void {
  const temporary = join(dirname(path), `.${process.pid}.tmp`);
  writeFileSync(temporary, text);
  renameSync(temporary, path);
}

/** Keeps a lab's state, making its directory if need be. */
export function writeState(state: LabState): void {
  const file = stateFile(state.settings.name);
  mkdirSync(dirname(file), { recursive: true, mode: 0o700 });
  replaceFile(file, `${JSON.stringify(state, null, 2)}\n`);
}

/** A lab's state; undefined when there is none that this version can read. */
export function readState(name: string): LabState | undefined {
  let text: string;
  try {
    text = readFileSync(stateFile(name), "utf8");
  } catch {
    return undefined;
  }
  const state = JSON.parse(text) as LabState;
  return state.format === FORMAT ? state : undefined;
}

/** The names of all labs that have a directory, whole or in ruins, sorted. */
export function listLabs(): string[] {
  if (!existsSync(RUN_DIRECTORY)) return [];
  return readdirSync(RUN_DIRECTORY)
    .filter((entry) => /^lab-[a-z][a-z0-9]{0,11}$/.test(entry))
    .map((entry) => entry.slice("lab-".length))
    .sort();
}

/** Whether anything of a lab of this name is there. */
export function labExists(name: string): boolean {
  const { state, pins, cgroup } = labPaths(name);
  return (
    existsSync(state) ||
    existsSync(pins) ||
    existsSync(cgroupPath(cgroup)) ||
    namespacesOf(name).length > 0
  );
}

function namespacesOf(name: string): string[] {
  return listNamespaces().filter((namespace) => namespace.startsWith(namespacePrefix(name)));
}

/** The files of namespaces, also those that a broken creation left without a namespace. */
function namespaceFiles(name: string): string[] {
  const directory = "/run/netns";
  if (!existsSync(directory)) return [];
  return readdirSync(directory).filter((file) => file.startsWith(namespacePrefix(name)));
}

async function endProcesses(name: string): Promise<void> {
  for (const agent of Object.values(readState(name)?.agents ?? {})) {
    if (isAlive(agent)) await endProcess(agent, "SIGKILL");
  }
  await removeCgroupWithProcesses(cgroupPath(labPaths(name).cgroup));
}

/** Again until it is gone: a process that was just being started may join after the kill. */
async function removeCgroupWithProcesses(cgroup: string): Promise<void> {
  await until(`processes in ${cgroup} to end`, KILL_LIMIT_MS, () => {
    if (!existsSync(cgroup)) return true;
    writeFileSync(join(cgroup, "cgroup.kill"), "1");
    try {
      removeCgroup(cgroup);
      return true;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === "EBUSY") return false;
      throw error;
    }
  });
}

function removeIfEmpty(directory: string): void {
  try {
    rmdirSync(directory);
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code;
    if (code !== "ENOTEMPTY" && code !== "ENOENT" && code !== "EBUSY") throw error;
  }
}

/**
 * Removes all of a lab: processes, pins, namespaces, cgroups, files; the state last, so that a
 * removal that was cut short can be repeated. What isn't there is no error.
 */
export async function removeLab(name: string): Promise<void> {
  const { state, pins } = labPaths(name);
  await endProcesses(name);
  rmSync(pins, { recursive: true, force: true });
  for (const namespace of namespaceFiles(name)) deleteNamespace(namespace);
  rmSync(state, { recursive: true, force: true });
  for (const parent of [cgroupPath(CGROUP_PARENT), PIN_DIRECTORY, RUN_DIRECTORY]) {
    removeIfEmpty(parent);
  }
}

/**
 * Throws LabError when a lab of this name lives: then it must not be taken for ruins. One agent is
 * enough, as whoever tries things out may have killed the others.
 */
export function refuseLiving(name: string): void {
  const state = readState(name);
  if (state === undefined) return;
  if (state.phase === "starting") {
    if (!isAlive(state.creator) || state.creator.pid === process.pid) return;
    throw new LabError(
      `lab ${name} is being brought up by process ${state.creator.pid}: wait, or end that process`,
    );
  }
  const living = !state.settings.agents || Object.values(state.agents).some(isAlive);
  const namespaces = namespacesOf(name).length;
  const places = 2 + state.settings.nodes * (1 + state.settings.podsPerNode);
  if (!living || namespaces < places) return;
  throw new LabError(
    `lab ${name} is up already: take it down with \`ciliate lab down --name ${name}\` first`,
  );
}
