// SPDX-License-Identifier: Apache-2.0

// Backends that have the address of a node (hostNetwork), which clients outside can't be led to.

import { objectOf, type Service, type ServicePort } from "../lb/rows.ts";
import type { LbRefusal, LbWriter } from "../lb/writer.ts";
import { type Address, formatAddressPort } from "../net/address.ts";
import type { NodeAddressRow } from "../node/rows.ts";
import type { ReadTable } from "../state/table.ts";

export interface NodeBackendOptions {
  readonly lb: Pick<LbWriter, "services" | "slices" | "ports">;
  readonly addresses: ReadTable<Address, NodeAddressRow>;
}

const OTHERS_WAY_OUT =
  "a node takes packets of DSR for its pods alone: " +
  'set "ciliate.io/forwarding-mode: snat", or run its pod without hostNetwork';
const OWN_WAY_OUT =
  "in no mode does a node balance to its own address: " +
  "let another node balance, or run its pod without hostNetwork";

/**
 * Backends to which connections of clients outside die without a word: of other nodes by DSR, and
 * this node's own in every mode. Pods and nodes are none of them: their sockets connect to the
 * backend itself. Looks anew whenever it is asked.
 */
export function* nodeBackends({ lb, addresses }: NodeBackendOptions): Generator<LbRefusal> {
  for (const service of servicesAtNodes(lb, addresses)) {
    for (const row of lb.ports.by("service", service.key)) {
      if (row.addresses.length === 0 && row.nodePort === 0) continue;
      const [others = [], own = []] = [false, true].map((isOwn) =>
        row.backends.filter(({ address }) => addresses.get(address)?.own === isOwn),
      );
      if (!row.snat) yield* lost(service, row, others, OTHERS_WAY_OUT);
      yield* lost(service, row, own, OWN_WAY_OUT);
    }
  }
}

/** Those that some slice gives a node's address; each once. */
function servicesAtNodes(
  { services, slices }: NodeBackendOptions["lb"],
  addresses: NodeBackendOptions["addresses"],
): ReadonlySet<Service> {
  const found = new Set<Service>();
  for (const address of addresses.keys()) {
    for (const { service: key } of slices.by("address", address)) {
      const service = services.get(key);
      if (service !== undefined) found.add(service);
    }
  }
  return found;
}

function* lost(
  service: Service,
  { key, port, protocol }: ServicePort,
  [first, ...others]: ServicePort["backends"],
  wayOut: string,
): Generator<LbRefusal> {
  if (first === undefined) return;
  const more = others.length === 0 ? "" : ` and ${others.length} more`;
  const index = service.ports.findIndex((one) => one.port === port && one.protocol === protocol);
  const text =
    `backend ${formatAddressPort(first.address, first.port)}${more} of ${key} has the address ` +
    `of a node, and clients outside get no answer from it: ${wayOut}`;
  yield { id: objectOf(service), field: `spec.ports[${index}]`, text, kept: false };
}
