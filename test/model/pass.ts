// SPDX-License-Identifier: Apache-2.0
// *Pass*: to another owner of a flow's slot.

import { fragNeeded, outerSize, wayOf } from "./balance.ts";
import { set8, set32 } from "./bytes.ts";
import { type Arrival, updateFromClient } from "./flow.ts";
import { drop, elapsed, type Node, type Outcome } from "./node.ts";
import { FINAL, HOP_TTL, KNOWN } from "./numbers.ts";
import { changeIpv4, encapsulate, writeMacs } from "./packet.ts";
import type { Flow, Service } from "./tables.ts";

/** To an owner that isn't known to have the flow. */
export function passOn(
  node: Node,
  arrival: Arrival,
  service: Service,
  owner: number,
  hop: number,
): Outcome {
  if (overLimit(node, arrival, service)) return drop("DROP_PASS_LIMIT", arrival.frame);
  return send(node, arrival, owner, hop);
}

/** To the owner that a REMOTE entry names. */
export function passToKnown(node: Node, arrival: Arrival, flow: Flow): Outcome {
  updateFromClient(node, arrival.input, arrival.ip, arrival.l4, flow);
  return send(node, arrival, flow.pod, KNOWN);
}

function overLimit(node: Node, { input }: Arrival, service: Service): boolean {
  const { passLimit, passWindow } = node.config;
  const { passWindows } = node.tables;
  const window = passWindows.get(service.id) ?? { since: 0, passed: 0 };
  if (elapsed(input.jiffies, window.since) >= passWindow) {
    window.since = input.jiffies;
    window.passed = 0;
  }
  window.passed += 1;
  passWindows.set(service.id, window);
  return window.passed > passLimit;
}

function send(node: Node, arrival: Arrival, owner: number, hop: number): Outcome {
  const { input, outer, ip, l4 } = arrival;
  const source = node.config.nodeAddress;
  const ttl = HOP_TTL[hop] ?? 0;
  const route = node.route(input, source, owner);
  if (route === undefined) return drop("DROP_NO_ROUTE", arrival.frame);
  if (outer === undefined && outerSize(ip, l4, input.gsoSize) > route.mtu) {
    return fragNeeded(input, ip, route.mtu);
  }
  if (outer === undefined && node.around.refusesRoom(input)) {
    return drop("DROP_REWRITE", arrival.frame);
  }
  let frame: Uint8Array = arrival.frame.slice();
  if (outer === undefined) frame = encapsulate(frame, ip, { source, destination: owner, ttl });
  else {
    changeIpv4(frame, outer, () => {
      set8(frame, outer.at + 8, ttl);
      set32(frame, outer.at + 12, source);
      set32(frame, outer.at + 16, owner);
    });
  }
  if (route.macs !== undefined) writeMacs(frame, route.macs.destination, route.macs.source);
  return { verdict: hop === FINAL ? "SENT_FINAL" : "SENT_PASSED", way: wayOf(route), frame };
}
