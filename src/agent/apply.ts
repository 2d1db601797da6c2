// SPDX-License-Identifier: Apache-2.0

// Calls that change objects, and whether the kernel has followed.

import type { AgentHandlers } from "../api/server.ts";
import type { ManifestRow } from "../lb/shape/object.ts";
import type { PrimaryKey } from "../state/table.ts";
import type { Services } from "./services.ts";
import { nameOf } from "./sources.ts";

/** For how long a call waits for the kernel's tables; beyond, it says that it isn't in force. */
const WAIT_MS = 5000;

export function createChangeHandlers(services: Services): Pick<AgentHandlers, "apply" | "delete"> {
  return {
    async apply({ documents }) {
      const rows = await services.api.apply(documents);
      await settled(services);
      return { objects: rows.map(nameOf), inForce: rows.every((row) => isInForce(services, row)) };
    },
    async delete({ objects }) {
      const deleted = await services.api.delete(objects);
      await settled(services);
      const inForce = deleted.every((row) => isInForce(services, row));
      return { deleted: deleted.map(nameOf), inForce };
    },
  };
}

async function settled(services: Services): Promise<void> {
  const { promise: late, resolve } = Promise.withResolvers<void>();
  const limit = setTimeout(resolve, WAIT_MS).unref();
  await Promise.race([services.settled(), late]);
  clearTimeout(limit);
}

/** Whether the kernel has everything that follows from a row. */
function isInForce(services: Services, content: ManifestRow): boolean {
  const { lb, endpoints, nodes, reconciler } = services;
  const applied = (table: string, keys: readonly PrimaryKey[]): boolean =>
    keys.every((key) => reconciler.status(table, key).state === "applied");
  switch (content.kind) {
    case "Service":
    case "EndpointSlice": {
      const service = content.kind === "Service" ? content.row.key : content.row.service;
      for (const { id } of lb.refusals()) if (id === `Service ${service}`) return false;
      const ports = lb.ports.by("service", service).map(({ key }) => key);
      return services.loaded.open && applied(lb.ports.name, ports);
    }
    case "Pod":
      return applied(endpoints.endpoints.name, [content.row.key]);
    case "Node":
      return applied(nodes.trusted.name, [...nodes.trusted.keys()]);
  }
}
