// SPDX-License-Identifier: Apache-2.0
// `ciliate service explain`: what it says is what the programs then do, and asking changes nothing.

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { after, before, test } from "node:test";
import { type Explanation, explain, type Question } from "../../src/datapath/explain.ts";
import { ServiceFlag, Verdict, verdictTexts } from "../../src/datapath/gen/abi.ts";
import { slotOf } from "../../src/datapath/slot.ts";
import { readJiffies } from "../../src/kernel/jiffies.ts";
import { formatAddress, type Ipv4, parseIpv4 } from "../../src/net/address.ts";
import { buildPacket } from "../../src/net/packet.ts";
import { parsePrefix4 } from "../../src/net/prefix.ts";
import { attachUplink } from "./attached.ts";
import { CLIENT, FAR, FAR_TWO, IDLE, SERVICES } from "./cluster.ts";
import { arriving, type ServiceName, SYN, tcpTo, toService } from "./frames.ts";
import { openStage, type Stage } from "./stage.ts";
import { roomFor, serviceChanged, serviceRow } from "./tables.ts";

/** A client without flows. */
const IDLE_CLIENT = parseIpv4("198.51.100.9");

let stage: Stage;
const parts = new AsyncDisposableStack();
before(async () => {
  stage = parts.use(await openStage());
  attachUplink(stage);
});
after(() => parts.disposeAsync());

function ask(name: ServiceName, more: Partial<Question> = {}): Explanation {
  const { address, port, protocol } = SERVICES[name];
  const lower = protocol === "TCP" ? "tcp" : "udp";
  const question = { client: CLIENT, clientPort: 40_000, address, port, device: undefined };
  return stage.world.run(() => explain(stage.pins, { ...question, protocol: lower, ...more }));
}

/** Place and verdict of every step, and what came last. */
function briefly({ steps, backend }: Explanation): string {
  const line = steps.map(({ place, verdict }) => `${place} ${verdict}`).join(", ");
  return backend === undefined ? line : `${line}, to ${formatAddress(backend.address)}`;
}

test("a packet for another node is encapsulated at the edge, and leaves by its next hop", () => {
  const explanation = ask("far");
  assert.equal(briefly(explanation), "edge sent encapsulated, to 10.2.0.21");
  const { service, backend, steps, notes, device } = explanation;
  assert.deepEqual([device, notes], ["up0", []]);
  assert.equal(service?.id, stage.maps.services.lookup(serviceRow(stage, "far"))?.id);
  assert.deepEqual([backend?.port, backend?.slots], [8080, service?.ringSize]);
  const [{ way, layers, why } = assert.fail()] = steps;
  assert.equal(why, verdictTexts[Verdict.sentEncapsulated]);
  assert.equal(way?.device, "up0");
  assert.equal(formatAddress(way?.nexthop ?? assert.fail()), "172.16.0.254");
  assert.match(layers[1] ?? "", /^ipv4 172\.16\.0\.1 > 10\.2\.0\.21 ttl 64/);
  assert.match(layers[2] ?? "", /^ipv4 198\.51\.100\.7 > 192\.0\.2\.1 ttl 64/);
  assert.match(layers[3] ?? "", /^tcp 40000 > 80 syn/);
});

test("a packet for a pod of this node passes the edge, and goes into the pod", () => {
  const explanation = ask("nearDns");
  assert.equal(briefly(explanation), "edge pass local, host sent pod, to 10.1.0.11");
  assert.equal(explanation.steps[1]?.way?.device, "pod0");
});

test("a packet for the node itself as a backend goes on to its sockets", () => {
  const explanation = ask("here");
  assert.equal(briefly(explanation), "edge pass local, host sent pod, to 172.16.0.1");
  const { way, layers } = explanation.steps[1] ?? assert.fail();
  assert.deepEqual([way?.device, way?.mac], ["the node itself", "02:00:00:00:03:00"]);
  assert.match(layers[1] ?? "", /^ipv4 198\.51\.100\.7 > 172\.16\.0\.1 ttl 64/);
});

test("what nobody serves is said with the reason", () => {
  const { steps, ...empty } = ask("empty");
  assert.equal(briefly({ steps, ...empty }), "edge sent rejected");
  assert.equal(steps[0]?.why, "no backend: the client is told by RST or ICMP");
  assert.match(steps[0]?.layers[2] ?? "", /^tcp 80 > 40000 rst,ack/);
  assert.equal(briefly(ask("far", { port: 81 })), "edge drop unknown port");
  assert.equal(briefly(ask("far", { address: CLIENT })), "edge pass not ours, host pass not ours");
  assert.equal(ask("far", { address: CLIENT }).service, undefined);
});

test("a client that may not come is refused", () => {
  const service = stage.maps.services.lookup(serviceRow(stage, "far"))?.id ?? assert.fail();
  const { address, length } = parsePrefix4("198.51.100.0/24");
  const key = { prefixLength: 32 + length, service, address };
  stage.maps.sourceRanges.update(key, { listed: 1 });
  const { sourceDeny, sourceRanges } = ServiceFlag;
  const restore = serviceChanged("far", { flags: sourceRanges | sourceDeny })(stage);
  const [refused, other] = [ask("far"), ask("far", { client: FAR_TWO })];
  restore();
  stage.maps.sourceRanges.delete(key);
  assert.equal(briefly(refused), "edge drop source range");
  assert.equal(briefly(other), "edge sent encapsulated, to 10.2.0.21");
});

test("a flow and a client that are remembered are explained by what is remembered", () => {
  stage.forget();
  const restore = serviceChanged("far", { flags: ServiceFlag.snat })(stage);
  const fresh = ask("far");
  const other = { tcp: { sourcePort: 40_000 } };
  stage.send({ place: "host", frame: buildPacket(...arriving(toService("far", SYN, other))) });
  const known = ask("far");
  const second = ask("far", { client: IDLE_CLIENT });
  restore();
  assert.deepEqual([fresh.isKnownFlow, known.isKnownFlow], [false, true]);
  assert.equal(briefly(fresh), "edge sent nat, to 10.2.0.21");
  assert.equal(briefly(known), "edge sent nat, to 10.2.0.21");
  assert.match(known.steps[0]?.layers[2] ?? "", /^tcp 40000 > 8080/);
  assert.doesNotMatch(second.steps[0]?.layers[2] ?? "", /^tcp 40000 /, "that port is taken");
  stage.forget();
});

test("a full table of flows is full for the question, too", () => {
  stage.forget();
  roomFor(0)(stage);
  const explanation = ask("near");
  stage.forget();
  assert.equal(briefly(explanation), "edge pass local, host drop conntrack full");
});

test("the slot that is told is the one by which programs choose", () => {
  const service = stage.maps.services.lookup(serviceRow(stage, "far")) ?? assert.fail();
  const running = { hashSeed: 42n };
  const first = stage.maps.backends.raw.info.maxEntries - 2;
  const all = [...stage.maps.backends.entries()].map(([, backend]) => backend);
  const far = all.find((backend) => backend.address === FAR) ?? assert.fail();
  for (const [index, pod] of [FAR, FAR_TWO].entries()) {
    stage.maps.backends.update(first + index, { ...far, address: pod });
  }
  // The second half of the ring is the second pod's.
  const half = service.ringSize >>> 1;
  const ring = stage.maps.rings.raw.info.maxEntries - Math.ceil(service.ringSize / 32) - 1;
  for (let row = 0; row * 32 < service.ringSize; row++) {
    const backend = Array.from({ length: 32 }, (_, slot) => (row * 32 + slot < half ? 0 : 1));
    stage.maps.rings.update(ring + row, { backend } as never);
  }
  const change = { backends: first, backendCount: 2, ring };
  const restore = serviceChanged("far", change)(stage);
  const { address, port } = SERVICES.far;
  let seconds = 0;
  for (let clientPort = 20_000; clientPort < 20_200; clientPort++) {
    const flow = { client: CLIENT as Ipv4, clientPort, address, port, protocol: 6 };
    const slot = slotOf(service, flow, running) ?? assert.fail();
    const frame = buildPacket(
      ...arriving(tcpTo(address, port, SYN, { tcp: { sourcePort: clientPort } })),
    );
    const sent = stage.send({ place: "edge", frame });
    const pod = new DataView(sent.frame.buffer, sent.frame.byteOffset).getUint32(30);
    assert.equal(pod, slot < half ? FAR : FAR_TWO, `client port ${clientPort}`);
    if (pod === FAR_TWO) seconds += 1;
  }
  const { backend } = ask("far", { clientPort: 20_000 });
  restore();
  assert.ok(seconds > 20 && seconds < 180, String(seconds));
  assert.equal(typeof backend?.slot, "number");
});

test("asking changes no table of the node", () => {
  stage.forget();
  const restore = serviceChanged("far", {
    flags: ServiceFlag.snat | ServiceFlag.affinity,
    affinityAge: readJiffies().perSecond * 3600,
  })(stage);
  const digest = (): string => {
    const hash = createHash("sha256");
    for (const map of Object.values(stage.maps)) {
      if (!("raw" in map)) continue;
      for (const [key, value] of map.raw.entries()) hash.update(key).update(value);
    }
    return hash.digest("hex");
  };
  const earlier = digest();
  for (const name of ["far", "near", "nearDns", "empty", "silent"] as const) ask(name);
  ask("near", { client: IDLE });
  assert.equal(digest(), earlier);
  restore();
});

test("a pod's packet is explained by the program of its device", () => {
  const explanation = ask("far", { client: IDLE });
  assert.equal(explanation.steps[0]?.place, "pod");
  assert.equal(explanation.device, "pod2");
  assert.match(explanation.notes[0] ?? "", /a pod's socket is translated where it connects/);
});

function explained(...words: string[]) {
  const program = new URL("../../bin/ciliate", import.meta.url).pathname;
  const line = ["service", "explain", ...words, "--bpffs", stage.pins, "--socket", "/nonexistent"];
  const net = `--net=${stage.world.path}`;
  return spawnSync("nsenter", [net, program, ...line], { encoding: "utf8" });
}

test("the command says it to people and to scripts, with no agent to ask", () => {
  const { stdout, stderr, status } = explained("192.0.2.1:80", "--from", "198.51.100.7", "--hex");
  assert.deepEqual([stderr, status], ["", 0]);
  const lines = stdout.split("\n");
  assert.equal(lines[0], "tcp 198.51.100.7:50000 -> 192.0.2.1:80  by up0");
  assert.match(
    lines[1] ?? "",
    /^service {2}\(no agent to tell its name\), id \d+, 1 backends in a/,
  );
  assert.match(lines[2] ?? "", /^backend {2}10\.2\.0\.21:8080, slot \d+ \(100\.0 % of the ring\)$/);
  const why = verdictTexts[Verdict.sentEncapsulated];
  assert.equal(lines[3], `edge     sent encapsulated: ${why}`);
  assert.equal(lines[4], "way      up0 to 02:00:00:00:fe:00, next hop 172.16.0.254");
  assert.equal(lines[5], "leaves   78 bytes");
  assert.match(stdout, /\n {9}0000 {2}02 00 00 00 fe 00 /);
  const json = JSON.parse(explained("192.0.2.2:53", "--protocol", "udp", "-o", "json").stdout);
  const { client, destination, steps } = json;
  assert.deepEqual([client, destination], ["203.0.113.1:50000", "192.0.2.2:53"]);
  const verdicts = steps.map(({ place, verdict }: Record<string, string>) => `${place} ${verdict}`);
  assert.deepEqual(verdicts, ["edge pass local", "host sent pod"]);
});
