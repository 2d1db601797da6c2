// SPDX-License-Identifier: Apache-2.0
import { formatAddressPort, isAny, isIpv4 } from "../net/address.ts";
import type { Table } from "../state/table.ts";
import { type Frontend, frontendNumber, frontendsOf, type Service } from "./rows.ts";

/** A service that isn't in force because another one has its frontend. */
export interface Contest {
  readonly service: Service;
  readonly frontend: Frontend;
  readonly owner: Service;
}

/**
 * Puts services into their table so that each frontend belongs to one of them. Who has one keeps
 * it; of those that come before `settled`, the older object wins, then the smaller name. A service
 * that loses is not in force at all, its previous version is, until the frontend is free.
 */
export class FrontendClaims {
  readonly #services: Table<string, Service, "frontend">;
  readonly #contested = new Map<string, Service>();
  #settled = false;

  constructor(services: Table<string, Service, "frontend">) {
    this.#services = services;
  }

  /** From now on, who has a frontend keeps it. */
  settled(): void {
    this.#settled = true;
  }

  put(service: Service): void {
    this.#contested.delete(service.key);
    const freed = this.#freedBy(service);
    this.#claim(service);
    if (freed) this.#retry();
  }

  delete(key: string): void {
    this.#contested.delete(key);
    if (this.#services.delete(key)) this.#retry();
  }

  /** Services that wait for a frontend, each with one that it lacks. */
  *contests(): Generator<Contest> {
    for (const service of this.#contested.values()) {
      const [rival] = this.#rivals(service);
      if (rival !== undefined) yield { service, ...rival };
    }
  }

  #claim(service: Service): void {
    const rivals = this.#rivals(service);
    const wins = rivals.every(({ owner }) => !this.#settled && precedes(service, owner));
    if (!wins) {
      this.#contested.set(service.key, service);
      return;
    }
    for (const { owner } of rivals) {
      this.#services.delete(owner.key);
      this.#contested.set(owner.key, owner);
    }
    this.#services.set(service);
  }

  #rivals(service: Service): { frontend: Frontend; owner: Service }[] {
    return frontendsOf(service).flatMap((frontend) =>
      this.#services
        .by("frontend", frontendNumber(frontend))
        .filter(({ key }) => key !== service.key)
        .map((owner) => ({ frontend, owner })),
    );
  }

  /** Whether this version gives up frontends of the one in force. */
  #freedBy(service: Service): boolean {
    const before = this.#services.get(service.key);
    if (before === undefined || this.#contested.size === 0) return false;
    const kept = new Set(frontendsOf(service).map(frontendNumber));
    return frontendsOf(before).some((frontend) => !kept.has(frontendNumber(frontend)));
  }

  #retry(): void {
    const waiting = [...this.#contested.values()].sort((a, b) => (precedes(a, b) ? -1 : 1));
    this.#contested.clear();
    for (const service of waiting) this.#claim(service);
  }
}

function precedes(a: Service, b: Service): boolean {
  const aMs = a.createdMs ?? Number.POSITIVE_INFINITY;
  const bMs = b.createdMs ?? Number.POSITIVE_INFINITY;
  return aMs === bMs ? a.key < b.key : aMs < bMs;
}

/** `192.0.2.10:80/tcp`, `node port 30080/tcp`. */
export function formatFrontend({ address, port, protocol }: Frontend): string {
  if (!isAny(address)) return `${formatAddressPort(address, port)}/${protocol}`;
  return `node port ${port}/${protocol}${isIpv4(address) ? "" : " of IPv6"}`;
}
