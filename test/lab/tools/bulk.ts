// SPDX-License-Identifier: Apache-2.0
// Bulk by every mode of a lab, both ways, between ends that offer more than its wires take: whoever
// sends too much is told, by ICMP alone, and all arrives as it was.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import type { TestContext } from "node:test";
import type { Lab } from "../../../src/lab/lab.ts";
import { nodeNamed } from "../../../src/lab/plan.ts";
import {
  FAMILIES,
  type Family,
  formatAddress,
  formatAddressPort,
  parseAddress,
} from "../../../src/net/address.ts";
import { formatMac } from "../../../src/net/mac.ts";
import { budget } from "./budget.ts";
import { inLanes } from "./conversation.ts";
import { nodesOf, podEndpoint, since, untilBalanced, verdicts } from "./inspect.ts";
import type { Mode } from "./modes.ts";
import { HTTP_PORT, inUrl, type PodPrograms, setOffloads } from "./programs.ts";
import {
  assertClientTold,
  assertPodTold,
  assertRelayed,
  HOME,
  POD,
  peerOf,
  type Transfer,
  toldUp,
  type Widths,
} from "./sizes.ts";
import { serviceOf, VIP_PORT } from "./stage.ts";
import { type Frame, watch } from "./wire.ts";

/** Each way; usually a few windows. */
export const BULK_BYTES = budget("bulkBytes", 1024 * 1024);
/** Every mode by the pod's own node too, and every width with all settings. */
export const ALL = budget("allWidths", 0) > 0;
/** Of the bulk, packets that are looked at. */
const BULK_PACKETS = 1500;
const WIRE_BYTES = 1514;
const ENTRIES = ["node1", HOME] as const;
/** In a message: an inner header's protocol, behind the outer one. */
const TOLD = "icmp or icmp6";
const RELAYED =
  "(ip proto 4 and (ip[29] == 1 or (ip[29] == 4 and ip[49] == 1))) or " +
  "(ip6 proto 41 and (ip6[46] == 58 or (ip6[46] == 41 and ip6[86] == 58)))";
const NETWORKS = {
  client: { ipv4: "192.0.2.", ipv6: "fd00:192:0:2::" },
  vip: { ipv4: "198.51.100.", ipv6: "fd00:198:51:100::" },
} as const;
const FIRST_VIP = 101;
const FIRST_CLIENT = 20;
const CURL = ["-sS", "-f", "-m", "60"];

/** Each has a service and a client of its own: what one is told, no other has heard. */
function transfersOf(modes: readonly Mode[]): Transfer[] {
  const places = modes
    .flatMap((mode) => ENTRIES.map((entry) => ({ mode, entry })))
    // On the pod's own node all modes are one.
    .filter(({ mode, entry }) => ALL || entry !== HOME || mode === modes[0]);
  return places.flatMap(({ mode, entry }, index) =>
    FAMILIES.map((family) => ({
      what: `${mode.name}/${family}/by ${entry}`,
      mode,
      family,
      entry,
      vip: `${NETWORKS.vip[family]}${index + FIRST_VIP}`,
      client: `${NETWORKS.client[family]}${index + FIRST_CLIENT}`,
    })),
  );
}

/** Commands of `ip`, some at a time. */
async function ip(lab: Lab, where: string, lines: readonly string[]): Promise<string> {
  return lab.output(where, ["ip", "-batch", "-"], { input: `${lines.join("\n")}\n` });
}

/** Makes wires narrow, gives each transfer its client, and leads what is for its service. */
async function lay(lab: Lab, all: readonly Transfer[], { fabric, pod, client }: Widths) {
  const bits = (family: Family): number => (family === "ipv4" ? 32 : 128);
  const [, port] = lab.plan.clientWire;
  const gatewayOf = ({ entry, family }: Transfer): string => {
    const { address, address6 } = nodeNamed(lab.plan, entry);
    return formatAddress((family === "ipv4" ? address : address6).address);
  };
  await ip(lab, "switch", [
    `link set ${HOME} mtu ${fabric}`,
    ...all.flatMap((one) => [
      `route add ${one.client}/${bits(one.family)} dev ${port.device} mtu lock ${client}`,
      `route add ${one.vip}/${bits(one.family)} via ${gatewayOf(one)}`,
    ]),
  ]);
  await ip(lab, HOME, [`link set eth0 mtu ${fabric}`, `link set ${POD} mtu ${pod}`]);
  await ip(lab, POD, [`link set eth0 mtu ${pod}`]);
  await ip(
    lab,
    "client",
    all.map((one) => `address add ${one.client}/${bits(one.family)} dev eth0`),
  );
}

async function publish(lab: Lab, all: readonly Transfer[]): Promise<void> {
  const ports = [{ name: "http", port: VIP_PORT, targetPort: HTTP_PORT, protocol: "TCP" }] as const;
  for (const [name, some = []] of Object.entries(
    Object.groupBy(all, ({ mode, entry }) => `${mode.name}-${entry}`),
  )) {
    const annotations = { "ciliate.io/forwarding-mode": some[0]?.mode.annotation ?? "" };
    const addresses = some.map(({ vip }) => vip);
    lab.publish(serviceOf([POD], { name, ports, addresses, annotations }));
  }
  for (const { vip, family } of all) {
    const frontend = formatAddressPort(parseAddress(vip), VIP_PORT);
    await untilBalanced(lab, frontend, [podEndpoint(lab, POD, HTTP_PORT, family)]);
  }
}

/** Up, and down again, over one connection each; both must be what was sent. */
async function move(lab: Lab, { large, stored }: PodPrograms, one: Transfer): Promise<void> {
  const name = one.what.replaceAll(/\W/g, "-");
  const copy = join(lab.plan.state, name);
  const url = `http://${inUrl(one.vip)}:${VIP_PORT}`;
  const curl = [...CURL, "--interface", one.client];
  const up = [...curl, "-T", large, `${url}/${name}`];
  const down = [...curl, "-o", copy, `${url}/large`];
  await lab.output("client", ["curl", ...up, "--next", ...down]);
  const body = readFileSync(large);
  assert.equal(body.length, BULK_BYTES);
  assert.ok(stored(name).equals(body), `${one.what}: what was sent up arrived otherwise`);
  assert.ok(readFileSync(copy).equals(body), `${one.what}: what was fetched arrived otherwise`);
}

/** What the kernels of the ends have believed. */
async function assertBelieved(lab: Lab, one: Transfer, widths: Widths): Promise<void> {
  const up = await lab.output("client", ["ip", "route", "get", one.vip]);
  const told = toldUp(one, widths);
  if (told === undefined) assert.doesNotMatch(up, /mtu/, "the client's way up");
  else assert.match(up, new RegExp(`mtu ${told} `), "the client's way up");
  const down = await lab.output(POD, ["ip", "route", "get", peerOf(lab, one)]);
  assert.match(down, new RegExp(`mtu ${widths.client} `), "the pod's way down");
}

/** Nodes put whole packets on their wires, as cards without offloads have to. */
async function proveWires(t: TestContext, lab: Lab, act: () => Promise<void>): Promise<void> {
  for (const node of nodesOf(lab)) {
    await setOffloads(lab, node, false);
    // Else the capture would show what the switch has put together again.
    await lab.output("switch", ["ethtool", "-K", node, "gro", "off"]);
  }
  const at = `switch:${nodesOf(lab).join()}`;
  const { wires } = await watch(t, lab, { wires: { at, packets: BULK_PACKETS } }, act);
  const macs = lab.plan.nodes.map(({ wire: [own] }) => formatMac(own.mac));
  const sent = wires.filter(({ sender }) => macs.includes(sender));
  assert.ok(sent.length > BULK_PACKETS / 4, `${sent.length} packets`);
  for (const frame of sent) {
    assert.deepEqual(frame.wrong, [], `wrong checksums in ${JSON.stringify(frame)}`);
    assert.ok(frame.bytes <= WIRE_BYTES, `${frame.bytes} bytes on the wire`);
  }
}

/**
 * Proves it for services of these modes, with what `programs` serves as /large. What stands before
 * the fabric's wire must know its width, and pods must offer more than it takes.
 */
export async function proveBulk(
  t: TestContext,
  lab: Lab,
  programs: PodPrograms,
  modes: readonly Mode[],
  widths: Widths,
): Promise<void> {
  const all = transfersOf(modes);
  await lay(lab, all, widths);
  await publish(lab, all);
  for (const place of ["client", POD, ...nodesOf(lab)]) await setOffloads(lab, place, true);
  const probing = await lab.output(POD, ["sysctl", "-n", "net.ipv4.tcp_mtu_probing"]);
  assert.equal(probing.trim(), "0", "the pod would find the narrow link by itself");
  const before = verdicts(lab);
  const moveAll = (some: readonly Transfer[]): Promise<void> =>
    inLanes(some, (one) => move(lab, programs, one));
  const seen: Record<"client" | "pod" | "wire", readonly Frame[]> = await watch(
    t,
    lab,
    {
      client: { at: "client", filter: TOLD },
      pod: { at: POD, filter: TOLD },
      wire: { at: `switch:${HOME}`, filter: RELAYED },
    },
    () => moveAll(all),
  );
  t.diagnostic(JSON.stringify(since(before, verdicts(lab))));
  for (const one of all) {
    await t.test(one.what, async () => {
      assertClientTold(lab, seen.client, one, widths);
      assertPodTold(lab, seen.pod, one, widths);
      assertRelayed(lab, seen.wire, one);
      await assertBelieved(lab, one, widths);
    });
  }
  const far = all.filter(({ entry }) => entry !== HOME);
  await t.test("what nodes send is whole", (inner) => proveWires(inner, lab, () => moveAll(far)));
}
