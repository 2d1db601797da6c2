// SPDX-License-Identifier: Apache-2.0
// What programs may still be reading, until they can't.

import { gracePeriod } from "../../kernel/membarrier.ts";

/** Waits until every program run that has begun is over. */
export type Grace = () => Promise<void>;

/**
 * Keeps what was unpublished from being used again before a grace period has passed. Everything
 * that is retired while one passes shares the next.
 */
export class Quarantine {
  readonly #grace: Grace;
  #waiting: (() => void)[] = [];
  #round: Promise<void> | undefined;
  #error: Error | undefined;

  constructor(grace: Grace = gracePeriod) {
    this.#grace = grace;
  }

  /** Why the last grace period failed: nothing is reused until one passes. */
  get error(): Error | undefined {
    return this.#error;
  }

  /** Calls `release` after a grace period; what it releases must be unpublished already. */
  retire(release: () => void): void {
    this.#waiting.push(release);
    this.#start();
  }

  /** Whether something waits. */
  get busy(): boolean {
    return this.#waiting.length > 0 || this.#round !== undefined;
  }

  /** Settles when all that was retired before is released, or could not be. */
  async settled(): Promise<void> {
    while (this.busy) {
      this.#start();
      await this.#round;
      if (this.#error !== undefined) return;
    }
  }

  #start(): void {
    if (this.#round !== undefined) return;
    // One turn of the loop later, so that a batch of changes shares a grace period.
    this.#round = new Promise<void>((resolve) => setImmediate(resolve))
      .then(() => this.#pass())
      .finally(() => {
        this.#round = undefined;
        if (this.#waiting.length > 0 && this.#error === undefined) this.#start();
      });
  }

  async #pass(): Promise<void> {
    const released = this.#waiting;
    this.#waiting = [];
    try {
      await this.#grace();
    } catch (error) {
      this.#error = error instanceof Error ? error : new Error(String(error));
      this.#waiting = [...released, ...this.#waiting];
      return;
    }
    this.#error = undefined;
    for (const release of released) release();
  }
}
