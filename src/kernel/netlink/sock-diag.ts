// SPDX-License-Identifier: Apache-2.0
// Sockets of a network namespace as sock_diag(7) shows and closes them.

import {
  type Address,
  addressToBytes,
  formatAddress,
  isIpv4,
  parseAddress,
  readIpv4,
  readIpv6,
} from "../../net/address.ts";
import { KernelError } from "../error.ts";
import { FLAG, NETLINK_PROTOCOL, type Netlink, openNetlink } from "./socket.ts";
import { encodeBody, type Received, viewOf } from "./wire.ts";

/** Whose peer is this address and port. */
export interface PeerFilter {
  readonly protocol: "tcp" | "udp";
  readonly address: Address;
  readonly port: number;
}

/** A socket with a peer. */
export interface DiagSocket {
  readonly protocol: "tcp" | "udp";
  readonly family: SocketFamily;
  /** By which eBPF's bpf_get_socket_cookie knows it. */
  readonly cookie: bigint;
  /** struct inet_diag_sockid, which names it to the kernel. */
  readonly id: Uint8Array;
}

/** A socket that waits for whoever comes: listening, or of UDP without a peer. */
export interface BoundSocket {
  readonly protocol: "tcp" | "udp";
  readonly family: SocketFamily;
  /** A mapped one as IPv4; `::` of a socket of AF_INET6 is of both families. */
  readonly address: Address;
  readonly port: number;
}

/** AF_INET, or AF_INET6, whose sockets may have peers of IPv4 too, as mapped addresses. */
export type SocketFamily = 2 | 10;

const SOCK_DIAG_BY_FAMILY = 20;
const SOCK_DESTROY = 21;
const AF_INET = 2;
const AF_INET6 = 10;
const PROTOCOL = { tcp: 6, udp: 17 } as const;
/** Of struct inet_diag_req_v2, of struct inet_diag_msg before the id, and of the id. */
const REQUEST_BYTES = 56;
const ID_AT = { request: 8, answer: 4 } as const;
const ID_BYTES = 48;
const SOURCE_AT = 4;
const COOKIE_AT = 40;
const INET_DIAG_REQ_BYTECODE = 1;
const INET_DIAG_BC_D_COND = 8;
/**
 * By TCP's states: all with a peer but those of half a socket, SYN-RECEIVED and TIME-WAIT. A UDP
 * socket with a peer is called established.
 */
const STATES = [1, 2, 4, 5, 8, 9, 11].reduce((mask, state) => mask | (1 << state), 0);

/** TCP's LISTEN, and CLOSE, which a UDP socket without a peer is called. */
const WAITING = { tcp: 1 << 10, udp: 1 << 7 } as const;

/** A socket for the calls below, in the namespace at `namespace` or the caller's own. */
export function openSocketDiag(namespace?: string): Netlink {
  const protocol = NETLINK_PROTOCOL.socketDiag;
  return openNetlink(namespace === undefined ? { protocol } : { protocol, namespace });
}

/** Sockets of either family that have this peer; those without any peer are never meant. */
export function listSocketsTo(netlink: Netlink, filter: PeerFilter): DiagSocket[] {
  const { protocol, address, port } = filter;
  const value = peerCondition(address, port);
  const families = isIpv4(address) ? ([AF_INET, AF_INET6] as const) : ([AF_INET6] as const);
  return families.flatMap((family) => {
    const header = requestHeader(protocol, family);
    viewOf(header).setUint32(4, STATES, true);
    const answers = netlink.dump({
      operation: `list ${protocol} sockets to`,
      object: `${formatAddress(address)} port ${port}`,
      message: {
        type: SOCK_DIAG_BY_FAMILY,
        flags: 0,
        body: encodeBody(header, [{ type: INET_DIAG_REQ_BYTECODE, value }]),
      },
    });
    return answers.map((answer) => readSocket(protocol, family, answer));
  });
}

/** Sockets of a protocol, of both families, that wait for whoever comes. */
export function listBoundSockets(netlink: Netlink, protocol: BoundSocket["protocol"]) {
  return ([AF_INET, AF_INET6] as const).flatMap((family): BoundSocket[] => {
    const body = requestHeader(protocol, family);
    viewOf(body).setUint32(4, WAITING[protocol], true);
    const answers = netlink.dump({
      operation: `list bound ${protocol} sockets`,
      object: `of family ${family}`,
      message: { type: SOCK_DIAG_BY_FAMILY, flags: 0, body },
    });
    return answers.map((answer) => readBound(protocol, family, answer));
  });
}

/**
 * Closes a socket under its owner's hands: calls on it fail with ECONNABORTED from now on. False
 * when it is gone already; throws KernelError, EOPNOTSUPP on a kernel that was built without this.
 */
export function destroySocket(netlink: Netlink, socket: DiagSocket): boolean {
  const { protocol, family, cookie, id } = socket;
  const body = requestHeader(protocol, family);
  body.set(id, ID_AT.request);
  const message = { type: SOCK_DESTROY, flags: FLAG.request, body };
  try {
    netlink.run({
      operation: `close ${protocol} socket`,
      object: `with cookie ${cookie}`,
      message,
    });
    return true;
  } catch (error) {
    if (error instanceof KernelError && error.code === "ENOENT") return false;
    throw error;
  }
}

function requestHeader(protocol: DiagSocket["protocol"], family: SocketFamily): Uint8Array {
  const header = new Uint8Array(REQUEST_BYTES);
  header[0] = family;
  header[1] = PROTOCOL[protocol];
  return header;
}

function readSocket(
  protocol: DiagSocket["protocol"],
  family: SocketFamily,
  { body }: Received,
): DiagSocket {
  const id = body.slice(ID_AT.answer, ID_AT.answer + ID_BYTES);
  return { protocol, family, id, cookie: viewOf(id).getBigUint64(COOKIE_AT, true) };
}

function readBound(
  protocol: BoundSocket["protocol"],
  family: SocketFamily,
  { body }: Received,
): BoundSocket {
  const at = ID_AT.answer + SOURCE_AT;
  const isNarrow = family === AF_INET;
  const address = isNarrow ? readIpv4(body, at) : parseAddress(formatAddress(readIpv6(body, at)));
  return { protocol, family, address, port: viewOf(body).getUint16(ID_AT.answer) };
}

/**
 * The one instruction that lets only sockets with this peer through (linux/inet_diag.h). The kernel
 * takes a condition of IPv4 for a mapped address of a socket of AF_INET6, too.
 */
function peerCondition(address: Address, port: number): Uint8Array {
  const value = addressToBytes(address);
  const bytes = new Uint8Array(12 + value.length);
  const view = viewOf(bytes);
  view.setUint8(0, INET_DIAG_BC_D_COND);
  view.setUint8(1, bytes.length); // where to go on if it holds: the end
  view.setUint16(2, bytes.length + 4, true); // else: behind the end, which says no
  view.setUint8(4, isIpv4(address) ? AF_INET : AF_INET6);
  view.setUint8(5, value.length * 8);
  view.setInt32(8, port, true);
  bytes.set(value, 12);
  return bytes;
}
