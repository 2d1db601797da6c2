// SPDX-License-Identifier: Apache-2.0
import assert from "node:assert/strict";
import test from "node:test";
import { dump, load } from "js-yaml";
import { parseConfig } from "../config/load.ts";
import { readManifest } from "../lb/yaml/manifest.ts";
import { splitDocuments } from "../lb/yaml/split.ts";
import { formatIpv4, formatIpv6 } from "../net/address.ts";
import { formatPrefix } from "../net/prefix.ts";
import {
  clusterManifests,
  manifestPath,
  manifestText,
  nodeConfig,
  serviceDocuments,
} from "./manifest.ts";
import {
  LabError,
  namespacePrefix,
  nodeNamed,
  placeNamed,
  placesOf,
  planLab,
  podMss,
  settle,
} from "./plan.ts";

test("a lab of the largest size has no name, address or MAC twice", () => {
  const plan = planLab(settle({ name: "abcdefghijkl", nodes: 32, podsPerNode: 200 }));
  const places = placesOf(plan);
  const unique = (values: readonly unknown[]): void => {
    assert.equal(new Set(values).size, values.length);
  };
  assert.equal(places.length, 2 + 32 * 201);
  unique(places.map(({ namespace }) => namespace));
  unique(places.map(({ cgroup }) => cgroup));
  const pods = plan.nodes.flatMap((node) => node.pods);
  unique([...plan.nodes.map(({ address }) => address.address), ...pods.map((pod) => pod.address)]);
  unique([...plan.nodes.map(({ address6 }) => address6.address), ...pods.map((p) => p.address6)]);
  const ends = [
    plan.clientWire,
    ...plan.nodes.map(({ wire }) => wire),
    ...pods.map(({ wire }) => wire),
  ].flat();
  unique(ends.map(({ mac }) => mac));
  unique(ends.map(({ place, device }) => `${place}/${device}`));
  for (const { device } of ends) assert.ok(device.length <= 15, device);
  // A unix socket's path has room for 107 characters.
  for (const { paths } of plan.nodes) assert.ok(paths.socket.length < 100, paths.socket);
});

test("names say where a thing is, and wrong ones say what there is", () => {
  const plan = planLab(settle({ name: "x" }));
  const node2 = nodeNamed(plan, "node2");
  assert.equal(formatPrefix(node2.address), "10.0.2.1/24");
  assert.equal(formatIpv4(node2.pods[2]?.address ?? plan.clientGateway), "10.244.2.3");
  assert.equal(formatPrefix(node2.address6), "fd00:10:0:2::1/64");
  assert.equal(formatIpv6(node2.pods[2]?.address6 ?? plan.clientGateway6), "fd00:10:244:2::3");
  assert.equal(placeNamed(plan, "pod2-3").namespace, "cil-x-pod2-3");
  assert.throws(
    () => placeNamed(plan, "pod2-9"),
    /lab x has no pod2-9: expected client, switch, node1/,
  );
  assert.throws(() => nodeNamed(plan, "node9"), /its nodes are node1, node2, node3/);
});

test("options that can't be are refused by name", () => {
  const refused = (options: Parameters<typeof settle>[0], words: RegExp): void => {
    assert.throws(
      () => settle(options),
      (error) => error instanceof LabError && words.test(error.message),
    );
  };
  for (const name of ["", "a-b", "A", "1a", "thirteenchars", "a/b"]) {
    refused({ name }, /can't name a lab/);
  }
  refused({ nodes: 0 }, /nodes of a lab: expected 1 to 32, got 0/);
  refused({ podsPerNode: 201 }, /pods per node of a lab: expected 0 to 200/);
  refused({ mtu: 68 }, /MTU of a lab/);
  refused({ mtu: 1279, ipv6: true }, /MTU with IPv6 of a lab: expected 1280 to 65535, got 1279/);
  refused({ balancers: [] }, /balancers of a lab/);
  refused({ nodes: 2, balancers: [3] }, /balancer of a lab: expected 1 to 2, got 3/);
  assert.ok(!namespacePrefix("ab").startsWith(namespacePrefix("a")));
});

test("pods offer room for the outer header only where every packet has one", () => {
  assert.equal(podMss(settle({})), 1440);
  assert.equal(podMss(settle({}), "ipv6"), 1400);
  assert.equal(podMss(settle({ encapsulate: "first" })), undefined);
  assert.equal(podMss(settle({ lowerMss: false })), undefined);
});

test("a node's configuration takes keys for all nodes and for one", () => {
  const plan = planLab(
    settle({
      name: "x",
      acceleration: "off",
      config: { conntrack: { udp: "5s" }, tables: { services: 32 } },
      nodeConfig: { node2: { conntrack: { tcpSyn: "9s" }, acceleration: "generic" } },
    }),
  );
  const config = nodeConfig(plan, nodeNamed(plan, "node2"));
  assert.deepEqual(config["conntrack"], { udp: "5s", tcpSyn: "9s" });
  assert.deepEqual(config["tables"], { services: 32, backends: 65_536, ringEntries: 4_194_304 });
  assert.equal(config["acceleration"], "generic");
  assert.equal(nodeConfig(plan, nodeNamed(plan, "node1"))["acceleration"], "off");
  const { node, ipv6 } = config;
  assert.deepEqual(node, { name: "node2", address: "10.0.2.1", address6: "fd00:10:0:2::1" });
  assert.equal(ipv6, "auto");
  const four = planLab(settle({ name: "x", ipv6: false }));
  const without = nodeConfig(four, nodeNamed(four, "node2"));
  assert.deepEqual(
    [without["ipv6"], without["node"]],
    ["off", { name: "node2", address: "10.0.2.1" }],
  );
});

test("the lab's own files are what the agent reads, without a fault or a warning", () => {
  const plan = planLab(settle({ name: "x", nodes: 2, podsPerNode: 2, config: { hashSeed: 7 } }));
  for (const node of plan.nodes) {
    const { config } = parseConfig(dump(nodeConfig(plan, node)), "config.yaml");
    assert.equal(config.node.name, node.place.name);
    assert.equal(config.hashSeed, 7);
    assert.deepEqual(config.manifests, [node.paths.manifests]);
  }
  const service = serviceDocuments(plan, {
    name: "web",
    addresses: ["198.51.100.1", "fd00:198:51:100::1"],
    externalIps: ["198.51.100.2", "fd00:198:51:100::2"],
    clusterIps: ["10.96.0.1", "fd00:10:96::1"],
    ports: [
      { name: "http", port: 80, targetPort: 8080 },
      { name: "dns", port: 53, targetPort: 5353, protocol: "UDP" },
    ],
    backends: ["pod1-1", "pod2-2"],
    spec: { externalTrafficPolicy: "Cluster" },
  });
  const documents = [...Object.values(clusterManifests(plan)).flat(), ...service];
  const objects = splitDocuments(manifestText(documents)).flatMap(readManifest);
  assert.deepEqual(
    objects.flatMap(({ faults, warnings }) => [...faults, ...warnings]),
    [],
  );
  assert.deepEqual(
    objects.map(({ id }) => id),
    [
      ...["Node node1", "Node node2"],
      ...["Pod default/pod1-1", "Pod default/pod1-2", "Pod default/pod2-1", "Pod default/pod2-2"],
      ...[
        "Service default/web",
        "EndpointSlice default/web-ipv4",
        "EndpointSlice default/web-ipv6",
      ],
    ],
  );
});

test("manifests are Kubernetes objects", () => {
  const plan = planLab(settle({ name: "x", nodes: 2, podsPerNode: 1 }));
  const { "nodes.yaml": nodes, "pods.yaml": pods } = clusterManifests(plan);
  assert.equal(nodes?.length, 2);
  assert.deepEqual(pods?.[1], {
    apiVersion: "v1",
    kind: "Pod",
    metadata: {
      name: "pod2-1",
      namespace: "default",
      annotations: {
        "ciliate.io/device": "pod2-1",
        "ciliate.io/mac": "02:c1:00:05:02:01",
        "ciliate.io/netns": "/run/netns/cil-x-pod2-1",
      },
    },
    spec: { nodeName: "node2" },
    status: {
      phase: "Running",
      podIP: "10.244.2.1",
      podIPs: [{ ip: "10.244.2.1" }, { ip: "fd00:10:244:2::1" }],
    },
  });
  const [service, slice] = serviceDocuments(plan, {
    name: "web",
    addresses: ["198.51.100.1"],
    ports: [{ port: 80, targetPort: 8080 }],
    backends: ["pod1-1", { pod: "pod2-1", ready: false, serving: true, terminating: true }],
  });
  assert.deepEqual(service?.["status"], { loadBalancer: { ingress: [{ ip: "198.51.100.1" }] } });
  assert.deepEqual(slice?.["ports"], [{ protocol: "TCP", port: 8080 }]);
  const endpoints = slice?.["endpoints"] as readonly { conditions: unknown }[];
  assert.deepEqual(
    endpoints.map(({ conditions }) => conditions),
    [
      { ready: true, serving: true, terminating: false },
      { ready: false, serving: true, terminating: true },
    ],
  );
  assert.deepEqual(load(JSON.stringify(slice)), slice);
  assert.throws(
    () => manifestPath(nodeNamed(plan, "node1"), "../x.yaml"),
    /no manifest's file name/,
  );
});
