// SPDX-License-Identifier: Apache-2.0
// Flows of either family, and how their two entries belong together.

import {
  type Flow,
  type Flow6,
  FlowDirection,
  type FlowKey,
  type FlowKey6,
} from "../datapath/gen/abi.ts";
import type { TypedMap } from "../datapath/maps.ts";
import type { Address } from "../net/address.ts";

type KeyAddress = "source" | "destination";
type FlowAddress = "client" | "serviceAddress" | "pod" | "aliasAddress";

export type AnyFlowKey = Omit<FlowKey & FlowKey6, KeyAddress> & Record<KeyAddress, Address>;
export type AnyFlow = Omit<Flow & Flow6, FlowAddress> & Record<FlowAddress, Address>;

/** conntrack or conntrack6. */
export type FlowMap = TypedMap<AnyFlowKey, AnyFlow>;

/** One entry of a flow. */
export interface Half {
  readonly key: AnyFlowKey;
  readonly flow: AnyFlow;
}

/** The key of a flow's other entry. */
export function otherHalf(key: AnyFlowKey, flow: AnyFlow): AnyFlowKey {
  const { protocol } = key;
  if (key.direction === FlowDirection.request) {
    return {
      source: flow.pod,
      destination: flow.aliasAddress,
      sourcePort: flow.podPort,
      destinationPort: flow.aliasPort,
      protocol,
      direction: FlowDirection.reply,
    };
  }
  return {
    source: flow.client,
    destination: flow.serviceAddress,
    sourcePort: flow.clientPort,
    destinationPort: flow.servicePort,
    protocol,
    direction: FlowDirection.request,
  };
}

/** Whether two entries are of one flow. */
export function belong(a: AnyFlow, b: AnyFlow): boolean {
  return (
    a.client === b.client &&
    a.clientPort === b.clientPort &&
    a.serviceAddress === b.serviceAddress &&
    a.servicePort === b.servicePort &&
    a.pod === b.pod
  );
}
