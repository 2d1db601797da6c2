// SPDX-License-Identifier: Apache-2.0
import type { Address, Family } from "../net/address.ts";
import { compareMembers } from "./maglev.ts";
import type { BackendState, EndpointSlice, ServicePortSpec } from "./rows.ts";

/** A pod that slices name for one port of a service. */
export interface Candidate {
  readonly address: Address;
  readonly port: number;
  readonly weight: number;
  readonly node: string;
  readonly condition: "ready" | "finishing" | "not-ready";
}

/** A pod with what it is good for. */
export interface Selected extends Candidate {
  readonly state: BackendState;
}

export interface Selection {
  /** Get new flows; ordered as on every node. */
  readonly ring: readonly Selected[];
  /** Known and alive, but get no new flows; ordered too. */
  readonly others: readonly Selected[];
}

/** What selection has to know of the world. */
export interface SelectionContext {
  /** Whether a node is part of the cluster; always true for the empty name. */
  hasNode(name: string): boolean;
  /** Whether the other nodes have had the time to hear of a pod. */
  hasJoined(address: Address): boolean;
}

/**
 * The pods of a family that slices name for one port of a service, each address once. A pod is
 * told from others by its address: where slices name it twice, ready wins, then the lower port.
 * With `publishNotReady` all count as ready.
 */
export function findCandidates(
  port: Pick<ServicePortSpec, "name" | "protocol">,
  family: Family,
  slices: Iterable<EndpointSlice>,
  publishNotReady = false,
): Candidate[] {
  const found = new Map<Address, Candidate>();
  for (const { ports, endpoints, family: theirs } of slices) {
    if (theirs !== family) continue;
    const match = ports.find(
      ({ name, protocol }) => name === port.name && protocol === port.protocol,
    );
    if (match === undefined) continue;
    for (const { address, ready, serving, terminating, node, weight } of endpoints) {
      const isReady = ready || publishNotReady;
      const condition = isReady ? "ready" : serving && terminating ? "finishing" : "not-ready";
      const candidate: Candidate = { address, port: match.port, weight, node, condition };
      const rival = found.get(address);
      if (rival === undefined || preference(candidate, rival) > 0) found.set(address, candidate);
    }
  }
  return [...found.values()];
}

const RANKS = { ready: 2, finishing: 1, "not-ready": 0 } as const;

/** Orders two views of one pod by everything in them, so that no order of slices matters. */
function preference(a: Candidate, b: Candidate): number {
  const byNumber = RANKS[a.condition] - RANKS[b.condition] || b.port - a.port;
  if (byNumber !== 0) return byNumber;
  return a.weight - b.weight || (a.node < b.node ? 1 : -1);
}

/**
 * Who gets new flows: the ready pods; if none is ready, those that still serve while they
 * terminate (KEP-1669). Weight 0 takes a pod out by hand, and pods of a node that has left the
 * cluster are out altogether. A pod that the other nodes may not know of waits, unless there is
 * nobody else.
 */
export function selectBackends(
  candidates: readonly Candidate[],
  context: SelectionContext,
): Selection {
  const known = candidates.filter(({ node }) => context.hasNode(node)).sort(compareMembers);
  const usable = known.filter(({ weight }) => weight > 0);
  const ready = usable.filter(({ condition }) => condition === "ready");
  const finishing = usable.filter(({ condition }) => condition === "finishing");
  const joined = ({ address }: Candidate): boolean => context.hasJoined(address);
  const groups = [ready.filter(joined), finishing.filter(joined), ready, finishing];
  const chosen = new Set(groups.find(({ length }) => length > 0) ?? []);
  const ring: Selected[] = [];
  const others: Selected[] = [];
  for (const candidate of known) {
    const state = stateOf(candidate, joined(candidate) || chosen.has(candidate));
    (chosen.has(candidate) ? ring : others).push({ ...candidate, state });
  }
  return { ring, others };
}

function stateOf({ condition, weight }: Candidate, joined: boolean): BackendState {
  if (condition !== "ready") return condition === "finishing" ? "terminating" : "not-ready";
  if (weight === 0) return "weightless";
  return joined ? "ready" : "joining";
}
