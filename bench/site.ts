// SPDX-License-Identifier: Apache-2.0
// A network namespace with one wire, whose other end is in there too.

import { addAddress } from "../src/kernel/netlink/address.ts";
import { createVeth, getLink, setLink } from "../src/kernel/netlink/link.ts";
import { setNeighbour } from "../src/kernel/netlink/neighbour.ts";
import { addRoute } from "../src/kernel/netlink/route.ts";
import { openNetlink } from "../src/kernel/netlink/socket.ts";
import { createNamespace, deleteNamespace } from "../src/kernel/netns.ts";
import { writeSysctls } from "../src/kernel/sysctl.ts";
import { parseIpv4 } from "../src/net/address.ts";
import { parseInterfaceAddress, parsePrefix } from "../src/net/prefix.ts";
import { CLIENT_MAC, NODE_MAC } from "./world.ts";

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
        "net/ipv6/conf/all/disable_ipv6": 1,
        "net/ipv6/conf/default/disable_ipv6": 1,
      },
      path,
    );
    using netlink = openNetlink({ namespace: path });
    netlink.run(createVeth({ name: "up", mac: NODE_MAC }, { name: "peer", mac: CLIENT_MAC }));
    const [uplink, peer] = ["up", "peer"].map((device) => getLink(netlink, device).index) as [
      number,
      number,
    ];
    const gateway = parseIpv4("192.0.2.1");
    netlink.runAll([
      setLink(1, { up: true }),
      setLink(uplink, { up: true }),
      setLink(peer, { up: true }),
      addAddress({ device: uplink, address: parseInterfaceAddress("192.0.2.10/24") }),
      setNeighbour(uplink, gateway, CLIENT_MAC),
      addRoute({ destination: parsePrefix("0.0.0.0/0"), gateway, device: uplink }),
    ]);
    return { path, uplink, peer, [Symbol.dispose]: () => deleteNamespace(name) };
  } catch (error) {
    deleteNamespace(name);
    throw error;
  }
}
