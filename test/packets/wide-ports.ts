// SPDX-License-Identifier: Apache-2.0
// Ports that follow from a flow's hash: what rows say of IPv4's, and those of IPv6.

import type { Ipv4 } from "../../src/net/address.ts";
import { flowHash, flowHash6 } from "../model/hash.ts";
import { widen } from "../wide/address.ts";
import { CLIENT, IDLE, protocolOf, SERVICES } from "./cluster.ts";
import type { ServiceName } from "./frames.ts";

const SEED = 42n;
const FIRST_PORT = 32_768;
const ALIASES = 8;
const NAT_PORTS = 32;

/** A flow of which rows name such ports: so many of the first ones. */
interface Named {
  readonly client: Ipv4;
  readonly clientPort: number;
  readonly name: ServiceName;
  readonly nat?: number;
  readonly aliases?: number;
  /** Of the UDP in front of Geneve. */
  readonly spreads?: number;
}

const FLOWS: readonly Named[] = [
  { client: CLIENT, clientPort: 40_000, name: "far", nat: NAT_PORTS },
  { client: CLIENT, clientPort: 40_000, name: "wentFar", nat: 1 },
  { client: CLIENT, clientPort: 40_002, name: "far", nat: 1 },
  { client: CLIENT, clientPort: 40_001, name: "farDns", nat: 1 },
  { client: CLIENT, clientPort: 1234, name: "far", nat: 1 },
  { client: CLIENT, clientPort: 40_000, name: "nearToo", aliases: ALIASES },
  { client: CLIENT, clientPort: 40_000, name: "near", aliases: 1 },
  { client: CLIENT, clientPort: 40_000, name: "here", aliases: 1 },
  { client: CLIENT, clientPort: 40_000, name: "far", spreads: 1 },
  { client: CLIENT, clientPort: 40_000, name: "farDns", spreads: 1 },
  { client: CLIENT, clientPort: 40_000, name: "farTalk", spreads: 1 },
  { client: IDLE, clientPort: 40_000, name: "near", aliases: ALIASES },
  { client: IDLE, clientPort: 40_000, name: "nearToo", aliases: 1 },
  { client: IDLE, clientPort: 40_002, name: "near", aliases: 1 },
];

function alias(low: number, index: number): number {
  return FIRST_PORT | ((low + index * 4099) & 0x7fff);
}

function nat(low: number, index: number): number {
  return FIRST_PORT + ((((low + index * 4099) & 0xffff) * (65_536 - FIRST_PORT)) >>> 16);
}

/** IPv6's port in place of IPv4's. */
export const WIDE_PORTS: ReadonlyMap<number, number> = new Map(
  FLOWS.flatMap(({ client, clientPort, name, nat: ports = 0, aliases = 0, spreads = 0 }) => {
    const { address: service, port: servicePort } = SERVICES[name];
    const rest = { clientPort, servicePort, protocol: protocolOf(name) };
    const four = flowHash({ client, service, ...rest }, SEED);
    const six = flowHash6({ client: widen(client), service: widen(service), ...rest }, SEED);
    const pairs = (of: typeof alias, count: number, half: "low" | "high"): [number, number][] =>
      Array.from({ length: count }, (_, index) => [of(four[half], index), of(six[half], index)]);
    return [
      ...pairs(nat, ports, "low"),
      ...pairs(alias, aliases, "low"),
      ...pairs(alias, spreads, "high"),
    ];
  }),
);

/** And back. */
export const NARROW_PORTS: ReadonlyMap<number, number> = new Map(
  [...WIDE_PORTS].map(([narrow, wide]) => [wide, narrow]),
);
