// SPDX-License-Identifier: Apache-2.0
import { isDeepStrictEqual } from "node:util";
import type { Endpoint } from "../endpoint/rows.ts";
import {
  type Address,
  FAMILIES,
  type Family,
  formatAddress,
  formatAddressPort,
} from "../net/address.ts";
import type { Node } from "../node/rows.ts";
import { createBreather } from "../state/breathe.ts";
import type { SyncGate } from "../state/gate.ts";
import { type Cursor, createTable, type ReadTable } from "../state/table.ts";
import { FrontendClaims, formatFrontend } from "./claims.ts";
import { Liveness } from "./liveness.ts";
import { PortMaker, type Round, type ServiceDefaults } from "./port-maker.ts";
import { PortNumbers } from "./port-numbers.ts";
import { formatRange, isNodePort, leadsToPods, type PortRange, planPorts } from "./port-plan.ts";
import { type KernelState, NO_KERNEL_STATE, Restored } from "./restore.ts";
import {
  type EndpointSlice,
  frontendNumber,
  frontendsOf,
  objectOf,
  SERVICE_INDEXES,
  type Service,
  type ServicePort,
} from "./rows.ts";

/** Where time comes from; tests bring their own. */
export interface WriterClock {
  nowMs(): number;
  after(delayMs: number, call: () => void): () => void;
}

export interface LbWriterOptions {
  /** This node's name: pods on it are local. */
  readonly node: string;
  readonly endpoints: ReadTable<string, Endpoint, "address">;
  readonly nodes: ReadTable<string, Node>;
  /** Whether an address is of this node itself; none is where it is left out. */
  readonly isOwn?: (address: Address) => boolean;
  /** Opens when all sources have put what they have: before, no service port is made. */
  readonly loaded: SyncGate;
  /** Opens when nothing of what the kernel holds can be missing any more: frees unclaimed ids. */
  readonly complete: SyncGate;
  readonly kernel?: KernelState;
  /** Undefined: node ports are not served. */
  readonly nodePorts?: PortRange | undefined;
  /** Those of which this node serves clients; both where it is left out. */
  readonly families?: readonly Family[];
  /** Why IPv6 is not among them, where nobody wants it so. */
  readonly ipv6Off?: string | undefined;
  readonly defaults?: ServiceDefaults;
  readonly limits: LbLimits;
  readonly timing?: Partial<LbTiming>;
  readonly clock?: WriterClock;
}

/** How many there can be; what is beyond is told by `refusals`. */
export interface LbLimits {
  readonly servicePorts: number;
  readonly backends: number;
  /** Ring slots with former owners. */
  readonly formerSlots: number;
}

export interface LbTiming {
  /** How long a new pod waits for its first flows, so that every node knows it by then. */
  readonly joinMs: number;
  /** How long a UDP flow without packets counts as alive. */
  readonly udpMs: number;
  /** For how long the event loop may be held. */
  readonly budgetMs: number;
}

const DEFAULTS: ServiceDefaults = { mode: "dsr", algorithm: "maglev", reject: true };
const TIMING: LbTiming = { joinMs: 500, udpMs: 60_000, budgetMs: 5 };

const SYSTEM_CLOCK: WriterClock = {
  nowMs: () => performance.now(),
  after(delayMs, call) {
    // A longer delay than a timer can have only means that it looks in between.
    const timer = setTimeout(call, Math.min(delayMs, 2 ** 30)).unref();
    return () => clearTimeout(timer);
  },
};

/** Why something that was put is not in force. */
export interface LbRefusal {
  /** `Service default/web`. */
  readonly id: string;
  readonly field: string;
  readonly text: string;
  /** Whether its previous version is. */
  readonly kept: boolean;
}

/**
 * The one writer of services, slices and what follows from them: service ports, with everything
 * that the packet path wants to know. Ports are made off the callers' turn, in chunks.
 */
export class LbWriter {
  readonly services: ReadTable<string, Service, "having">;
  readonly slices: ReadTable<string, EndpointSlice, "service" | "address">;
  readonly ports: ReadTable<string, ServicePort, "service" | "watched">;
  readonly #services = createTable<string, Service, "frontend" | "having">({
    name: "services",
    key: ({ key }) => key,
    indexes: {
      ...SERVICE_INDEXES,
      frontend: (service) => frontendsOf(service).map(frontendNumber),
    },
  });
  readonly #slices = createTable<string, EndpointSlice, "service" | "address">({
    name: "slices",
    key: ({ key }) => key,
    indexes: {
      service: ({ service }) => [service],
      address: ({ endpoints }) => endpoints.map(({ address }) => address),
    },
  });
  readonly #ports = createTable<string, ServicePort, "service" | "watched">({
    name: "service-ports",
    key: ({ key }) => key,
    indexes: {
      service: ({ service }) => [service],
      // Whose life or death changes the row, although no slice names them.
      watched: ({ former, draining }) => [
        ...(former?.owners ?? []),
        ...draining.filter(({ state }) => state === "left").map(({ address }) => address),
      ],
    },
  });
  readonly #loaded: SyncGate;
  readonly #nodePorts: PortRange | undefined;
  readonly #ipv6Off: string | undefined;
  readonly #families: readonly Family[];
  #timing: LbTiming;
  #defaults: ServiceDefaults;
  readonly #clock: WriterClock;
  readonly #claims = new FrontendClaims(this.#services);
  readonly #liveness: Liveness;
  #podGoneMs = Number.NEGATIVE_INFINITY;
  readonly #numbers: PortNumbers;
  readonly #maker: PortMaker;
  readonly #serviceRows: Cursor<string, Service>;
  readonly #podRows: Cursor<string, Endpoint>;
  readonly #nodeRows: Cursor<string, Node>;
  readonly #pods = new Map<string, Pick<Endpoint, "addresses" | "node">>();
  readonly #knownNodes = new Set<string>();
  readonly #dirty = new Set<string>();
  readonly #alarms = new Map<string, number>();
  readonly #waiters: (() => void)[] = [];
  #cancelAlarm: (() => void) | undefined;
  #running = false;
  #closed = false;

  constructor(options: LbWriterOptions) {
    this.services = this.#services;
    this.slices = this.#slices;
    this.ports = this.#ports;
    this.#loaded = options.loaded;
    this.#timing = { ...TIMING, ...options.timing };
    this.#nodePorts = options.nodePorts;
    this.#ipv6Off = options.ipv6Off;
    this.#families = options.families ?? FAMILIES;
    this.#defaults = options.defaults ?? DEFAULTS;
    this.#clock = options.clock ?? SYSTEM_CLOCK;
    const { endpoints, nodes } = options;
    this.#liveness = new Liveness({ endpoints, nodes, slices: this.#slices });
    this.#numbers = new PortNumbers(options.limits);
    const restored = new Restored(options.kernel ?? NO_KERNEL_STATE, this.#numbers);
    this.#maker = new PortMaker({
      node: options.node,
      maxFormerSlots: options.limits.formerSlots,
      liveness: this.#liveness,
      ports: this.#ports,
      numbers: this.#numbers,
      restored,
      isOwn: options.isOwn ?? (() => false),
    });
    this.#serviceRows = this.#services.cursor(() => this.#wake());
    this.#podRows = endpoints.cursor(() => this.#wake());
    this.#nodeRows = nodes.cursor(() => this.#wake());
    void options.loaded.opened.then(() => {
      this.#claims.settled();
      this.#wake();
    });
    void options.complete.opened.then(() => {
      restored.forget(this.#numbers);
      for (const [service] of this.#numbers.refused()) this.#touch(service);
    });
  }

  putService(service: Service): void {
    this.#claims.put(service);
  }

  deleteService(key: string): void {
    this.#claims.delete(key);
  }

  putSlice(slice: EndpointSlice): void {
    const before = this.#slices.get(slice.key);
    this.#slices.set(slice);
    this.#sliceChanged(before, slice);
  }

  deleteSlice(key: string): void {
    const before = this.#slices.get(key);
    this.#slices.delete(key);
    this.#sliceChanged(before, undefined);
  }

  /** What was put and isn't in force, and why. */
  *refusals(): Generator<LbRefusal> {
    for (const { service, frontend, owner } of this.#claims.contests()) {
      const what = formatFrontend(frontend);
      const text = `${what} is ${objectOf(owner)}'s: take it out of one of them`;
      const kept = this.#services.has(service.key);
      yield { id: objectOf(service), field: "spec", text, kept };
    }
    for (const [service, text] of this.#numbers.refused()) {
      yield { id: this.#objectOf(service), field: "spec.ports", text, kept: false };
    }
  }

  /** What is in force but for a part of it: pods and node ports without a way, IPv6. */
  *warnings(): Generator<LbRefusal> {
    for (const { port, service, pods } of this.#maker.strangers()) {
      for (const [node, [first, ...others] = []] of Map.groupBy(pods, (pod) => pod.node)) {
        if (first === undefined) continue;
        const more = others.length === 0 ? "" : ` and ${others.length} more`;
        const text =
          `backend ${formatAddress(first.address)}${more} of ${port} left out: there is no Node ` +
          `"${node}": apply its Node object, or correct nodeName in the EndpointSlice`;
        yield { id: this.#objectOf(service), field: "", text, kept: false };
      }
    }
    for (const { port, service, pods } of this.#maker.movedPods()) {
      const [first, ...others] = pods;
      if (first === undefined) continue;
      const more = others.length === 0 ? "" : ` and ${others.length} more`;
      const at = formatAddressPort(first.address, first.port);
      const text =
        `backend ${at}${more} of ${port} left out: SCTP's checksum covers ports, so that a ` +
        "targetPort has to be the service's port, and a container's port its hostPort";
      yield { id: this.#objectOf(service), field: "", text, kept: false };
    }
    for (const { service, key, policy, snat } of this.#ports.rows()) {
      if (snat || policy.algorithm !== "random") continue;
      const text =
        `${key} is balanced by maglev: DSR keeps no flows that chance could be remembered by; ` +
        'set "ciliate.io/forwarding-mode: snat", or leave the algorithm out';
      yield { id: this.#objectOf(service), field: "metadata.annotations", text, kept: false };
    }
    yield* this.#strayNodePorts();
    yield* this.#strayFamilies();
  }

  #objectOf(key: string): string {
    const service = this.#services.get(key);
    return service === undefined ? `Service ${key}` : objectOf(service);
  }

  /** Node ports where none are served. */
  *#strayNodePorts(): Generator<LbRefusal> {
    const range = this.#nodePorts;
    const where = range === undefined ? "none are served" : `served are ${formatRange(range)}`;
    for (const { key, ports } of this.#services.by("having", "node ports")) {
      for (const [index, spec] of ports.entries()) {
        const { port, nodePort } = spec;
        const isServed = isNodePort(range, nodePort);
        if (nodePort === 0 || (isServed && leadsToPods(spec))) continue;
        const why = isServed
          ? `SCTP's checksum covers ports, so that only node port ${port} can lead to port ${port}`
          : `${where} (nodePort.range)`;
        const text = `node port ${nodePort} is left out: ${why}`;
        const field = `spec.ports[${index}].nodePort`;
        yield { id: `Service ${key}`, field, text, kept: false };
      }
    }
  }

  /** Services of IPv6 where none are served. */
  *#strayFamilies(): Generator<LbRefusal> {
    if (this.#ipv6Off === undefined) return;
    for (const service of this.#services.rows()) {
      if (!service.families.includes("ipv6")) continue;
      const text = `IPv6 is left out: ${this.#ipv6Off}`;
      yield { id: objectOf(service), field: "spec.ipFamilies", text, kept: false };
    }
  }

  /** Whether a pod still has its connections, on whichever node it is. */
  lives(address: Address): boolean {
    return this.#liveness.lives(address, this.#clock.nowMs());
  }

  /** How long ago a pod's row was the last to go. */
  get sincePodGoneMs(): number {
    return this.#clock.nowMs() - this.#podGoneMs;
  }

  /** Settles when every service port is as the rows want it. Never before the sources are. */
  settled(): Promise<void> {
    if (!this.#running && !this.#hasWork()) return Promise.resolve();
    return new Promise((resolve) => this.#waiters.push(resolve));
  }

  /** Takes another lifetime of UDP flows from now on. */
  setUdpTimeout(udpMs: number): void {
    this.#timing = { ...this.#timing, udpMs };
  }

  /** Takes another default of what services don't say from now on. */
  setDefaults(defaults: ServiceDefaults): void {
    if (isDeepStrictEqual(this.#defaults, defaults)) return;
    this.#defaults = defaults;
    for (const key of this.#services.keys()) this.#dirty.add(key);
    this.#wake();
  }

  /** No flow of a service port's former mode is left, so that it needn't look for them. */
  forgetFormerMode(key: string): void {
    const row = this.#ports.get(key);
    if (row?.wasOther) this.#ports.set({ ...row, wasOther: false });
  }

  figures() {
    const { slots: formerSlots, forgotten: formerForgotten, ports } = this.#maker.former;
    return {
      services: this.#services.size,
      slices: this.#slices.size,
      ports: this.#ports.size,
      /** Services that wait to be looked at. */
      pending: this.#dirty.size + this.#serviceRows.pending,
      formerSlots,
      /** Slots whose former owners were forgotten, as there was no room. */
      formerForgotten,
      /** Service ports that this has happened to since their rings last changed. */
      formerLostPorts: ports,
      ...this.#numbers.figures(),
    };
  }

  close(): void {
    this.#closed = true;
    this.#cancelAlarm?.();
    for (const cursor of [this.#serviceRows, this.#podRows, this.#nodeRows]) cursor.close();
  }

  #sliceChanged(before: EndpointSlice | undefined, after: EndpointSlice | undefined): void {
    const named = new Set(after?.endpoints.map(({ address }) => address));
    const nowMs = this.#clock.nowMs();
    for (const { address, node } of before?.endpoints ?? []) {
      if (!named.has(address)) this.#liveness.leftSlice(address, node, nowMs);
    }
    for (const slice of [before, after]) if (slice !== undefined) this.#touch(slice.service);
  }

  #touch(service: string): void {
    this.#dirty.add(service);
    this.#wake();
  }

  #hasWork(): boolean {
    const cursors = [this.#serviceRows, this.#podRows, this.#nodeRows];
    return this.#dirty.size > 0 || cursors.some(({ pending }) => pending > 0);
  }

  #wake(): void {
    if (this.#running || this.#closed || !this.#loaded.open) return;
    this.#running = true;
    setImmediate(() => {
      void this.#run().finally(() => {
        this.#running = false;
        if (this.#closed || !this.#hasWork()) {
          for (const resolve of this.#waiters.splice(0)) resolve();
          this.#setAlarm();
        } else this.#wake();
      });
    });
  }

  async #run(): Promise<void> {
    const breathe = createBreather(this.#timing.budgetMs);
    await this.#takeRows(breathe);
    for (const key of this.#dirty) {
      if (this.#closed) return;
      this.#dirty.delete(key);
      const now = { nowMs: this.#clock.nowMs(), defaults: this.#defaults };
      const isCurrent = (service: Service): boolean => this.#services.get(key) === service;
      await this.#makeService(key, { ...this.#timing, ...now, breathe, isCurrent });
      // One after the other, until no id is free or nobody lacks one.
      const [refused] = this.#numbers.hasFreeIds ? this.#numbers.refused() : [];
      if (refused !== undefined) this.#dirty.add(refused[0]);
      await breathe();
    }
  }

  /** What other tables say, as far as it concerns services. */
  async #takeRows(breathe: () => Promise<void> | undefined): Promise<void> {
    for (let change = this.#serviceRows.take(); change; change = this.#serviceRows.take()) {
      this.#dirty.add(change.key);
    }
    for (let change = this.#podRows.take(); change; change = this.#podRows.take()) {
      this.#podChanged(change.key, change.row);
      await breathe();
    }
    const moved = new Set<string>();
    const hadNodes = this.#knownNodes.size > 0;
    for (let change = this.#nodeRows.take(); change; change = this.#nodeRows.take()) {
      const { key, row } = change;
      if (this.#knownNodes.has(key) === (row !== undefined)) continue;
      moved.add(key);
      if (row === undefined) this.#knownNodes.delete(key);
      else this.#knownNodes.add(key);
    }
    if (moved.size === 0) return;
    if (hadNodes !== this.#knownNodes.size > 0) {
      for (const key of this.#services.keys()) this.#dirty.add(key);
      return;
    }
    for (const { service, endpoints } of this.#slices.rows()) {
      if (endpoints.some(({ node }) => moved.has(node))) this.#dirty.add(service);
      await breathe();
    }
    for (const { service, former, draining } of this.#ports.rows()) {
      if (former !== undefined || draining.length > 0) this.#dirty.add(service);
    }
  }

  #podChanged(key: string, row: Endpoint | undefined): void {
    const before = this.#pods.get(key);
    if (row === undefined) this.#pods.delete(key);
    else this.#pods.set(key, row);
    const [old, now] = [before?.addresses ?? [], row?.addresses ?? []];
    for (const address of now) this.#liveness.podSeen(address);
    for (const address of old) {
      if (now.includes(address)) continue;
      this.#podGoneMs = this.#clock.nowMs();
      this.#liveness.podGone(address, before?.node ?? "", this.#podGoneMs);
    }
    for (const address of new Set([...old, ...now])) {
      this.#touchWatching(address);
      // Its node says whether it is a pod of this node, where slices don't.
      for (const { service, endpoints } of this.#slices.by("address", address)) {
        if (endpoints.some((endpoint) => endpoint.address === address && endpoint.node === "")) {
          this.#dirty.add(service);
        }
      }
    }
  }

  #touchWatching(address: Address): void {
    for (const { service } of this.#ports.by("watched", address)) this.#dirty.add(service);
  }

  #setAlarm(): void {
    this.#cancelAlarm?.();
    this.#cancelAlarm = undefined;
    if (this.#closed) return;
    let atMs = this.#liveness.nextMs;
    for (const dueMs of this.#alarms.values()) atMs = Math.min(atMs, dueMs);
    if (!Number.isFinite(atMs)) return;
    const delayMs = Math.max(1, atMs - this.#clock.nowMs());
    this.#cancelAlarm = this.#clock.after(delayMs, () => {
      const nowMs = this.#clock.nowMs();
      for (const address of this.#liveness.expire(nowMs)) this.#touchWatching(address);
      for (const [key, dueMs] of this.#alarms) if (dueMs <= nowMs) this.#dirty.add(key);
      if (this.#dirty.size === 0) this.#setAlarm();
      else this.#wake();
    });
  }

  async #makeService(key: string, round: Round): Promise<void> {
    const service = this.#services.get(key);
    const plans = service === undefined ? [] : planPorts(service, this.#families, this.#nodePorts);
    const wanted = new Set(plans.map((plan) => plan.key));
    const before = this.#ports.by("service", key);
    for (const row of before) {
      if (wanted.has(row.key)) continue;
      this.#maker.remove(row.key);
    }
    this.#numbers.forgive(key);
    let nextMs = Number.POSITIVE_INFINITY;
    if (service !== undefined) {
      const slices = this.#slices.by("service", key);
      for (const plan of plans) {
        const sibling = before.find((row) => row.key === plan.sibling);
        nextMs = Math.min(nextMs, await this.#maker.make(service, plan, slices, round, sibling));
      }
    }
    if (Number.isFinite(nextMs)) this.#alarms.set(key, nextMs);
    else this.#alarms.delete(key);
  }
}
