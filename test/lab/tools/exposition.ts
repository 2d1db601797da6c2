// SPDX-License-Identifier: Apache-2.0
// What an agent's /metrics says, by its lines.

import type { Lab } from "../../../src/lab/lab.ts";

const METRICS_PORT = 9962;

type Labels = Readonly<Record<string, string>>;

/** The metrics of one moment. */
export interface Exposition {
  /** Of all lines of a metric that have these labels among theirs, the sum. */
  sum(name: string, labels?: Labels): number;
}

/** Asks a node's agent. */
export async function expositionOf(lab: Lab, node: string): Promise<Exposition> {
  const answer = await lab.fetch(node, METRICS_PORT, "/metrics");
  if (answer?.status !== 200) throw new Error(`${node} gave no metrics: ${answer?.body}`);
  const lines = answer.body.split("\n").filter((line) => line !== "" && !line.startsWith("#"));
  return {
    sum(name, labels = {}) {
      const wanted = Object.entries(labels).map(([label, value]) => `${label}="${value}"`);
      return lines
        .filter((line) => /^\w+/.exec(line)?.[0] === name)
        .filter((line) => wanted.every((text) => line.includes(text)))
        .reduce((sum, line) => sum + Number(line.split(" ").at(-1)), 0);
    },
  };
}
