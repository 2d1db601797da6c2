// SPDX-License-Identifier: Apache-2.0

// A link between a pod's node and a client that only a router knows to be narrow: what the router
// tells the service's address reaches the pod, wherever the fabric brings it.

import assert from "node:assert/strict";
import { statSync } from "node:fs";
import { suite, type TestContext, test } from "node:test";
import type { Lab } from "../../src/lab/lab.ts";
import { formatIpv4 } from "../../src/net/address.ts";
import { dissect } from "./tools/dissect.ts";
import { podEndpoint, since, untilBalanced, verdicts } from "./tools/inspect.ts";
import { BODY_BYTES, HTTP_PORT, startPrograms } from "./tools/programs.ts";
import { createStage, serviceOf, VIP, VIP_PORT } from "./tools/stage.ts";

const NARROW = 1300;
const POD = "pod2-1";
const CURL = ["curl", "-sS", "-f", "-m", "20"];

interface Case {
  readonly acceleration: "native" | "off";
  readonly balancer: 1 | 2;
}

const FRAG_NEEDED = "icmp.type == 3 && icmp.code == 4";
/** The message's own header, then the one that it quotes. */
const FIELDS = [
  "ip.src",
  "ip.dst",
  "tcp.srcport",
  "icmp.mtu",
  "icmp.checksum.status",
  "ip.checksum.status",
] as const;

/** What the pod is told is about its own packets. */
function assertTold(file: string, router: string, pod: string, client: string): void {
  const told = dissect(file, FRAG_NEEDED, FIELDS);
  assert.ok(told.length > 0, "no frag-needed at the pod");
  for (const message of told) {
    const wanted = [
      `${router},${pod}`,
      `${pod},${client}`,
      `${HTTP_PORT}`,
      `${NARROW}`,
      "1",
      "1,1",
    ];
    assert.deepEqual(message, wanted);
  }
}

/** Between the nodes it travels as the flow's packets do. */
function assertRelayed(file: string, lab: Lab, { router, pod }: Record<"router" | "pod", string>) {
  const [node = "", backendNode = ""] = lab.plan.nodes.map(({ address }) =>
    formatIpv4(address.address),
  );
  assert.notEqual(node, backendNode);
  const told = dissect(file, `${FRAG_NEEDED} && ip.proto == 4`, FIELDS.slice(0, 5));
  assert.ok(told.length > 0, "no frag-needed between the nodes");
  for (const [sources, targets, port, mtu, status] of told) {
    assert.equal(sources, `${node},${router},${VIP}`);
    assert.match(targets ?? "", new RegExp(`^${pod},${VIP},`));
    assert.deepEqual([port, mtu, status], [`${VIP_PORT}`, `${NARROW}`, "1"]);
  }
}

async function prove(t: TestContext, { acceleration, balancer }: Case): Promise<void> {
  const { lab } = await createStage(t, [], {
    nodes: 2,
    podsPerNode: 1,
    acceleration,
    balancers: [balancer],
  });
  await startPrograms(lab, POD);
  const ports = [{ name: "http", port: VIP_PORT, targetPort: HTTP_PORT, protocol: "TCP" }] as const;
  lab.publish(serviceOf([POD], { ports }));
  await untilBalanced(lab, `${VIP}:${VIP_PORT}`, [podEndpoint(lab, POD, HTTP_PORT)]);
  await lab.output("switch", [
    "ip",
    "link",
    "set",
    lab.plan.clientWire[1].device,
    "mtu",
    `${NARROW}`,
  ]);
  const probing = await lab.output(POD, ["sysctl", "-n", "net.ipv4.tcp_mtu_probing"]);
  assert.equal(probing.trim(), "0", "the pod would find the narrow link by itself");

  const file = (name: string): string => `${lab.plan.state}/${name}.pcapng`;
  const how = { filter: "ip proto 1 or ip proto 4" };
  const captures = [
    await lab.capture(POD, file("pod"), { devices: ["eth0"], ...how }),
    await lab.capture("node2", file("node"), { devices: ["eth0"], ...how }),
  ];
  const before = verdicts(lab);
  const copy = `${lab.plan.state}/down`;
  await lab.output("client", [...CURL, "-o", copy, `http://${VIP}:${VIP_PORT}/large`]);
  for (const capture of captures) await capture.stop();

  assert.equal(statSync(copy).size, BODY_BYTES);
  const client = formatIpv4(lab.plan.clientAddress.address);
  const router = formatIpv4(lab.plan.nodes[balancer - 1]?.gateway ?? lab.plan.clientGateway);
  const [pod = ""] = podEndpoint(lab, POD, HTTP_PORT).split(":");
  assertTold(file("pod"), router, pod, client);
  if (balancer === 1) assertRelayed(file("node"), lab, { router, pod });
  const route = await lab.output(POD, ["ip", "route", "get", client]);
  assert.match(route, new RegExp(`mtu ${NARROW}`), "the pod's kernel has believed it");
  const counts = since(before, verdicts(lab));
  assert.ok((counts["host sent relayed"] ?? 0) >= (balancer === 1 ? 2 : 1), JSON.stringify(counts));
  t.diagnostic(JSON.stringify(counts));
}

suite("a download goes on where a link to the client is narrow", { concurrency: true }, () => {
  for (const [acceleration, balancer] of [
    ["off", 2],
    ["off", 1],
    ["native", 1],
  ] as const) {
    const who = balancer === 2 ? "the pod's own node" : "another balancer";
    test(`the router tells ${who}, acceleration ${acceleration}`, (t) =>
      prove(t, { acceleration, balancer }));
  }
});
