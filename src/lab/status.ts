// SPDX-License-Identifier: Apache-2.0
// All that a lab has, as it is now.

import { existsSync } from "node:fs";
import { cgroupPath, cgroupPids } from "../kernel/cgroup.ts";
import { listAddresses } from "../kernel/netlink/address.ts";
import { type Link, listLinks } from "../kernel/netlink/link.ts";
import { openNetlink } from "../kernel/netlink/socket.ts";
import { isNamespace, namespaceInode, namespacePath } from "../kernel/netns.ts";
import { formatIpv4, formatIpv6 } from "../net/address.ts";
import { formatMac } from "../net/mac.ts";
import { formatPrefix } from "../net/prefix.ts";
import { type LabPlan, type Place, placesOf, type Wire } from "./plan.ts";
import { isAlive } from "./process.ts";
import type { LabState } from "./state.ts";

export interface DeviceStatus {
  readonly name: string;
  readonly index: number;
  readonly mac: string | null;
  readonly mtu: number;
  readonly up: boolean;
  readonly addresses: readonly string[];
  /** The other end of its wire, as PLACE/DEVICE. */
  readonly peer: string | null;
  readonly xdp: Link["xdp"]["mode"];
}

export interface PlaceStatus {
  readonly name: string;
  readonly role: Place["role"];
  readonly namespace: string;
  readonly path: string;
  /** As in /proc/PID/ns/net; null when the namespace is gone. */
  readonly inode: number | null;
  readonly devices: readonly DeviceStatus[];
  readonly cgroup: string;
  readonly pids: readonly number[];
}

export interface NodeStatus {
  readonly name: string;
  readonly address: string;
  /** Null, like all of IPv6's, in a lab without. */
  readonly address6: string | null;
  readonly podCidr: string;
  readonly podCidr6: string | null;
  readonly agent: { readonly pid: number; readonly running: boolean } | null;
  readonly socket: string;
  readonly config: string;
  readonly manifests: string;
  readonly log: string;
  readonly pins: string;
}

export interface PodStatus {
  readonly name: string;
  readonly node: string;
  readonly address: string;
  readonly address6: string | null;
  readonly namespaceId: number;
}

export interface LabStatus {
  readonly name: string;
  readonly phase: LabState["phase"];
  readonly acceleration: string;
  readonly encapsulate: string;
  readonly state: string;
  readonly client: string;
  readonly client6: string | null;
  readonly virtualIps: string;
  readonly virtualIps6: string | null;
  readonly nodes: readonly NodeStatus[];
  readonly pods: readonly PodStatus[];
  readonly places: readonly PlaceStatus[];
}

/** Where each wire leads, by "place/device". */
function peersOf(plan: LabPlan): Map<string, string> {
  const peers = new Map<string, string>();
  const add = ([a, b]: Wire): void => {
    peers.set(`${a.place}/${a.device}`, `${b.place}/${b.device}`);
    peers.set(`${b.place}/${b.device}`, `${a.place}/${a.device}`);
  };
  add(plan.clientWire);
  for (const node of plan.nodes) {
    add(node.wire);
    for (const pod of node.pods) add(pod.wire);
  }
  return peers;
}

function devicesOf(place: Place, peers: ReadonlyMap<string, string>): DeviceStatus[] {
  using netlink = openNetlink({ namespace: namespacePath(place.namespace) });
  const addresses = listAddresses(netlink);
  return listLinks(netlink).map((link) => ({
    name: link.name,
    index: link.index,
    mac: link.mac === undefined ? null : formatMac(link.mac),
    mtu: link.mtu,
    up: link.up,
    addresses: addresses
      .filter(({ device }) => device === link.index)
      .map(({ address }) => formatPrefix(address)),
    peer: peers.get(`${place.name}/${link.name}`) ?? null,
    xdp: link.xdp.mode,
  }));
}

function placeStatus(place: Place, peers: ReadonlyMap<string, string>): PlaceStatus {
  const path = namespacePath(place.namespace);
  const there = isNamespace(path);
  const cgroup = cgroupPath(place.cgroup);
  return {
    name: place.name,
    role: place.role,
    namespace: place.namespace,
    path,
    inode: there ? namespaceInode(path) : null,
    devices: there ? devicesOf(place, peers) : [],
    cgroup,
    pids: existsSync(cgroup) ? cgroupPids(cgroup) : [],
  };
}

/** Describes a lab. */
export function statusOf(plan: LabPlan, state: LabState): LabStatus {
  const peers = peersOf(plan);
  const six = (text: string): string | null => (plan.settings.ipv6 ? text : null);
  return {
    name: plan.settings.name,
    phase: state.phase,
    acceleration: plan.settings.acceleration,
    encapsulate: plan.settings.encapsulate,
    state: plan.state,
    client: formatIpv4(plan.clientAddress.address),
    client6: six(formatIpv6(plan.clientAddress6.address)),
    virtualIps: formatPrefix(plan.virtualIps),
    virtualIps6: six(formatPrefix(plan.virtualIps6)),
    nodes: plan.nodes.map((node) => {
      const agent = state.agents[node.place.name];
      const { socket, config, manifests, log, pins } = node.paths;
      return {
        name: node.place.name,
        address: formatIpv4(node.address.address),
        address6: six(formatIpv6(node.address6.address)),
        podCidr: formatPrefix(node.podCidr),
        podCidr6: six(formatPrefix(node.podCidr6)),
        agent: agent === undefined ? null : { pid: agent.pid, running: isAlive(agent) },
        ...{ socket, config, manifests, log, pins },
      };
    }),
    pods: plan.nodes.flatMap(({ pods }) =>
      pods.map((pod) => ({
        name: pod.place.name,
        node: pod.node,
        address: formatIpv4(pod.address),
        address6: six(formatIpv6(pod.address6)),
        namespaceId: pod.namespaceId,
      })),
    ),
    places: placesOf(plan).map((place) => placeStatus(place, peers)),
  };
}
