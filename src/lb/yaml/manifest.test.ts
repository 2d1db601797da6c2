// SPDX-License-Identifier: Apache-2.0
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { formatIpv4 } from "../../net/address.ts";
import { formatMac } from "../../net/mac.ts";
import { formatPrefix } from "../../net/prefix.ts";
import { readManifest } from "./manifest.ts";
import { splitDocuments } from "./split.ts";

/** What a file came to, a line for each object and remark. */
function read(file: string): string[] {
  return splitDocuments(file).flatMap((document) =>
    readManifest(document).flatMap(({ id, line, content, faults, warnings }) => [
      `${line} ${id ?? "?"} ${content === undefined ? "no row" : "row"}`,
      ...faults.map((fault) => `  ${fault.line} fault ${fault.field}: ${fault.text}`),
      ...warnings.map((remark) => `  ${remark.line} warning ${remark.field}: ${remark.text}`),
    ]),
  );
}

/** The only row of a file. */
function rowOf(file: string): unknown {
  const [document] = splitDocuments(file);
  const [object] = document === undefined ? [] : readManifest(document);
  assert.deepEqual(object?.faults, []);
  return JSON.parse(
    JSON.stringify(object?.content?.row, (key, value) => {
      if (key === "address" && typeof value === "object") return formatPrefix(value);
      if (key === "address") return value === undefined ? value : formatIpv4(value);
      if (key === "addresses") return value.map(formatIpv4);
      if (key === "podPrefixes") return value.map(formatPrefix);
      if (key === "mac") return formatMac(value);
      return value;
    }),
  );
}

const SERVICE = `apiVersion: v1
kind: Service
metadata:
  name: web
  annotations:
    ciliate.io/maglev-table-size: "4084"
    someone.else/thing: x
spec:
  type: LoadBalancer
  externalIPs: [192.0.2.9]
  ports:
  - {name: http, port: 80, targetPort: 8080}
  - {name: dns, port: 53, protocol: UDP, targetPort: dns-udp}
status:
  loadBalancer:
    ingress:
    - ip: 192.0.2.10
    - ip: 192.0.2.9
    - hostname: lb.example.net
`;

const SLICE = `apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata:
  name: web-abc
  labels:
    kubernetes.io/service-name: web
  annotations:
    ciliate.io/weights: 10.0.1.10=200, *=50
addressType: IPv4
ports:
- {name: http, port: 8080}
endpoints:
- addresses: [10.0.1.10]
  nodeName: n1
- addresses: [10.0.1.11]
  conditions: {ready: false, terminating: true}
- addresses: [10.0.1.12]
  conditions: {ready: false, serving: true, terminating: true}
`;

test("a Service gives its addresses, sorted and each once, and its ports", () => {
  assert.deepEqual(rowOf(SERVICE), {
    key: "default/web",
    namespace: "default",
    name: "web",
    type: "LoadBalancer",
    families: ["ipv4"],
    addresses: ["192.0.2.9", "192.0.2.10"],
    clusterAddresses: [],
    ports: [
      { name: "http", port: 80, protocol: "tcp", nodePort: 0 },
      { name: "dns", port: 53, protocol: "udp", nodePort: 0 },
    ],
    policy: {
      externalLocal: false,
      internalLocal: false,
      affinityMs: 0,
      sourceDeny: false,
      publishNotReady: false,
    },
    healthCheckPort: 0,
    ringSize: 4084,
  });
});

test("an EndpointSlice gives conditions as Kubernetes means them, and weights", () => {
  const row = rowOf(SLICE) as { endpoints: object[] };
  assert.deepEqual(
    row.endpoints.map((endpoint) => Object.values(endpoint).join(" ")),
    [
      "10.0.1.10 true true false n1 200",
      "10.0.1.11 false false true  50",
      "10.0.1.12 false true true  50",
    ],
  );
});

test("a Pod gives its address, its node and how it is attached", () => {
  const pod = `{"apiVersion":"v1","kind":"Pod","metadata":{"name":"web-1","namespace":"shop",
    "annotations":{"ciliate.io/device":"lxc1","ciliate.io/mac":"02:00:00:00:00:0A",
    "ciliate.io/netns":"/run/netns/web-1"}},
    "spec":{"nodeName":"n1","containers":[{"name":"c"}]},"status":{"podIP":"10.0.1.10"}}`;
  assert.deepEqual(rowOf(pod), {
    key: "shop/web-1",
    addresses: ["10.0.1.10"],
    node: "n1",
    attachment: { device: "lxc1", mac: "02:00:00:00:00:0a", netns: "/run/netns/web-1" },
  });
});

test("a Pod gives the ports of its node that are its own", () => {
  const pod = (spec: string): string => `{"apiVersion":"v1","kind":"Pod",
    "metadata":{"name":"web-1"},"status":{"podIP":"10.0.1.10"},"spec":{"nodeName":"n1",${spec}}}`;
  const containers = `"containers":[{"ports":[{"containerPort":80,"hostPort":8080},
    {"containerPort":81},{"containerPort":53,"hostPort":53,"protocol":"UDP","hostIP":"10.0.0.1"}]},
    {"ports":[{"containerPort":82,"hostPort":8082,"hostIP":"0.0.0.0"}]}]`;
  const { hostPorts } = rowOf(pod(containers)) as { hostPorts: unknown };
  assert.deepEqual(hostPorts, [
    { port: 8080, podPort: 80, protocol: "tcp" },
    { port: 53, podPort: 53, protocol: "udp", address: "10.0.0.1" },
    { port: 8082, podPort: 82, protocol: "tcp" },
  ]);
  const own = rowOf(pod(`"hostNetwork":true,${containers}`)) as { hostPorts?: unknown };
  assert.equal(own.hostPorts, undefined);
});

test("a Node gives its internal addresses and its pods' prefixes", () => {
  const node = `apiVersion: v1
kind: Node
metadata: {name: n1}
spec: {podCIDRs: [10.0.1.0/24]}
status:
  addresses:
  - {type: Hostname, address: n1}
  - {type: InternalIP, address: 172.16.0.1}
`;
  assert.deepEqual(rowOf(node), {
    name: "n1",
    addresses: ["172.16.0.1"],
    podPrefixes: ["10.0.1.0/24"],
  });
});

test("good documents of a file apply beside bad ones, and lines are those of the file", () => {
  const bad = SERVICE.replace("name: web", "name: bad").replace("port: 80,", "port: 80808,");
  const broken = "kind: Service\nmetadata:\n  labels: {a: b}\n  name: broken\nspec: [\n";
  assert.deepEqual(
    read(`# all of it\n---\n${SERVICE}---\n# a bad one\n${bad}---\n${broken}---\n`),
    [
      "3 Service default/web row",
      "24 Service default/bad no row",
      "  35 fault spec.ports[0].port: expected a port number from 1 to 65535, got 80808",
      "44 Service default/broken no row",
      "  49 fault : not YAML: deficient indentation",
    ],
  );
});

test("a service's only port that is bad, or not there, is one fault", () => {
  const text = (ports: string): string => `apiVersion: v1
kind: Service
metadata: {name: web}
spec: {externalIPs: [192.0.2.9], ${ports}}
`;
  for (const [ports, fault] of [
    ["ports: [{port: 0}]", "spec.ports[0].port: expected a port number from 1 to 65535, got 0"],
    ["ports: http", 'spec.ports: expected a list, got "http"'],
    ["ports: []", "spec.ports: expected a port"],
    ["type: LoadBalancer", "spec.ports: expected a port"],
  ] as const) {
    assert.deepEqual(read(text(ports)), ["1 Service default/web no row", `  4 fault ${fault}`]);
  }
});

const SLIPS: readonly (readonly [what: string, from: string, to: string, fault: string])[] = [
  [
    "a field's name",
    "externalIPs",
    "externalIps",
    '10 fault spec.externalIps: unknown field "externalIps"; did you mean "externalIPs"?',
  ],
  [
    "a field nobody knows",
    "type: LoadBalancer",
    "colour: red",
    '9 fault spec.colour: unknown field "colour"',
  ],
  [
    "an address",
    "192.0.2.9]",
    "192.0.2.999]",
    '10 fault spec.externalIPs[0]: expected an IP address such as 10.0.0.1 or 2001:db8::1, got "192.0.2.999"',
  ],
  [
    "a multicast address",
    "192.0.2.9]",
    "224.0.0.1]",
    "10 fault spec.externalIPs[0]: loopback, multicast and broadcast addresses can't be a service's",
  ],
  [
    "a number for a text",
    "name: http",
    "name: 80",
    "12 fault spec.ports[0].name: expected a name of lower-case letters, digits and -, got 80",
  ],
  [
    "a text for a number",
    "port: 80",
    'port: "80"',
    '12 fault spec.ports[0].port: expected a port number from 1 to 65535, got "80"',
  ],
  [
    "a port left out",
    "port: 53, ",
    "",
    "13 fault spec.ports[1].port: expected a port number from 1 to 65535, got nothing",
  ],
  [
    "a port twice",
    "port: 53, protocol: UDP",
    "port: 80",
    "13 fault spec.ports[1]: the second port 80/tcp",
  ],
  [
    "a name twice",
    "name: dns",
    "name: http",
    '13 fault spec.ports[1].name: the second port with the name "http"',
  ],
  [
    "a name left out",
    "name: dns, ",
    "",
    "13 fault spec.ports[1].name: each of several ports needs a name",
  ],
  [
    "a protocol",
    "UDP",
    "ICMP",
    '13 fault spec.ports[1].protocol: expected TCP, UDP or SCTP, got "ICMP"',
  ],
  [
    "a ring size",
    '"4084"',
    '"4096"',
    '6 fault metadata.annotations["ciliate.io/maglev-table-size"]: expected one of 1021, 4084, 16336, 65344, 261376, 1045504, got "4096"',
  ],
  [
    "an annotation that isn't text",
    '"4084"',
    "4084",
    '6 fault metadata.annotations["ciliate.io/maglev-table-size"]: expected a text (put it in quotes), got 4084',
  ],
  [
    "an annotation of ours",
    "maglev-table-size",
    "maglev-tablesize",
    '6 fault metadata.annotations["ciliate.io/maglev-tablesize"]: annotation "ciliate.io/maglev-tablesize" means nothing here; did you mean "ciliate.io/maglev-table-size"?',
  ],
  [
    "a source range",
    "externalIPs: [192.0.2.9]",
    "loadBalancerSourceRanges: [198.51.100.0/33]",
    '10 fault spec.loadBalancerSourceRanges[0]: "198.51.100.0/33" is not an IPv4 prefix: expected a length of 0 to 32 after the slash',
  ],
  [
    "what source ranges are for",
    "ciliate.io/maglev-table-size",
    "service.cilium.io/src-ranges-policy",
    '6 fault metadata.annotations["service.cilium.io/src-ranges-policy"]: expected allow or deny, got "4084"',
  ],
  [
    "a forwarding mode",
    'ciliate.io/maglev-table-size: "4084"',
    "ciliate.io/forwarding-mode: nat",
    '6 fault metadata.annotations["ciliate.io/forwarding-mode"]: expected one of dsr, snat, hybrid, got "nat"',
  ],
  [
    "a forwarding mode of Cilium's",
    'ciliate.io/maglev-table-size: "4084"',
    "service.cilium.io/forwarding-mode: hybrid",
    '6 fault metadata.annotations["service.cilium.io/forwarding-mode"]: expected dsr or snat, got "hybrid"',
  ],
  [
    "an algorithm",
    'ciliate.io/maglev-table-size: "4084"',
    "ciliate.io/lb-algorithm: rr",
    '6 fault metadata.annotations["ciliate.io/lb-algorithm"]: expected maglev or random, got "rr"',
  ],
  [
    "a traffic policy",
    "type: LoadBalancer",
    "externalTrafficPolicy: local",
    '9 fault spec.externalTrafficPolicy: expected Cluster or Local, got "local"',
  ],
  [
    "session affinity",
    "type: LoadBalancer",
    "sessionAffinity: Cookie",
    '9 fault spec.sessionAffinity: expected None or ClientIP, got "Cookie"',
  ],
  [
    "a session's length",
    "type: LoadBalancer",
    "sessionAffinityConfig: {clientIP: {timeoutSeconds: 90000}}",
    "9 fault spec.sessionAffinityConfig.clientIP.timeoutSeconds: expected seconds from 1 to 86400, got 90000",
  ],
  [
    "a kind",
    "kind: Service",
    "kind: Ingress",
    '2 fault kind: expected one of Service, EndpointSlice, Pod, Node, List, got "Ingress"',
  ],
  ["a version", "apiVersion: v1", "apiVersion: v2", '1 fault apiVersion: expected "v1", got "v2"'],
  [
    "a name that is none",
    "name: web",
    "name: Web_1",
    '4 fault metadata.name: expected a name of lower-case letters, digits, - and ., got "Web_1"',
  ],
  ["a list for a map", "status:\n", "status: []\nx:\n", '15 fault x: unknown field "x"'],
  [
    "a key twice",
    "kind: Service",
    "kind: Service\nkind: Service",
    '3 fault : the key "kind" is there twice',
  ],
];

for (const [what, from, to, fault] of SLIPS) {
  test(`a slip is told with its line and what was expected: ${what}`, () => {
    assert.ok(SERVICE.includes(from));
    const [head, ...remarks] = read(SERVICE.replace(from, to));
    assert.match(head ?? "", /no row$/);
    assert.ok(remarks.includes(`  ${fault}`), remarks.join("\n"));
  });
}

const SLICE_SLIPS: readonly (readonly [what: string, from: string, to: string, fault: string])[] = [
  [
    "no service",
    "kubernetes.io/service-name: web",
    "app: web",
    '5 fault metadata.labels["kubernetes.io/service-name"]: expected the name of the Service that the slice belongs to',
  ],
  ["a family", "IPv4", "FQDN", '9 fault addressType: expected IPv4 or IPv6, got "FQDN"'],
  [
    "an address",
    "10.0.1.11",
    "10.0.1",
    '15 fault endpoints[1].addresses[0]: expected an IP address such as 10.0.0.1 or 2001:db8::1, got "10.0.1"',
  ],
  [
    "a condition",
    "ready: false",
    "ready: no",
    '16 fault endpoints[1].conditions.ready: expected true or false, got "no"',
  ],
  [
    "a condition's name",
    "serving",
    "servicing",
    '18 fault endpoints[2].conditions.servicing: unknown field "servicing"; did you mean "serving"?',
  ],
  [
    "a weight",
    "=200",
    "=2000",
    '8 fault metadata.annotations["ciliate.io/weights"]: expected ADDRESS=WEIGHT pairs with weights of 0 to 1000, got "10.0.1.10=2000, *=50"',
  ],
];

for (const [what, from, to, fault] of SLICE_SLIPS) {
  test(`a slip in a slice is told with its line: ${what}`, () => {
    assert.ok(SLICE.includes(from));
    const remarks = read(SLICE.replace(from, to));
    assert.ok(remarks.includes(`  ${fault}`), remarks.join("\n"));
  });
}

test("a port of SCTP is one of the service's", () => {
  assert.deepEqual(read(SERVICE.replace("UDP", "SCTP")), ["1 Service default/web row"]);
});

test("a List is its items, each with its own place", () => {
  const list = `apiVersion: v1
kind: List
items:
- apiVersion: v1
  kind: Node
  metadata: {name: n1}
- apiVersion: v1
  kind: Node
  metadata: {name: n2}
  spec: {podCIDR: 10.0.0.1/24}
`;
  assert.deepEqual(read(list), [
    "4 Node n1 row",
    "7 Node n2 no row",
    '  10 fault items[1].spec.podCIDR: "10.0.0.1/24" has bits beyond its length: write 10.0.0.0/24',
  ]);
});

test("JSON documents are read as such, and a key that is there twice is a fault", () => {
  const node = '{"apiVersion": "v1", "kind": "Node",\n "metadata": {"name": "n1"}}\n';
  assert.deepEqual(read(`${node}---\n${node}`), ["1 Node n1 row", "4 Node n1 row"]);
  const twice = node.replace('"name": "n1"', '"name": "n1",\n\n"name": "n2"');
  assert.deepEqual(read(twice), ["1 ? no row", '  4 fault : the key "name" is there twice']);
  const texts = '["a", "a", {"a": {"a": ["a,{", "\\"a\\":"], "b": 1}, "b": "a"}]';
  assert.match(read(texts).join(), /expected a map with apiVersion, kind and metadata, got a list/);
});

test("files without documents have none", () => {
  for (const file of [
    "",
    "\n\n",
    "# only\n  # comments\n",
    "---\n---\n",
    "%YAML 1.2\n---\n# x\n",
    "...\n",
  ]) {
    assert.deepEqual(splitDocuments(file), []);
  }
  assert.equal(splitDocuments("---\r\na: 1\r\n---\r\nb: 2\r\n").length, 2);
  assert.equal(splitDocuments("a: |\n  --- not a marker\n  ---\n").length, 1);
});

test("a file cut off or changed anywhere gives objects and faults, never a throw", () => {
  const file = `${SERVICE}---\n${SLICE}`;
  fc.assert(
    fc.property(
      fc.nat(file.length),
      fc.constantFrom("", ":", "{", "\t", "- ", "&a", "*a"),
      (at, by) => {
        for (const text of [file.slice(0, at), file.slice(0, at) + by + file.slice(at + 1)]) {
          for (const { content, faults } of splitDocuments(text).flatMap(readManifest)) {
            assert.ok(content === undefined || faults.length === 0);
          }
        }
      },
    ),
  );
});
