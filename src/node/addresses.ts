// SPDX-License-Identifier: Apache-2.0
// Which addresses are nodes': this one's by its devices, the others' by their Node objects.

import type { Devices } from "../device/devices.ts";
import { type Address, type Family, familyOf } from "../net/address.ts";
import { type Prefix, prefixContains } from "../net/prefix.ts";
import { createTable, type ReadTable } from "../state/table.ts";
import type { Node, NodeAddressRow } from "./rows.ts";

/** rtnetlink(7): the host's own, as 127.0.0.1, which no packet from elsewhere has. */
const SCOPE_HOST = 254;
/** rtnetlink(7): in IPv6 fe80::/10, which every device has. */
const SCOPE_LINK = 253;

/** The one writer of addresses of nodes. */
export interface NodeAddresses extends Disposable {
  readonly addresses: ReadTable<Address, NodeAddressRow>;
  /** Serves node ports at this node's addresses in these prefixes, or at all of them. */
  serve(prefixes: readonly Prefix[] | "auto"): void;
}

export interface NodeAddressesOptions {
  readonly devices: Pick<Devices, "addresses" | "listen">;
  readonly nodes: ReadTable<string, Node>;
  /** By which the other nodes know this one, on a device or not; of the families it serves. */
  readonly known: readonly Address[];
}

/** Follows devices and nodes. */
export function createNodeAddresses(options: NodeAddressesOptions): NodeAddresses {
  const { devices, nodes, known } = options;
  const addresses = createTable<Address, NodeAddressRow>({
    name: "node-addresses",
    key: ({ address }) => address,
  });
  let prefixes: readonly Prefix[] | "auto" = "auto";
  const isServed = (address: Address): boolean =>
    prefixes === "auto" || prefixes.some((prefix) => prefixContains(prefix, address));
  const families = new Set(known.map(familyOf));
  const isKnownFamily = (address: Address): boolean => families.has(familyOf(address));
  const settle = (): void => {
    const wanted = new Map<Address, NodeAddressRow>();
    for (const node of nodes.rows()) {
      for (const address of node.addresses.filter(isKnownFamily)) {
        wanted.set(address, { address, own: false, served: false });
      }
    }
    const own = devices.addresses
      .filter(({ scope, address }) => leavesHost(scope, familyOf(address.address)))
      .map(({ address }) => address.address)
      .filter(isKnownFamily);
    for (const address of [...known, ...own]) {
      wanted.set(address, { address, own: true, served: isServed(address) });
    }
    for (const key of addresses.keys()) if (!wanted.has(key)) addresses.delete(key);
    for (const row of wanted.values()) {
      const { own: wasOwn, served } = addresses.get(row.address) ?? {};
      if (wasOwn !== row.own || served !== row.served) addresses.set(row);
    }
  };
  const cursor = nodes.cursor(() => {
    while (cursor.take() !== undefined);
    settle();
  });
  const unlisten = devices.listen((changes) => {
    if (changes.all || changes.addresses) settle();
  });
  settle();
  return {
    addresses,
    serve(wanted) {
      prefixes = wanted;
      settle();
    },
    [Symbol.dispose]() {
      unlisten();
      cursor.close();
    },
  };
}

function leavesHost(scope: number, family: Family): boolean {
  return scope !== SCOPE_HOST && !(family === "ipv6" && scope === SCOPE_LINK);
}
