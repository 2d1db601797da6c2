// SPDX-License-Identifier: Apache-2.0
import type { Ipv4 } from "../../net/address.ts";
import { RING_SIZES } from "../maglev.ts";
import { objectKey, type Service, type ServicePortSpec } from "../rows.ts";
import type { Field } from "./field.ts";
import {
  ANNOTATIONS,
  readAddress,
  readAnnotations,
  readMeta,
  readPort,
  readPortName,
  readProtocol,
} from "./meta.ts";

const SPEC_KEYS: ReadonlySet<string> = new Set([
  "allocateLoadBalancerNodePorts",
  "clusterIP",
  "clusterIPs",
  "externalIPs",
  "externalName",
  "externalTrafficPolicy",
  "healthCheckNodePort",
  "internalTrafficPolicy",
  "ipFamilies",
  "ipFamilyPolicy",
  "loadBalancerClass",
  "loadBalancerIP",
  "loadBalancerSourceRanges",
  "ports",
  "publishNotReadyAddresses",
  "selector",
  "sessionAffinity",
  "sessionAffinityConfig",
  "trafficDistribution",
  "type",
]);

const PORT_KEYS: ReadonlySet<string> = new Set([
  "appProtocol",
  "name",
  "nodePort",
  "port",
  "protocol",
  "targetPort",
]);

const TYPES = ["ClusterIP", "NodePort", "LoadBalancer", "ExternalName"];

/** The most ports that one service can have; a limit against nonsense. */
const MAX_PORTS = 1000;

/** Reads a v1 Service; remarks go to the field's. */
export function readService(root: Field): Service | undefined {
  const meta = readMeta(root);
  const spec = root.get("spec").only(SPEC_KEYS);
  if (spec.absent) spec.refuse("a map");
  checkUnsupported(spec);
  const addresses = readAddresses(root);
  const list = spec.get("ports");
  const ports = readPorts(list);
  // Whatever else is wrong with the list has been told.
  const empty = list.absent || (Array.isArray(list.value) && list.value.length === 0);
  if (addresses.length > 0 && empty) list.fault("expected a port");
  const ringSize = readRingSize(root);
  if (meta === undefined) return undefined;
  const { namespace, name, createdMs } = meta;
  const type = spec.get("type").text() ?? "ClusterIP";
  return {
    key: objectKey(namespace, name),
    namespace,
    name,
    type,
    addresses,
    ports,
    ringSize,
    createdMs,
  };
}

/** Refuses what would be unsafe or surprising to leave out, and names what is left out. */
function checkUnsupported(spec: Field): void {
  const type = spec.get("type");
  if (!type.absent && !TYPES.includes(String(type.value)))
    type.refuse(`one of ${TYPES.join(", ")}`);
  if (type.value === "NodePort") type.warn("node ports are not served yet, external IPs are");
  const ranges = spec.get("loadBalancerSourceRanges");
  if (ranges.items().length > 0) {
    ranges.fault("source ranges are not supported yet, and the service would be open to all");
  }
  const affinity = spec.get("sessionAffinity");
  if (!affinity.absent && affinity.value !== "None") {
    affinity.fault('session affinity is not supported yet: expected "None"');
  }
  const policy = spec.get("externalTrafficPolicy");
  if (policy.value === "Local") {
    policy.warn("served like Cluster: the client's address is kept in any case");
  } else if (!policy.absent && policy.value !== "Cluster") policy.refuse("Cluster or Local");
}

function readAddresses(root: Field): Ipv4[] {
  const spec = root.get("spec");
  const fields = spec.get("externalIPs").items();
  if (spec.get("type").value === "LoadBalancer") {
    const wanted = spec.get("loadBalancerIP");
    if (!wanted.absent && wanted.value !== "") fields.push(wanted);
    for (const ingress of root.get("status").get("loadBalancer").get("ingress").items()) {
      const ip = ingress.get("ip");
      if (!ip.absent) fields.push(ip);
      else if (ingress.get("hostname").absent) ingress.refuse("an ip or a hostname");
    }
  }
  const found = new Set<Ipv4>();
  for (const field of fields) {
    const address = readAddress(field);
    if (address === undefined) continue;
    if (isServable(address)) found.add(address);
    else field.fault("loopback, multicast and broadcast addresses can't be a service's");
  }
  return [...found].sort((a, b) => a - b);
}

function isServable(address: Ipv4): boolean {
  const first = address >>> 24;
  return first !== 0 && first !== 127 && first < 224;
}

function readPorts(list: Field): ServicePortSpec[] {
  const items = list.items();
  if (items.length > MAX_PORTS) list.fault(`${items.length} ports: expected at most ${MAX_PORTS}`);
  const ports: ServicePortSpec[] = [];
  const names = new Set<string>();
  const numbers = new Set<string>();
  for (const item of items) {
    item.only(PORT_KEYS);
    const port = readPort(item.get("port"));
    const protocol = readProtocol(item.get("protocol"));
    const name = readPortName(item.get("name"));
    const target = item.get("targetPort");
    if (typeof target.value === "number") readPort(target);
    else target.text("a port number or a port's name");
    if (port === undefined || protocol === undefined || name === undefined) continue;
    if (name === "" && items.length > 1)
      item.get("name").fault("each of several ports needs a name");
    else if (names.has(name)) item.get("name").fault(`the second port with the name "${name}"`);
    if (numbers.has(`${port}/${protocol}`)) item.fault(`the second port ${port}/${protocol}`);
    names.add(name);
    numbers.add(`${port}/${protocol}`);
    ports.push({ name, port, protocol });
  }
  return ports;
}

function readRingSize(root: Field): number | undefined {
  const found = readAnnotations(root, [ANNOTATIONS.ringSize]).get(ANNOTATIONS.ringSize);
  if (found === undefined) return undefined;
  const size = Number(found.text);
  if (RING_SIZES.includes(size)) return size;
  return found.field.refuse(`one of ${RING_SIZES.join(", ")}`);
}
