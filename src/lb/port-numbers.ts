// SPDX-License-Identifier: Apache-2.0
import type { ServiceId } from "../datapath/gen/abi.ts";
import { createIdAllocator, type IdAllocator, OutOfIdsError } from "../state/ids.ts";
import type { CounterId } from "./rows.ts";

/** What is not counted has this. */
const NO_COUNTER = 0 as CounterId;

/** Gives service ports and their backends the numbers by which the packet path knows them. */
export class PortNumbers {
  readonly #ids: IdAllocator;
  readonly #counters: IdAllocator;
  /** Services with a port that got no id, and why. */
  readonly #refused = new Map<string, string>();
  #uncounted = 0;

  constructor(limits: { readonly servicePorts: number; readonly backends: number }) {
    this.#ids = createIdAllocator("service ids", 1, limits.servicePorts);
    this.#counters = createIdAllocator("backend counters", 1, limits.backends);
  }

  figures() {
    return {
      serviceIds: this.#ids.used,
      counters: this.#counters.used,
      /** Times that a backend found no free counter. */
      uncounted: this.#uncounted,
    };
  }

  get hasFreeIds(): boolean {
    return this.#ids.used < this.#ids.limit;
  }

  /** Services with a port that got no id, and why. */
  refused(): IterableIterator<[service: string, text: string]> {
    return this.#refused.entries();
  }

  /** The service is looked at again, or gone. */
  forgive(service: string): void {
    this.#refused.delete(service);
  }

  /** Takes an id that the kernel's tables have; false if it can't be had. */
  claimId(id: ServiceId): boolean {
    return this.#ids.claim(id);
  }

  /** Takes a counter that the kernel's tables have; 0 if it can't be had. */
  claimCounter(counter: CounterId): CounterId {
    return this.#counters.claim(counter) ? counter : NO_COUNTER;
  }

  /** Undefined, and told by `refused`, when all are in use. */
  allocateId(port: string, service: string): ServiceId | undefined {
    try {
      return this.#ids.allocate() as ServiceId;
    } catch (error) {
      if (!(error instanceof OutOfIdsError)) throw error;
      this.#refused.set(
        service,
        `port ${port} is left out: ${error.message}; raise tables.services`,
      );
      return undefined;
    }
  }

  /** 0 when all are in use: the backend works, but isn't counted. */
  allocateCounter(): CounterId {
    try {
      return this.#counters.allocate() as CounterId;
    } catch (error) {
      if (!(error instanceof OutOfIdsError)) throw error;
      this.#uncounted++;
      return NO_COUNTER;
    }
  }

  releaseId(id: ServiceId): void {
    this.#ids.release(id);
  }

  releaseCounter(counter: CounterId): void {
    if (counter !== NO_COUNTER) this.#counters.release(counter);
  }
}
