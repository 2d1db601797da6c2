// SPDX-License-Identifier: Apache-2.0
// What the command line reads from a node's tables, with no agent to ask.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { ciliate, type Outcome } from "../../src/cli/fixture.ts";
import { type Jiffies, ServiceFlag } from "../../src/datapath/gen/abi.ts";
import { readJiffies } from "../../src/kernel/jiffies.ts";
import { formatAddress, parseIpv4 } from "../../src/net/address.ts";
import { buildPacket } from "../../src/net/packet.ts";
import { widen } from "../wide/address.ts";
import { CLIENT, FAR } from "./cluster.ts";
import { arriving, type ServiceName, SYN, toService } from "./frames.ts";
import { openStage, type Stage } from "./stage.ts";
import { serviceChanged, serviceRow } from "./tables.ts";

let stage: Stage;
before(async () => {
  stage = await openStage();
});
after(() => stage[Symbol.asyncDispose]());

function run(words: string): Promise<Outcome> {
  return ciliate([...words.split(" "), "--bpffs", stage.pins]);
}

async function json(words: string) {
  const { stdout, stderr, code } = await run(`${words} -o json`);
  assert.deepEqual([stderr, code], ["", 0], words);
  return JSON.parse(stdout);
}

function idOf(name: ServiceName) {
  return stage.maps.services.lookup(serviceRow(stage, name))?.id ?? assert.fail();
}

test("bpf nat list tells the clients that pods see as this node, and nobody else", async () => {
  const empty = await run("bpf nat list");
  assert.equal(empty.stdout, "no translated clients\n");
  const restore = serviceChanged("far", { flags: ServiceFlag.snat })(stage);
  stage.send({ place: "host", frame: buildPacket(...arriving(toService("far", SYN))) });
  stage.send({ place: "host", frame: buildPacket(...arriving(toService("near", SYN))) });
  restore();
  const rows = await json("bpf nat list");
  assert.equal(rows.length, 1);
  const { ageSeconds, idleSeconds, ...row } = rows[0];
  assert.ok(ageSeconds < 60 && idleSeconds <= ageSeconds);
  assert.deepEqual(row, {
    protocol: "tcp",
    client: "198.51.100.7:40000",
    service: "192.0.2.1:80",
    pod: "10.2.0.21:8080",
    as: "172.16.0.1:40000",
    flags: [],
    packets: 1,
    bytes: 54,
  });
  const { stdout } = await run("bpf nat list");
  assert.match(stdout, /^PROTOCOL +CLIENT +SERVICE +POD +AS +AGE +IDLE +PACKETS +BYTES +FLAGS\n/);
});

test("bpf affinity list tells which pod a client is kept with, and for how long", async () => {
  assert.equal((await run("bpf affinity list")).stdout, "no client is kept with a pod\n");
  const { perSecond, now } = readJiffies();
  const [service, seen] = [idOf("far"), (now - 100 * perSecond) >>> 0];
  const entry = { pod: FAR, backend: 0, seen: seen as Jiffies };
  stage.maps.affinities.update({ service, client: CLIENT }, entry);
  stage.maps.affinities.update({ service: 99 as typeof service, client: CLIENT }, entry);
  const restore = serviceChanged("far", { affinityAge: 3600 * perSecond })(stage);
  const rows = await json("bpf affinity list");
  const { stdout } = await run("bpf affinity list");
  restore();
  const of = (id: number) => rows.find((row: { service: number }) => row.service === id);
  const { idleSeconds, ...row } = of(service);
  assert.ok(idleSeconds >= 100 && idleSeconds < 160, String(idleSeconds));
  const kept = { client: "198.51.100.7", pod: "10.2.0.21", keptSeconds: 3600 };
  assert.deepEqual(row, { service, frontend: "192.0.2.1:80/tcp", ...kept });
  assert.deepEqual([of(99).frontend, of(99).keptSeconds], ["", 0], "a service that is gone");
  assert.match(stdout, /192\.0\.2\.1:80\/tcp +198\.51\.100\.7 +10\.2\.0\.21 +1m\d+s +1h\n/);
});

test("bpf source-range list tells who may come, and who may not", async () => {
  assert.equal((await run("bpf source-range list")).stdout, "no service chooses its clients\n");
  const [far, near] = [idOf("far"), idOf("near")];
  const list = (service: typeof far, address: string, length: number): void =>
    stage.maps.sourceRanges.update(
      { prefixLength: 32 + length, service, address: parseIpv4(address) },
      { listed: 1 },
    );
  list(far, "198.51.100.0", 24);
  list(far, "10.0.0.0", 8);
  list(near, "0.0.0.0", 0);
  const { sourceDeny, sourceRanges } = ServiceFlag;
  const restore = serviceChanged("near", { flags: sourceRanges | sourceDeny })(stage);
  const rows = await json("bpf source-range list");
  restore();
  const lines = rows.map(
    (row: { service: number; frontend: string; policy: string; prefix: string }) =>
      `${row.frontend} ${row.policy} ${row.prefix}`,
  );
  assert.deepEqual(lines.sort(), [
    "192.0.2.1:80/tcp allow 10.0.0.0/8",
    "192.0.2.1:80/tcp allow 198.51.100.0/24",
    "192.0.2.2:80/tcp deny 0.0.0.0/0",
  ]);
});

test("map dump reads any map as its types say", async () => {
  const endpoints = await json("map dump endpoints");
  const near = endpoints.find(
    ({ key }: { key: { address: string } }) => key.address === "10.1.0.11",
  );
  assert.equal(typeof near.value.ifindex, "number");
  assert.match(near.value.podMac, /^([0-9a-f]{2}:){5}[0-9a-f]{2}$/);
  const services = await json("map dump services");
  assert.ok(services.length > 5 && services.length < 64, "rows that are all zero are left out");
  const all = await json("map dump services --zeros");
  assert.equal(all.length, stage.maps.services.raw.info.maxEntries);
  const buckets = await json("map dump frontends");
  const slots = buckets.flatMap(
    ({ value }: { value: { slot: { address: string }[] } }) => value.slot,
  );
  assert.ok(slots.some(({ address }: { address: string }) => address === "192.0.2.1"));
  const { stdout } = await run("map dump endpoints");
  assert.match(stdout, /^ADDRESS +IFINDEX +NETNS +POD MAC +NODE MAC +IDENTITY\n/);
  assert.match(stdout, /^10\.1\.0\.11 +\d+ +-?\d+ +02:00:00:00:01:00 +02:00:00:00:02:00 +0$/m);
  assert.equal((await run("map dump fragments")).stdout, "no entries\n");
});

test("map dump of what there isn't says what there is", async () => {
  const near = await run("map dump contrack");
  assert.equal(near.code, 4);
  assert.match(near.stderr, /^ciliate: there is no map "contrack"; did you mean "conntrack"\?\n/);
  assert.match(near.stderr, /there are: affinities, .*, conntrack, .*, trusted/);
  const ring = await run("map dump events");
  assert.deepEqual([ring.code, ring.stdout], [1, ""]);
  assert.match(ring.stderr, /map events is a ringbuf, which has no elements to list/);
  const { code, stderr } = await ciliate(["map", "dump", "services", "--bpffs", "/sys/fs/bpf/no"]);
  assert.equal(code, 4);
  assert.match(stderr, /there are no tables in \/sys\/fs\/bpf\/no: has an agent run on this node/);
});

test("flows and clients of IPv6 are listed as those of IPv4", async () => {
  await using wide = await openStage("", "ipv6");
  const restore = serviceChanged("far", { flags: ServiceFlag.snat })(wide);
  wide.send({ place: "host", frame: wide.build(arriving(toService("far", SYN))) });
  restore();
  const service = wide.maps.services.lookup(serviceRow(wide, "far"))?.id ?? assert.fail();
  const seen = (readJiffies().now >>> 0) as Jiffies;
  wide.maps.affinities.update({ service, client: CLIENT }, { pod: FAR, backend: 0, seen });
  const list = async (words: string) => {
    const { stdout } = await ciliate([...words.split(" "), "-o", "json", "--bpffs", wide.pins]);
    return JSON.parse(stdout);
  };
  const client = formatAddress(widen(CLIENT));
  const pod = formatAddress(widen(FAR));
  for (const words of ["bpf nat list", "bpf ct list"]) {
    const [flow, ...others] = await list(words);
    assert.deepEqual([flow.client, flow.pod], [`[${client}]:40000`, `[${pod}]:8080`], words);
    assert.deepEqual(others, []);
  }
  const [kept] = await list("bpf affinity list");
  assert.deepEqual([kept.client, kept.pod], [client, pod]);
  const entries = await list("map dump conntrack6");
  assert.ok(entries.some(({ key }: { key: { source: string } }) => key.source === client));
});
