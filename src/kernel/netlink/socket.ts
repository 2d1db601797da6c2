// SPDX-License-Identifier: Apache-2.0

import { check, KernelError } from "../error.ts";
import { bind, close, receive, send, setSocketOption, socket } from "../ffi.ts";
import { inNamespace } from "../netns.ts";
import {
  decodeAttributes,
  decodeMessages,
  encodeMessage,
  MESSAGE_HEADER_BYTES,
  type Message,
  type Received,
  viewOf,
} from "./wire.ts";

/** NETLINK_ROUTE, NETLINK_SOCK_DIAG and NETLINK_GENERIC. */
export const NETLINK_PROTOCOL = { route: 0, socketDiag: 4, generic: 16 } as const;

export const FLAG = {
  request: 0x1,
  ack: 0x4,
  dumpInterrupted: 0x10,
  /** The same bits mean other things for GET (dump) and NEW (replace, excl, create). */
  dump: 0x300,
  replace: 0x100,
  exclusive: 0x200,
  create: 0x400,
  append: 0x800,
} as const;

/** What is asked of the kernel, as a value: nothing happens until a socket runs it. */
export interface Request {
  /** What is tried, as in "create device". */
  readonly operation: string;
  /** On what, as in "veth0 in 10.0.0.0/8". */
  readonly object: string;
  readonly message: Message;
  /** What takes it back, for batches that fail halfway. */
  readonly undo?: Request;
}

const AF_NETLINK = 16;
const SOCK_RAW = 3;
const SOL_SOCKET = 1;
const SO_RCVTIMEO = 20;
const SO_RCVBUFFORCE = 33;
const SOL_NETLINK = 270;
const OPTION = { addMembership: 1, capAck: 10, extendedAck: 11, strictCheck: 12 } as const;
const NLMSG = { error: 2, done: 3 } as const;
const NLMSG_F_CAPPED = 0x100;
const NLMSG_F_ACK_TLVS = 0x200;
const ACK_MESSAGE = 1;
const EINTR = 4;
const EBUSY = 16;
const EMSGSIZE = 90;
const MSG_TRUNC = 0x20;
const MSG_DONTWAIT = 0x40;
const EAGAIN = 11;
const ENOBUFS = 105;
const RECEIVE_BYTES = 64 * 1024;
const QUEUE_BYTES = 4 * 1024 * 1024;
const TIMEOUT_S = 30;
const DUMP_TRIES = 8;
/** Requests in one send: the acknowledgements of these fit any receive queue. */
const BATCH_LIMIT = 64;

export interface NetlinkOptions {
  readonly protocol?: (typeof NETLINK_PROTOCOL)[keyof typeof NETLINK_PROTOCOL];
  /** A network namespace by path; the caller's own when absent. */
  readonly namespace?: string;
  /** Multicast groups by number: such a socket is for `receiveMessages` only. */
  readonly groups?: readonly number[];
}

const int32 = (value: number): Uint8Array => new Uint8Array(Int32Array.of(value).buffer);

function openSocket(options: NetlinkOptions): number {
  const fd = check(
    socket(AF_NETLINK, SOCK_RAW, options.protocol ?? NETLINK_PROTOCOL.route),
    "open",
    "netlink socket",
  );
  try {
    const timeout = new Uint8Array(BigInt64Array.of(BigInt(TIMEOUT_S), 0n).buffer);
    check(setSocketOption(fd, SOL_SOCKET, SO_RCVTIMEO, timeout), "configure", "netlink socket");
    // Without CAP_NET_ADMIN in the first user namespace the queue stays at its default.
    setSocketOption(fd, SOL_SOCKET, SO_RCVBUFFORCE, int32(QUEUE_BYTES));
    for (const option of [OPTION.capAck, OPTION.extendedAck, OPTION.strictCheck]) {
      check(setSocketOption(fd, SOL_NETLINK, option, int32(1)), "configure", "netlink socket");
    }
    const sockaddr = new Uint8Array(12);
    viewOf(sockaddr).setUint16(0, AF_NETLINK, true);
    check(bind(fd, sockaddr), "bind", "netlink socket");
    for (const group of options.groups ?? []) {
      const joined = setSocketOption(fd, SOL_NETLINK, OPTION.addMembership, int32(group));
      check(joined, "join netlink group", String(group));
    }
    return fd;
  } catch (error) {
    close(fd);
    throw error;
  }
}

/** What the kernel says in words about an error, from the extended ACK; "" for nothing. */
function extendedText(flags: number, body: Uint8Array, offset: number): string {
  if ((flags & NLMSG_F_ACK_TLVS) === 0) return "";
  return decodeAttributes(body, offset).text(ACK_MESSAGE) ?? "";
}

function ackDetail(message: Received): string {
  const request = viewOf(message.body).getUint32(4, true);
  const echoed = (message.flags & NLMSG_F_CAPPED) !== 0 ? MESSAGE_HEADER_BYTES : request;
  return extendedText(message.flags, message.body, 4 + echoed);
}

function failure(request: Request, result: number, detail: string): KernelError {
  return new KernelError(request.operation, request.object, result, detail ? { detail } : {});
}

/** The outcome of one request in a batch, from the last message about it. */
interface Outcome {
  readonly result: number;
  readonly detail: string;
  readonly flags: number;
}

/** How bytes get to the kernel and back, as send(2) and recv(2) would: a length, or -errno. */
export interface Transport {
  readonly fd: number;
  send(bytes: Uint8Array): number;
  receive(into: Uint8Array, flags: number): number;
  close(): void;
}

/**
 * A netlink socket. The kernel answers inside send(2), so every call returns with the answer; a
 * call that waits longer than 30 s for the kernel's lock fails with EAGAIN.
 */
export class Netlink {
  readonly #transport: Transport;
  readonly #buffer = new Uint8Array(RECEIVE_BYTES);
  #sequence = 1;
  #closed = false;

  constructor(transport: Transport) {
    this.#transport = transport;
  }

  /** The descriptor, for those who wait for notifications. */
  get fd(): number {
    return this.#transport.fd;
  }

  /** Runs a request; throws KernelError with the kernel's own words. */
  run(request: Request): void {
    this.query(request);
  }

  /** Runs a request and returns the messages that came before its acknowledgement. */
  query(request: Request): Received[] {
    const sequence = this.#sequence++;
    this.#send(request, [encodeMessage(flagged(request.message, FLAG.ack), sequence)]);
    const replies: Received[] = [];
    const outcome = this.#collect(request, sequence, replies);
    if (outcome.result < 0) throw failure(request, outcome.result, outcome.detail);
    return replies;
  }

  /**
   * Every message of a dump. The kernel says when tables changed meanwhile; then the dump is done
   * again, and after 8 tries it fails with EBUSY.
   */
  dump(request: Request): Received[] {
    for (let tries = 0; tries < DUMP_TRIES; tries++) {
      const sequence = this.#sequence++;
      this.#send(request, [encodeMessage(flagged(request.message, FLAG.dump), sequence)]);
      const replies: Received[] = [];
      const outcome = this.#collect(request, sequence, replies);
      if (outcome.result < 0) throw failure(request, outcome.result, outcome.detail);
      // A change after the last whole message is told by the message that ends the dump.
      const messages = [...replies, outcome];
      if (!messages.some(({ flags }) => (flags & FLAG.dumpInterrupted) !== 0)) return replies;
    }
    throw failure(request, -EBUSY, `the table changed during each of ${DUMP_TRIES} dumps`);
  }

  /**
   * Runs the requests in order, many to a send. When one fails, those that were done are taken
   * back in reverse order and the first failure is thrown; a failed undo is its cause.
   */
  runAll(requests: readonly Request[]): void {
    const done: Request[] = [];
    for (let start = 0; start < requests.length; start += BATCH_LIMIT) {
      const part = requests.slice(start, start + BATCH_LIMIT);
      const outcomes = this.#runBatch(part);
      let failed: KernelError | undefined;
      part.forEach((request, index) => {
        const outcome = outcomes[index];
        if (outcome === undefined) return;
        if (outcome.result >= 0) done.push(request);
        else failed ??= failure(request, outcome.result, outcome.detail);
      });
      if (failed !== undefined) throw this.#rollBack(done, failed);
    }
  }

  #runBatch(requests: readonly Request[]): Outcome[] {
    const [first] = requests;
    if (first === undefined) return [];
    const start = this.#sequence;
    this.#sequence += requests.length;
    const encoded = requests.map((request, index) =>
      encodeMessage(flagged(request.message, FLAG.ack), start + index),
    );
    this.#send(first, encoded);
    return requests.map((request, index) => this.#collect(request, start + index, []));
  }

  #rollBack(done: readonly Request[], failed: KernelError): KernelError {
    for (const request of done.toReversed()) {
      if (request.undo === undefined) continue;
      try {
        this.run(request.undo);
      } catch (cause) {
        const { operation, object, errno, detail } = failed;
        return new KernelError(operation, object, errno, { detail, cause });
      }
    }
    return failed;
  }

  /** Takes what has arrived without waiting: undefined when nothing has, "lost" after overflow. */
  receiveMessages(): Received[] | "lost" | undefined {
    const length = this.#transport.receive(this.#buffer, MSG_DONTWAIT);
    if (length === -EAGAIN || length === -EINTR) return undefined;
    if (length === -ENOBUFS) return "lost";
    check(length, "receive", "netlink notifications");
    return [...decodeMessages(this.#buffer.slice(0, length))];
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#transport.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }

  #send(request: Request, parts: readonly Uint8Array[]): void {
    const bytes = parts.length === 1 && parts[0] !== undefined ? parts[0] : Buffer.concat(parts);
    const sent = this.#transport.send(bytes);
    if (sent < 0) throw failure(request, sent, "");
  }

  /** Reads until `sequence` is acknowledged; answers to earlier, abandoned requests are skipped. */
  #collect(request: Request, sequence: number, replies: Received[]): Outcome {
    for (;;) {
      const length = this.#transport.receive(this.#buffer, MSG_TRUNC);
      if (length === -EINTR) continue;
      if (length < 0) throw failure(request, length, "");
      if (length > this.#buffer.length) {
        throw failure(request, -EMSGSIZE, `the answer of ${length} bytes is too long to read`);
      }
      for (const message of decodeMessages(this.#buffer.slice(0, length))) {
        if (message.sequence !== sequence) continue;
        if (message.type === NLMSG.error || message.type === NLMSG.done) return outcomeOf(message);
        replies.push(message);
      }
    }
  }
}

function outcomeOf(message: Received): Outcome {
  const result = viewOf(message.body).getInt32(0, true);
  const { flags } = message;
  if (message.type === NLMSG.error) return { result, detail: ackDetail(message), flags };
  return { result, detail: extendedText(flags, message.body, 4), flags };
}

function flagged(message: Message, flags: number): Message {
  return { ...message, flags: message.flags | FLAG.request | flags };
}

/** A netlink socket in the caller's network namespace or another; throws KernelError. */
export function openNetlink(options: NetlinkOptions = {}): Netlink {
  const { namespace } = options;
  const fd =
    namespace === undefined
      ? openSocket(options)
      : inNamespace(namespace, () => openSocket(options));
  return new Netlink({
    fd,
    send: (bytes) => send(fd, bytes),
    receive: (into, flags) => receive(fd, into, flags),
    close: () => close(fd),
  });
}
