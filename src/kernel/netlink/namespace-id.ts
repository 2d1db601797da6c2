// SPDX-License-Identifier: Apache-2.0
// The small numbers by which one network namespace knows others: RTM_*NSID. eBPF's
// bpf_sk_lookup helpers and device attributes name a namespace by them.

import { FLAG, type Netlink, type Request } from "./socket.ts";
import { decodeAttributes, encodeBody, u32 } from "./wire.ts";

const RTM = { new: 88, get: 90 } as const;
const NETNSA = { id: 1, fd: 3 } as const;
const HEADER = new Uint8Array(4);

/**
 * Has the socket's namespace know the one of `namespaceFd` as `id` (0…2^31-1); EEXIST when it
 * knows it already.
 */
export function addNamespaceId(namespaceFd: number, id: number): Request {
  const body = encodeBody(HEADER, [u32(NETNSA.id, id), u32(NETNSA.fd, namespaceFd)]);
  const message = { type: RTM.new, flags: FLAG.create | FLAG.exclusive, body };
  return { operation: "assign namespace id", object: String(id), message };
}

/** What the socket's namespace knows the one of `namespaceFd` as; undefined where it doesn't. */
export function getNamespaceId(netlink: Netlink, namespaceFd: number): number | undefined {
  const message = {
    type: RTM.get,
    flags: 0,
    body: encodeBody(HEADER, [u32(NETNSA.fd, namespaceFd)]),
  };
  const [reply] = netlink.query({ operation: "get namespace id of", object: "namespace", message });
  const id = reply === undefined ? undefined : decodeAttributes(reply.body, 4).s32(NETNSA.id);
  return id === undefined || id < 0 ? undefined : id;
}
