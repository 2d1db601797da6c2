// SPDX-License-Identifier: Apache-2.0
import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import type { Endpoint, HostPort } from "../endpoint/rows.ts";
import { createEndpointWriter } from "../endpoint/writer.ts";
import { type Address, formatAddress } from "../net/address.ts";
import type { NodeAddressRow } from "../node/rows.ts";
import { createTable } from "../state/table.ts";
import { servicePortEntries } from "./entries.ts";
import { createHostPorts } from "./host-ports.ts";
import { objectOf } from "./rows.ts";
import { createBench, ip, service, show } from "./testing.ts";

const WEB = { port: 8080, podPort: 80, protocol: "tcp", address: undefined } as const;

function setUp(t: TestContext) {
  const bench = createBench();
  const pods = createEndpointWriter();
  const addresses = createTable<Address, NodeAddressRow>({
    name: "node-addresses",
    key: ({ address }) => address,
  });
  const { writer } = bench;
  const hostPorts = createHostPorts({
    node: "n1",
    endpoints: pods.endpoints,
    addresses: addresses,
    writer,
  });
  t.after(() => hostPorts[Symbol.dispose]());
  const put = (
    name: string,
    last: number,
    ports: readonly HostPort[],
    more: Partial<Endpoint> = {},
  ) =>
    pods.put({
      key: `default/${name}`,
      addresses: [ip(last)],
      node: "n1",
      attachment: undefined,
      hostPorts: ports,
      ...more,
    });
  const own = (text: string, served = true): void =>
    addresses.set({ address: ip(text), own: true, served });
  const shown = async (): Promise<string[]> => {
    await new Promise(setImmediate);
    await bench.settled();
    return [...writer.ports.rows()].map(({ key, addresses: outside, inside, backends }) => {
      const at = [outside, inside].map((list) => list.map(formatAddress).join(" ")).join("|");
      return `${key} at ${at}: ${show(backends)} :${backends[0]?.port}`;
    });
  };
  return { ...bench, pods, addresses, put, own, shown };
}

test("a pod's host port is found at this node's addresses", async (t) => {
  const { own, put, shown, pods } = setUp(t);
  own("10.9.0.1");
  own("10.9.0.2", false);
  put("web", 1, [WEB]);
  put("away", 2, [WEB], { node: "n2" });
  assert.deepEqual(await shown(), ["hostport:default/web:8080/tcp at 10.9.0.1|: 1 ready :80"]);
  own("10.9.0.3");
  assert.deepEqual(await shown(), [
    "hostport:default/web:8080/tcp at 10.9.0.1 10.9.0.3|: 1 ready :80",
  ]);
  put("web", 3, [WEB]);
  assert.deepEqual(await shown(), [
    "hostport:default/web:8080/tcp at 10.9.0.1 10.9.0.3|: 3 ready :80",
  ]);
  pods.delete("default/web");
  assert.deepEqual(await shown(), []);
});

test("a host port at one address is at that one, if it is this node's", async (t) => {
  const { own, put, shown } = setUp(t);
  own("10.9.0.1");
  own("10.9.0.2", false);
  put("web", 1, [
    { ...WEB, address: ip("10.9.0.2") },
    { ...WEB, address: ip("127.0.0.1"), protocol: "udp" },
    { ...WEB, address: ip("10.9.9.9"), port: 9090 },
  ]);
  assert.deepEqual(await shown(), [
    "hostport:default/web@10.9.0.2:8080/tcp at 10.9.0.2|: 1 ready :80",
    "hostport:default/web@127.0.0.1:8080/udp at |127.0.0.1: 1 ready :80",
  ]);
});

test("the addresses stay the node's own: no key says that they are of services", async (t) => {
  const { own, put, shown, writer } = setUp(t);
  own("10.9.0.1");
  put("web", 1, [WEB]);
  await shown();
  const [row] = writer.ports.rows();
  assert.ok(row !== undefined);
  const entries = servicePortEntries({ encapsulate: "all", jiffies: () => 0 }, row);
  const kinds = entries.flatMap((entry) => (entry.target === "frontends" ? [entry.key.kind] : []));
  assert.deepEqual(kinds, [1]);
});

test("a host port that a service has is refused with the pod's name", async (t) => {
  const { own, put, shown, writer } = setUp(t);
  own("10.9.0.1");
  writer.putService(service("web", { addresses: [ip("10.9.0.1")], port: "8080/tcp" }));
  await shown();
  put("web-1", 1, [WEB]);
  await shown();
  assert.deepEqual(
    [...writer.refusals()].map(({ id, text }) => `${id}: ${text}`),
    ["Pod default/web-1: 10.9.0.1:8080/tcp is Service default/web's: take it out of one of them"],
  );
  assert.deepEqual([...writer.services.rows()].map(objectOf), ["Service default/web"]);
});
