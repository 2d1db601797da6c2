// SPDX-License-Identifier: Apache-2.0
import type { Endpoint } from "../endpoint/rows.ts";
import { type Address, formatAddress, type Ipv4, isIpv4, parseIpv4 } from "../net/address.ts";
import type { Node } from "../node/rows.ts";
import { createSyncGate } from "../state/gate.ts";
import { createTable } from "../state/table.ts";
import { eachSlot } from "./former-owners.ts";
import type { PortRange } from "./port-plan.ts";
import type { KernelState } from "./restore.ts";
import {
  type Backend,
  DEFAULT_POLICY,
  type EndpointSlice,
  objectKey,
  type Protocol,
  type Service,
  type ServicePort,
  type SliceEndpoint,
} from "./rows.ts";
import { type LbLimits, type LbTiming, LbWriter } from "./writer.ts";

// What tests of services share: short ways to write rows, and a writer on a clock of its own.

/** `10.0.0.1` or `1`, the last byte of 10.0.0.x. */
export function ip(text: string | number): Ipv4 {
  return parseIpv4(typeof text === "number" ? `10.0.0.${text}` : text);
}

/** The last byte of an address, by which tests tell pods apart. */
export function lastByte(address: Address): number {
  return isIpv4(address) ? address & 0xff : Number(address & 0xffn);
}

export function service(name: string, options: Partial<Service> & { port?: string } = {}): Service {
  const [port = "80", protocol = "tcp"] = (options.port ?? "80/tcp").split("/");
  return {
    key: objectKey("default", name),
    namespace: "default",
    name,
    type: "LoadBalancer",
    families: ["ipv4"],
    addresses: [ip("192.0.2.10")],
    clusterAddresses: [],
    ports: [{ name: "", port: Number(port), protocol: protocol as Protocol, nodePort: 0 }],
    policy: DEFAULT_POLICY,
    healthCheckPort: 0,
    ringSize: undefined,
    createdMs: undefined,
    ...options,
  };
}

/** `1 terminating@n2*50`: address, then `ready`, `terminating` but serving, or `down`. */
export function endpoint(text: string): SliceEndpoint {
  const [, address = "", condition, node = "", weight = "100"] =
    /^([\d.]+)(?: (\w+))?(?:@([\w-]+))?(?:\*(\d+))?$/.exec(text) ?? [];
  const ready = condition === undefined || condition === "ready";
  return {
    address: ip(address.includes(".") ? address : Number(address)),
    ready,
    serving: ready || condition === "terminating",
    terminating: condition === "terminating",
    node,
    weight: Number(weight),
  };
}

export function slice(
  name: string,
  endpoints: readonly string[],
  options: { service?: string; port?: number; protocol?: Protocol } = {},
): EndpointSlice {
  const { port = 8080, protocol = "tcp" } = options;
  return {
    key: objectKey("default", name),
    service: objectKey("default", options.service ?? "web"),
    family: "ipv4",
    ports: [{ name: "", port, protocol }],
    endpoints: endpoints.map(endpoint),
  };
}

/** A writer whose sources have all spoken, on a clock that stands still until it is told. */
export function createBench(
  options: {
    node?: string;
    kernel?: KernelState;
    limits?: Partial<LbLimits>;
    timing?: Partial<LbTiming>;
    nodePorts?: PortRange;
    loaded?: boolean;
  } = {},
) {
  const endpoints = createTable<string, Endpoint, "address">({
    name: "endpoints",
    key: ({ key }) => key,
    indexes: { address: ({ addresses }) => addresses },
  });
  const nodes = createTable<string, Node>({ name: "nodes", key: ({ name }) => name });
  const loaded = createSyncGate();
  const complete = createSyncGate();
  const say = { loaded: () => loaded.complete(), complete: () => complete.complete() };
  let nowMs = 1000;
  const timers = new Set<{ readonly atMs: number; readonly call: () => void }>();
  const writer = new LbWriter({
    node: options.node ?? "n1",
    endpoints,
    nodes,
    loaded,
    complete,
    limits: { servicePorts: 100, backends: 1000, formerSlots: 100_000, ...options.limits },
    timing: { joinMs: 0, ...options.timing },
    clock: {
      nowMs: () => nowMs,
      after(delayMs, call) {
        const timer = { atMs: nowMs + delayMs, call };
        timers.add(timer);
        return () => timers.delete(timer);
      },
    },
    nodePorts: options.nodePorts ?? { first: 30_000, last: 32_767 },
    ...(options.kernel === undefined ? {} : { kernel: options.kernel }),
  });
  if (options.loaded !== false) say.loaded();
  const settled = async (): Promise<void> => {
    await new Promise(setImmediate);
    await writer.settled();
  };
  const advance = async (ms: number): Promise<void> => {
    nowMs += ms;
    for (const timer of [...timers]) if (timer.atMs <= nowMs && timers.delete(timer)) timer.call();
    await settled();
  };
  const port = (key = "default/web:80/tcp"): ServicePort | undefined => writer.ports.get(key);
  return { writer, endpoints, nodes, say, settled, advance, port };
}

/** Backends as `1 ready, 2 joining`; addresses of 10.0.0.x by their last byte. */
export function show(backends: readonly Backend[] | undefined): string {
  return (backends ?? [])
    .map(({ address, state }) => `${formatAddress(address).replace("10.0.0.", "")} ${state}`)
    .join(", ");
}

/** The owner of every slot, and who owned it before: `3 < 1 2`, by last bytes. */
export function owners(port: ServicePort | undefined): string[] {
  const last = (address: Address | undefined): string => String(lastByte(address ?? ip("0.0.0.0")));
  const lines = [...(port?.ring ?? [])].map((index) => last(port?.backends[index]?.address));
  for (const { slot, owners: former } of port?.former ? eachSlot(port.former) : []) {
    lines[slot] = `${lines[slot] ?? ""} < ${former.map((owner) => last(owner)).join(" ")}`;
  }
  return lines;
}
