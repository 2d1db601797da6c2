// SPDX-License-Identifier: Apache-2.0
// Closes sockets whose backend is gone, in whichever network namespace they are.

import type {
  SocketPeer,
  SocketPeer6,
  SocketPeerKey,
  SocketPeerKey6,
} from "../datapath/gen/abi.ts";
import type { TypedMap } from "../datapath/maps.ts";
import type { MapBatch } from "../kernel/map-batch.ts";
import {
  type DiagSocket,
  destroySocket,
  listSocketsTo,
  openSocketDiag,
} from "../kernel/netlink/sock-diag.ts";
import { isNamespace, namespaceCookie } from "../kernel/netns.ts";
import { createBreather } from "../state/breathe.ts";

/** Whose peer was translated, and what to, in either family. */
export type AnyPeerKey = SocketPeerKey | SocketPeerKey6;
export type AnyPeer = SocketPeer | SocketPeer6;
type PeerMap = TypedMap<AnyPeerKey, AnyPeer>;

export interface SocketCloserOptions {
  /** One for each family that the node has. */
  readonly maps: readonly PeerMap[];
  /** Files of the namespaces that sockets may be in, the node's own left out. */
  readonly namespaces: () => Iterable<string>;
  /** Called when sockets of one namespace can't be closed; the others are all the same. */
  readonly failed: (error: Error) => void;
}

/** Sockets closed so far, by protocol. */
export type ClosedCount = Readonly<Record<DiagSocket["protocol"], number>>;

export interface SocketCloser {
  /**
   * Closes those of the sockets that our programs translated which have a peer that is over, and
   * forgets them. A socket without a peer of its own, as UDP's may be, stays: its next datagram
   * goes to another backend.
   */
  close(isOver: (key: AnyPeerKey, peer: AnyPeer) => boolean): Promise<void>;
  closed(): ClosedCount;
}

/** For how long the event loop may be held. */
const BUDGET_MS = 2;
const CHUNK = 1024;
const UDP = 17;

/** What is over in one namespace: cookies by peer. */
type Peers = Map<string, { readonly key: AnyPeerKey; readonly cookies: Set<bigint> }>;

export function createSocketCloser(options: SocketCloserOptions): SocketCloser {
  const { maps, namespaces, failed } = options;
  const closed = { tcp: 0, udp: 0 };
  const closeOf = async (over: Over, breathe: Breathe): Promise<void> => {
    for (const [path, peers] of resolve(over.found, namespaces(), failed)) {
      for (const { key, cookies } of peers.values()) {
        try {
          const protocol = key.protocol === UDP ? "udp" : "tcp";
          closed[protocol] += closeIn(path, protocol, key, cookies);
        } catch (error) {
          failed(errorOf(error));
        }
        await breathe();
      }
    }
  };
  return {
    async close(isOver) {
      const breathe = createBreather(BUDGET_MS);
      for (const map of maps) {
        const over: Over = { keys: [], found: new Map() };
        for (const batch of map.raw.lookupBatches(CHUNK)) {
          for (const [key, peer] of decoded(map, batch)) {
            if (!isOver(key, peer)) continue;
            over.keys.push(key);
            note(over.found, key, peer);
          }
          await breathe();
        }
        await closeOf(over, breathe);
        map.deleteAll(over.keys);
      }
    },
    closed: () => ({ ...closed }),
  };
}

/** What is over in one table: all of it, and by namespace. */
interface Over {
  readonly keys: AnyPeerKey[];
  readonly found: Map<bigint, Peers>;
}

type Breathe = ReturnType<typeof createBreather>;

function* decoded(
  { spec: { key, value } }: PeerMap,
  { keys, values, count }: MapBatch,
): Generator<readonly [AnyPeerKey, AnyPeer]> {
  const [keyView, valueView] = [viewOf(keys), viewOf(values)];
  for (let index = 0; index < count; index++) {
    yield [key.decode(keyView, index * key.size), value.decode(valueView, index * value.size)];
  }
}

function note(found: Map<bigint, Peers>, key: AnyPeerKey, { netns }: AnyPeer): void {
  let peers = found.get(netns);
  if (peers === undefined) {
    peers = new Map();
    found.set(netns, peers);
  }
  const name = `${key.backend} ${key.port} ${key.protocol}`;
  const same = peers.get(name);
  if (same === undefined) peers.set(name, { key, cookies: new Set([key.cookie]) });
  else same.cookies.add(key.cookie);
}

/** Each with its namespace's file, undefined for the node's own. Unknown ones are left out. */
function* resolve(
  found: Map<bigint, Peers>,
  paths: Iterable<string>,
  failed: (error: Error) => void,
): Generator<[path: string | undefined, peers: Peers]> {
  const take = (cookie: bigint): Peers | undefined => {
    const peers = found.get(cookie);
    found.delete(cookie);
    return peers;
  };
  if (found.size === 0) return;
  const own = take(namespaceCookie());
  if (own !== undefined) yield [undefined, own];
  for (const path of paths) {
    if (found.size === 0) return;
    let peers: Peers | undefined;
    try {
      if (isNamespace(path)) peers = take(namespaceCookie(path));
    } catch (error) {
      // Namespaces may vanish at any time.
      failed(errorOf(error));
    }
    if (peers !== undefined) yield [path, peers];
  }
}

/** Closes the sockets with these cookies that have the peer; tells how many. */
function closeIn(
  path: string | undefined,
  protocol: DiagSocket["protocol"],
  { backend, port }: AnyPeerKey,
  cookies: ReadonlySet<bigint>,
): number {
  using netlink = openSocketDiag(path);
  const sockets = listSocketsTo(netlink, { protocol, address: backend, port });
  const ours = sockets.filter(({ cookie }) => cookies.has(cookie));
  return ours.filter((socket) => destroySocket(netlink, socket)).length;
}

function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

function errorOf(error: unknown): Error {
  return error instanceof Error ? error : new Error(String(error));
}
