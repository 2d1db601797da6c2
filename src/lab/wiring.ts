// SPDX-License-Identifier: Apache-2.0
// Makes a lab's namespaces, wires, addresses and routes.

import { addAddress } from "../kernel/netlink/address.ts";
import { type Features, GRO, openEthtool, TX_CHECKSUMS } from "../kernel/netlink/ethtool.ts";
import { withLength } from "../kernel/netlink/family.ts";
import { createVeth, listLinks, setLink, withNamespaces } from "../kernel/netlink/link.ts";
import { addNamespaceId } from "../kernel/netlink/namespace-id.ts";
import { setNeighbour } from "../kernel/netlink/neighbour.ts";
import { addRoute, type RouteSpec, replaceRoute } from "../kernel/netlink/route.ts";
import { openNetlink, type Request } from "../kernel/netlink/socket.ts";
import { createNamespace, namespacePath } from "../kernel/netns.ts";
import { writeSysctls } from "../kernel/sysctl.ts";
import type { Address, Family } from "../net/address.ts";
import { hostPrefix, isPrefix4, type Prefix, parsePrefix } from "../net/prefix.ts";
import {
  LabError,
  type LabPlan,
  type NodePlan,
  type Place,
  POD_GATEWAY,
  POD_GATEWAY6,
  type PodPlan,
  placesOf,
  podMss,
  type Wire,
} from "./plan.ts";
import { receiveFromXdp } from "./receive.ts";

const LOOSE_REVERSE_PATH = 2;

/** Finds devices of one namespace by name. */
type Devices = (name: string) => number;

/** The addresses of one family. */
interface Addresses {
  readonly family: Family;
  readonly defaultRoute: Prefix;
  readonly virtualIps: Prefix;
  readonly client: Prefix;
  readonly clientGateway: Address;
  readonly podGateway: Address;
  readonly pod: (pod: PodPlan) => Address;
  readonly node: (node: NodePlan) => {
    readonly address: Prefix;
    readonly gateway: Address;
    readonly podCidr: Prefix;
  };
}

/** What a lab has, one family after the other. */
function familiesOf(plan: LabPlan): Addresses[] {
  const ipv4: Addresses = {
    family: "ipv4",
    defaultRoute: parsePrefix("0.0.0.0/0"),
    virtualIps: plan.virtualIps,
    client: plan.clientAddress,
    clientGateway: plan.clientGateway,
    podGateway: POD_GATEWAY,
    pod: ({ address }) => address,
    node: (node) => node,
  };
  const ipv6: Addresses = {
    family: "ipv6",
    defaultRoute: parsePrefix("::/0"),
    virtualIps: plan.virtualIps6,
    client: plan.clientAddress6,
    clientGateway: plan.clientGateway6,
    podGateway: POD_GATEWAY6,
    pod: ({ address6 }) => address6,
    node: ({ address6, gateway6, podCidr6 }) => ({
      address: address6,
      gateway: gateway6,
      podCidr: podCidr6,
    }),
  };
  return plan.settings.ipv6 ? [ipv4, ipv6] : [ipv4];
}

function give(device: number, address: Prefix): Request {
  return addAddress(
    isPrefix4(address) ? { device, address } : { device, address, duplicateDetection: false },
  );
}

function sysctlsOf(plan: LabPlan, place: Place): Record<string, number> {
  const six = plan.settings.ipv6 ? 0 : 1;
  const quiet = {
    "net/ipv6/conf/all/disable_ipv6": six,
    "net/ipv6/conf/default/disable_ipv6": six,
    // Nobody waits for an answer to whether somebody else has the same address, or for a router.
    "net/ipv6/conf/default/accept_dad": 0,
    "net/ipv6/conf/default/router_solicitations": 0,
  };
  if (place.role === "client" || place.role === "pod") return quiet;
  // Answers of direct server return come from where no route leads.
  const reversePath = place.role === "switch" ? 0 : LOOSE_REVERSE_PATH;
  return {
    ...quiet,
    "net/ipv6/conf/all/forwarding": 1,
    "net/ipv6/conf/default/forwarding": 1,
    "net/ipv6/fib_multipath_hash_policy": 1,
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
    return familiesOf(plan).flatMap(({ client, clientGateway, defaultRoute }) => [
      give(eth0, client),
      addRoute({ destination: defaultRoute, gateway: clientGateway }),
    ]);
  });
}

/** The switch's way to the virtual IPs: one node, or several by the flow's hash. */
function balancerRoute(
  plan: LabPlan,
  addresses: Addresses,
  indexes: readonly number[],
  device: Devices,
): RouteSpec {
  const nodes = indexes.map((index) => {
    const node = plan.nodes[index - 1];
    if (node === undefined) throw new LabError(`lab ${plan.settings.name} has no node ${index}`);
    return node;
  });
  const hops = nodes.map((node) => ({
    gateway: addresses.node(node).address.address,
    device: device(node.wire[1].device),
    weight: 1,
  }));
  const [only, another] = hops;
  const destination = addresses.virtualIps;
  if (only !== undefined && another === undefined) {
    return { destination, gateway: only.gateway, device: only.device };
  }
  return { destination, hops };
}

function configureSwitch(plan: LabPlan): void {
  const ofFamily = (addresses: Addresses, device: Devices): Request[] => [
    give(
      device(plan.clientWire[1].device),
      withLength(addresses.clientGateway, addresses.client.length),
    ),
    ...plan.nodes.flatMap((node) => {
      const { address, gateway, podCidr } = addresses.node(node);
      return [
        give(device(node.wire[1].device), withLength(gateway, address.length)),
        addRoute({ destination: podCidr, gateway: address.address }),
      ];
    }),
    addRoute(balancerRoute(plan, addresses, plan.settings.balancers, device)),
  ];
  configure(plan.switch, (device) =>
    familiesOf(plan).flatMap((addresses) => ofFamily(addresses, device)),
  );
}

function configureNode(plan: LabPlan, node: NodePlan): void {
  const ofFamily = (addresses: Addresses, device: Devices): Request[] => {
    const { address, gateway, podCidr } = addresses.node(node);
    return [
      give(device(node.wire[0].device), address),
      addRoute({ destination: addresses.defaultRoute, gateway }),
      // What is for nobody here must not go back to the switch, which would send it here again.
      addRoute({ destination: podCidr, type: "unreachable" }),
      addRoute({ destination: addresses.virtualIps, type: "unreachable" }),
      ...node.pods.flatMap((pod) => {
        const [host, inside] = pod.wire;
        const index = device(host.device);
        const to = addresses.pod(pod);
        return [
          addRoute({ destination: hostPrefix(to), device: index, source: address.address }),
          setNeighbour(index, to, inside.mac),
        ];
      }),
    ];
  };
  configure(node.place, (device) =>
    familiesOf(plan).flatMap((addresses) => ofFamily(addresses, device)),
  );
}

function configurePod(plan: LabPlan, pod: PodPlan): void {
  const [host, inside] = pod.wire;
  configure(pod.place, (device) => {
    const eth0 = device(inside.device);
    return familiesOf(plan).flatMap(({ family, defaultRoute, podGateway, pod: addressOf }) => {
      const mss = podMss(plan.settings, family);
      return [
        give(eth0, hostPrefix(addressOf(pod))),
        setNeighbour(eth0, podGateway, host.mac),
        addRoute({
          destination: defaultRoute,
          gateway: podGateway,
          device: eth0,
          onLink: true,
          ...(mss === undefined ? {} : { advmss: mss }),
        }),
      ];
    });
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
    writeSysctls(sysctlsOf(plan, place), path);
  }
  layWires(plan);
  configureClient(plan);
  configureSwitch(plan);
  for (const node of plan.nodes) {
    configureNode(plan, node);
    for (const pod of node.pods) configurePod(plan, pod);
  }
  tameOffloads(plan);
}

/** Changes which nodes, by number from 1, the switch sends the virtual IPs' packets to. */
export function routeVirtualIps(plan: LabPlan, balancers: readonly number[]): void {
  using netlink = openNetlink({ namespace: namespacePath(plan.switch.namespace) });
  const byName = new Map(listLinks(netlink).map(({ name, index }) => [name, index]));
  for (const addresses of familiesOf(plan)) {
    const route = balancerRoute(plan, addresses, balancers, (name) => byName.get(name) ?? 0);
    netlink.run(replaceRoute(route));
  }
}
