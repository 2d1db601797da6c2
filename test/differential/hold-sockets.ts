// SPDX-License-Identifier: Apache-2.0
// Usage: hold-sockets.ts pods|node   A process in the namespace of all pods, or in the nodes' own:
// opens the sockets that places.ts lists, says so, and holds them until its input ends.

import { createSocket } from "node:dgram";
import { once } from "node:events";
import { connect, createServer } from "node:net";
import { formatAddress } from "../../src/net/address.ts";
import { widen } from "../wide/address.ts";
import {
  CLIENTS,
  DIRECT_SOCKETS,
  LISTENING_PODS,
  LISTENING_PORTS,
  OWN_SOCKETS,
  PODS,
  SOCKETS,
  WAITING_SOCKETS,
} from "./places.ts";

const TCP = 6;

const FAMILIES = ["ipv4", "ipv6"] as const;
type Family = (typeof FAMILIES)[number];

async function openPods(family: Family): Promise<void> {
  const textOf = (list: typeof PODS, index: number): string => {
    const address = list[index];
    if (address === undefined) throw new RangeError(`there is no address number ${index}`);
    return formatAddress(family === "ipv4" ? address : widen(address));
  };
  for (const pod of LISTENING_PODS) {
    for (const port of LISTENING_PORTS) {
      await once(createServer().listen(port, textOf(PODS, pod)), "listening");
    }
  }
  for (const { pod, port, protocol } of WAITING_SOCKETS) {
    const waiting =
      protocol === TCP
        ? createServer().listen(port, textOf(PODS, pod))
        : createSocket(family === "ipv4" ? "udp4" : "udp6").bind(port, textOf(PODS, pod));
    await once(waiting, "listening");
  }
  for (const { pod, port, client, clientPort } of SOCKETS) {
    const local = { localAddress: textOf(CLIENTS, client), localPort: clientPort };
    await once(connect({ host: textOf(PODS, pod), port, ...local }), "connect");
  }
  for (const { pod, port, peer, peerPort, protocol } of DIRECT_SOCKETS) {
    const host = textOf(PODS, peer);
    const local = textOf(PODS, pod);
    if (protocol === TCP) {
      const socket = connect({ host, port: peerPort, localAddress: local, localPort: port });
      await once(socket, "connect");
      continue;
    }
    const socket = createSocket(family === "ipv4" ? "udp4" : "udp6").bind(port, local);
    await once(socket, "listening");
    socket.connect(peerPort, host);
    await once(socket, "connect");
  }
}

async function openNode(family: Family): Promise<void> {
  const address = family === "ipv4" ? "0.0.0.0" : "::";
  const own = { port: OWN_SOCKETS.tcp, host: address, ipv6Only: true };
  await once(createServer().listen(own), "listening");
  const udp = createSocket(family === "ipv4" ? { type: "udp4" } : { type: "udp6", ipv6Only: true });
  await once(udp.bind(OWN_SOCKETS.udp, address), "listening");
}

for (const family of FAMILIES) {
  await (process.argv[2] === "node" ? openNode(family) : openPods(family));
}
process.stdout.write("ready\n");
process.stdin.resume().on("end", () => process.exit(0));
