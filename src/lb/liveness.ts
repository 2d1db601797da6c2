// SPDX-License-Identifier: Apache-2.0
import type { Endpoint } from "../endpoint/rows.ts";
import type { Address } from "../net/address.ts";
import type { Node } from "../node/rows.ts";
import type { ReadTable } from "../state/table.ts";
import type { EndpointSlice } from "./rows.ts";

export interface LivenessTables {
  readonly endpoints: ReadTable<string, Endpoint, "address">;
  readonly nodes: ReadTable<string, Node>;
  readonly slices: ReadTable<string, EndpointSlice, "address">;
}

/** Whose row went: its pod counts as alive a little longer, the row may only have moved. */
const GRACE_MS = 5000;

/** Whom nobody names, though nobody said that it ended. */
const FORGET_MS = 2 * 3600 * 1000;

/** Pods without a name that are remembered; one more is taken for dead. */
const MAX_LOST = 262_144;

/**
 * Which pods still have their connections. A pod lives while a Pod row or any slice names it and
 * its node is part of the cluster. When its Pod row goes and no slice names it, it is dead; when
 * it never had one, it is taken for alive until two hours after it was last named.
 */
export class Liveness {
  readonly #tables: LivenessTables;
  /** Addresses that were named once: until when they count as alive without a name. */
  readonly #lost = new Map<Address, { readonly node: string; readonly untilMs: number }>();
  #nextMs = Number.POSITIVE_INFINITY;

  constructor(tables: LivenessTables) {
    this.#tables = tables;
  }

  /** Whether a node is part of the cluster. Without any Node rows, all are. */
  hasNode(name: string): boolean {
    const { nodes } = this.#tables;
    return name === "" || nodes.size === 0 || nodes.has(name);
  }

  lives(address: Address, nowMs: number): boolean {
    const { endpoints, slices } = this.#tables;
    const pods = endpoints.by("address", address);
    if (pods.length > 0) return pods.some(({ node }) => this.hasNode(node));
    if (slices.hasBy("address", address)) return this.hasNode(this.#nodeInSlices(address));
    const lost = this.#lost.get(address);
    return lost !== undefined && lost.untilMs > nowMs && this.hasNode(lost.node);
  }

  /** The node that a pod is on, by its Pod row; empty when it has none. */
  nodeOfPod(address: Address): string {
    return this.#tables.endpoints.by("address", address)[0]?.node ?? "";
  }

  /** A slice has stopped to name a pod. */
  leftSlice(address: Address, node: string, nowMs: number): void {
    const { endpoints, slices } = this.#tables;
    if (slices.hasBy("address", address) || endpoints.hasBy("address", address)) return;
    if (this.#lost.has(address)) this.#nextMs = Math.min(this.#nextMs, nowMs + GRACE_MS);
    else this.#lose(address, node, nowMs + FORGET_MS);
  }

  /** A pod's row is there. */
  podSeen(address: Address): void {
    this.#lost.delete(address);
  }

  /** A pod's row has gone. */
  podGone(address: Address, node: string, nowMs: number): void {
    if (this.#tables.endpoints.hasBy("address", address)) return;
    this.#lose(address, node, nowMs + GRACE_MS);
  }

  /** When `expire` has something to do next; Infinity for never. */
  get nextMs(): number {
    return this.#nextMs;
  }

  /** Forgets what has run out, and tells whom. */
  expire(nowMs: number): Address[] {
    const dead: Address[] = [];
    this.#nextMs = Number.POSITIVE_INFINITY;
    for (const [address, { untilMs }] of this.#lost) {
      // While a slice names it, it must be remembered that its Pod row has gone.
      if (this.#tables.slices.hasBy("address", address)) continue;
      if (untilMs > nowMs) {
        this.#nextMs = Math.min(this.#nextMs, untilMs);
        continue;
      }
      this.#lost.delete(address);
      dead.push(address);
    }
    return dead;
  }

  #lose(address: Address, node: string, untilMs: number): void {
    if (this.#lost.size >= MAX_LOST) return;
    this.#lost.set(address, { node, untilMs });
    this.#nextMs = Math.min(this.#nextMs, untilMs);
  }

  #nodeInSlices(address: Address): string {
    for (const { endpoints } of this.#tables.slices.by("address", address)) {
      for (const endpoint of endpoints) {
        if (endpoint.address === address && endpoint.node !== "") return endpoint.node;
      }
    }
    return "";
  }
}
