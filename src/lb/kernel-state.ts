// SPDX-License-Identifier: Apache-2.0
// What the kernel's tables hold when the agent starts.

import type { FormerOwnersTarget } from "../datapath/former-owners.ts";
import { FrontendKind, ServiceFlag, type ServiceId, type Target } from "../datapath/gen/abi.ts";
import type { TypedMap } from "../datapath/maps.ts";
import type { HotTables } from "../datapath/tables/tables.ts";
import type { Address } from "../net/address.ts";
import type { KernelState } from "./restore.ts";
import { type CounterId, protocolOf } from "./rows.ts";

/** The maps of one family that a restart goes on from. */
export interface FamilyState {
  readonly targets: Pick<
    TypedMap<{ readonly service: ServiceId; readonly pod: Address }, Target>,
    "entries"
  >;
  readonly formerOwners: Pick<FormerOwnersTarget, "found">;
}

/** Reads services, targets and former owners of before, for who keeps their ids and flows. */
export function readKernelState(tables: HotTables, families: readonly FamilyState[]): KernelState {
  const services = [...tables.found()].map(({ id, frontends, image }) => ({
    id: id as ServiceId,
    frontends: frontends.map(({ address, port, protocol, kind }) => ({
      address,
      port,
      protocol: protocolOf(protocol) ?? ("tcp" as const),
      inside: kind === FrontendKind.internal,
    })),
    ring: image.ring,
    backends: image.backends.map(({ address, port, counter }) => ({
      address,
      port,
      counter: counter as CounterId,
    })),
    snat: (image.flags & ServiceFlag.snat) !== 0,
    lately: (image.flags & ServiceFlag.lately) !== 0,
    wasOther: (image.flags & (ServiceFlag.wasSnat | ServiceFlag.wasDsr)) !== 0,
  }));
  const targets = families.flatMap((family) =>
    [...family.targets.entries()].map(([{ service, pod }, { port, counter }]) => ({
      service,
      address: pod,
      port,
      counter: counter as CounterId,
    })),
  );
  const formerOwners = families.flatMap((family) => [...family.formerOwners.found()]);
  return { services, targets, formerOwners };
}
