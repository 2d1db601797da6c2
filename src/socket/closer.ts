// SPDX-License-Identifier: Apache-2.0
// Closes sockets whose backend is gone, in whichever network namespace they are.

import { SocketPeer, SocketPeerKey } from "../datapath/gen/abi.ts";
import type { TypedMap } from "../datapath/maps.ts";
import {
  type DiagSocket,
  destroySocket,
  listSocketsTo,
  openSocketDiag,
} from "../kernel/netlink/sock-diag.ts";
import { isNamespace, namespaceCookie } from "../kernel/netns.ts";
import { createBreather } from "../state/breathe.ts";

export interface SocketCloserOptions {
  readonly map: TypedMap<SocketPeerKey, SocketPeer>;
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
  close(isOver: (key: SocketPeerKey, peer: SocketPeer) => boolean): Promise<void>;
  closed(): ClosedCount;
}

/** For how long the event loop may be held. */
const BUDGET_MS = 2;
const CHUNK = 1024;
const UDP = 17;

/** What is over in one namespace: cookies by peer. */
type Peers = Map<string, { readonly key: SocketPeerKey; readonly cookies: Set<bigint> }>;

export function createSocketCloser(options: SocketCloserOptions): SocketCloser {
  const { map } = options;
  const closed = { tcp: 0, udp: 0 };
  return {
    async close(isOver) {
      const over: SocketPeerKey[] = [];
      const found = new Map<bigint, Peers>();
      const breathe = createBreather(BUDGET_MS);
      for (const { keys, values, count } of map.raw.lookupBatches(CHUNK)) {
        for (let index = 0; index < count; index++) {
          const key = SocketPeerKey.decode(viewOf(keys), index * SocketPeerKey.size);
          const peer = SocketPeer.decode(viewOf(values), index * SocketPeer.size);
          if (!isOver(key, peer)) continue;
          over.push(key);
          note(found, key, peer);
        }
        await breathe();
      }
      for (const [path, peers] of resolve(found, options.namespaces())) {
        for (const { key, cookies } of peers.values()) {
          try {
            const protocol = key.protocol === UDP ? "udp" : "tcp";
            closed[protocol] += closeIn(path, protocol, key, cookies);
          } catch (error) {
            options.failed(error instanceof Error ? error : new Error(String(error)));
          }
          await breathe();
        }
      }
      map.deleteAll(over);
    },
    closed: () => ({ ...closed }),
  };
}

function note(found: Map<bigint, Peers>, key: SocketPeerKey, { netns }: SocketPeer): void {
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
    const peers = isNamespace(path) ? take(namespaceCookie(path)) : undefined;
    if (peers !== undefined) yield [path, peers];
  }
}

/** Closes the sockets with these cookies that have the peer; tells how many. */
function closeIn(
  path: string | undefined,
  protocol: DiagSocket["protocol"],
  { backend, port }: SocketPeerKey,
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
