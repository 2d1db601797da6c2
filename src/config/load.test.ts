// SPDX-License-Identifier: Apache-2.0
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { ConfigError, defaultConfig, loadConfig, parseConfig, socketPath } from "./load.ts";
import { fields, valueAt } from "./schema.ts";

/** The faults of a text, one a line, as a person sees them. */
function faults(text: string): string {
  try {
    parseConfig(text, "c.yaml");
  } catch (error) {
    assert(error instanceof ConfigError);
    return error.message;
  }
  return "none";
}

test("an empty file is the defaults", () => {
  const config = defaultConfig();
  for (const { path, field } of fields()) {
    assert.deepEqual(valueAt(config, path), field.fallback, path.join("."));
  }
  assert.deepEqual(parseConfig("# only a comment\n", "c.yaml").config, config);
  assert.deepEqual(parseConfig("conntrack:\nlog: {}\n", "c.yaml").config, config);
});

test("every default is a value that its own kind reads back", () => {
  for (const { path, field } of fields()) {
    const plain = field.kind.plain(field.fallback);
    const text = JSON.stringify(
      path.reduceRight<unknown>((inner, key) => ({ [key]: inner }), plain),
    );
    assert.deepEqual(valueAt(parseConfig(text, "c.yaml").config, path), field.fallback, text);
  }
});

test("a file sets what it names and knows its lines", () => {
  const { config, lines } = parseConfig(
    "node:\n  name: lb-1\n  address: 10.0.0.1\nouterSource: 10.9.0.0/16\n" +
      "conntrack: {udp: 1m30s}\nmetrics: {listen: off}\nlog:\n  levels: {lb: debug}\n",
    "c.yaml",
  );
  assert.equal(config.node.name, "lb-1");
  assert.equal(config.node.address, 0x0a000001);
  assert.deepEqual(config.outerSource, { address: 0x0a090000, length: 16 });
  assert.equal(config.conntrack.udp, 90_000);
  assert.equal(config.conntrack.tcpSyn, 60_000);
  assert.equal(config.metrics.listen, "off");
  assert.deepEqual(config.log.levels, { lb: "debug" });
  assert.deepEqual(Object.fromEntries(lines), {
    "node.name": 2,
    "node.address": 3,
    outerSource: 4,
    "conntrack.udp": 5,
    "metrics.listen": 6,
    "log.levels": 8,
  });
});

test("an alias is read as what it stands for", () => {
  const { config } = parseConfig("conntrack:\n  udp: &t 30s\n  tcpSyn: *t\n", "c.yaml");
  assert.equal(config.conntrack.tcpSyn, 30_000);
});

test("aliases that make a file far larger than it is written are refused", () => {
  const anchors = Array.from({ length: 6 }, (_, index) => {
    const items = Array(9).fill(index === 0 ? "eth0" : `*a${index - 1}`);
    return `k${index}: &a${index} [${items}]\n`;
  });
  const told = /^c\.yaml:[2-9]:\d+: its aliases make it far too large: write out what they/;
  assert.match(faults(anchors.join("")), told);
  assert.match(faults("mtu: 1500\ndevices: &a [*a, *a, *a]\n"), told);
});

test("a path is taken as it is shortest", () => {
  const { config } = parseConfig("manifests: [/etc/m/, //etc/./n//, /]\n", "c.yaml");
  assert.deepEqual(config.manifests, ["/etc/m", "/etc/n", "/"]);
});

test("a wrong file is told with every fault, its place, and the way out", () => {
  const text = readFileSync(new URL("./testdata/wrong.yaml", import.meta.url), "utf8");
  const golden = readFileSync(new URL("./testdata/wrong.txt", import.meta.url), "utf8");
  assert.equal(`${faults(text)}\n`, golden);
});

test("what isn't one YAML document is refused with its place", () => {
  assert.match(faults("devices: [eth0\nmtu: 1500\n"), /^c\.yaml:\d+:\d+: not YAML: /);
  assert.equal(faults("mtu: 1500\nmtu: 1400\n"), "c.yaml:2:1: not YAML: map keys must be unique");
  assert.equal(
    faults("mtu: 1500\n---\nmtu: 1\n"),
    "c.yaml:3:1: a second document: the file holds one",
  );
  assert.equal(faults("- a\n"), "c.yaml:1:1: expected a section with keys, got a list");
  assert.match(
    faults("node: &a\n  name: *a\n"),
    /^c\.yaml:2:9: node\.name: expected auto or a name/,
  );
});

test("a flow's idle time is no longer than its age can be told, 24.8 days", () => {
  assert.equal(faults("conntrack: {tcpEstablished: 20d}\n"), "none");
  assert.match(faults("conntrack: {tcpEstablished: 24d}\n"), /tcpEstablished: .* 1s to 20d /);
});

test("values that are right alone and wrong together are refused", () => {
  assert.equal(
    faults("mtu: 1500\nouterSource: 10.0.0.0/31\n"),
    "c.yaml:2:1: outerSource: expected a prefix of at most 30 bits, so that a hash has room",
  );
  assert.equal(
    faults("devices: [eth0, eth0]\n"),
    "c.yaml:1:1: devices: a device stands here twice",
  );
  assert.equal(
    faults("nodePort: {range: 30000-33000}\n"),
    "c.yaml:1:1: nodePort.range: 30000-33000 has ports of snat.ports, which are 32768-65535",
  );
  assert.equal(faults("nodePort: {range: 30000-33000}\nsnat: {ports: 40000-65535}\n"), "none");
  assert.equal(
    faults("snat: {ports: 40000-50000}\n"),
    "c.yaml:1:1: snat.ports: expected ports from 1024 or more up to 65535",
  );
  assert.match(faults(`paths: {socket: /${"x".repeat(95)}}\n`), /too long: the kernel takes/);
});

test("a file that can't be read is a ConfigError that names it", () => {
  assert.throws(() => loadConfig("/nonexistent/c.yaml"), {
    name: "ConfigError",
    message: /^cannot read the configuration: ENOENT.*\/nonexistent\/c\.yaml/,
  });
});

test("the socket's name is taken from the runtime directory unless absolute", () => {
  const path = (text: string): string => socketPath(parseConfig(text, "c.yaml").config);
  assert.equal(path(""), "/run/ciliate/ciliate.sock");
  assert.equal(path("paths: {runtime: /run/a, socket: b.sock}"), "/run/a/b.sock");
  assert.equal(path("paths: {socket: /tmp/b.sock}"), "/tmp/b.sock");
});
