// SPDX-License-Identifier: Apache-2.0

// A link between a pod's node and a client that only a router knows to be narrow: what the router
// tells the service's address reaches the pod, wherever the fabric brings it.

import assert from "node:assert/strict";
import { statSync } from "node:fs";
import { join } from "node:path";
import { suite, type TestContext, test } from "node:test";
import type { Lab } from "../../src/lab/lab.ts";
import { nodeNamed, podNamed } from "../../src/lab/plan.ts";
import { FAMILIES, type Family, formatAddress } from "../../src/net/address.ts";
import { dissect } from "./tools/dissect.ts";
import { podEndpoint, since, untilBalanced, verdicts } from "./tools/inspect.ts";
import { BODY_BYTES, HTTP_PORT, startPrograms } from "./tools/programs.ts";
import { createStage, FRONTENDS, serviceOf, VIP_PORT, VIPS } from "./tools/stage.ts";

const NARROW = 1300;
const POD = "pod2-1";
const CURL = ["curl", "-sS", "-f", "-m", "20"];

interface Case {
  readonly acceleration: "native" | "off";
  readonly balancer: 1 | 2;
}

/** How tshark calls what a router tells; the message's own header, then the one that it quotes. */
const WORDS = {
  ipv4: {
    told: "icmp.type == 3 && icmp.code == 4",
    inside: "ip.proto == 4",
    fields: ["ip.src", "ip.dst", "tcp.srcport", "icmp.mtu", "icmp.checksum.status"],
    summed: ["ip.checksum.status"],
    ip: "-4",
  },
  ipv6: {
    told: "icmpv6.type == 2",
    inside: "ipv6.nxt == 41",
    fields: ["ipv6.src", "ipv6.dst", "tcp.srcport", "icmpv6.mtu", "icmpv6.checksum.status"],
    summed: [],
    ip: "-6",
  },
} as const;

/** Whoever has a part in it, by their addresses of one family. */
interface Ends {
  readonly client: string;
  readonly router: string;
  readonly pod: string;
  readonly balancer: string;
}

/** Linux tells from its address where a message leaves; of IPv6, where its cause came in. */
function endsOf({ plan }: Lab, balancer: number, family: Family): Ends {
  const node = nodeNamed(plan, `node${balancer}`);
  const pod = podNamed(plan, POD);
  const ends =
    family === "ipv4"
      ? [plan.clientAddress.address, node.gateway, pod.address, node.address.address]
      : [
          plan.clientAddress6.address,
          nodeNamed(plan, pod.node).gateway6,
          pod.address6,
          node.address6.address,
        ];
  const [client = "", router = "", podAddress = "", own = ""] = ends.map(formatAddress);
  return { client, router, pod: podAddress, balancer: own };
}

/** What the pod is told is about its own packets. */
function assertTold(file: string, { router, pod, client }: Ends, family: Family): void {
  const { told: filter, fields, summed } = WORDS[family];
  const told = dissect(file, filter, [...fields, ...summed]);
  assert.ok(told.length > 0, "nobody told the pod");
  const sums = summed.map(() => "1,1");
  for (const message of told) {
    const wanted = [`${router},${pod}`, `${pod},${client}`, `${HTTP_PORT}`, `${NARROW}`, "1"];
    assert.deepEqual(message, [...wanted, ...sums]);
  }
}

/** Between the nodes it travels as the flow's packets do. */
function assertRelayed(file: string, { router, pod, balancer }: Ends, family: Family): void {
  const { told: filter, inside, fields } = WORDS[family];
  const told = dissect(file, `${filter} && ${inside}`, fields);
  assert.ok(told.length > 0, "nothing was told between the nodes");
  const vip = VIPS[family];
  for (const [sources, targets, port, mtu, status] of told) {
    assert.equal(sources, `${balancer},${router},${vip}`);
    assert.ok(targets?.startsWith(`${pod},${vip},`), targets);
    assert.deepEqual([port, mtu, status], [`${VIP_PORT}`, `${NARROW}`, "1"]);
  }
}

async function proveBy(t: TestContext, lab: Lab, { balancer }: Case, family: Family) {
  const file = (name: string): string => join(lab.plan.state, `${name}-${family}.pcapng`);
  const how = { filter: "ip proto 1 or ip proto 4 or icmp6 or ip6 proto 41" };
  const captures = [
    await lab.capture(POD, file("pod"), { devices: ["eth0"], ...how }),
    await lab.capture("node2", file("node"), { devices: ["eth0"], ...how }),
  ];
  const before = verdicts(lab);
  const copy = file("down");
  const url = `http://${FRONTENDS[family]}/large`;
  await lab.output("client", [...CURL, "-o", copy, url]);
  for (const capture of captures) await capture.stop();

  assert.equal(statSync(copy).size, BODY_BYTES);
  const ends = endsOf(lab, balancer, family);
  assertTold(file("pod"), ends, family);
  if (balancer === 1) assertRelayed(file("node"), ends, family);
  const route = await lab.output(POD, ["ip", WORDS[family].ip, "route", "get", ends.client]);
  assert.match(route, new RegExp(`mtu ${NARROW}`), "the pod's kernel has believed it");
  const counts = since(before, verdicts(lab));
  assert.ok((counts["host sent relayed"] ?? 0) >= (balancer === 1 ? 2 : 1), JSON.stringify(counts));
  t.diagnostic(JSON.stringify(counts));
}

async function prove(t: TestContext, how: Case): Promise<void> {
  const { acceleration, balancer } = how;
  const { lab } = await createStage(t, [], {
    nodes: 2,
    podsPerNode: 1,
    acceleration,
    balancers: [balancer],
    ipv6: true,
  });
  await startPrograms(lab, POD);
  const ports = [{ name: "http", port: VIP_PORT, targetPort: HTTP_PORT, protocol: "TCP" }] as const;
  lab.publish(serviceOf([POD], { ports, addresses: Object.values(VIPS) }));
  for (const family of FAMILIES) {
    await untilBalanced(lab, FRONTENDS[family], [podEndpoint(lab, POD, HTTP_PORT, family)]);
  }
  const port = lab.plan.clientWire[1].device;
  await lab.output("switch", ["ip", "link", "set", port, "mtu", `${NARROW}`]);
  const probing = await lab.output(POD, ["sysctl", "-n", "net.ipv4.tcp_mtu_probing"]);
  assert.equal(probing.trim(), "0", "the pod would find the narrow link by itself");
  for (const family of FAMILIES) {
    await t.test(`by ${family}`, (inner) => proveBy(inner, lab, how, family));
  }
}

suite("a download goes on where a link to the client is narrow", { concurrency: 2 }, () => {
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
