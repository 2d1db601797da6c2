// SPDX-License-Identifier: Apache-2.0
// A network namespace with one wire, whose other end is in there too.

import { addAddress } from "../src/kernel/netlink/address.ts";
import { createVeth, getLink, setLink } from "../src/kernel/netlink/link.ts";
import { setNeighbour } from "../src/kernel/netlink/neighbour.ts";
import { addRoute } from "../src/kernel/netlink/route.ts";
import { openNetlink } from "../src/kernel/netlink/socket.ts";
import { createNamespace, deleteNamespace } from "../src/kernel/netns.ts";
import { writeSysctls } from "../src/kernel/sysctl.ts";
import { anyOf, familyOf, parseIpv4 } from "../src/net/address.ts";
import { prefixOf } from "../src/net/prefix.ts";
import { CLIENT_MAC, NODE_ADDRESS, NODE_MAC, wide } from "./world.ts";

const GATEWAY = parseIpv4("192.0.2.1");

/** Where packets go, with a default route out of `uplink`. */
export interface Site extends Disposable {
  /** The namespace's file. */
  readonly path: string;
  readonly uplink: number;
  /** The other end of the uplink. */
  readonly peer: number;
}

let sites = 0;

export function createSite(): Site {
  sites += 1;
  const name = `ciliate-bench-${process.pid}-${sites}`;
  const path = createNamespace(name);
  try {
    writeSysctls(
      {
        "net/ipv4/ip_forward": 1,
        "net/ipv6/conf/all/forwarding": 1,
        // Addresses are there at once.
        "net/ipv6/conf/default/accept_dad": 0,
      },
      path,
    );
    using netlink = openNetlink({ namespace: path });
    netlink.run(createVeth({ name: "up", mac: NODE_MAC }, { name: "peer", mac: CLIENT_MAC }));
    const [uplink, peer] = ["up", "peer"].map((device) => getLink(netlink, device).index) as [
      number,
      number,
    ];
    const gateways = [GATEWAY, wide(GATEWAY)];
    netlink.runAll([
      setLink(1, { up: true }),
      setLink(uplink, { up: true }),
      setLink(peer, { up: true }),
      addAddress({ device: uplink, address: { address: NODE_ADDRESS, length: 24 } }),
      addAddress({ device: uplink, address: { address: wide(NODE_ADDRESS), length: 120 } }),
      ...gateways.flatMap((gateway) => [
        setNeighbour(uplink, gateway, CLIENT_MAC),
        addRoute({ destination: prefixOf(anyOf(familyOf(gateway)), 0), gateway, device: uplink }),
      ]),
    ]);
    return { path, uplink, peer, [Symbol.dispose]: () => deleteNamespace(name) };
  } catch (error) {
    deleteNamespace(name);
    throw error;
  }
}
