// SPDX-License-Identifier: Apache-2.0
// How much a campaign does: little in `make test`, a lot in `make soak`, by the same code.

/** By these, soak.ts gives a test its budgets, as JSON. */
export const BUDGET_VARIABLE = "CILIATE_BUDGET";

/** The budget of this name, or the usual one. */
export function budget(name: string, usual: number): number {
  const all = JSON.parse(process.env[BUDGET_VARIABLE] ?? "{}") as Record<string, number>;
  return all[name] ?? usual;
}
