// SPDX-License-Identifier: Apache-2.0
import assert from "node:assert/strict";
import { test } from "node:test";
import { formatAddress, parseAddress } from "../net/address.ts";
import { servicePortEntries } from "./entries.ts";
import { scopedFrontends } from "./rows.ts";
import { createBench, endpoint, ip, service, slice } from "./testing.ts";

const WIDE = parseAddress("2001:db8::10");
const PODS = ["fd00::1", "fd00::2"].map(parseAddress);

/** A service with a slice of each family. */
function both() {
  const four = slice("web-4", ["1", "2"]);
  const six = {
    ...four,
    key: "default/web-6",
    family: "ipv6" as const,
    endpoints: PODS.map((address) => ({ ...endpoint("1"), address })),
  };
  const web = service("web", {
    families: ["ipv4", "ipv6"],
    addresses: [ip("192.0.2.10"), WIDE],
    ports: [{ name: "", port: 80, protocol: "tcp", nodePort: 30_080 }],
  });
  return { four, six, web };
}

test("each family of a service has a row, with an id and backends of its own", async () => {
  const { writer, settled, port } = createBench();
  const { four, six, web } = both();
  writer.putSlice(four);
  writer.putSlice(six);
  writer.putService(web);
  await settled();
  const rows = [port("default/web:80/tcp"), port("default/web:80/tcp/ipv6")];
  const shown = rows.map((row) =>
    row === undefined
      ? undefined
      : [
          scopedFrontends(row).map((one) => `${formatAddress(one.address)} ${one.port}`),
          row.backends.map(({ address }) => formatAddress(address)),
        ],
  );
  assert.deepEqual(shown, [
    [
      ["192.0.2.10 80", "0.0.0.0 30080"],
      ["10.0.0.1", "10.0.0.2"],
    ],
    [
      ["2001:db8::10 80", ":: 30080"],
      ["fd00::1", "fd00::2"],
    ],
  ]);
  assert.notEqual(rows[0]?.id, rows[1]?.id);
  writer.putSlice({ ...six, endpoints: [] });
  await settled();
  assert.equal(port("default/web:80/tcp"), rows[0]);
  assert.equal(port("default/web:80/tcp/ipv6")?.backends.length, 0);
});

test("a row of IPv6 needs entries of IPv6's tables alone", async () => {
  const { writer, settled, port } = createBench();
  const { six, web } = both();
  const policy = {
    ...web.policy,
    sourceRanges: [
      { address: ip("10.0.0.0"), length: 8 },
      { address: parseAddress("2001:db8::"), length: 32 },
    ],
  };
  writer.putSlice({ ...six, endpoints: six.endpoints.map((one) => ({ ...one, node: "n1" })) });
  writer.putService({ ...web, policy: policy as typeof web.policy });
  await settled();
  const row = port("default/web:80/tcp/ipv6");
  assert.ok(row !== undefined);
  const entries = servicePortEntries({ encapsulate: "all", jiffies: () => 0 }, row);
  assert.deepEqual(
    entries.map(({ target }) => target),
    ["targets6", "targets6", "sourceRanges6", "images", "frontends", "frontends", "frontends"],
  );
});
