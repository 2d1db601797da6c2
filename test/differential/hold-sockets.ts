// SPDX-License-Identifier: Apache-2.0
// Usage: hold-sockets.ts pods|node   A process in the namespace of all pods, or in the nodes' own:
// opens the sockets that places.ts lists, says so, and holds them until its input ends.

import { createSocket } from "node:dgram";
import { once } from "node:events";
import { connect, createServer } from "node:net";
import { formatIpv4 } from "../../src/net/address.ts";
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

const textOf = (list: typeof PODS, index: number): string => {
  const address = list[index];
  if (address === undefined) throw new RangeError(`there is no address number ${index}`);
  return formatIpv4(address);
};

async function openPods(): Promise<void> {
  for (const pod of LISTENING_PODS) {
    for (const port of LISTENING_PORTS) {
      await once(createServer().listen(port, textOf(PODS, pod)), "listening");
    }
  }
  for (const { pod, port, protocol } of WAITING_SOCKETS) {
    const waiting =
      protocol === TCP
        ? createServer().listen(port, textOf(PODS, pod))
        : createSocket("udp4").bind(port, textOf(PODS, pod));
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
    const socket = createSocket("udp4").bind(port, local);
    await once(socket, "listening");
    socket.connect(peerPort, host);
    await once(socket, "connect");
  }
}

async function openNode(): Promise<void> {
  await once(createServer().listen(OWN_SOCKETS.tcp, "0.0.0.0"), "listening");
  await once(createSocket("udp4").bind(OWN_SOCKETS.udp, "0.0.0.0"), "listening");
}

await (process.argv[2] === "node" ? openNode() : openPods());
process.stdout.write("ready\n");
process.stdin.resume().on("end", () => process.exit(0));
