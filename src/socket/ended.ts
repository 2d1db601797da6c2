// SPDX-License-Identifier: Apache-2.0
// Notices when backends and service ports are gone for good, and has their sockets closed.

import type { ServiceId } from "../datapath/gen/abi.ts";
import type { Endpoint } from "../endpoint/rows.ts";
import type { EndpointSlice, ServicePort } from "../lb/rows.ts";
import type { Address } from "../net/address.ts";
import type { Node } from "../node/rows.ts";
import type { SyncGate } from "../state/gate.ts";
import type { Cursor, ReadTable } from "../state/table.ts";
import type { AnyPeer, AnyPeerKey, SocketCloser } from "./closer.ts";

export interface EndedOptions {
  readonly closer: Pick<SocketCloser, "close">;
  readonly ports: ReadTable<string, ServicePort>;
  readonly endpoints: ReadTable<string, Endpoint, "address">;
  readonly slices: ReadTable<string, EndpointSlice, "address">;
  readonly nodes: ReadTable<string, Node>;
  /** Whether a pod of any node may still have its connections. */
  readonly lives: (address: Address) => boolean;
  /** Opens when nothing of before can be missing any more: what is not there is gone. */
  readonly complete: SyncGate;
  /** When the kernel's tables are as the rows want them: nobody is sent to who is gone. */
  readonly settled: () => Promise<void>;
  readonly failed: (error: Error) => void;
}

/** Rows that go may come back from another file at once: then nothing is gone. */
const WAIT_MS = 500;

/**
 * Follows the tables until it is disposed. A pod is gone when neither a Pod row nor a slice names
 * it any more, or its node is gone; one that only drains is not.
 */
export function followEnded(options: EndedOptions): Disposable {
  return new Follower(options);
}

class Follower implements Disposable {
  readonly #options: EndedOptions;
  readonly #ports: Cursor<string, ServicePort>;
  readonly #pods: Cursor<string, Endpoint>;
  readonly #nodes: Cursor<string, Node>;
  readonly #addresses = new Map<string, readonly Address[]>();
  /** Of the services since the last closing began: one that is made meanwhile is among them. */
  readonly #ids = new Set<ServiceId>();
  /** Pods whose row has gone, until it is known whether they have. */
  readonly #suspects = new Set<Address>();
  #timer: NodeJS.Timeout | undefined;
  #closed = false;

  constructor(options: EndedOptions) {
    this.#options = options;
    const look = (): void => this.#look();
    this.#ports = options.ports.cursor(look);
    this.#pods = options.endpoints.cursor(look);
    this.#nodes = options.nodes.cursor(look);
    void options.complete.opened.then(() => {
      this.#look();
      // An agent before this one may not have seen who went.
      this.#schedule();
    });
  }

  [Symbol.dispose](): void {
    this.#closed = true;
    clearTimeout(this.#timer);
    for (const cursor of [this.#ports, this.#pods, this.#nodes]) cursor.close();
  }

  #look(): void {
    const { complete, slices } = this.#options;
    if (!complete.open || this.#closed) return;
    let ended = false;
    for (let change = this.#ports.take(); change; change = this.#ports.take()) {
      if (change.row === undefined) ended = true;
      else this.#ids.add(change.row.id);
    }
    for (let change = this.#nodes.take(); change; change = this.#nodes.take()) {
      if (change.row === undefined) ended = true;
    }
    for (let change = this.#pods.take(); change; change = this.#pods.take()) {
      const { key, row } = change;
      const before = this.#addresses.get(key) ?? [];
      if (row === undefined) this.#addresses.delete(key);
      else this.#addresses.set(key, row.addresses);
      for (const address of before) {
        if (row?.addresses.includes(address) !== true) this.#suspects.add(address);
      }
    }
    // Whom a slice names is looked at again when the service's port has changed.
    for (const address of this.#suspects) ended ||= !slices.hasBy("address", address);
    if (ended) this.#schedule();
  }

  #schedule(): void {
    if (this.#closed) return;
    this.#timer ??= setTimeout(() => {
      this.#close()
        .catch((error: unknown) => {
          this.#options.failed(error instanceof Error ? error : new Error(String(error)));
        })
        .finally(() => {
          this.#timer = undefined;
          this.#look();
        });
    }, WAIT_MS).unref();
  }

  async #close(): Promise<void> {
    const { ports, endpoints, slices, lives, settled, closer } = this.#options;
    await settled();
    const gone = new Set<Address>();
    for (const address of this.#suspects) {
      if (endpoints.hasBy("address", address)) this.#suspects.delete(address);
      else if (!slices.hasBy("address", address)) gone.add(address);
    }
    for (const address of gone) this.#suspects.delete(address);
    this.#ids.clear();
    for (const { id } of ports.rows()) this.#ids.add(id);
    // A look takes long: what is gone may have come again, for another pod.
    const isGone = (address: Address): boolean =>
      gone.has(address) &&
      !endpoints.hasBy("address", address) &&
      !slices.hasBy("address", address);
    const isOver = ({ backend }: AnyPeerKey, { service }: AnyPeer): boolean =>
      !this.#ids.has(service) || isGone(backend) || !lives(backend);
    await closer.close(isOver);
  }
}
