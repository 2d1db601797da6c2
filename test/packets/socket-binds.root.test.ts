// SPDX-License-Identifier: Apache-2.0
// Node ports that services have are not bound by programs of the node.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { after, before, suite, test } from "node:test";
import { createNamespace, deleteNamespace, inNamespace } from "../../src/kernel/netns.ts";
import { bindTcp, bindUdp } from "./calls.ts";
import {
  attach,
  BACKENDS,
  countedBy,
  LOOPBACK,
  OTHER_NODE,
  OWN_NODE,
  type Spelling,
  scene,
  setUp,
  spell,
  TCP_NODE_PORT,
  tearDown,
  VIP,
} from "./socket-stage.ts";

const ANY = "0.0.0.0";
const NODE_PORT = 30_080;
const FREE_PORT = 30_001;
const BEYOND = 32_768;
const REFUSED = "EADDRINUSE";
const BOUND = "bound";
const namespace = `ciliate-binds-${process.pid}`;

/** Binds in another namespace, and then asks there for the node port at its own loopback. */
const ELSEWHERE = `
import socket
for family, address in (socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::"):
    with socket.socket(family, socket.SOCK_DGRAM) as one:
        one.bind((address, ${NODE_PORT}))
for address in "127.0.0.1", "0.0.0.0", "::1", "::ffff:127.0.0.1":
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as one:
        print(one.connect_ex((address, 30081)))
`;
const ECONNREFUSED = 111;

async function expectBinds(
  wanted: string,
  addresses: readonly (readonly [Spelling, string])[],
  port: number,
): Promise<void> {
  for (const [spelling, address] of addresses) {
    const at = spell(spelling, address);
    const drops = wanted === REFUSED ? { "drop bind": 1 } : {};
    for (const bind of [bindTcp, bindUdp]) {
      const verdicts = await countedBy(async () => {
        assert.equal(await bind(at, port), wanted, `${bind.name} ${at} ${port}`);
      });
      assert.deepEqual(verdicts, drops, `${bind.name} ${at} ${port}`);
    }
  }
}

/** Where node ports are served, in each spelling. */
const SERVED = [
  ["ipv4", ANY],
  ["ipv4", LOOPBACK],
  ["ipv4", OWN_NODE],
  ["ipv6", ANY],
  ["ipv6", LOOPBACK],
  ["ipv6", OWN_NODE],
  ["mapped", ANY],
  ["mapped", LOOPBACK],
  ["mapped", OWN_NODE],
] as const;
/** Addresses of the node at which they aren't, and, of another node, can't be. */
const NOT_SERVED = [
  ["ipv4", VIP],
  ["ipv6", VIP],
  ["mapped", VIP],
  ["ipv4", OTHER_NODE],
  ["ipv6", OTHER_NODE],
] as const;

suite("binds of node ports", () => {
  before(setUp);
  after(tearDown);

  test("a node port of a service is refused wherever it is served", () =>
    expectBinds(REFUSED, SERVED, NODE_PORT));

  test("other addresses and ports are free", async () => {
    await expectBinds(BOUND, NOT_SERVED, NODE_PORT);
    for (const port of [FREE_PORT, BEYOND, 29_999, 0]) await expectBinds(BOUND, SERVED, port);
  });

  test("TCP's node port is none of UDP", async () => {
    for (const spelling of ["ipv4", "ipv6"] as const) {
      const at = spell(spelling, ANY);
      assert.equal(await bindTcp(at, TCP_NODE_PORT), REFUSED);
      assert.equal(await bindUdp(at, TCP_NODE_PORT), BOUND);
    }
  });

  test("IPv4's node ports are not bound by way of an IPv6 that the node hasn't", async () => {
    const { datapath, cgroup } = scene();
    const sockets = new Map([...datapath.programs.sockets].filter(([of]) => !of.endsWith("6")));
    const bare = { ...datapath, programs: { ...datapath.programs, sockets } };
    assert.deepEqual(attach(bare, cgroup), { cgroup, reason: "" });
    await expectBinds(REFUSED, [["ipv6", ANY]], NODE_PORT);
    await expectBinds(BOUND, [["ipv6", LOOPBACK]], NODE_PORT);
    attach(datapath, cgroup);
  });

  test("another namespace has its own ports and its own loopback", async (t) => {
    t.after(() => deleteNamespace(namespace));
    const path = createNamespace(namespace);
    const verdicts = await countedBy(async () => {
      const said = inNamespace(path, () => {
        execFileSync("ip", ["link", "set", "lo", "up"]);
        return execFileSync("python3", ["-c", ELSEWHERE], { encoding: "utf8" });
      });
      assert.deepEqual(said.trim().split("\n"), Array<string>(4).fill(String(ECONNREFUSED)));
    });
    assert.deepEqual(verdicts, { "pass not ours": 4 });
  });

  test("binds are refused no more where that isn't wanted", async () => {
    const { datapath, cgroup } = scene();
    assert.deepEqual(attach(datapath, cgroup, false), { cgroup, reason: "" });
    await expectBinds(BOUND, SERVED, NODE_PORT);
    attach(datapath, cgroup);
    await expectBinds(REFUSED, [["ipv4", BACKENDS[0]]], NODE_PORT);
  });
});
