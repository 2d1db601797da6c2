// SPDX-License-Identifier: Apache-2.0

// The way of one request and of its answer, as captures saw it.

import { join } from "node:path";
import type { NodePlan } from "../../src/lab/plan.ts";
import { formatIpv4 } from "../../src/net/address.ts";
import { drawHead, drawHops } from "./draw.ts";
import { type Hop, hopsOf, readCaptures, type Sighting } from "./observe.ts";
import type { Play, Scene } from "./scene.ts";
import { BALANCER, POD_PORT, type Stage, VIP, VIP_PORT } from "./stage.ts";

const FIRST_PORT = 40_001;
const PORTS_TRIED = 40;

/** A client's port and the pod of another node that the ring gives its flow to. */
interface Flow {
  readonly port: number;
  readonly pod: string;
  readonly node: NodePlan;
}

async function ask({ lab }: Stage, port: number): Promise<string> {
  // Reading on until the server closes leaves the client's port free at once, not in TIME_WAIT.
  const close = ["-H", "Connection: close", "--ignore-content-length", "--local-port", `${port}`];
  return await lab.output("client", ["curl", "-s", "--max-time", "20", ...close, `http://${VIP}/`]);
}

/** Looks for a port of the client whose flow belongs to a pod of another node than the balancer. */
async function findRemoteFlow(stage: Stage): Promise<Flow> {
  for (let port = FIRST_PORT; port < FIRST_PORT + PORTS_TRIED; port++) {
    const pod = (await ask(stage, port)).split(" ")[0] ?? "";
    const node = stage.lab.plan.nodes.find((one) =>
      one.pods.some(({ place }) => place.name === pod),
    );
    if (node !== undefined && node.place.name !== BALANCER) return { port, pod, node };
  }
  throw new Error(`none of ${PORTS_TRIED} flows went to another node than ${BALANCER}`);
}

/** Captures one more request of a flow wherever it may pass. */
async function captureRequest(stage: Stage, { port, pod, node }: Flow): Promise<Sighting[]> {
  const { lab } = stage;
  const devices: Readonly<Record<string, readonly string[]>> = {
    client: ["eth0"],
    switch: lab.plan.nodes.map(({ wire }) => wire[1].device).concat("client"),
    [node.place.name]: ["eth0"],
    [pod]: ["eth0"],
  };
  const files = Object.fromEntries(
    Object.keys(devices).map((place) => [place, join(stage.directory, `${place}.pcapng`)]),
  );
  const captures = await Promise.all(
    Object.entries(files).map(([place, file]) =>
      lab.capture(place, file, { devices: devices[place] ?? [], filter: "ip" }),
    ),
  );
  try {
    await ask(stage, port);
  } finally {
    await Promise.all(captures.map((capture) => capture.stop()));
  }
  return await readCaptures(lab.plan, files);
}

const wires = (hops: readonly Hop[]): string => hops.map(({ from, to }) => `${from} ${to}`).join();

function checkRequest({ screen }: Scene, flow: Flow, hops: readonly Hop[], pod: string): void {
  const node = flow.node.place.name;
  const expected = [
    "client switch",
    `switch ${BALANCER}`,
    `${BALANCER} switch`,
    `switch ${node}`,
    `${node} ${flow.pod}`,
  ];
  const [sent, balanced, wrapped] = hops.map(({ first }) => first);
  const whole =
    wires(hops) === expected.join() &&
    wrapped?.outer?.target === pod &&
    sent?.inner.target === `${VIP}:${VIP_PORT}` &&
    hops.at(-1)?.first.inner.target === `${pod}:${POD_PORT}`;
  screen.fact(whole, `the request went by the balancer ${BALANCER}, in IP-in-IP from there on`);
  const more = (wrapped?.frameBytes ?? 0) - (balanced?.frameBytes ?? 0);
  screen.fact(
    more === 20 && wrapped?.innerMarks === balanced?.innerMarks,
    `the outer header costs ${more} bytes; the packet in it is the client's, untouched`,
  );
}

function checkReply({ screen }: Scene, flow: Flow, hops: readonly Hop[], all: Sighting[]): void {
  const node = flow.node.place.name;
  const expected = [`${flow.pod} ${node}`, `${node} switch`, "switch client"];
  const source = hops.at(-1)?.first.inner.source;
  screen.fact(
    wires(hops) === expected.join() && source === `${VIP}:${VIP_PORT}`,
    `the reply left ${node} as ${VIP}:${VIP_PORT}, and went straight to the client`,
  );
  const client = `:${flow.port}`;
  const back = all.filter(({ inner }) => inner.target.endsWith(client));
  const through = back.filter(({ from, to }) => from === BALANCER || to === BALANCER);
  screen.fact(
    back.length > 0 && through.length === 0,
    `packets from pod to client on the balancer's wire: ${through.length}`,
  );
}

/** Draws one request and its reply, each packet as it was on each wire. */
export const playPath: Play = async (scene) => {
  const flow = await findRemoteFlow(scene.stage);
  const all = await captureRequest(scene.stage, flow);
  return () => showPath(scene, flow, all);
};

async function showPath(scene: Scene, flow: Flow, all: Sighting[]): Promise<number> {
  const { screen, stage } = scene;
  screen.title("The way of a packet");
  const node = flow.node.place.name;
  const client = `:${flow.port}`;
  const request = all.find(
    ({ inner, payloadBytes }) => inner.source.endsWith(client) && payloadBytes > 0,
  );
  const reply = all.find(
    ({ inner, payloadBytes }) => inner.target.endsWith(client) && payloadBytes > 0,
  );
  const same = (one: Sighting | undefined): Sighting[] =>
    all.filter(
      ({ sequence, payloadBytes, flags }) =>
        sequence === one?.sequence && payloadBytes === one.payloadBytes && flags === one.flags,
    );
  const [there, back] = [hopsOf(same(request)), hopsOf(same(reply))];
  const places = ["client", "switch", BALANCER, node, flow.pod];

  screen.say(
    `One GET and its answer, as captures at the client, the switch's ports, ${node} and ` +
      `${flow.pod} show them; how long the frame was stands at the right.`,
  );
  screen.line();
  drawHead(
    screen,
    ["C", "S", "L", "N", "P"],
    ["client", "switch", `balancer ${BALANCER}`, node, flow.pod],
  );
  drawHops(screen, places, there, "green");
  drawHops(screen, places, back, "cyan");
  screen.line();
  const pod = stage.pods.find(({ place }) => place.name === flow.pod);
  checkRequest(scene, flow, there, pod === undefined ? "" : formatIpv4(pod.address));
  checkReply(scene, flow, back, all);
  return 7;
}
