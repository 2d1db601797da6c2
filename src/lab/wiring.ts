// SPDX-License-Identifier: Apache-2.0
// Makes a lab's namespaces, wires, addresses and routes.

import { addAddress } from "../kernel/netlink/address.ts";
import { type Features, GRO, openEthtool, TX_CHECKSUMS } from "../kernel/netlink/ethtool.ts";
import { createVeth, listLinks, setLink, withNamespaces } from "../kernel/netlink/link.ts";
import { addNamespaceId } from "../kernel/netlink/namespace-id.ts";
import { setNeighbour } from "../kernel/netlink/neighbour.ts";
import { addRoute, type RouteSpec, replaceRoute } from "../kernel/netlink/route.ts";
import { openNetlink, type Request } from "../kernel/netlink/socket.ts";
import { createNamespace, namespacePath } from "../kernel/netns.ts";
import { writeSysctls } from "../kernel/sysctl.ts";
import { hostPrefix, parsePrefix } from "../net/prefix.ts";
import {
  LabError,
  type LabPlan,
  type NodePlan,
  type Place,
  POD_GATEWAY,
  type PodPlan,
  placesOf,
  podMss,
  type Wire,
} from "./plan.ts";
import { receiveFromXdp } from "./receive.ts";

const DEFAULT_ROUTE = parsePrefix("0.0.0.0/0");
const LOOSE_REVERSE_PATH = 2;

/** Finds devices of one namespace by name. */
type Devices = (name: string) => number;

function sysctlsOf(place: Place): Record<string, number> {
  // No IPv6 yet: without it no neighbour discovery runs between the packets of a capture.
  const quiet = { "net/ipv6/conf/all/disable_ipv6": 1, "net/ipv6/conf/default/disable_ipv6": 1 };
  if (place.role === "client" || place.role === "pod") return quiet;
  // Answers of direct server return come from where no route leads.
  const reversePath = place.role === "switch" ? 0 : LOOSE_REVERSE_PATH;
  return {
    ...quiet,
    "net/ipv4/ip_forward": 1,
    "net/ipv4/conf/all/rp_filter": reversePath,
    "net/ipv4/conf/default/rp_filter": reversePath,
    "net/ipv4/conf/all/send_redirects": 0,
    "net/ipv4/conf/default/send_redirects": 0,
    "net/ipv4/fib_multipath_hash_policy": 1,
  };
}

function allWires(plan: LabPlan): Wire[] {
  const nodes = plan.nodes.flatMap((node) => [node.wire, ...node.pods.map(({ wire }) => wire)]);
  return [plan.clientWire, ...nodes];
}

/** Lays every wire, and tells each node's namespace of its pods' namespaces by number. */
function layWires(plan: LabPlan): void {
  const places = placesOf(plan);
  const paths = places.map(({ namespace }) => namespacePath(namespace));
  withNamespaces(paths, (fds) => {
    const fdOf = new Map(places.map(({ name }, index) => [name, fds[index] ?? -1]));
    const at = (name: string): number => fdOf.get(name) ?? -1;
    // First, as a wire between two namespaces makes the kernel pick numbers.
    for (const node of plan.nodes) {
      using netlink = openNetlink({ namespace: namespacePath(node.place.namespace) });
      netlink.runAll(node.pods.map((pod) => addNamespaceId(at(pod.place.name), pod.namespaceId)));
    }
    using host = openNetlink();
    const { mtu } = plan.settings;
    host.runAll(
      allWires(plan).map(([a, b]) =>
        createVeth(
          { name: a.device, mac: a.mac, mtu, namespaceFd: at(a.place) },
          { name: b.device, mac: b.mac, mtu, namespaceFd: at(b.place) },
        ),
      ),
    );
  });
}

/** Brings up all devices of a namespace and runs what follows in one batch. */
function configure(place: Place, requests: (device: Devices) => Request[]): void {
  using netlink = openNetlink({ namespace: namespacePath(place.namespace) });
  const links = listLinks(netlink);
  const byName = new Map(links.map(({ name, index }) => [name, index]));
  const device = (name: string): number => {
    const index = byName.get(name);
    if (index === undefined) throw new LabError(`${place.namespace} has no device ${name}`);
    return index;
  };
  const up = links.map(({ index }) => setLink(index, { up: true }));
  netlink.runAll([...up, ...requests(device)]);
}

function configureClient(plan: LabPlan): void {
  configure(plan.client, (device) => {
    const eth0 = device(plan.clientWire[0].device);
    return [
      addAddress({ device: eth0, address: plan.clientAddress }),
      addRoute({ destination: DEFAULT_ROUTE, gateway: plan.clientGateway }),
    ];
  });
}

/** The switch's way to the virtual IPs: one node, or several by the flow's hash. */
function balancerRoute(plan: LabPlan, indexes: readonly number[], device: Devices): RouteSpec {
  const nodes = indexes.map((index) => {
    const node = plan.nodes[index - 1];
    if (node === undefined) throw new LabError(`lab ${plan.settings.name} has no node ${index}`);
    return node;
  });
  const hops = nodes.map(({ address, wire }) => ({
    gateway: address.address,
    device: device(wire[1].device),
    weight: 1,
  }));
  const [only, another] = hops;
  const destination = plan.virtualIps;
  if (only !== undefined && another === undefined) {
    return { destination, gateway: only.gateway, device: only.device };
  }
  return { destination, hops };
}

function configureSwitch(plan: LabPlan): void {
  configure(plan.switch, (device) => [
    addAddress({
      device: device(plan.clientWire[1].device),
      address: { address: plan.clientGateway, length: plan.clientAddress.length },
    }),
    ...plan.nodes.flatMap((node) => [
      addAddress({
        device: device(node.wire[1].device),
        address: { address: node.gateway, length: node.address.length },
      }),
      addRoute({ destination: node.podCidr, gateway: node.address.address }),
    ]),
    addRoute(balancerRoute(plan, plan.settings.balancers, device)),
  ]);
}

function podRequests(node: NodePlan, pod: PodPlan, device: Devices): Request[] {
  const [host, inside] = pod.wire;
  const index = device(host.device);
  const source = node.address.address;
  return [
    addRoute({ destination: hostPrefix(pod.address), device: index, source }),
    setNeighbour(index, pod.address, inside.mac),
  ];
}

function configureNode(plan: LabPlan, node: NodePlan): void {
  configure(node.place, (device) => [
    addAddress({ device: device(node.wire[0].device), address: node.address }),
    addRoute({ destination: DEFAULT_ROUTE, gateway: node.gateway }),
    // What is for nobody here must not go back to the switch, which would send it here again.
    addRoute({ destination: node.podCidr, type: "unreachable" }),
    addRoute({ destination: plan.virtualIps, type: "unreachable" }),
    ...node.pods.flatMap((pod) => podRequests(node, pod, device)),
  ]);
}

function configurePod(pod: PodPlan, mss: number | undefined): void {
  const [host, inside] = pod.wire;
  configure(pod.place, (device) => {
    const eth0 = device(inside.device);
    return [
      addAddress({ device: eth0, address: hostPrefix(pod.address) }),
      setNeighbour(eth0, POD_GATEWAY, host.mac),
      addRoute({
        destination: DEFAULT_ROUTE,
        gateway: POD_GATEWAY,
        device: eth0,
        onLink: true,
        ...(mss === undefined ? {} : { advmss: mss }),
      }),
    ];
  });
}

function setFeatures(place: Place, features: Readonly<Record<string, Features>>): void {
  using ethtool = openEthtool(namespacePath(place.namespace));
  for (const [device, wanted] of Object.entries(features)) ethtool.setFeatures(device, wanted);
}

/**
 * Makes wires behave like wires where XDP is: what comes in has its checksums filled and is cut
 * to segments, as its sender offloads nothing; and what XDP sends out is received, which a veth
 * does only when it polls (NAPI, by way of GRO) for what is redirected, and with an XDP program of
 * its own for what is sent back.
 */
function tameOffloads(plan: LabPlan): void {
  if (plan.settings.acceleration === "off") return;
  const port: Features = {
    ...Object.fromEntries(TX_CHECKSUMS.map((feature) => [feature, false])),
    [GRO]: true,
  };
  const ports = plan.nodes.map(({ wire }) => [wire[1].device, port]);
  setFeatures(plan.switch, Object.fromEntries(ports));
  for (const pod of plan.nodes.flatMap(({ pods }) => pods)) {
    setFeatures(pod.place, { [pod.wire[1].device]: { [GRO]: true } });
  }
  receiveFromXdp(plan);
}

/** Makes all namespaces of a lab with everything in them; what is made when it fails stays. */
export function wireUp(plan: LabPlan): void {
  for (const place of placesOf(plan)) {
    const path = createNamespace(place.namespace);
    writeSysctls(sysctlsOf(place), path);
  }
  layWires(plan);
  configureClient(plan);
  configureSwitch(plan);
  const mss = podMss(plan.settings);
  for (const node of plan.nodes) {
    configureNode(plan, node);
    for (const pod of node.pods) configurePod(pod, mss);
  }
  tameOffloads(plan);
}

/** Changes which nodes, by number from 1, the switch sends the virtual IPs' packets to. */
export function routeVirtualIps(plan: LabPlan, balancers: readonly number[]): void {
  using netlink = openNetlink({ namespace: namespacePath(plan.switch.namespace) });
  const byName = new Map(listLinks(netlink).map(({ name, index }) => [name, index]));
  const route = balancerRoute(plan, balancers, (name) => byName.get(name) ?? 0);
  netlink.run(replaceRoute(route));
}
