// SPDX-License-Identifier: Apache-2.0
// What the switch counts of the packets that it forwards, by nftables.

import { LabError, type Place } from "./plan.ts";
import { type RunResult, runIn } from "./process.ts";

export interface Counter {
  /** As the switch's kernel saw them: where GRO is on, one may be several on the wire. */
  readonly packets: number;
  readonly bytes: number;
}

export interface SwitchCounters {
  readonly total: Counter;
  /** With an IPv4 option: what a hardware switch's slow path would get. */
  readonly options: Counter;
  /** With hop-by-hop or destination options of IPv6: the same. */
  readonly options6: Counter;
  /** IPv4 in IPv4. */
  readonly ipip: Counter;
  /** IPv6 in IPv6. */
  readonly ip6ip6: Counter;
  /** UDP to port 6081. */
  readonly geneve: Counter;
}

const TABLE = "inet ciliate-lab";
const NAMES = ["total", "options", "options6", "ipip", "ip6ip6", "geneve"] as const;

// Before all else (raw is at -300), so that what is dropped later counts too, but for what IPv6
// speaks on each wire alone. A header of IPv4 of more than five words has options.
const RULES = `table ${TABLE} {
${NAMES.map((name) => `  counter ${name} { }`).join("\n")}
  chain arriving {
    type filter hook prerouting priority -400; policy accept;
    ip6 daddr { fe80::/10, ff00::/8 } accept
    icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } accept
    counter name "total"
    ip hdrlength > 5 counter name "options"
    ip6 nexthdr { hopopt, ipv6-opts } counter name "options6"
    ip protocol 4 counter name "ipip"
    ip6 nexthdr 41 counter name "ip6ip6"
    udp dport 6081 counter name "geneve"
  }
}
`;

async function nft(place: Place, args: readonly string[], input?: string): Promise<RunResult> {
  const options = input === undefined ? {} : { input };
  const result = await runIn(place, ["nft", ...args], options);
  if (result.code === 0) return result;
  const why = result.stderr.trim().split("\n")[0] ?? "";
  throw new LabError(`nft ${args.join(" ")} in ${place.namespace} failed: ${why}`);
}

/** Makes the switch count. */
export async function startCounting(place: Place): Promise<void> {
  await nft(place, ["-f", "-"], RULES);
}

/** Sets the counters to zero. */
export async function resetCounters(place: Place): Promise<void> {
  await nft(place, ["reset", "counters", "table", ...TABLE.split(" ")]);
}

interface NftObject {
  readonly counter?: { readonly name: string } & Counter;
}

/** What was counted since the lab came up or the counters were reset. */
export async function readCounters(place: Place): Promise<SwitchCounters> {
  const { stdout } = await nft(place, ["-j", "list", "counters", "table", ...TABLE.split(" ")]);
  const { nftables } = JSON.parse(stdout) as { nftables: NftObject[] };
  const read = (name: (typeof NAMES)[number]): Counter => {
    const counter = nftables.find((object) => object.counter?.name === name)?.counter;
    if (counter === undefined) throw new LabError(`${place.namespace} has no counter ${name}`);
    return { packets: counter.packets, bytes: counter.bytes };
  };
  return Object.fromEntries(NAMES.map((name) => [name, read(name)])) as unknown as SwitchCounters;
}
