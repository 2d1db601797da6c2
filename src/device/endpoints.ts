// SPDX-License-Identifier: Apache-2.0
// Pods of this node as the packet path sees them, and the node itself where it is a backend: a
// target whose values name devices, which come, go and come back.

import type { Endpoint as EndpointRow, Identity, Ifindex } from "../datapath/gen/abi.ts";
import { createMapTarget, type MapTarget } from "../datapath/map-target.ts";
import type { TypedMap } from "../datapath/maps.ts";
import type { Reached } from "../endpoint/entries.ts";
import { type Attachment, THIS_NODE } from "../endpoint/rows.ts";
import { type Link, listLinks } from "../kernel/netlink/link.ts";
import { openNetlink } from "../kernel/netlink/socket.ts";
import { isNamespace, namespacePath } from "../kernel/netns.ts";
import { type Address, formatAddress } from "../net/address.ts";
import type { Mac } from "../net/mac.ts";
import type { Outcome, Target } from "../state/target.ts";
import type { DeviceChanges, Devices } from "./devices.ts";

/** The pods' target, and the devices on which their programs belong. */
export interface EndpointTarget<A extends Address = Address>
  extends Target<A, Reached>,
    Disposable {
  /** Devices of pods that are there, each once. */
  devices(): readonly Link[];
  /** Whether any address is the node's own, also of what was there before. */
  hasNode(): boolean;
}

export interface EndpointOptions<A extends Address> {
  /** Of one family. */
  readonly map: TypedMap<{ readonly address: A }, EndpointRow>;
  readonly devices: Devices;
  /** Called when `devices()` has changed, or a device of it has come back. */
  readonly changed: () => void;
  /** Called when an entry can't follow its device. */
  readonly failed: (error: Error) => void;
}

const NO_DEVICE = 0 as Ifindex;
const NO_MAC = 0 as Mac;
const ITSELF: EndpointRow = {
  ifindex: NO_DEVICE,
  netns: -1,
  podMac: NO_MAC,
  nodeMac: NO_MAC,
  identity: 0 as Identity,
};

interface Held {
  readonly attachment: Reached;
  ifindex: number;
}

/**
 * Entries follow their devices: one whose device is gone stays as it was until the device is back
 * under its name, or the row goes.
 */
export function createEndpointTarget<A extends Address>(
  options: EndpointOptions<A>,
): EndpointTarget<A> {
  return new Endpoints(options);
}

class Endpoints<A extends Address> implements EndpointTarget<A> {
  readonly name: string;
  readonly #options: EndpointOptions<A>;
  readonly #target: MapTarget<{ readonly address: A }, EndpointRow>;
  readonly #held = new Map<A, Held>();
  readonly #own: Set<A>;
  readonly #unlisten: () => void;

  constructor(options: EndpointOptions<A>) {
    this.name = options.map.spec.name;
    this.#options = options;
    this.#target = createMapTarget(options.map, "tables.endpoints");
    const own = [...options.map.entries()].filter(([, { ifindex }]) => ifindex === NO_DEVICE);
    this.#own = new Set(own.map(([{ address }]) => address));
    this.#unlisten = options.devices.listen((changes) => this.#follow(changes));
  }

  idOf(address: A): number | string {
    return typeof address === "number" ? address : address.toString(36);
  }

  same(a: Reached, b: Reached): boolean {
    if (a === THIS_NODE || b === THIS_NODE) return a === b;
    return a.device === b.device && a.mac === b.mac && a.netns === b.netns;
  }

  apply(batch: readonly { readonly key: A; readonly value: Reached }[]): Outcome {
    const refused: { index: number; error: Error }[] = [];
    for (const [index, { key, value }] of batch.entries()) {
      try {
        this.#put(key, value);
      } catch (error) {
        refused.push({ index, error: error instanceof Error ? error : new Error(String(error)) });
      }
    }
    this.#options.changed();
    return refused;
  }

  remove(batch: readonly { readonly key: A }[]): Outcome {
    const outcome = this.#target.remove(batch.map(({ key: address }) => ({ key: { address } })));
    for (const { key } of batch) {
      this.#held.delete(key);
      this.#own.delete(key);
    }
    this.#options.changed();
    return outcome;
  }

  *keys(): Generator<A> {
    for (const { address } of this.#target.keys()) yield address;
  }

  devices(): readonly Link[] {
    const indexes = new Set([...this.#held.values()].map(({ ifindex }) => ifindex));
    return [...indexes].flatMap((index) => this.#options.devices.links.get(index) ?? []);
  }

  hasNode(): boolean {
    return this.#own.size > 0;
  }

  [Symbol.dispose](): void {
    this.#unlisten();
  }

  #put(address: A, attachment: Reached): void {
    const held: Held = { attachment, ifindex: this.#deviceBefore(address, attachment) };
    this.#held.set(address, held);
    if (attachment === THIS_NODE) {
      this.#write(address, ITSELF);
      this.#own.add(address);
      return;
    }
    this.#own.delete(address);
    const { devices } = this.#options;
    const link = devices.link(attachment.device);
    if (link === undefined) {
      const pod = formatAddress(address);
      throw new Error(`no device ${attachment.device} for pod ${pod}: it is waited for`);
    }
    const podMac = attachment.mac ?? findPodMac(link, attachment, address, devices);
    if (link.mac === undefined || podMac === undefined) {
      throw new Error(
        `no MAC of pod ${formatAddress(address)} behind device ${link.name}: ` +
          "give the endpoint's mac or netns",
      );
    }
    const value: EndpointRow = {
      ifindex: link.index as Ifindex,
      netns: link.peerNamespaceId ?? -1,
      podMac,
      nodeMac: link.mac,
      identity: 0 as Identity,
    };
    this.#write(address, value);
    held.ifindex = link.index;
  }

  /** A pod keeps the program on its device, also while its entry can't be made anew. */
  #deviceBefore(address: A, attachment: Reached): number {
    if (attachment === THIS_NODE) return NO_DEVICE;
    const { map, devices } = this.#options;
    const index = this.#held.get(address)?.ifindex || map.lookup({ address })?.ifindex;
    if (index === undefined || devices.links.get(index)?.name !== attachment.device) {
      return NO_DEVICE;
    }
    return index;
  }

  #write(address: A, value: EndpointRow): void {
    const [refusal] = this.#target.apply([{ key: { address }, value }]);
    if (refusal !== undefined) throw refusal.error;
  }

  #follow({ all, links }: DeviceChanges): void {
    const { devices, changed, failed } = this.#options;
    if (!all && links.size === 0) return;
    let moved = false;
    for (const [address, { attachment, ifindex }] of this.#held) {
      if (attachment === THIS_NODE) continue;
      const link = devices.link(attachment.device);
      const touched = all || links.has(ifindex) || (link !== undefined && links.has(link.index));
      if (link === undefined || !touched) continue;
      try {
        this.#put(address, attachment);
        moved = true;
      } catch (error) {
        failed(error instanceof Error ? error : new Error(String(error)));
      }
    }
    if (moved) changed();
  }
}

/** From the pod's own namespace, or from what the kernel has learnt of it. */
function findPodMac(
  link: Link,
  { netns }: Attachment,
  address: Address,
  devices: Devices,
): Mac | undefined {
  if (netns !== undefined) {
    const path = netns.startsWith("/") ? netns : namespacePath(netns);
    if (!isNamespace(path)) return undefined;
    using netlink = openNetlink({ namespace: path });
    return listLinks(netlink).find(({ index }) => index === link.peer)?.mac;
  }
  return devices.neighbour(link.index, address)?.mac;
}
