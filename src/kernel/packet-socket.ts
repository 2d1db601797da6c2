// SPDX-License-Identifier: Apache-2.0
// Whole Ethernet frames in and out of a device (packet(7)).

import { check, KernelError } from "./error.ts";
import { bind, close, interfaceIndex, receive, send, socket } from "./ffi.ts";
import { inNamespace } from "./netns.ts";

const AF_PACKET = 17;
const SOCK_RAW = 3;
const ETH_P_ALL = 3;
const MSG_DONTWAIT = 0x40;
const EAGAIN = 11;
const SOCKADDR_BYTES = 20;
const FRAME_LIMIT_BYTES = 256 * 1024;

/** Sends frames out of a device, and sees those that come in and go out. */
export class PacketSocket implements Disposable {
  readonly #fd: number;
  readonly #device: string;
  readonly #buffer = new Uint8Array(FRAME_LIMIT_BYTES);

  constructor(fd: number, device: string) {
    this.#fd = fd;
    this.#device = device;
  }

  /** Sends one frame as it is; throws KernelError EMSGSIZE when the MTU doesn't allow it. */
  send(frame: Uint8Array): void {
    check(send(this.#fd, frame), "send a frame out of", this.#device);
  }

  /** The next frame that has passed the device, in or out; undefined when there is none yet. */
  receive(): Uint8Array | undefined {
    const length = receive(this.#fd, this.#buffer, MSG_DONTWAIT);
    if (length === -EAGAIN) return undefined;
    check(length, "receive a frame from", this.#device);
    return this.#buffer.slice(0, length);
  }

  close(): void {
    close(this.#fd);
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

function openHere(device: string): PacketSocket {
  const index = check(interfaceIndex(device), "find device", device);
  // No protocol before the device is known: else frames of all devices queue up meanwhile.
  const fd = check(socket(AF_PACKET, SOCK_RAW, 0), "open a packet socket on", device);
  const sockaddr = new Uint8Array(SOCKADDR_BYTES);
  const view = new DataView(sockaddr.buffer);
  view.setUint16(0, AF_PACKET, true);
  view.setUint16(2, ETH_P_ALL, false);
  view.setInt32(4, index, true);
  const bound = bind(fd, sockaddr);
  if (bound < 0) {
    close(fd);
    throw new KernelError("bind a packet socket to", device, bound);
  }
  return new PacketSocket(fd, device);
}

/** A packet socket on a device of the namespace at a path, or the caller's own. */
export function openPacketSocket(device: string, namespace?: string): PacketSocket {
  if (namespace === undefined) return openHere(device);
  return inNamespace(namespace, () => openHere(device));
}
