// SPDX-License-Identifier: Apache-2.0
// The same 10 000 services with 100 000 backends as rules of kube-proxy's kind: how long until the
// kernel has them all, and how long until it has one endpoint less.

import { createNamespace, deleteNamespace } from "../src/kernel/netns.ts";
import type { Budget } from "./budget.ts";
import { runIn } from "./process.ts";
import { SERVICES } from "./program.ts";
import { printTable, type Results } from "./results.ts";
import {
  iptablesChange,
  iptablesRules,
  nftablesChange,
  nftablesRules,
  type RuleSet,
} from "./rules.ts";
import { type Summary, summarize } from "./statistics.ts";
import { BACKENDS_PER_SERVICE } from "./world.ts";

/** What takes longer is given up: nft needs minutes for so many chains. */
const LIMIT_SECONDS = 900;
const CHANGES = 5;

interface Alternative {
  readonly name: string;
  readonly load: readonly string[];
  rules(set: RuleSet): string;
  change(service: number, backends: number): string;
}

const ALTERNATIVES: readonly Alternative[] = [
  {
    name: "iptables_legacy",
    load: ["iptables-legacy-restore", "--noflush"],
    rules: iptablesRules,
    change: iptablesChange,
  },
  {
    name: "iptables",
    load: ["iptables-nft-restore", "--noflush"],
    rules: iptablesRules,
    change: iptablesChange,
  },
  { name: "nft", load: ["nft", "-f", "-"], rules: nftablesRules, change: nftablesChange },
];

export async function benchAlternatives(results: Results, { rounds }: Budget): Promise<void> {
  const services = rounds > 5 ? SERVICES : 100;
  const rows = [["rules by", "all, s", "one endpoint less, ms"]];
  for (const alternative of ALTERNATIVES) {
    const namespace = `ciliate-bench-${process.pid}-rules`;
    const path = createNamespace(namespace);
    try {
      const load = async (text: string): Promise<number> => {
        const start = performance.now();
        await runIn(path, ["timeout", `${LIMIT_SECONDS}`, ...alternative.load], text);
        return performance.now() - start;
      };
      const rules = alternative.rules({ services, backendsOf: () => BACKENDS_PER_SERVICE });
      const all = await load(rules).then(
        (ms) => ms / 1000,
        () => Number.POSITIVE_INFINITY,
      );
      const one: number[] = [];
      for (let change = 0; change < CHANGES && Number.isFinite(all); change++) {
        one.push(await load(alternative.change(services - 1 - change, BACKENDS_PER_SERVICE - 1)));
      }
      rows.push(report(alternative.name, all, one, services, results));
    } finally {
      deleteNamespace(namespace);
    }
  }
  printTable(`kube-proxy's rules for ${services} services of 10 backends`, rows);
}

function report(
  name: string,
  all: number,
  one: readonly number[],
  services: number,
  results: Results,
): string[] {
  if (!Number.isFinite(all)) return [name, `> ${LIMIT_SECONDS}`, ""];
  const changed: Summary = summarize(one);
  const whole = { value: all, min: all, max: all };
  results.add(`control.${name}.program_${services}_services.seconds`, "s", whole);
  results.add(`control.${name}.one_endpoint_change.ms`, "ms", changed);
  return [name, all.toFixed(2), changed.value.toFixed(0)];
}
