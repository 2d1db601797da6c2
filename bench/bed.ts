// SPDX-License-Identifier: Apache-2.0
// Client, node and server in three network namespaces on two wires; the server has the addresses of
// one service's pods.

import { addAddress } from "../src/kernel/netlink/address.ts";
import { createVeth, getLink, setLink, withNamespaces } from "../src/kernel/netlink/link.ts";
import { addRoute } from "../src/kernel/netlink/route.ts";
import { openNetlink, type Request } from "../src/kernel/netlink/socket.ts";
import { createNamespace, deleteNamespace } from "../src/kernel/netns.ts";
import { writeSysctls } from "../src/kernel/sysctl.ts";
import type { Ipv4 } from "../src/net/address.ts";
import { parseIpv4 } from "../src/net/address.ts";
import { type Mac, parseMac } from "../src/net/mac.ts";
import { hostPrefix, parseInterfaceAddress, parsePrefix } from "../src/net/prefix.ts";
import { runIn, startIn } from "./process.ts";
import { BACKENDS, BACKENDS_PER_SERVICE } from "./world.ts";

export type Role = "client" | "node" | "server";

/** A bed of three namespaces. */
export interface Bed extends AsyncDisposable {
  /** The namespaces' files. */
  readonly path: Readonly<Record<Role, string>>;
  /** Devices of the node: to the client, and to the server. */
  readonly uplink: number;
  readonly podDevice: number;
  readonly podMac: Mac;
  readonly nodeMac: Mac;
  /** The pods that the server is. */
  readonly pods: readonly Ipv4[];
  /** Starts a command that ends with the bed, and waits for its first output. */
  start(role: Role, argv: readonly string[]): Promise<void>;
  /** Runs a command to its end and gives its output; throws when it fails. */
  run(role: Role, argv: readonly string[], input?: string): Promise<string>;
}

const NODE_MAC = parseMac("02:00:00:00:01:01");
const POD_MAC = parseMac("02:00:00:00:01:02");
const ROLES: readonly Role[] = ["client", "node", "server"];
const NOTHING_V6 = {
  "net/ipv6/conf/all/disable_ipv6": 1,
  "net/ipv6/conf/default/disable_ipv6": 1,
};
/** A port is free again after a second, so that ports don't limit connections. */
const SYSCTLS: Readonly<Record<Role, Readonly<Record<string, string | number>>>> = {
  client: {
    ...NOTHING_V6,
    "net/ipv4/ip_local_port_range": "1024\t65535",
    "net/ipv4/tcp_tw_reuse": 1,
  },
  node: {
    ...NOTHING_V6,
    "net/ipv4/ip_forward": 1,
    "net/ipv4/conf/all/rp_filter": 0,
    "net/ipv4/conf/default/rp_filter": 0,
  },
  server: { ...NOTHING_V6, "net/core/somaxconn": 4096 },
};

let beds = 0;

/** Makes a bed whose server is the pods of this service. */
export function createBed(service: number): Bed {
  beds += 1;
  const nameOf = (role: Role): string => `ciliate-bed-${process.pid}-${beds}-${role}`;
  const started: (() => Promise<void>)[] = [];
  const made: string[] = [];
  const remove = (): void => {
    for (const name of made) deleteNamespace(name);
  };
  try {
    const path = Object.fromEntries(
      ROLES.map((role) => {
        const created = createNamespace(nameOf(role));
        made.push(nameOf(role));
        return [role, created];
      }),
    ) as Record<Role, string>;
    const pods = Array.from(
      { length: BACKENDS_PER_SERVICE },
      (_, index) => (BACKENDS + service * BACKENDS_PER_SERVICE + index) as Ipv4,
    );
    for (const role of ROLES) writeSysctls(SYSCTLS[role], path[role]);
    const devices = wire(path, pods);
    return {
      path,
      pods,
      ...devices,
      podMac: POD_MAC,
      nodeMac: NODE_MAC,
      start: async (role, argv) => void started.push(await startIn(path[role], argv)),
      run: (role, argv, input) => runIn(path[role], argv, input),
      async [Symbol.asyncDispose]() {
        await Promise.all(started.map((end) => end()));
        remove();
      },
    };
  } catch (error) {
    remove();
    throw error;
  }
}

function wire(
  path: Readonly<Record<Role, string>>,
  pods: readonly Ipv4[],
): { readonly uplink: number; readonly podDevice: number } {
  withNamespaces([path.client, path.server], ([client = -1, server = -1]) => {
    using netlink = openNetlink({ namespace: path.node });
    netlink.runAll([
      createVeth({ name: "up" }, { name: "eth0", namespaceFd: client }),
      createVeth(
        { name: "pods", mac: NODE_MAC },
        { name: "eth0", mac: POD_MAC, namespaceFd: server },
      ),
    ]);
  });
  const bringUp = (
    role: Role,
    devices: readonly string[],
    more: (index: (name: string) => number) => Request[],
  ) => {
    using netlink = openNetlink({ namespace: path[role] });
    const index = (name: string): number => getLink(netlink, name).index;
    netlink.runAll(["lo", ...devices].map((name) => setLink(index(name), { up: true })));
    netlink.runAll(more(index));
    return devices.map(index);
  };
  const address = (device: number, text: string): Request =>
    addAddress({ device, address: parseInterfaceAddress(text) });
  const everywhere = (gateway: string): Request =>
    addRoute({ destination: parsePrefix("0.0.0.0/0"), gateway: parseIpv4(gateway) });
  const [uplink = 0, podDevice = 0] = bringUp("node", ["up", "pods"], (index) => [
    address(index("up"), "192.168.1.1/24"),
    address(index("pods"), "192.168.2.1/24"),
    ...pods.map((pod) =>
      addRoute({ destination: hostPrefix(pod), gateway: parseIpv4("192.168.2.2") }),
    ),
  ]);
  bringUp("client", ["eth0"], (index) => [
    address(index("eth0"), "192.168.1.2/24"),
    everywhere("192.168.1.1"),
  ]);
  bringUp("server", ["eth0"], (index) => [
    address(index("eth0"), "192.168.2.2/24"),
    ...pods.map((pod) => addAddress({ device: index("eth0"), address: hostPrefix(pod) })),
    everywhere("192.168.2.1"),
  ]);
  return { uplink, podDevice };
}
