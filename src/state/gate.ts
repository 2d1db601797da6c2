// SPDX-License-Identifier: Apache-2.0

/**
 * Opens when every registered source has said `synced`: only then is it known that what no row
 * wants is wanted by nobody. It never closes again.
 */
export interface SyncGate {
  /** Registers a source; it calls what it gets when all its rows of now are in their tables. */
  register(source: string): () => void;
  readonly open: boolean;
  /** The sources that haven't said `synced`. */
  readonly waitingFor: readonly string[];
  /** Settles when the gate opens. */
  readonly opened: Promise<void>;
  /** Says that no more sources will be registered; before that the gate stays shut. */
  complete(): void;
}

export function createSyncGate(): SyncGate {
  const waiting = new Set<string>();
  const { promise, resolve } = Promise.withResolvers<void>();
  let complete = false;
  let open = false;
  const check = (): void => {
    if (open || !complete || waiting.size > 0) return;
    open = true;
    resolve();
  };
  return {
    register(source) {
      if (complete) throw new Error(`source ${source} is registered after the gate is complete`);
      if (waiting.has(source)) throw new Error(`source ${source} is registered twice`);
      waiting.add(source);
      return () => {
        waiting.delete(source);
        check();
      };
    },
    get open() {
      return open;
    },
    get waitingFor() {
      return [...waiting];
    },
    opened: promise,
    complete() {
      complete = true;
      check();
    },
  };
}
