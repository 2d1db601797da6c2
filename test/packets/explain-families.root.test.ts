// SPDX-License-Identifier: Apache-2.0
// `ciliate service explain` in both families and every dispatch: the bytes that it tells are those
// that the node's own program sends, and are dissected.

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { suite, test } from "node:test";
import { explain, type Question } from "../../src/datapath/explain.ts";
import { slotOf } from "../../src/datapath/slot.ts";
import {
  type Address,
  type Family,
  formatAddress,
  formatAddressPort,
  type Ipv4,
  isIpv4,
} from "../../src/net/address.ts";
import { parseMac } from "../../src/net/mac.ts";
import {
  buildPacket,
  ethernet,
  ipv4,
  ipv6,
  type LayerInit,
  mssOption,
  payload,
  tcp,
  udp,
} from "../../src/net/packet.ts";
import { widen } from "../wide/address.ts";
import { attachUplink } from "./attached.ts";
import { CLIENT, FAR, FAR_TWO, NODE, OTHER_NODE, SERVICES, UPLINK_MAC } from "./cluster.ts";
import { SYN } from "./frames.ts";
import { openStage, type Stage } from "./stage.ts";
import { serviceChanged, serviceRow } from "./tables.ts";

const CLIENT_PORT = 40_000;
const HASH_SEED = 42n;

type Dispatch = "ipip" | "geneve" | "opt";

async function openAttached(dispatch: Dispatch, family: Family, parts: AsyncDisposableStack) {
  const stage = parts.use(await openStage(`dispatch: ${dispatch}`, family));
  attachUplink(stage);
  return stage;
}

function ask(
  stage: Stage,
  client: Address,
  address: Address,
  { clientPort = CLIENT_PORT, port = SERVICES.far.port, protocol = "tcp" }: Partial<Question> = {},
) {
  const question = { client, clientPort, address, port, protocol, device: undefined };
  return stage.world.run(() => explain(stage.pins, question));
}

/** The packet that is asked about, as it comes from a router. */
function asked(
  client: Address,
  address: Address,
  sourcePort: number,
  ...inner: readonly LayerInit[]
): Uint8Array {
  const ip: LayerInit =
    isIpv4(client) && isIpv4(address)
      ? ipv4({ source: client, target: address, ttl: 64 })
      : ipv6({ source: client as never, target: address as never, hopLimit: 64 });
  const ether = ethernet({ source: parseMac("02:00:00:00:00:01"), target: UPLINK_MAC });
  if (inner.length > 0) return buildPacket(ether, ip, ...inner);
  const { port: targetPort } = SERVICES.far;
  return buildPacket(
    ether,
    ip,
    tcp({ sourcePort, targetPort, flags: SYN, options: mssOption(1460) }),
  );
}

/** What is around TCP, from the second layer on. */
function expectedLayers(dispatch: Dispatch, of: (address: Ipv4) => Address): readonly RegExp[] {
  const family = isIpv4(of(CLIENT)) ? "ipv4" : "ipv6";
  const line = (source: Ipv4, target: Ipv4, more = ""): RegExp => {
    const escaped = [source, target].map((one) => formatAddress(of(one)).replaceAll(".", "\\."));
    return new RegExp(`^${family} ${escaped.join(" > ")} .*${more}`);
  };
  const { address, port } = SERVICES.far;
  const told = formatAddressPort(of(address), port).replace(/[.[\]]/g, "\\$&");
  switch (dispatch) {
    case "ipip":
      return [line(NODE, FAR), line(CLIENT, address)];
    case "geneve":
      return [
        line(NODE, OTHER_NODE),
        /^udp \d+ > 6081 /,
        new RegExp(`^geneve vni 2 options [0-9a-f]+ for ${told}$`),
        /^eth 02:00:00:00:00:01 > /,
        line(CLIENT, FAR),
      ];
    case "opt":
      return family === "ipv4"
        ? [line(CLIENT, FAR, ` options [0-9a-f]+ for ${told}$`)]
        : [line(CLIENT, FAR), new RegExp(`^destinationOptions [0-9a-f]+ for ${told}$`)];
  }
}

/** The service's ring on two pods, a half each. */
function shared(stage: Stage) {
  const { maps } = stage;
  const service = maps.services.lookup(serviceRow(stage, "far")) ?? assert.fail();
  const first = maps.backends.raw.info.maxEntries - 2;
  const all = [...maps.backends.entries()].map(([, backend]) => backend);
  const far = all.find(({ address }) => address === FAR) ?? assert.fail();
  for (const [index, pod] of [FAR, FAR_TWO].entries()) {
    maps.backends.update(first + index, { ...far, address: pod });
  }
  const half = service.ringSize >>> 1;
  const ring = maps.rings.raw.info.maxEntries - Math.ceil(service.ringSize / 32) - 1;
  for (let row = 0; row * 32 < service.ringSize; row++) {
    const backend = Array.from({ length: 32 }, (_, slot) => (row * 32 + slot < half ? 0 : 1));
    maps.rings.update(ring + row, { backend } as never);
  }
  const restore = serviceChanged("far", { backends: first, backendCount: 2, ring })(stage);
  return { service, half, restore };
}

const CASES: readonly (readonly [Family, Dispatch])[] = [
  ["ipv4", "geneve"],
  ["ipv4", "opt"],
  ["ipv6", "ipip"],
  ["ipv6", "geneve"],
  ["ipv6", "opt"],
];

for (const [family, dispatch] of CASES) {
  suite(`${family} by ${dispatch}`, () => {
    const of = (address: Ipv4): Address => (family === "ipv4" ? address : widen(address));
    const [client, vip] = [of(CLIENT), of(SERVICES.far.address)];

    test("what is told is what is sent", async () => {
      await using parts = new AsyncDisposableStack();
      const stage = await openAttached(dispatch, family, parts);
      const { steps, backend, notes, service } = ask(stage, client, vip);
      assert.deepEqual(notes, []);
      assert.equal(service?.id, stage.maps.services.lookup(serviceRow(stage, "far"))?.id);
      const [{ place, verdict, way, layers, bytes } = assert.fail(), ...more] = steps;
      assert.deepEqual([place, verdict, more], ["edge", "sent encapsulated", []]);
      assert.equal(backend?.address, of(FAR));
      assert.equal(typeof backend?.slot, "number");
      assert.equal(way?.device, "up0");
      const wanted = expectedLayers(dispatch, of);
      for (const [index, line] of wanted.entries()) assert.match(layers[index + 1] ?? "", line);
      assert.match(layers[wanted.length + 1] ?? "", /^tcp 40000 > (80|8080) syn /);
      const sent = stage.send({ place: "edge", frame: asked(client, vip, CLIENT_PORT) });
      assert.deepEqual(Buffer.from(bytes), Buffer.from(sent.frame));

      if (dispatch === "geneve") ownerIsTold(stage, of);
      if (dispatch !== "ipip") return;
      slotIsTold(stage, of);
      commandTells(stage, client, vip);
    });
  });
}

/** Whose flow this may be is asked by two outer headers, as the fabric may know no pods. */
function ownerIsTold(stage: Stage, of: (address: Ipv4) => Address): void {
  const { port } = SERVICES.cameNearDns;
  const [client, address] = [of(CLIENT), of(SERVICES.cameNearDns.address)];
  const { steps } = ask(stage, client, address, { port, protocol: "udp" });
  assert.deepEqual(
    steps.map(({ place, verdict }) => `${place} ${verdict}`),
    ["edge pass local", "host sent passed"],
  );
  const datagram = udp({ sourcePort: CLIENT_PORT, targetPort: port });
  const frame = asked(client, address, CLIENT_PORT, datagram, payload("ciliate"));
  const sent = stage.send({ place: "host", frame });
  assert.deepEqual(Buffer.from(steps[1]?.bytes ?? []), Buffer.from(sent.frame));
}

function commandTells(stage: Stage, client: Address, vip: Address): void {
  const at = formatAddressPort(vip, SERVICES.far.port);
  const said = explained(stage, at, "--from", formatAddress(client));
  assert.deepEqual([said.stderr, said.status], ["", 0]);
  const [first = "", , second = ""] = said.stdout.split("\n");
  assert.equal(first, `tcp ${formatAddressPort(client, 50_000)} -> ${at}  by up0`);
  const pod = formatAddressPort(widen(FAR), 8080);
  assert.ok(second.startsWith(`backend  ${pod}, slot `), second);
}

function explained(stage: Stage, ...words: string[]) {
  const program = new URL("../../bin/ciliate", import.meta.url).pathname;
  const line = ["service", "explain", ...words, "--bpffs", stage.pins, "--socket", "/nonexistent"];
  return spawnSync("nsenter", [`--net=${stage.world.path}`, program, ...line], {
    encoding: "utf8",
  });
}

/** By the slot that is told the program chooses, flow by flow. */
function slotIsTold(stage: Stage, of: (address: Ipv4) => Address): void {
  const { service, half, restore } = shared(stage);
  const [client, address] = [of(CLIENT), of(SERVICES.far.address)];
  let seconds = 0;
  for (let clientPort = 20_000; clientPort < 20_100; clientPort++) {
    const flow = { client, clientPort, address, port: SERVICES.far.port, protocol: 6 };
    const slot = slotOf(service, flow, { hashSeed: HASH_SEED }) ?? assert.fail();
    const { frame } = stage.send({ place: "edge", frame: asked(client, address, clientPort) });
    const pod = Buffer.from(frame.subarray(38, 54)).toString("hex");
    const wanted = of(slot < half ? FAR : FAR_TWO);
    assert.equal(BigInt(`0x${pod}`), wanted, `client port ${clientPort}`);
    if (slot >= half) seconds += 1;
  }
  const { backend } = ask(stage, client, address, { clientPort: 20_000 });
  restore();
  assert.ok(seconds > 10 && seconds < 90, String(seconds));
  assert.equal(typeof backend?.slot, "number");
}
