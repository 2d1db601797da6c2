// SPDX-License-Identifier: Apache-2.0
// Services in the shape that Kubernetes gives them, with the addresses of bench/world.ts.

import { formatIpv4, type Ipv4 } from "../src/net/address.ts";
import { BACKENDS, BACKENDS_PER_SERVICE, SERVICE_PORT, TARGET_PORT, VIPS } from "./world.ts";

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
    nodeName: node${2 + (pod % 100)}
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

/** Services `from` to before `to`, each with all its backends, as one file. */
export function manifestOf(from: number, to: number): string {
  const documents: string[] = [];
  for (let index = from; index < to; index++) documents.push(serviceText(index), sliceText(index));
  return documents.join("---\n");
}
