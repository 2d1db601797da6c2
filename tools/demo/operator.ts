// SPDX-License-Identifier: Apache-2.0

// What who runs a node gets to see: its status, and a forged packet's end.

import { setTimeout as delay } from "node:timers/promises";
import { formatIpv4, parseIpv4 } from "../../src/net/address.ts";
import { buildPacket, ethernet, ipv4, tcp } from "../../src/net/packet.ts";
import { TCP_FLAG } from "../../src/net/protocol.ts";
import type { Play, Scene } from "./scene.ts";
import { BALANCER, type Stage, VIP, VIP_PORT } from "./stage.ts";

const FORGE_EVERY_MS = 100;
const MONITOR_LIMIT_MS = 30_000;

/** An IP-in-IP packet to a pod from somebody who is no node. */
function forge({ lab }: Stage, pod: string): void {
  const { plan } = lab;
  const client = plan.clientAddress.address;
  const frame = buildPacket(
    ethernet({ source: plan.clientWire[0].mac, target: plan.clientWire[1].mac }),
    ipv4({ source: client, target: parseIpv4(pod) }),
    ipv4({ source: client, target: parseIpv4(VIP) }),
    tcp({ sourcePort: 31_337, targetPort: VIP_PORT, flags: TCP_FLAG.syn }),
  );
  lab.sendFrame("client", plan.clientWire[0].device, frame);
}

/** Sends forged packets until a monitor has told of one; gives what it said. */
async function monitorForgery(stage: Stage, node: string, pod: string): Promise<string> {
  const options = { timeoutMs: MONITOR_LIMIT_MS };
  const told = stage.lab.output(node, ["ciliate", "monitor", "-c", "1"], options);
  const ended = new AbortController();
  const forging = async (): Promise<void> => {
    while (!ended.signal.aborted) {
      forge(stage, pod);
      await delay(FORGE_EVERY_MS);
    }
  };
  try {
    const [text] = await Promise.all([told.finally(() => ended.abort()), forging()]);
    return text;
  } finally {
    ended.abort();
  }
}

/** `ciliate status` and `ciliate monitor`. */
export const playOperator: Play = async (scene) => () => showOperator(scene);

async function showOperator({ screen, stage, pause }: Scene): Promise<number> {
  screen.title("What the operator sees");
  screen.command("ciliate status      # on the balancer");
  const { code, stdout } = await stage.lab.run(BALANCER, ["ciliate", "status"]);
  screen.output(stdout.replace(/^TABLE.*/ms, "TABLE  ..."));
  screen.fact(code === 0, `the agent of ${BALANCER} is ready`);
  await pause(3);

  const node = stage.lab.plan.nodes[1];
  const pod = node?.pods[0];
  if (node === undefined || pod === undefined) throw new Error("the lab has no pod on node2");
  const client = formatIpv4(stage.lab.plan.clientAddress.address);
  screen.line();
  screen.say(
    `And the stranger who forges an IP-in-IP packet for ${pod.place.name}? Only nodes are believed:`,
  );
  screen.command(`ciliate monitor      # on ${node.place.name}`);
  const forging = monitorForgery(stage, node.place.name, formatIpv4(pod.address));
  const text = await screen.during("forging", forging);
  screen.output(text, "break");
  screen.fact(
    text.includes("drop untrusted") && text.includes(client),
    "it was dropped, for this reason, and counted",
  );
  return 4;
}
