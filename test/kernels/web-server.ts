// SPDX-License-Identifier: Apache-2.0

// Usage: web-server.ts NAME ADDRESS PORT BYTES   Answers GET / with its name, GET /big with so many
// bytes, and POST with how many bytes came; and a datagram with its name and what came, backwards.

import { createSocket } from "node:dgram";
import { createServer } from "node:http";

const [name = "", address = "", port = "", bytes = ""] = process.argv.slice(2);

createServer(async (request, response) => {
  let received = 0;
  for await (const chunk of request) received += (chunk as Buffer).length;
  if (request.method === "POST") response.end(`${received}`);
  else response.end(request.url === "/big" ? Buffer.alloc(Number(bytes), name) : name);
}).listen(Number(port), address);

const datagrams = createSocket(address.includes(":") ? "udp6" : "udp4");
datagrams.on("message", (message, from) => {
  const answer = [Buffer.from(name), Buffer.from(message).reverse()];
  datagrams.send(answer, from.port, from.address);
});
datagrams.bind(Number(port), address);
