// SPDX-License-Identifier: Apache-2.0
// Which addresses of this node are backends (hostNetwork) to which clients outside are led.

import type { Address } from "../net/address.ts";
import type { NodeAddressRow } from "../node/rows.ts";
import { createTable, type ReadTable } from "../state/table.ts";
import type { ServicePort } from "./rows.ts";
import type { LbWriter } from "./writer.ts";

/** Key: `address`. */
export interface OwnBackend {
  readonly address: Address;
}

export interface OwnBackendOptions {
  readonly lb: Pick<LbWriter, "services" | "slices" | "ports">;
  readonly addresses: ReadTable<Address, NodeAddressRow>;
}

export interface OwnBackends extends Disposable {
  readonly backends: ReadTable<Address, OwnBackend>;
}

/**
 * Follows slices, so that the address is known before a ring has it, and ports: a backend that has
 * left keeps its connections, as a pod does.
 */
export function createOwnBackends({ lb, addresses }: OwnBackendOptions): OwnBackends {
  const backends = createTable<Address, OwnBackend>({
    name: "own-backends",
    key: ({ address }) => address,
  });
  const isWanted = (address: Address): boolean =>
    lb.slices.by("address", address).some(({ service }) => isForOutside(lb, service)) ||
    lb.ports.by("watched", address).some(leadsOutside);
  // Of a large cluster's addresses few are this node's, and services change often.
  const own = new Set<Address>();
  const settle = (): void => {
    for (let change = nodes.take(); change !== undefined; change = nodes.take()) {
      if (change.row?.own === true) own.add(change.key);
      else own.delete(change.key);
    }
    for (const cursor of cursors) while (cursor.take() !== undefined);
    for (const address of backends.keys()) {
      if (!own.has(address) || !isWanted(address)) backends.delete(address);
    }
    for (const address of own) {
      if (!backends.has(address) && isWanted(address)) backends.set({ address });
    }
  };
  const nodes = addresses.cursor(settle);
  const cursors = [
    lb.services.cursor(settle),
    lb.slices.cursor(settle),
    lb.ports.cursor(settle),
  ] as const;
  return {
    backends,
    [Symbol.dispose]() {
      for (const cursor of [nodes, ...cursors]) cursor.close();
    },
  };
}

/** Whether clients outside are served: those inside connect to the backend itself. */
function isForOutside({ services }: OwnBackendOptions["lb"], key: string): boolean {
  const service = services.get(key);
  if (service === undefined) return false;
  return service.addresses.length > 0 || service.ports.some(({ nodePort }) => nodePort > 0);
}

function leadsOutside({ addresses, nodePort }: ServicePort): boolean {
  return addresses.length > 0 || nodePort > 0;
}
