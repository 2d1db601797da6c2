// SPDX-License-Identifier: Apache-2.0
// A process in the namespace of all pods: opens the sockets that places.ts lists, says so, and
// holds them until its input ends.

import { once } from "node:events";
import { connect, createServer } from "node:net";
import { formatIpv4 } from "../../src/net/address.ts";
import { CLIENTS, LISTENING_PODS, LISTENING_PORTS, PODS, SOCKETS } from "./places.ts";

const textOf = (list: typeof PODS, index: number): string => {
  const address = list[index];
  if (address === undefined) throw new RangeError(`there is no address number ${index}`);
  return formatIpv4(address);
};

for (const pod of LISTENING_PODS) {
  for (const port of LISTENING_PORTS) {
    await once(createServer().listen(port, textOf(PODS, pod)), "listening");
  }
}
for (const { pod, port, client, clientPort } of SOCKETS) {
  const local = { localAddress: textOf(CLIENTS, client), localPort: clientPort };
  await once(connect({ host: textOf(PODS, pod), port, ...local }), "connect");
}
process.stdout.write("ready\n");
process.stdin.resume().on("end", () => process.exit(0));
