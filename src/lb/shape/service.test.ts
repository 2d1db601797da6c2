// SPDX-License-Identifier: Apache-2.0
import assert from "node:assert/strict";
import { test } from "node:test";
import { formatAddress } from "../../net/address.ts";
import { formatPrefix } from "../../net/prefix.ts";
import { DEFAULT_POLICY, type Service } from "../rows.ts";
import { Field, type Remarks } from "./field.ts";
import { readService } from "./service.ts";

interface Parts {
  readonly spec: Readonly<Record<string, unknown>>;
  readonly ingress?: readonly unknown[];
  readonly annotations?: Readonly<Record<string, string>>;
  readonly labels?: Readonly<Record<string, string>>;
}

/** A service with port 80, its row and what was said of it. */
function read(parts: Parts): { row: Service; said: string[] } {
  const { spec, ingress = [], annotations = {}, labels = {} } = parts;
  const remarks: Remarks = { faults: [], warnings: [] };
  const object = {
    metadata: { name: "web", annotations, labels },
    spec: { ports: [{ port: 80 }], ...spec },
    status: { loadBalancer: { ingress } },
  };
  const row = readService(Field.root(object, remarks));
  assert.ok(row !== undefined);
  const said = [...remarks.faults, ...remarks.warnings].map(
    ({ path, text }) => `${path.join(".")}: ${text}`,
  );
  return { row, said };
}

/** `outside | inside`, by last bytes of addresses. */
function addressesOf(parts: Parts): string {
  const { row, said } = read(parts);
  assert.deepEqual(said, []);
  return [row.addresses, row.clusterAddresses]
    .map((list) => list.map(formatAddress).join(" "))
    .join(" | ");
}

test("addresses are for clients outside, or for pods and nodes only", () => {
  const spec = { clusterIP: "10.96.0.1", clusterIPs: ["10.96.0.1"], externalIPs: ["192.0.2.9"] };
  const ingress = [{ ip: "192.0.2.10" }];
  assert.equal(addressesOf({ spec, ingress }), "192.0.2.9 | 10.96.0.1");
  assert.equal(
    addressesOf({ spec: { ...spec, type: "NodePort" }, ingress }),
    "192.0.2.9 | 10.96.0.1",
  );
  const balanced = { ...spec, type: "LoadBalancer", loadBalancerIP: "192.0.2.11" };
  assert.equal(
    addressesOf({ spec: balanced, ingress }),
    "192.0.2.9 192.0.2.10 192.0.2.11 | 10.96.0.1",
  );
  assert.equal(
    addressesOf({ spec: { ...spec, externalIPs: ["10.96.0.1"] }, ingress }),
    "10.96.0.1 | ",
  );
});

test("what is headless or a name elsewhere is left to others", () => {
  const externalIPs = ["192.0.2.9"];
  assert.equal(addressesOf({ spec: { clusterIP: "None", externalIPs } }), " | ");
  assert.equal(addressesOf({ spec: { clusterIPs: ["None"], externalIPs } }), " | ");
  const spec = { type: "ExternalName", externalName: "example.net", ports: undefined };
  assert.equal(addressesOf({ spec: { ...spec, externalIPs } }), " | ");
  assert.equal(addressesOf({ spec: { clusterIP: "", externalIPs } }), "192.0.2.9 | ");
});

test("a service that another proxy serves is left to it, whatever the proxy's name", () => {
  const spec = {
    type: "LoadBalancer",
    clusterIP: "10.96.0.1",
    externalIPs: ["192.0.2.9"],
    externalTrafficPolicy: "Local",
    healthCheckNodePort: 32000,
    ports: [{ port: 80, nodePort: 30080 }],
  };
  for (const name of ["other", ""]) {
    const labels = { "service.kubernetes.io/service-proxy-name": name };
    const { row, said } = read({ spec, ingress: [{ ip: "192.0.2.10" }], labels });
    const { type, addresses, clusterAddresses, ports, healthCheckPort } = row;
    assert.deepEqual(said, []);
    assert.deepEqual([type, addresses, clusterAddresses], ["LoadBalancer", [], []]);
    assert.deepEqual([ports.map(({ nodePort }) => nodePort), healthCheckPort], [[0], 0]);
  }
});

test("an address whose load balancer wants the traffic itself is not ours", () => {
  const ingress = [
    { ip: "192.0.2.10", ipMode: "Proxy" },
    { ip: "192.0.2.11", ipMode: "VIP" },
  ];
  assert.equal(addressesOf({ spec: { type: "LoadBalancer" }, ingress }), "192.0.2.11 | ");
});

test("node ports are read where the type has them", () => {
  const ports = [
    { name: "a", port: 80, nodePort: 30080 },
    { name: "b", port: 81, nodePort: 0 },
    { name: "c", port: 82 },
  ];
  const nodePorts = (type: string): number[] =>
    read({ spec: { type, ports } }).row.ports.map(({ nodePort }) => nodePort);
  assert.deepEqual(nodePorts("NodePort"), [30080, 0, 0]);
  assert.deepEqual(nodePorts("LoadBalancer"), [30080, 0, 0]);
  assert.deepEqual(nodePorts("ClusterIP"), [0, 0, 0]);
  const twice = [ports[0], { ...ports[0], name: "d", port: 90 }];
  assert.deepEqual(read({ spec: { type: "NodePort", ports: twice } }).said, [
    "spec.ports.1.nodePort: the second node port 30080/tcp",
  ]);
});

test("a service that says nothing has the policy that all such services share", () => {
  const cluster = { externalTrafficPolicy: "Cluster", internalTrafficPolicy: "Cluster" };
  assert.equal(read({ spec: {} }).row.policy, DEFAULT_POLICY);
  assert.equal(read({ spec: { ...cluster, sessionAffinity: "None" } }).row.policy, DEFAULT_POLICY);
});

test("policies are what the service says", () => {
  const spec = {
    externalTrafficPolicy: "Local",
    internalTrafficPolicy: "Local",
    sessionAffinity: "ClientIP",
    publishNotReadyAddresses: true,
  };
  const { sourceRanges, ...policy } = read({ spec }).row.policy;
  assert.equal(sourceRanges, undefined);
  assert.deepEqual(policy, {
    externalLocal: true,
    internalLocal: true,
    affinityMs: 10_800_000,
    sourceDeny: false,
    mode: undefined,
    algorithm: undefined,
    publishNotReady: true,
  });
  const config = { sessionAffinityConfig: { clientIP: { timeoutSeconds: 30 } } };
  assert.equal(read({ spec: { ...spec, ...config } }).row.policy.affinityMs, 30_000);
  assert.equal(read({ spec: config }).row.policy.affinityMs, 0);
});

test("the mode of a service is ours before that of Cilium's annotation", () => {
  const mode = (annotations: Record<string, string>): string | undefined =>
    read({ spec: {}, annotations }).row.policy.mode;
  assert.equal(mode({}), undefined);
  assert.equal(mode({ "service.cilium.io/forwarding-mode": "snat" }), "snat");
  assert.equal(
    mode({ "service.cilium.io/forwarding-mode": "snat", "ciliate.io/forwarding-mode": "hybrid" }),
    "hybrid",
  );
});

test("the algorithm of a service is ours before that of Cilium's annotation", () => {
  const algorithm = (annotations: Record<string, string>): string | undefined =>
    read({ spec: {}, annotations }).row.policy.algorithm;
  assert.equal(algorithm({}), undefined);
  assert.equal(algorithm({ "service.cilium.io/lb-algorithm": "random" }), "random");
  assert.equal(
    algorithm({ "service.cilium.io/lb-algorithm": "random", "ciliate.io/lb-algorithm": "maglev" }),
    "maglev",
  );
});

test("source ranges let in, or keep out, as the service says", () => {
  const ranges = (parts: Parts): string => {
    const { sourceRanges, sourceDeny } = read(parts).row.policy;
    const list = sourceRanges?.map(formatPrefix).join(" ") ?? "all";
    return sourceDeny ? `not ${list}` : list;
  };
  const spec = { loadBalancerSourceRanges: ["198.51.100.0/24", " 203.0.113.7/8"] };
  const deny = { "service.cilium.io/src-ranges-policy": "deny" };
  assert.equal(ranges({ spec: {} }), "all");
  assert.equal(ranges({ spec }), "198.51.100.0/24 203.0.0.0/8");
  assert.equal(ranges({ spec, annotations: deny }), "not 198.51.100.0/24 203.0.0.0/8");
  const allow = { ...deny, "ciliate.io/src-ranges-policy": "allow" };
  assert.equal(ranges({ spec, annotations: allow }), "198.51.100.0/24 203.0.0.0/8");
  const old = {
    "service.beta.kubernetes.io/load-balancer-source-ranges": "10.0.0.0/8, 11.0.0.0/8",
  };
  assert.equal(ranges({ spec: {}, annotations: old }), "10.0.0.0/8 11.0.0.0/8");
  assert.equal(ranges({ spec, annotations: old }), "198.51.100.0/24 203.0.0.0/8");
});

test("source ranges are of either family", () => {
  const { row, said } = read({
    spec: { loadBalancerSourceRanges: ["2001:db8::/32", "10.0.0.1/8"] },
  });
  assert.deepEqual(row.policy.sourceRanges?.map(formatPrefix), ["2001:db8::/32", "10.0.0.0/8"]);
  assert.deepEqual(said, []);
});

test("a service's families are those that it says, or else those of its addresses", () => {
  const families = (spec: Record<string, unknown>) => read({ spec }).row.families;
  assert.deepEqual(families({ clusterIPs: ["10.96.0.1", "fd00::1"] }), ["ipv4", "ipv6"]);
  assert.deepEqual(families({ clusterIP: "fd00::1" }), ["ipv6"]);
  assert.deepEqual(families({ type: "NodePort" }), ["ipv4"]);
  assert.deepEqual(families({ type: "NodePort", ipFamilies: ["IPv6"] }), ["ipv6"]);
  assert.deepEqual(families({ type: "NodePort", ipFamilyPolicy: "PreferDualStack" }), [
    "ipv4",
    "ipv6",
  ]);
});

test("an address of a family that the service hasn't got is left out", () => {
  const { row, said } = read({
    spec: { ipFamilies: ["IPv4"], externalIPs: ["192.0.2.9", "2001:db8::1"] },
  });
  assert.deepEqual(row.addresses.map(formatAddress), ["192.0.2.9"]);
  assert.deepEqual(said, [
    "spec.externalIPs.1: the address is left out: its family is not among spec.ipFamilies",
  ]);
});

test("health is asked for only where a policy makes nodes differ", () => {
  const port = (spec: Record<string, unknown>): number =>
    read({ spec: { healthCheckNodePort: 32000, ...spec } }).row.healthCheckPort;
  assert.equal(port({ type: "LoadBalancer", externalTrafficPolicy: "Local" }), 32_000);
  assert.equal(port({ type: "LoadBalancer" }), 0);
  assert.equal(port({ type: "NodePort", externalTrafficPolicy: "Local" }), 0);
});
