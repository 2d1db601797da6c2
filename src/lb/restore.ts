// SPDX-License-Identifier: Apache-2.0
import type { ServiceId } from "../datapath/gen/abi.ts";
import type { Address } from "../net/address.ts";
import { type OwnedRing, packSlots } from "./former-owners.ts";
import type { PortNumbers } from "./port-numbers.ts";
import { type CounterId, type FormerOwners, type ScopedFrontend, scopedNumber } from "./rows.ts";

// What the kernel's tables hold at start, so that ids stay and flows of before keep their owners.

/** A service port as the tables have it. */
export interface KernelService {
  readonly id: ServiceId;
  readonly frontends: readonly ScopedFrontend[];
  /** Slot → index into `backends`. */
  readonly ring: Uint16Array;
  readonly backends: readonly KernelBackend[];
  /** Which way new flows went; whether others may have gone the other way. */
  readonly snat: boolean;
  readonly wasOther: boolean;
  readonly lately: boolean;
}

export interface KernelBackend {
  readonly address: Address;
  readonly port: number;
  readonly counter: CounterId;
}

/** A pod of this node that serves, or served, a service port. */
export interface KernelTarget extends KernelBackend {
  readonly service: ServiceId;
}

/** A slot's former owners, newest first. */
export interface KernelFormerOwners {
  readonly service: ServiceId;
  readonly slot: number;
  readonly owners: readonly Address[];
}

export interface KernelState {
  readonly services: readonly KernelService[];
  readonly targets: readonly KernelTarget[];
  readonly formerOwners: readonly KernelFormerOwners[];
}

/** A kernel that has nothing yet. */
export const NO_KERNEL_STATE: KernelState = { services: [], targets: [], formerOwners: [] };

/** What is known of a service port from before. */
export interface RestoredPort {
  readonly id: ServiceId;
  readonly ring: OwnedRing;
  readonly backends: ReadonlyMap<Address, RestoredBackend>;
  readonly former: FormerOwners | undefined;
  readonly snat: boolean;
  readonly wasOther: boolean;
  readonly lately: boolean;
}

export interface RestoredBackend extends KernelBackend {
  /** Whether it is a pod of this node. */
  readonly local: boolean;
}

/** Service ports from before, each to be taken by who has its frontends now. */
export class Restored {
  readonly #ports = new Map<ServiceId, RestoredPort>();
  readonly #byFrontend = new Map<number | bigint, ServiceId>();

  /** Their numbers are in use from now on; what can't be had is not gone on from. */
  constructor(state: KernelState, numbers: PortNumbers) {
    const targets = Map.groupBy(state.targets, ({ service }) => service);
    const formerOwners = Map.groupBy(state.formerOwners, ({ service }) => service);
    for (const { id, ring, backends, frontends, ...way } of state.services) {
      if (!numbers.claimId(id)) continue;
      const known = new Map<Address, RestoredBackend>();
      for (const backend of backends) known.set(backend.address, { ...backend, local: false });
      for (const { address, port, counter } of targets.get(id) ?? []) {
        known.set(address, { address, port, counter, local: true });
      }
      for (const [address, backend] of known) {
        known.set(address, { ...backend, counter: numbers.claimCounter(backend.counter) });
      }
      const owners = backends.map(({ address }) => address);
      const former = packSlots(ring.length, formerOwners.get(id) ?? [], Number.POSITIVE_INFINITY);
      const { snat, wasOther, lately } = way;
      const kept = { id, ring: { ring, owners }, backends: known, former, snat, wasOther, lately };
      this.#ports.set(id, kept);
      for (const frontend of frontends) this.#byFrontend.set(scopedNumber(frontend), id);
    }
  }

  /** The port that has had one of these frontends, unless it is taken. */
  find(frontends: readonly ScopedFrontend[]): RestoredPort | undefined {
    for (const frontend of frontends) {
      const id = this.#byFrontend.get(scopedNumber(frontend));
      const port = id === undefined ? undefined : this.#ports.get(id);
      if (port !== undefined) return port;
    }
    return undefined;
  }

  /** Its numbers are the caller's now; false if they aren't to be had any more. */
  take({ id }: RestoredPort): boolean {
    return this.#ports.delete(id);
  }

  /** Frees the numbers of those that nobody has taken. */
  forget(numbers: PortNumbers): void {
    for (const { id, backends } of this.#ports.values()) {
      numbers.releaseId(id);
      for (const { counter } of backends.values()) numbers.releaseCounter(counter);
    }
    this.#ports.clear();
    this.#byFrontend.clear();
  }
}
