// SPDX-License-Identifier: Apache-2.0
import type { Target } from "./target.ts";

/** A target that nothing may be written to: what isn't there on this node. */
export function createNoTarget<Key, Value>(name: string): Target<Key, Value> {
  return {
    name,
    idOf: String,
    same: Object.is,
    apply() {
      throw new Error(`there is no ${name} on this node`);
    },
    remove: () => [],
    keys: () => [],
  };
}
