// SPDX-License-Identifier: Apache-2.0
import type { ServiceId } from "../datapath/gen/abi.ts";
import { type Address, compareAddress } from "../net/address.ts";
import type { Table } from "../state/table.ts";
import { changeRingInSteps, countSlots, type OwnedRing, withoutDead } from "./former-owners.ts";
import type { Liveness } from "./liveness.ts";
import { createRingInSteps, ringSizeFor } from "./maglev.ts";
import type { PortNumbers } from "./port-numbers.ts";
import type { PortPlan } from "./port-plan.ts";
import type { Restored, RestoredPort } from "./restore.ts";
import {
  type Algorithm,
  type Backend,
  type CounterId,
  type EndpointSlice,
  type FormerOwners,
  type ForwardingMode,
  keepsPorts,
  type Service,
  type ServicePort,
  type ServicePortSpec,
  scopedFrontends,
} from "./rows.ts";
import { type Candidate, findCandidates, type Selection, selectBackends } from "./selection.ts";

export interface PortMakerOptions {
  /** This node's name. */
  readonly node: string;
  /** Ring slots with former owners that there may be. */
  readonly maxFormerSlots: number;
  readonly liveness: Liveness;
  readonly ports: Table<string, ServicePort, "service" | "watched">;
  readonly numbers: PortNumbers;
  readonly restored: Restored;
  /** Whether an address is of this node itself. */
  readonly isOwn: (address: Address) => boolean;
}

/** Pods of a service port that are left out. */
export interface LeftOut {
  readonly port: string;
  readonly service: string;
  readonly pods: readonly Candidate[];
}

/** What services have that say nothing of it. */
export interface ServiceDefaults {
  readonly mode: ForwardingMode;
  readonly algorithm: Algorithm;
  /** Whether clients are told when there is no backend. */
  readonly reject: boolean;
}

/** One round of making ports. */
export interface Round {
  readonly defaults: ServiceDefaults;
  readonly nowMs: number;
  readonly joinMs: number;
  readonly udpMs: number;
  /** Awaited where it takes long; lets the event loop have its turn. */
  breathe(): Promise<void> | undefined;
  /** Whether the service is still this one: rows may change while a large ring is made. */
  isCurrent(service: Service): boolean;
}

/** What is known of a port from before: by its row, or by the kernel's tables after a restart. */
interface Before {
  readonly id: ServiceId | undefined;
  readonly row: ServicePort | undefined;
  readonly restored: RestoredPort | undefined;
  /** The last ring that had slots. */
  readonly ring: OwnedRing | undefined;
  readonly former: FormerOwners | undefined;
  /** Undefined for a port that is new. */
  readonly pods: ReadonlyMap<Address, Known> | undefined;
}

const NOTHING_BEFORE: Before = {
  id: undefined,
  row: undefined,
  restored: undefined,
  ring: undefined,
  former: undefined,
  pods: undefined,
};

/** A pod as it was known before. */
interface Known {
  readonly port: number;
  readonly counter: CounterId;
  readonly local: boolean;
  readonly backend: Backend | undefined;
}

/** Makes the row of a service port from what is wanted and what was before. */
export class PortMaker {
  readonly #options: PortMakerOptions;
  readonly #numbers: PortNumbers;
  /** Of ports without a backend, the ring that they had last. */
  readonly #lastRings = new Map<string, OwnedRing>();
  /** Pods that wait to be used, by port: until when. */
  readonly #joining = new Map<string, Map<Address, number>>();
  /** Slots with former owners by port, in the order in which their counts changed. */
  readonly #formerSlots = new Map<string, number>();
  /** Ports whose former owners found no room since their rings last changed. */
  readonly #lost = new Set<string>();
  /** Ports with pods on nodes that aren't part of the cluster. */
  readonly #strange = new Map<string, LeftOut>();
  /** Ports with pods that serve them by a port to which no packet can be translated. */
  readonly #moved = new Map<string, LeftOut>();
  /** Ports of UDP that have become SNAT's, until when their flows may be DSR's. */
  readonly #lately = new Map<string, number>();
  #formerTotal = 0;
  #forgotten = 0;

  constructor(options: PortMakerOptions) {
    this.#options = options;
    this.#numbers = options.numbers;
  }

  /** Slots with former owners; how many were forgotten for want of room, and of how many ports. */
  get former(): { readonly slots: number; readonly forgotten: number; readonly ports: number } {
    return { slots: this.#formerTotal, forgotten: this.#forgotten, ports: this.#lost.size };
  }

  /** Pods that are left out as their nodes have no Node row. */
  strangers(): Iterable<LeftOut> {
    return this.#strange.values();
  }

  /** Pods that are left out as they serve SCTP by another port than the service's. */
  movedPods(): Iterable<LeftOut> {
    return this.#moved.values();
  }

  /**
   * Makes or refreshes a port's row. A new one goes on from `sibling`, which had its clients
   * before. When it has to be looked at again, whatever happens.
   */
  async make(
    service: Service,
    plan: PortPlan,
    slices: readonly EndpointSlice[],
    round: Round,
    sibling?: ServicePort,
  ): Promise<number> {
    const { key, spec, local } = plan;
    let before = this.#before(plan, round, sibling);
    const all = findCandidates(spec, plan.family, slices, service.policy.publishNotReady);
    const wanted = local ? all.filter((pod) => this.#isLocal(pod)) : all;
    const candidates = this.#withoutMoved(plan, service, wanted);
    this.#noteStrangers(key, service, candidates);
    const selection = this.#select(plan, before, candidates, round);
    const size = service.ringSize ?? ringSizeFor(selection.ring.length + selection.others.length);
    const ring = await makeRing(before.row, selection.ring, size, round);
    const to = { ring, owners: selection.ring.map(({ address }) => address) };
    const former = await this.#changeFormer(before, to, spec, round);
    if (!round.isCurrent(service)) return round.nowMs;

    if (before.restored !== undefined && !this.#options.restored.take(before.restored)) {
      before = NOTHING_BEFORE;
    }
    const id = before.id ?? this.#numbers.allocateId(key, service.key);
    if (id === undefined) return Number.POSITIVE_INFINITY;
    const { backends, draining } = this.#backends(before, selection, round);
    const last = before.row ?? before.restored;
    const lately = this.#wasLately(plan, isSnat(service, plan, round.defaults), last, round);
    const pods = { id, backends, ring, draining, former, lately };
    this.#put(makeRow(service, plan, pods, round.defaults, last), before);
    const formerMs = former?.expiresAtMs ?? Number.POSITIVE_INFINITY;
    return Math.min(formerMs, this.#nextJoin(key), this.#lately.get(key) ?? formerMs);
  }

  /** Whether a port of UDP has become SNAT's within the time of a flow, or so before a restart. */
  #wasLately(
    { key, spec: { protocol } }: PortPlan,
    snat: boolean,
    last: Pick<ServicePort, "snat" | "lately"> | undefined,
    { nowMs, udpMs }: Round,
  ): boolean {
    const hasChanged = last !== undefined && !last.snat;
    const isUnknown = last?.lately === true && !this.#lately.has(key);
    if (!snat || protocol !== "udp") this.#lately.delete(key);
    else if (hasChanged || isUnknown) this.#lately.set(key, nowMs + udpMs);
    if ((this.#lately.get(key) ?? 0) > nowMs) return true;
    this.#lately.delete(key);
    return false;
  }

  /** The port is no more. */
  remove(key: string): void {
    const row = this.#options.ports.get(key);
    this.#joining.delete(key);
    this.#lastRings.delete(key);
    this.#strange.delete(key);
    this.#moved.delete(key);
    this.#lately.delete(key);
    this.#countFormer(key, undefined);
    if (row === undefined) return;
    this.#numbers.releaseId(row.id);
    for (const { counter } of [...row.backends, ...row.draining]) {
      this.#numbers.releaseCounter(counter);
    }
    this.#options.ports.delete(key);
  }

  #before(plan: PortPlan, round: Round, sibling: ServicePort | undefined): Before {
    const { key } = plan;
    const row = this.#options.ports.get(key);
    if (row === undefined) {
      const restored = this.#restored(plan, round);
      if (restored !== NOTHING_BEFORE || !sibling?.ring.length) return restored;
      const owners = sibling.backends.map(({ address }) => address);
      return { ...NOTHING_BEFORE, ring: { ring: sibling.ring, owners }, former: sibling.former };
    }
    const { id, former } = row;
    const pods = new Map<Address, Known>();
    for (const backend of [...row.backends, ...row.draining]) {
      const { address, port, counter, local } = backend;
      pods.set(address, { port, counter, local, backend });
    }
    const owners = row.backends.map(({ address }) => address);
    const ring = row.ring.length > 0 ? { ring: row.ring, owners } : this.#lastRings.get(key);
    return { id, row, restored: undefined, ring, former, pods };
  }

  #restored(plan: PortPlan, round: Round): Before {
    const { port, protocol } = plan.spec;
    const restored = this.#options.restored.find(scopedFrontends({ ...plan, port, protocol }));
    if (restored === undefined) return NOTHING_BEFORE;
    const pods = new Map<Address, Known>();
    for (const [address, { port: at, counter, local }] of restored.backends) {
      pods.set(address, { port: at, counter, local, backend: undefined });
    }
    const expiresAtMs = protocol === "udp" ? round.nowMs + round.udpMs : Number.POSITIVE_INFINITY;
    const former = restored.former && { ...restored.former, expiresAtMs };
    const ring = restored.ring.ring.length > 0 ? restored.ring : undefined;
    return { id: restored.id, row: undefined, restored, ring, former, pods };
  }

  /** Those of the pods that can be reached by the port to which clients send. */
  #withoutMoved(
    { key, spec }: PortPlan,
    service: Service,
    candidates: readonly Candidate[],
  ): readonly Candidate[] {
    this.#moved.delete(key);
    if (!keepsPorts(spec.protocol)) return candidates;
    const [stay = [], moved = []] = [true, false].map((isSame) =>
      candidates.filter(({ port }) => (port === spec.port) === isSame),
    );
    if (moved.length > 0) this.#moved.set(key, { port: key, service: service.key, pods: moved });
    return stay;
  }

  #noteStrangers(key: string, service: Service, candidates: readonly Candidate[]): void {
    const { liveness } = this.#options;
    const pods = candidates.filter(({ node }) => !liveness.hasNode(node));
    if (pods.length === 0) this.#strange.delete(key);
    else this.#strange.set(key, { port: key, service: service.key, pods });
  }

  /** Chooses among the pods, and keeps the time for those that are new. */
  #select(
    { key, local }: PortPlan,
    before: Before,
    candidates: readonly Candidate[],
    round: Round,
  ): Selection {
    // What only this node knows, no other one has to hear of.
    const joinMs = local ? 0 : round.joinMs;
    const waiting = this.#joining.get(key);
    const still = new Map<Address, number>();
    for (const { address } of candidates) {
      const untilMs = waiting?.get(address);
      const isNew = before.pods !== undefined && !before.pods.has(address);
      if (untilMs !== undefined && untilMs > round.nowMs) still.set(address, untilMs);
      else if (untilMs === undefined && isNew && joinMs > 0) {
        still.set(address, round.nowMs + joinMs);
      }
    }
    const { liveness } = this.#options;
    const selection = selectBackends(candidates, {
      hasNode: (name) => liveness.hasNode(name),
      hasJoined: (address) => !still.has(address),
    });
    for (const { address } of selection.ring) still.delete(address);
    if (still.size === 0) this.#joining.delete(key);
    else this.#joining.set(key, still);
    return selection;
  }

  #nextJoin(key: string): number {
    return Math.min(...(this.#joining.get(key)?.values() ?? []));
  }

  async #changeFormer(
    before: Before,
    to: OwnedRing,
    spec: ServicePortSpec,
    round: Round,
  ): Promise<FormerOwners | undefined> {
    const { nowMs, udpMs } = round;
    const lives = (address: Address): boolean => this.#options.liveness.lives(address, nowMs);
    const former = (before.former?.expiresAtMs ?? 0) > nowMs ? before.former : undefined;
    const isSame = before.row?.ring === to.ring || to.ring.length === 0;
    if (isSame || before.ring === undefined) return former && withoutDead(former, lives);
    const expiresAtMs = spec.protocol === "udp" ? nowMs + udpMs : Number.POSITIVE_INFINITY;
    const change = { from: before.ring, to, before: former, lives, expiresAtMs };
    return inSteps(changeRingInSteps(change), round);
  }

  /** The rows of the pods that were chosen, of those that weren't, and of those that have left. */
  #backends(
    before: Before,
    selection: Selection,
    round: Round,
  ): { backends: Backend[]; draining: Backend[] } {
    const { node: thisNode, liveness } = this.#options;
    const make = (pod: Omit<Backend, "counter">): Backend => {
      const { address, port, weight, node, local, state } = pod;
      const known = before.pods?.get(address);
      const counter = known?.counter || this.#numbers.allocateCounter();
      const backend = { address, port, weight, node, local, counter, state };
      return known?.backend !== undefined && isSame(known.backend, backend)
        ? known.backend
        : backend;
    };
    const toBackend = ({
      address,
      port,
      weight,
      node,
      state,
    }: Selection["ring"][number]): Backend => {
      const local = this.#isLocal({ address, node });
      return make({ address, port, weight, node, local, state });
    };
    const backends = selection.ring.map(toBackend);
    const draining = selection.others.map(toBackend);
    const named = new Set([...backends, ...draining].map(({ address }) => address));
    for (const [address, { port, local }] of before.pods ?? []) {
      // A pod of another node is that node's business once it has left.
      if (!local || named.has(address) || !liveness.lives(address, round.nowMs)) continue;
      draining.push(make({ address, port, weight: 0, node: thisNode, local, state: "left" }));
    }
    return { backends, draining: draining.sort((a, b) => compareAddress(a.address, b.address)) };
  }

  #isLocal({ address, node }: Pick<Candidate, "address" | "node">): boolean {
    const { node: thisNode, liveness, isOwn } = this.#options;
    if (node === "" && isOwn(address)) return true;
    return (node === "" ? liveness.nodeOfPod(address) : node) === thisNode;
  }

  #put(row: ServicePort, before: Before): void {
    const { key } = row;
    const stay = new Set([...row.backends, ...row.draining].map(({ address }) => address));
    for (const [address, { counter }] of before.pods ?? []) {
      if (!stay.has(address)) this.#numbers.releaseCounter(counter);
    }
    if (row.ring.length > 0 || before.ring === undefined) this.#lastRings.delete(key);
    else this.#lastRings.set(key, before.ring);
    if (before.row !== undefined && isSameRow(before.row, row)) return;
    this.#options.ports.set(row);
    if (row.former !== before.row?.former) this.#countFormer(key, row.former);
  }

  /** Counts slots; when there are too many, those of the port whose ring is quiet longest go. */
  #countFormer(key: string, former: FormerOwners | undefined): void {
    const { ports, maxFormerSlots } = this.#options;
    this.#formerTotal -= this.#formerSlots.get(key) ?? 0;
    this.#formerSlots.delete(key);
    this.#lost.delete(key);
    const count = countSlots(former);
    if (count > 0) this.#formerSlots.set(key, count);
    this.#formerTotal += count;
    while (this.#formerTotal > maxFormerSlots) {
      const [oldest, slots] = this.#formerSlots.entries().next().value ?? ["", 0];
      this.#formerSlots.delete(oldest);
      this.#formerTotal -= slots;
      this.#forgotten += slots;
      this.#lost.add(oldest);
      const row = ports.get(oldest);
      if (row !== undefined) ports.set({ ...row, former: undefined });
    }
  }
}

/** One literal, here and for backends: what a spread makes takes twice the memory. */
function makeRow(
  { key: service, policy }: Service,
  plan: PortPlan,
  pods: Pick<ServicePort, "id" | "backends" | "ring" | "draining" | "former" | "lately">,
  defaults: ServiceDefaults,
  before: Pick<ServicePort, "snat" | "wasOther"> | undefined,
): ServicePort {
  const { spec } = plan;
  const { algorithm, reject } = defaults;
  const snat = isSnat({ policy }, plan, defaults);
  return {
    key: plan.key,
    id: pods.id,
    service,
    name: spec.name,
    port: spec.port,
    protocol: spec.protocol,
    family: plan.family,
    local: plan.local,
    addresses: plan.addresses,
    inside: plan.inside,
    nodePort: plan.nodePort,
    insideNodePort: plan.insideNodePort,
    atNode: plan.atNode,
    policy,
    snat,
    random: snat && (policy.algorithm ?? algorithm) === "random",
    lately: pods.lately,
    wasOther: before !== undefined && (before.wasOther || before.snat !== snat),
    reject,
    backends: pods.backends,
    ring: pods.ring,
    draining: pods.draining,
    former: pods.former,
  };
}

function isSnat(
  { policy }: Pick<Service, "policy">,
  { spec }: PortPlan,
  defaults: ServiceDefaults,
): boolean {
  const mode = policy.mode ?? defaults.mode;
  return mode === "snat" || (mode === "hybrid" && spec.protocol !== "tcp");
}

/** The ring of these members: the one that the row has, if it is the same. */
async function makeRing(
  row: ServicePort | undefined,
  members: Selection["ring"],
  size: number,
  round: Round,
): Promise<Uint16Array> {
  const wanted = members.length === 0 ? 0 : size;
  const hasSame =
    row?.ring.length === wanted &&
    row.backends.length === members.length &&
    row.backends.every((backend, index) => {
      const { address, port, weight } = members[index] ?? {};
      return backend.address === address && backend.port === port && backend.weight === weight;
    });
  if (hasSame) return row.ring;
  return inSteps(createRingInSteps(members, size), round);
}

/** Runs to the end, with breaths. */
async function inSteps<T>(steps: Generator<undefined, T>, round: Round): Promise<T> {
  for (;;) {
    const { done, value } = steps.next();
    if (done === true) return value;
    await round.breathe();
  }
}

function isSame(a: Backend, b: Backend): boolean {
  return (
    a.address === b.address &&
    a.port === b.port &&
    a.weight === b.weight &&
    a.node === b.node &&
    a.local === b.local &&
    a.counter === b.counter &&
    a.state === b.state
  );
}

/** Of one key. Backends that are the same are one object. */
function isSameRow(a: ServicePort, b: ServicePort): boolean {
  return (
    a.ring === b.ring &&
    a.former === b.former &&
    a.name === b.name &&
    isSameList(a.backends, b.backends) &&
    isSameList(a.draining, b.draining) &&
    isSameList(a.addresses, b.addresses) &&
    isSameList(a.inside, b.inside) &&
    a.nodePort === b.nodePort &&
    a.insideNodePort === b.insideNodePort &&
    a.policy === b.policy &&
    a.snat === b.snat &&
    a.random === b.random &&
    a.lately === b.lately &&
    a.wasOther === b.wasOther &&
    a.reject === b.reject
  );
}

function isSameList(a: readonly unknown[], b: readonly unknown[]): boolean {
  return a.length === b.length && a.every((item, index) => item === b[index]);
}
