// SPDX-License-Identifier: Apache-2.0
// Services in the shape that Kubernetes gives them, with the addresses of bench/world.ts.

import { formatIpv4, type Ipv4, parseIpv4 } from "../src/net/address.ts";
import { BACKENDS, BACKENDS_PER_SERVICE, SERVICE_PORT, TARGET_PORT, VIPS } from "./world.ts";

const NODES = 100;
const FIRST_NODE = parseIpv4("10.200.0.1");

const nodeName = (number: number): string => `bench-node${number % NODES}`;

/** The nodes that backends are on. */
export function nodesText(): string {
  const documents = Array.from(
    { length: NODES },
    (_, number) => `apiVersion: v1
kind: Node
metadata:
  name: ${nodeName(number)}
status:
  addresses:
    - type: InternalIP
      address: ${formatIpv4((FIRST_NODE + number) as Ipv4)}
`,
  );
  return documents.join("---\n");
}

/** The manifest of service `index`: a LoadBalancer service with one port. */
export function serviceText(index: number): string {
  return `apiVersion: v1
kind: Service
metadata:
  name: s${index}
  namespace: bench
  labels:
    app: s${index}
spec:
  type: LoadBalancer
  selector:
    app: s${index}
  ports:
    - name: http
      port: ${SERVICE_PORT}
      targetPort: ${TARGET_PORT}
      protocol: TCP
status:
  loadBalancer:
    ingress:
      - ip: ${formatIpv4((VIPS + index) as Ipv4)}
`;
}

/** A slice of service `index` with the backends from number `from` to before `to`. */
export function sliceText(
  index: number,
  from = 0,
  to = BACKENDS_PER_SERVICE,
  name = `s${index}-${from}`,
): string {
  const endpoints = Array.from({ length: to - from }, (_, offset) => {
    const pod = index * BACKENDS_PER_SERVICE + from + offset;
    return `  - addresses:
      - ${formatIpv4((BACKENDS + pod) as Ipv4)}
    conditions:
      ready: true
      serving: true
      terminating: false
    nodeName: ${nodeName(pod)}
    targetRef:
      kind: Pod
      name: s${index}-${from + offset}
      namespace: bench
`;
  });
  return `apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata:
  name: ${name}
  namespace: bench
  labels:
    kubernetes.io/service-name: s${index}
addressType: IPv4
endpoints:${endpoints.length === 0 ? " []" : ""}
${endpoints.join("")}ports:
  - name: http
    port: ${TARGET_PORT}
    protocol: TCP
`;
}

/** Services `from` to before `to` as one file, each with its backends up to `backends`. */
export function manifestOf(
  from: number,
  to: number,
  backends: (index: number) => number = () => BACKENDS_PER_SERVICE,
): string {
  const documents: string[] = [];
  for (let index = from; index < to; index++) {
    documents.push(serviceText(index), sliceText(index, 0, backends(index)));
  }
  return documents.join("---\n");
}
