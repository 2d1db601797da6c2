// SPDX-License-Identifier: Apache-2.0

// What the outer header costs, by which packets get one.

import { randomBytes } from "node:crypto";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import type { ServiceSpec } from "../../src/lab/manifest.ts";
import { readCaptures, type Sighting } from "./observe.ts";
import type { Play, Scene } from "./scene.ts";
import { BALANCER, FAR_UDP_VIP, FAR_VIP, POD_PORT, type Stage, VIP_PORT } from "./stage.ts";

const UPLOAD_BYTES = 1_000_000;
const IP_HEADER_BYTES = 20;
const UDP_HEADER_BYTES = 8;
const SNAP_BYTES = 128;
const ETHERNET_BYTES = 14;
const UDP_PORT = 53;
const ICMP_LIMIT_MS = 20_000;

/** What one upload to a pod of another node took. */
interface Cost {
  /** Segment size that the pod offered, in bytes. */
  readonly mss: number;
  /** The largest TCP payload on the wire to the balancer. */
  readonly payload: number;
  /** The largest IP packet between the nodes, the outer header included. */
  readonly largest: number;
  readonly packets: number;
  readonly encapsulated: number;
  /** SYNs of the client, one of which may have had to be sent again. */
  readonly syns: number;
}

/** A service of TCP and UDP whose packets all go to another node than the balancer. */
function farService({ lab }: Stage): ServiceSpec {
  const others = lab.plan.nodes.filter(({ place }) => place.name !== BALANCER);
  return {
    name: "far",
    addresses: [FAR_VIP, FAR_UDP_VIP],
    ports: [
      { name: "http", port: VIP_PORT, targetPort: POD_PORT },
      { name: "dns", port: UDP_PORT, targetPort: UDP_PORT, protocol: "UDP" },
    ],
    backends: others.flatMap(({ pods }) => pods.map(({ place }) => place.name)),
  };
}

/** Uploads to the service and measures. */
async function measure(stage: Stage): Promise<Cost> {
  const { lab } = stage;
  const body = join(stage.directory, "body");
  writeFileSync(body, randomBytes(UPLOAD_BYTES));
  const file = join(stage.directory, "upload.pcapng");
  const devices = lab.plan.nodes.map(({ wire }) => wire[1].device);
  const before = await stage.verdicts(BALANCER);
  const capture = await lab.capture("switch", file, {
    devices,
    filter: "ip",
    snapBytes: SNAP_BYTES,
  });
  const url = `http://${FAR_VIP}/`;
  try {
    const post = ["-s", "--max-time", "30", "-H", "Expect:", "--data-binary", `@${body}`];
    await lab.output("client", ["curl", ...post, url]);
  } finally {
    await capture.stop();
  }
  const after = await stage.verdicts(BALANCER);
  const sent = (verdict: string): number => (after[verdict] ?? 0) - (before[verdict] ?? 0);
  const seen = await readCaptures(lab.plan, { switch: file });
  const most = (of: (one: Sighting) => number, which: (one: Sighting) => boolean): number =>
    seen.filter(which).reduce((max, one) => Math.max(max, of(one)), 0);
  const toBalancer = ({ to }: Sighting): boolean => to === BALANCER;
  const fromBalancer = ({ to, from }: Sighting): boolean => from === "switch" && to !== BALANCER;
  return {
    mss: most(
      ({ mss }) => mss,
      ({ inner }) => inner.source.startsWith(`${FAR_VIP}:`),
    ),
    payload: most(({ payloadBytes }) => payloadBytes, toBalancer),
    largest: most(({ frameBytes }) => frameBytes - ETHERNET_BYTES, fromBalancer),
    packets: sent("sent encapsulated") + sent("sent plain"),
    encapsulated: sent("sent encapsulated"),
    syns: seen.filter((one) => toBalancer(one) && one.mss > 0).length,
  };
}

/** The MTU that the service's address tells a client whose datagram is too large; 0 for none. */
async function askTooBig(stage: Stage): Promise<number> {
  const { lab } = stage;
  const bytes = lab.plan.settings.mtu - IP_HEADER_BYTES - UDP_HEADER_BYTES;
  const send = `head -c ${bytes} /dev/zero >/dev/udp/${FAR_UDP_VIP}/${UDP_PORT}`;
  await lab.run("client", ["bash", "-c", send]);
  const end = performance.now() + ICMP_LIMIT_MS;
  while (performance.now() < end) {
    const route = await lab.output("client", ["ip", "route", "get", FAR_UDP_VIP]);
    const mtu = /mtu (\d+)/.exec(route)?.[1];
    if (mtu !== undefined) return Number(mtu);
    await delay(50);
  }
  return 0;
}

function showCosts({ screen, stage }: Scene, all: Cost, first: Cost): void {
  const { mtu } = stage.lab.plan.settings;
  const share = ({ encapsulated, packets }: Cost): string =>
    `${encapsulated} (${((encapsulated / packets) * 100).toFixed(0)} %)`;
  screen.table(
    ["UPLOAD OF 1 MB", ">encapsulate: all", ">encapsulate: first"],
    [
      ["MSS that the pod offers", `${all.mss}`, `${first.mss}`],
      ["largest TCP payload", `${all.payload} B`, `${first.payload} B`],
      ["largest packet between nodes", `${all.largest} B`, `${first.largest} B`],
      ["packets by the balancer", `${all.packets}`, `${first.packets}`],
      ["of these in IP-in-IP", share(all), share(first)],
    ],
  );
  screen.fact(
    first.payload - all.payload === IP_HEADER_BYTES && all.largest <= mtu && first.largest <= mtu,
    `each costs what it says: ${first.payload - all.payload} bytes of ${mtu} in every packet, ` +
      "or none after the first",
  );
  screen.fact(
    all.encapsulated === all.packets &&
      first.syns > 0 &&
      first.encapsulated === first.syns &&
      first.packets > 100,
    "all packets were encapsulated by the one, and by the other only the SYN",
  );
}

const setMode =
  (mode: "all" | "first") =>
  (config: string): string =>
    config.replace(/^encapsulate: .*$/m, `encapsulate: ${mode}`);

/** Both modes of `encapsulate`, and a datagram that doesn't fit. */
export const playCost: Play = async (scene) => {
  const { stage } = scene;
  const far = farService(stage);
  stage.lab.publish(far);
  await stage.waitService(far.name, far.backends.length);
  const all = await measure(stage);
  const told = await askTooBig(stage);
  return () => showCost(scene, all, told);
};

async function showCost(scene: Scene, all: Cost, told: number): Promise<number> {
  const { screen, stage } = scene;
  screen.title("What IP-in-IP costs");
  screen.say(
    "`encapsulate: all` (the default) keeps connections whatever happens to balancer and agents; " +
      "`encapsulate: first` leaves the whole MTU to later packets.",
  );
  screen.line();
  await screen.during("restarting the agents", stage.reconfigure(setMode("first")));
  const first = await screen.during("uploading", measure(stage));
  showCosts(scene, all, first);
  const { mtu } = stage.lab.plan.settings;
  const bytes = mtu - IP_HEADER_BYTES - UDP_HEADER_BYTES;
  screen.fact(
    told === mtu - IP_HEADER_BYTES,
    `a UDP datagram of ${bytes} bytes can't fit; ${FAR_UDP_VIP} itself told the client so ` +
      `by ICMP, with an MTU of ${told}`,
  );
  return 6;
}

/** Undoes what was changed to measure. */
export async function endCost(stage: Stage): Promise<void> {
  await stage.reconfigure(setMode("all"));
  stage.lab.withdraw("far");
}
