// SPDX-License-Identifier: Apache-2.0

// What the outer header costs, by which packets get one.

import { randomBytes } from "node:crypto";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { readCaptures, type Sighting } from "./observe.ts";
import type { Scene } from "./scene.ts";
import { BALANCER, type Stage, UDP_VIP, VIP } from "./stage.ts";

const UPLOAD_BYTES = 1_000_000;
const IP_HEADER_BYTES = 20;
const UDP_HEADER_BYTES = 8;
const SNAP_BYTES = 128;
const ETHERNET_BYTES = 14;
const UDP_PORT = 53;
const ICMP_LIMIT_MS = 5000;

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
}

/** The pods of other nodes than the balancer: only to those packets are encapsulated. */
function remotePods({ lab }: Stage): string[] {
  const others = lab.plan.nodes.filter(({ place }) => place.name !== BALANCER);
  return others.flatMap(({ pods }) => pods.map(({ place }) => place.name));
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
  const url = `http://${VIP}/`;
  try {
    const post = ["-s", "--max-time", "10", "-H", "Expect:", "--data-binary", `@${body}`];
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
      ({ inner }) => inner.source.startsWith(`${VIP}:`),
    ),
    payload: most(({ payloadBytes }) => payloadBytes, toBalancer),
    largest: most(({ frameBytes }) => frameBytes - ETHERNET_BYTES, fromBalancer),
    packets: sent("sent encapsulated") + sent("sent plain"),
    encapsulated: sent("sent encapsulated"),
  };
}

/** The MTU that the service's address tells a client whose datagram is too large; 0 for none. */
async function askTooBig(stage: Stage): Promise<number> {
  const { lab } = stage;
  const bytes = lab.plan.settings.mtu - IP_HEADER_BYTES - UDP_HEADER_BYTES;
  const send = `head -c ${bytes} /dev/zero >/dev/udp/${UDP_VIP}/${UDP_PORT}`;
  await lab.run("client", ["bash", "-c", send]);
  const end = performance.now() + ICMP_LIMIT_MS;
  while (performance.now() < end) {
    const route = await lab.output("client", ["ip", "route", "get", UDP_VIP]);
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
    `each costs what it says: ${first.payload - all.payload} bytes of ${mtu} in every packet, or none ` +
      "after the first",
  );
  screen.fact(
    all.encapsulated === all.packets && first.encapsulated === 1 && first.packets > 100,
    "all packets were encapsulated by the one, and by the other only the SYN",
  );
}

const setMode =
  (mode: "all" | "first") =>
  (config: string): string =>
    config.replace(/^encapsulate: .*$/m, `encapsulate: ${mode}`);

/** Both modes of `encapsulate`, and a datagram that doesn't fit. */
export async function showCost(scene: Scene): Promise<void> {
  const { screen, stage, pause } = scene;
  screen.title("What IP-in-IP costs");
  screen.say(
    "`encapsulate: all` (the default) keeps connections whatever happens to balancer and agents; " +
      "`encapsulate: first` leaves the whole MTU to later packets.",
  );
  screen.line();
  const remote = remotePods(stage);
  stage.lab.publish(stage.web(remote));
  stage.lab.publish({
    name: "dns",
    addresses: [UDP_VIP],
    ports: [{ name: "dns", port: UDP_PORT, targetPort: UDP_PORT, protocol: "UDP" }],
    backends: remote.slice(0, 1),
  });
  await screen.during("leaving the balancer's own pods out", stage.waitService("web", 8));
  await stage.waitService("dns", 1);
  const all = await screen.during("uploading", measure(stage));
  const told = await askTooBig(stage);
  await screen.during("restarting the agents", stage.reconfigure(setMode("first")));
  const first = await screen.during("uploading", measure(stage));
  showCosts(scene, all, first);
  const { mtu } = stage.lab.plan.settings;
  screen.fact(
    told === mtu - IP_HEADER_BYTES,
    `a UDP datagram of ${mtu - IP_HEADER_BYTES - UDP_HEADER_BYTES} bytes can't fit; ${UDP_VIP} itself told ` +
      `the client so (ICMP, MTU ${told})`,
  );
  const back = async (): Promise<void> => {
    await stage.reconfigure(setMode("all"));
    stage.lab.withdraw("dns");
    stage.lab.publish(stage.web());
    await stage.waitService("web", stage.pods.length);
  };
  const [restored] = await Promise.allSettled([back(), pause(6)]);
  if (restored.status === "rejected") throw restored.reason;
}
