// SPDX-License-Identifier: Apache-2.0

// Sockets of this node whose backend is gone.

import { namespacePath } from "../kernel/netns.ts";
import { type ClosedCount, createSocketCloser } from "../socket/closer.ts";
import { followEnded } from "../socket/ended.ts";
import type { Log } from "../telemetry/log.ts";
import type { NodeDatapath } from "./datapath.ts";
import type { Services } from "./services.ts";

export interface EndedSockets extends Disposable {
  /** Sockets closed since the agent started. */
  closed(): ClosedCount;
}

/** Closes the sockets of backends and services that go, from now on. */
export function closeEndedSockets(
  { datapath }: NodeDatapath,
  services: Services,
  log: Log,
): EndedSockets {
  const { lb, endpoints, nodes, complete, nodeName } = services;
  const failed = (error: Error): void => {
    log.warn("sockets of a backend that is gone stay open", { error });
  };
  const namespaces = function* (): Generator<string> {
    for (const { attachment } of endpoints.endpoints.by("node", nodeName)) {
      const netns = attachment?.netns;
      if (netns !== undefined) yield netns.startsWith("/") ? netns : namespacePath(netns);
    }
  };
  const { maps: narrow, wide } = datapath;
  const maps = [narrow.socketPeers, ...(wide === undefined ? [] : [wide.socketPeers])];
  const closer = createSocketCloser({ maps, namespaces, failed });
  const follower = followEnded({
    closer,
    ports: lb.ports,
    slices: lb.slices,
    endpoints: endpoints.endpoints,
    nodes: nodes.nodes,
    lives: (address) => lb.lives(address),
    complete,
    settled: () => services.settled(),
    failed,
  });
  return {
    closed: () => closer.closed(),
    [Symbol.dispose]: () => follower[Symbol.dispose](),
  };
}
