// SPDX-License-Identifier: Apache-2.0
// A network namespace with uplinks, pods' devices, routes and neighbours for programs that run in
// it on test packets, and the same seen by the model.

import { once } from "node:events";
import { addAddress } from "../../src/kernel/netlink/address.ts";
import { createVeth, listLinks, setLink, withNamespaces } from "../../src/kernel/netlink/link.ts";
import { addNamespaceId } from "../../src/kernel/netlink/namespace-id.ts";
import { setNeighbour } from "../../src/kernel/netlink/neighbour.ts";
import { addRoute, getRoute } from "../../src/kernel/netlink/route.ts";
import { type Netlink, openNetlink } from "../../src/kernel/netlink/socket.ts";
import {
  createNamespace,
  deleteNamespace,
  inNamespace,
  spawnInNamespace,
} from "../../src/kernel/netns.ts";
import { openPacketSocket, type PacketSocket } from "../../src/kernel/packet-socket.ts";
import { writeSysctls } from "../../src/kernel/sysctl.ts";
import type { Ipv4, Ipv6 } from "../../src/net/address.ts";
import { readMac } from "../../src/net/mac.ts";
import { hostPrefix, parsePrefix, prefixContains, prefixOf } from "../../src/net/prefix.ts";
import type { Address } from "../model/family.ts";
import type { Input, Route, SocketQuery, SocketState, Surroundings } from "../model/node.ts";
import { waitFor } from "../packets/wait.ts";
import { narrow, widen, widenLength, widenPrefix } from "../wide/address.ts";
import {
  CLIENTS,
  DIRECT_SOCKETS,
  GATEWAYS,
  type Gateway,
  LISTENING_PODS,
  LISTENING_PORTS,
  MTU,
  NODE_MACS,
  NODES,
  nodeMac,
  OWN_SOCKETS,
  PODS,
  podDevice,
  podMac,
  ROUTES,
  SOCKETS,
  SOCKETS_NETNS,
  UPLINK_ADDRESSES,
  UPLINK_MACS,
  UPLINKS,
  WAITING_SOCKETS,
} from "./places.ts";

/** Ethernet and a VLAN tag: what the kernel adds to an MTU to judge a frame. */
const LINK_HEADERS = 18;

/** A copy of a packet that went back to a node, by the uplink's name. */
export interface SentNote {
  readonly device: string;
  readonly frame: Uint8Array;
}

export interface World {
  /** The namespace, by path. */
  readonly path: string;
  /** Index of a device by name. */
  readonly devices: ReadonlyMap<string, number>;
  readonly around: Surroundings;
  /** The notes that have been sent since the last call, by the name of the uplink. */
  sentNotes(): SentNote[];
  /** Calls `action`, which isn't async, in the namespace. */
  run<T>(action: () => T): T;
  close(): void;
}

/** A device's index. */
export function deviceOf(world: World, name: string): number {
  const index = world.devices.get(name);
  if (index === undefined) throw new Error(`the world has no device ${name}`);
  return index;
}

let serial = 0;

/** Makes the namespaces; they go with close(). */
export async function openWorld(): Promise<World> {
  serial += 1;
  const name = `ciliate-model-${process.pid}-${serial}`;
  const names = [name, `${name}-pods`];
  const close = (): void => names.forEach(deleteNamespace);
  try {
    const path = createNamespace(name);
    const podsPath = createNamespace(`${name}-pods`);
    const devices = makeDevices(path, podsPath);
    await addLoopback(podsPath);
    const holders = [await holdSockets(podsPath, "pods"), await holdSockets(path, "node")];
    const sockets = UPLINKS.map((device) => ({ device, socket: openPacketSocket(device, path) }));
    return {
      sentNotes: () => sockets.flatMap(({ device, socket }) => readNotes(device, socket)),
      path,
      devices,
      around: surroundings(devices),
      run: (action) => inNamespace(path, action),
      close: () => {
        for (const end of holders) end();
        for (const { socket } of sockets) socket.close();
        close();
      },
    };
  } catch (error) {
    close();
    throw error;
  }
}

/** IPv6, at once or behind extension headers. */
const OUTER_NEXT: ReadonlySet<number> = new Set([41, 43, 44, 60]);

/** What has an outer header alone: the kernel itself sends ARP and neighbour discovery. */
function readNotes(device: string, socket: PacketSocket): SentNote[] {
  const notes: SentNote[] = [];
  for (let frame = socket.receive(); frame !== undefined; frame = socket.receive()) {
    const isIpip = frame[12] === 0x08 && frame[13] === 0 && frame[23] === 4;
    const isWide = frame[12] === 0x86 && frame[13] === 0xdd && OUTER_NEXT.has(frame[20] ?? 0);
    if (isIpip || isWide) notes.push({ device, frame });
  }
  return notes;
}

/** IPv6 forwards, but asks nobody on its own account. */
const QUIET_IPV6 = {
  "net/ipv6/conf/all/forwarding": 1,
  "net/ipv6/conf/default/forwarding": 1,
  // No link-local addresses.
  "net/ipv6/conf/default/addr_gen_mode": 1,
};

/** Makes what the world has, and gives the devices' indexes by name. */
function makeDevices(path: string, podsPath: string): ReadonlyMap<string, number> {
  writeSysctls({ "net/ipv4/ip_forward": 1, ...QUIET_IPV6 }, path);
  using netlink = openNetlink({ namespace: path });
  netlink.runAll(
    UPLINKS.map((name) => createVeth({ name, mac: UPLINK_MACS[name] }, { name: `${name}p` })),
  );
  withNamespaces([podsPath], ([namespaceFd = -1]) => {
    netlink.run(addNamespaceId(namespaceFd, SOCKETS_NETNS));
    const pods = PODS.map((_, pod) => ({ name: podDevice(pod), mac: nodeMac(pod) }));
    netlink.runAll(
      pods.map((spec, pod) => createVeth(spec, { ...spec, mac: podMac(pod), namespaceFd })),
    );
  });
  const links = listLinks(netlink);
  const devices = new Map(links.map(({ name, index }) => [name, index]));
  const at = (name: string): number => devices.get(name) ?? 0;
  netlink.runAll(links.map(({ index }) => setLink(index, { up: true })));
  for (const name of UPLINKS) {
    netlink.run(setLink(at(name), { mtu: MTU[name] }));
    netlink.run(addAddress({ device: at(name), address: UPLINK_ADDRESSES[name] }));
    const { address, length } = UPLINK_ADDRESSES[name];
    const wide = { address: widen(address), length: widenLength(length) };
    netlink.run(addAddress({ device: at(name), address: wide, duplicateDetection: false }));
  }
  addWays(netlink, at);
  return devices;
}

function addWays(netlink: Netlink, at: (name: string) => number): void {
  for (const { device, address, mac } of GATEWAYS) {
    if (mac === undefined) continue;
    netlink.run(setNeighbour(at(device), address, mac));
    netlink.run(setNeighbour(at(device), widen(address), mac));
  }
  for (const [node, mac] of NODE_MACS.entries()) {
    const address = NODES[node];
    if (address === undefined) continue;
    netlink.run(setNeighbour(at("up0"), address, mac));
    netlink.run(setNeighbour(at("up0"), widen(address), mac));
  }
  for (const { to, gateway } of ROUTES) {
    const { address, device } = gateway;
    netlink.run(addRoute({ destination: to, gateway: address, device: at(device) }));
    const wide = { destination: widenPrefix(to), gateway: widen(address) };
    netlink.run(addRoute({ ...wide, device: at(device) }));
  }
}

/** The pods' namespace has the addresses of both ends of their sockets. */
async function addLoopback(path: string): Promise<void> {
  using netlink = openNetlink({ namespace: path });
  const loopback = 1;
  netlink.run(setLink(loopback, { up: true }));
  for (const address of [...CLIENTS.slice(0, 3), ...PODS]) {
    netlink.run(addAddress({ device: loopback, address: hostPrefix(address) }));
    const wide = hostPrefix(widen(address));
    netlink.run(addAddress({ device: loopback, address: wide, duplicateDetection: false }));
  }
  // The kernel routes to an address of IPv6 a little after it has it.
  const isRouted = (address: Ipv4): boolean => {
    try {
      return getRoute(netlink, { destination: widen(address) }).type === "local";
    } catch {
      return false;
    }
  };
  await waitFor(() => [...CLIENTS.slice(0, 3), ...PODS].every(isRouted), "a route to pods");
}

/** Has sockets made in a namespace; gives what closes them. */
async function holdSockets(path: string, whose: "pods" | "node"): Promise<() => void> {
  const script = new URL("./hold-sockets.ts", import.meta.url).pathname;
  const holder = spawnInNamespace(path, process.execPath, [script, whose], {
    stdio: ["pipe", "pipe", "inherit"],
  });
  if (holder.stdout === null) throw new Error("the holder of sockets has no output");
  const [first] = await Promise.race([once(holder.stdout, "data"), once(holder, "exit")]);
  if (String(first) !== "ready\n") throw new Error("the holder of sockets ended before its time");
  return () => holder.kill();
}

function surroundings(devices: ReadonlyMap<string, number>): Surroundings {
  return {
    route: ({ source, destination, input, bytes }) =>
      isForwarded(source) ? routeTo(destination, input, bytes, devices) : undefined,
    isForDevice: ({ ifindex, frame }) =>
      UPLINKS.some((name) => devices.get(name) === ifindex && readMac(frame) === UPLINK_MACS[name]),
    // A test run can't say of what kind a GSO packet is, and helpers refuse those.
    refusesRoom: ({ gsoSize }) => gsoSize !== 0,
    // The node's own are none that are connected.
    socket: (query) => (query.netns === SOCKETS_NETNS ? socketFor(narrowed(query)) : undefined),
    hasOwnSocket: ({ protocol, destinationPort }) =>
      destinationPort === (protocol === 6 ? OWN_SOCKETS.tcp : OWN_SOCKETS.udp),
  };
}

function routeTo(
  destination: Address,
  input: Input,
  bytes: number | undefined,
  devices: ReadonlyMap<string, number>,
): Route | undefined {
  const hop =
    typeof destination === "number"
      ? nextHopTo(destination as Ipv4)
      : wideNextHopTo(destination as Ipv6);
  if (hop === undefined) return undefined;
  const ifindex = devices.get(hop.device) ?? 0;
  const mtu = MTU[hop.device];
  // Told no size, it looks at the packet as it is before it is changed; what is too big has no
  // neighbour.
  const isTooBig =
    bytes === undefined
      ? input.gsoSize === 0 && input.frame.length > mtu + LINK_HEADERS
      : bytes > mtu;
  if (hop.mac === undefined || isTooBig) return { ifindex, mtu };
  return { ifindex, mtu, macs: { destination: hop.mac, source: UPLINK_MACS[hop.device] } };
}

function nextHopTo(destination: Ipv4): Gateway | undefined {
  for (const device of UPLINKS) {
    const { address, length } = UPLINK_ADDRESSES[device];
    const network = prefixOf(address, length);
    if (!prefixContains(network, destination)) continue;
    const isHost = destination !== address && destination !== (network.address | 255) >>> 0;
    const gateway = GATEWAYS.find((one) => one.address === destination);
    const mac = gateway?.mac ?? NODE_MACS[NODES.indexOf(destination)];
    return isHost ? { device, address: destination, mac } : undefined;
  }
  return ROUTES.find(({ to }) => prefixContains(to, destination))?.gateway;
}

/** The FIB forwards for no multicast, link-local or loopback address of IPv6. */
const LOCAL_PREFIXES = ["ff00::/8", "fe80::/10", "::1/128"].map(parsePrefix);

function isForwarded(address: Address): boolean {
  if (typeof address === "number") return true;
  return !LOCAL_PREFIXES.some((prefix) => prefixContains(prefix, address as Ipv6));
}

/** The same over IPv6, which knows no broadcast. */
function wideNextHopTo(destination: Ipv6): Gateway | undefined {
  const isOwn = UPLINKS.some((name) => widen(UPLINK_ADDRESSES[name].address) === destination);
  const isOnLink = UPLINKS.some((name) =>
    prefixContains(widenPrefix(UPLINK_ADDRESSES[name]), destination),
  );
  if (isOwn) return undefined;
  if (isOnLink) return nextHopTo(narrow(destination));
  return ROUTES.find(({ to }) => prefixContains(widenPrefix(to), destination))?.gateway;
}

/** One that is connected, seen from the peer that `source` is. */
function isDirect({ source, sourcePort, destination, destinationPort, protocol }: SocketQuery) {
  return DIRECT_SOCKETS.some((one) => {
    const ends = [
      { address: PODS[one.pod], port: one.port },
      { address: PODS[one.peer], port: one.peerPort },
    ] as const;
    // The peer's end of UDP isn't connected.
    const ways = one.protocol === 17 ? [ends] : [ends, ends.toReversed()];
    return ways.some(
      ([own, peer]) =>
        one.protocol === protocol &&
        own?.address === destination &&
        own.port === destinationPort &&
        peer?.address === source &&
        peer.port === sourcePort,
    );
  });
}

/** The same sockets are there for both families. */
function narrowed(query: SocketQuery): SocketQuery {
  const of = (address: Address): Address =>
    typeof address === "bigint" ? narrow(address as Ipv6) : address;
  return { ...query, source: of(query.source), destination: of(query.destination) };
}

function socketFor(query: SocketQuery): SocketState | undefined {
  if (isDirect(query)) return "other";
  const { source, sourcePort, destination, destinationPort, protocol } = query;
  if (protocol !== 6) return undefined;
  const established = SOCKETS.some(
    ({ pod, port, client, clientPort }) =>
      CLIENTS[client] === source &&
      clientPort === sourcePort &&
      PODS[pod] === destination &&
      port === destinationPort,
  );
  if (established) return "other";
  const waits = WAITING_SOCKETS.some(
    (one) =>
      one.protocol === protocol && one.port === destinationPort && PODS[one.pod] === destination,
  );
  if (waits) return "listening";
  const listens =
    LISTENING_PODS.some((pod) => PODS[pod] === destination) &&
    LISTENING_PORTS.some((port) => port === destinationPort);
  return listens ? "listening" : undefined;
}
