// SPDX-License-Identifier: Apache-2.0

/**
 * For long loops: what it gives is called and awaited after each step, and lets the event loop have
 * its turn whenever it has been held for `budgetMs`.
 */
export function createBreather(budgetMs: number): () => Promise<void> | undefined {
  let heldSinceMs = performance.now();
  return () => {
    if (performance.now() - heldSinceMs < budgetMs) return undefined;
    return new Promise((resolve) => {
      setImmediate(() => {
        heldSinceMs = performance.now();
        resolve();
      });
    });
  };
}
