// SPDX-License-Identifier: Apache-2.0
// What changes in a network namespace, as it changes.

import { type DeviceAddress, decodeAddress } from "./address.ts";
import { AF, familyNumberOf } from "./family.ts";
import { decodeLink, type Link } from "./link.ts";
import { decodeNeighbour, type Neighbour } from "./neighbour.ts";
import { decodeRoute, isClonedRoute, type Route } from "./route.ts";
import { FLAG, type Netlink, openNetlink } from "./socket.ts";
import { wakeOnData } from "./wake.ts";
import type { Received } from "./wire.ts";

/** Multicast groups (RTNLGRP_*), IPv4's and IPv6's. */
const GROUPS = { link: [1], neighbour: [3], address: [5, 9], route: [7, 11] } as const;
/** RTM_NEW*; each RTM_DEL* is one more. */
const NEW_TYPES: Readonly<Record<number, WatchKind>> = {
  16: "link",
  20: "address",
  24: "route",
  28: "neighbour",
};
/** Datagrams read before other work gets its turn. */
const TURN_LIMIT = 256;

export type WatchKind = keyof typeof GROUPS;

/** `change` is "set" for new and altered things, "deleted" for the last state of a thing gone. */
export type NetworkEvent =
  | { readonly kind: "link"; readonly change: "set" | "deleted"; readonly link: Link }
  | {
      readonly kind: "address";
      readonly change: "set" | "deleted";
      readonly address: DeviceAddress;
    }
  | {
      readonly kind: "route";
      readonly change: "set" | "deleted";
      readonly route: Route;
      /** Whether another one went for it; of IPv6, that may have been by another device. */
      readonly replaces: boolean;
    }
  | {
      readonly kind: "neighbour";
      readonly change: "set" | "deleted";
      readonly neighbour: Neighbour;
    }
  /** At the start, and after events were lost: list everything anew. */
  | { readonly kind: "resync" };

export interface WatchOptions {
  readonly kinds?: readonly WatchKind[];
  /** A network namespace by path; the caller's own when absent. */
  readonly namespace?: string;
}

export interface Watch {
  close(): void;
}

/** The event that a notification tells of; undefined for what isn't IP or isn't watched. */
export function decodeEvent(message: Received): NetworkEvent | undefined {
  const ip = familyNumberOf(message) !== undefined;
  const change = (message.type & 1) === 0 ? "set" : "deleted";
  switch (NEW_TYPES[message.type & ~1]) {
    case "link":
      // Bridges tell of their ports under a family of their own; the device itself has none.
      if (message.body[0] !== AF.unspecified) return undefined;
      return { kind: "link", change, link: decodeLink(message) };
    case "address":
      if (!ip) return undefined;
      return { kind: "address", change, address: decodeAddress(message) };
    case "route":
      if (!ip || isClonedRoute(message)) return undefined;
      return {
        kind: "route",
        change,
        route: decodeRoute(message),
        replaces: change === "set" && (message.flags & FLAG.replace) !== 0,
      };
    case "neighbour":
      if (!ip) return undefined;
      return { kind: "neighbour", change, neighbour: decodeNeighbour(message) };
    default:
      return undefined;
  }
}

/**
 * Calls `listener` for every change, from now on and in order, beginning with "resync": who lists
 * everything at each resync and then applies events never misses anything. An event may tell of
 * what a list has already shown. A watch doesn't keep the process alive.
 */
export function watchNetwork(
  listener: (event: NetworkEvent) => void,
  options: WatchOptions = {},
): Watch {
  const kinds = options.kinds ?? (Object.keys(GROUPS) as WatchKind[]);
  const socket = openNetlink({
    groups: kinds.flatMap((kind) => GROUPS[kind]),
    ...(options.namespace === undefined ? {} : { namespace: options.namespace }),
  });
  return startWatch(socket, listener);
}

/** Drops what is queued: it is older than the list to come, and its later half is lost. */
function discardAll(socket: Netlink): void {
  while (socket.receiveMessages() !== undefined);
}

function startWatch(socket: Netlink, listener: (event: NetworkEvent) => void): Watch {
  let closed = false;
  const deliver = (event: NetworkEvent): void => {
    if (!closed) listener(event);
  };
  const drain = (): void => {
    for (let turn = 0; turn < TURN_LIMIT && !closed; turn++) {
      const received = socket.receiveMessages();
      if (received === undefined) return;
      if (received === "lost") {
        discardAll(socket);
        deliver({ kind: "resync" });
        continue;
      }
      for (const message of received) {
        const event = decodeEvent(message);
        if (event !== undefined) deliver(event);
      }
    }
    if (!closed) setImmediate(drain);
  };
  const end = wakeOnData(socket.fd, drain);
  queueMicrotask(() => {
    deliver({ kind: "resync" });
    if (!closed) drain();
  });
  return {
    close: () => {
      if (closed) return;
      closed = true;
      end();
      socket.close();
    },
  };
}
