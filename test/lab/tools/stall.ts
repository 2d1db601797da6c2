// SPDX-License-Identifier: Apache-2.0

/** How long something that was sent has waited for an answer, at worst. */
export class Stall {
  #longestMs = 0;
  #since: number | undefined;

  /** Something was sent; the clock runs unless it does already. */
  begin(): void {
    this.#since ??= performance.now();
  }

  /** Something came; the clock runs on when more is awaited. */
  end(more: boolean): void {
    this.#longestMs = this.longestMs();
    this.#since = more ? performance.now() : undefined;
  }

  longestMs(): number {
    const now = this.#since === undefined ? 0 : performance.now() - this.#since;
    return Math.max(this.#longestMs, now);
  }

  isOver(ms: number): boolean {
    return this.longestMs() > ms;
  }

  /** Forgets what was, but not what waits now. */
  forget(): void {
    this.#longestMs = 0;
  }
}
