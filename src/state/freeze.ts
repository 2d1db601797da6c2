// SPDX-License-Identifier: Apache-2.0

/** Whether rows are frozen when they enter a table: under node:test, or with CILIATE_FREEZE=1. */
export const FREEZE_ROWS =
  process.env["NODE_TEST_CONTEXT"] !== undefined || process.env["CILIATE_FREEZE"] === "1";

/**
 * Freezes a value and all that it holds, so that a writer who changes a row in place is caught.
 * Typed arrays can't be frozen and are left as they are.
 */
export function deepFreeze<T>(value: T): T {
  if (typeof value !== "object" || value === null) return value;
  if (ArrayBuffer.isView(value) || Object.isFrozen(value)) return value;
  Object.freeze(value);
  for (const inner of Object.values(value)) deepFreeze(inner);
  return value;
}
