// SPDX-License-Identifier: Apache-2.0

// The packet path of this node: maps, programs and devices, before anybody wants a service.

import { fileURLToPath } from "node:url";
import { DISPATCH_BYTES } from "../config/dispatch.ts";
import type { Config } from "../config/schema.ts";
import {
  type Attacher,
  createAttacher,
  type DeviceStatus,
  type UplinkDevice,
} from "../datapath/attach.ts";
import { attachSockets, type SocketStatus } from "../datapath/attach-sockets.ts";
import { type EventSource, openEvents } from "../datapath/events.ts";
import { createFormerOwnersTarget, type FormerOwnersTarget } from "../datapath/former-owners.ts";
import { Dispatch } from "../datapath/gen/abi.ts";
import { createTicks, type Ticks } from "../datapath/jiffies.ts";
import { type Datapath, type DatapathOptions, openDatapath } from "../datapath/load.ts";
import {
  type CountersReader,
  type MetricsReader,
  openCounters,
  openMetrics,
} from "../datapath/metrics.ts";
import { type HotTables, openTables } from "../datapath/tables/tables.ts";
import type { Devices } from "../device/devices.ts";
import { createEndpointTarget, type EndpointTarget } from "../device/endpoints.ts";
import { readStripping, whyTagsHide } from "../device/vlans.ts";
import { findCgroupRoot } from "../kernel/cgroup.ts";
import type { Link } from "../kernel/netlink/link.ts";
import { namespaceCookie } from "../kernel/netns.ts";
import { ANY_IPV4, ANY_IPV6, type Ipv4, type Ipv6 } from "../net/address.ts";
import { maskOf } from "../net/prefix.ts";
import { createNexthops, type Nexthops } from "../node/nexthops.ts";
import type { Log } from "../telemetry/log.ts";
import { checkDispatch, whyNarrow6 } from "./room.ts";
import { tableLimits, usableMemory } from "./table-sizes.ts";
import { followUplinks, type NodeIdentity } from "./uplinks.ts";

/** Where the compiled packet path is: in a checkout's build, or beside the bundle. */
const OBJECTS = fileURLToPath(new URL("../../build/bpf", import.meta.url));

const IP_HEADER_BYTES = 20;
const TCP_HEADER_BYTES = 20;

/** After a ring has changed, nodes may differ for so long in what they know. */
const QUIET_MS = 10_000;
/** Packets of unknown flows that one service may pass on in a second. */
const PASSES_PER_SECOND = 20_000;
/** As many as Linux sends of all ICMP errors together (net.ipv4.icmp_msgs_per_sec). */
const ANSWERS_PER_SECOND = 1000;
const SECOND_MS = 1000;
const NO_CGROUP = "no cgroup2 is mounted: mount one, or set socket.enabled to false";

/** Tables of IPv6 that have more to them than a map. */
export interface WideTables {
  readonly nexthops: Nexthops;
  readonly endpoints: EndpointTarget<Ipv6>;
  readonly formerOwners: FormerOwnersTarget;
}

/** The packet path, with every table of it. */
export interface NodeDatapath extends AsyncDisposable {
  readonly datapath: Datapath;
  readonly ticks: Ticks;
  readonly tables: HotTables;
  readonly nexthops: Nexthops;
  readonly endpoints: EndpointTarget<Ipv4>;
  readonly formerOwners: FormerOwnersTarget;
  /** What IPv6 has of its own; undefined where it is off. */
  readonly wide: WideTables | undefined;
  readonly counters: CountersReader;
  readonly metrics: MetricsReader;
  readonly events: EventSource;
  /** Puts the programs on the devices, in place of older ones, and keeps them there. */
  attach(): void;
  /** What each device has; empty before `attach`. */
  devices(): readonly DeviceStatus[];
  /** Whether services are translated at the socket; undefined before `attach`. */
  sockets(): SocketStatus | undefined;
}

export interface NodeDatapathOptions {
  readonly config: Config;
  readonly identity: NodeIdentity;
  readonly devices: Devices;
  readonly log: Log;
}

/** Loads programs and maps on what is pinned; nothing on any device changes before `attach`. */
export async function openNodeDatapath(options: NodeDatapathOptions): Promise<NodeDatapath> {
  const { config, identity, devices, log } = options;
  await using parts = new AsyncDisposableStack();
  const ticks = createTicks();
  const datapath = parts.use(openDatapath(loadOptions(config, identity, ticks)));
  for (const note of datapath.notes) log.warn(note);
  const { maps, sizes } = datapath;

  const sending = new Set<number>();
  const { nexthops, wideNexthops } = openWays(options, datapath, sending, parts);
  const { wide } = datapath;
  const tables = parts.use(
    await openTables({
      maps: {
        frontends: maps.frontends.raw,
        services: maps.services.raw,
        rings: maps.rings.raw,
        backends: maps.backends.raw,
        wide: wide && { frontends: wide.frontends.raw, backends: wide.backends.raw },
      },
      nexthops,
      wideNexthops,
      now: ticks.now,
    }),
  );
  const attachment = createAttachment(options, datapath, (statuses) => {
    const native = statuses.filter(({ xdp }) => xdp === "native").map(({ ifindex }) => ifindex);
    if (native.length === sending.size && native.every((ifindex) => sending.has(ifindex))) return;
    sending.clear();
    for (const ifindex of native) sending.add(ifindex);
    nexthops.refresh();
    wideNexthops?.refresh();
  });
  const { endpoints, wideEndpoints } = openPods(options, datapath, attachment, parts);
  parts.defer(() => attachment.end());
  const unlisten = devices.listen(({ all, links, routes }) => {
    if (all || links.size > 0 || routes.length > 0) attachment.refresh();
  });
  parts.defer(unlisten);
  const counters = parts.use(openCounters(maps.counters.raw, sizes.counterStride));
  const metrics = parts.use(openMetrics(maps.metrics.raw));
  const events = parts.use(
    openEvents(maps.events, maps.runtime, (error) => log.error("no more events", { error })),
  );
  let sockets: SocketStatus | undefined;
  const owned = parts.move();
  return {
    datapath,
    ticks,
    tables,
    nexthops,
    endpoints,
    formerOwners: createFormerOwnersTarget(maps.formerOwners, ANY_IPV4),
    wide:
      wide && wideNexthops && wideEndpoints
        ? {
            nexthops: wideNexthops,
            endpoints: wideEndpoints,
            formerOwners: createFormerOwnersTarget(wide.formerOwners, ANY_IPV6),
          }
        : undefined,
    counters,
    metrics,
    events,
    attach() {
      attachment.begin(wideEndpoints === undefined ? [endpoints] : [endpoints, wideEndpoints]);
      sockets = attachToCgroup(options, datapath);
    },
    devices: () => attachment.status(),
    sockets: () => sockets,
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}

/** The ways to backends on other nodes; XDP sends by devices in `sending`. */
function openWays(
  { config, identity, devices, log }: NodeDatapathOptions,
  { maps, wide }: Datapath,
  sending: ReadonlySet<number>,
  parts: AsyncDisposableStack,
) {
  const ways = {
    devices,
    mtu: config.mtu === "auto" ? undefined : config.mtu,
    toPeers: config.dispatch === "geneve",
    // A driver takes packets from XDP when it runs XDP itself; generic XDP sends by any device.
    edgeSendsBy: (ifindex: number) => config.acceleration !== "native" || sending.has(ifindex),
    failed: (error: Error) => log.warn("a way out is not resolved", { error }),
  };
  if (identity.ipv6Off !== undefined) log.info("IPv6 is off", { reason: identity.ipv6Off });
  const hashedSource = config.outerSource !== "node";
  const nexthops = parts.use(
    createNexthops({ ...ways, map: maps.nexthops, outerSource: identity.address, hashedSource }),
  );
  const outerSource = identity.address6 ?? ANY_IPV6;
  const wideNexthops =
    wide &&
    parts.use(createNexthops({ ...ways, map: wide.nexthops, outerSource, hashedSource: false }));
  return { nexthops, wideNexthops };
}

/** Pods of this node, by addresses of either family. */
function openPods(
  { devices, log }: NodeDatapathOptions,
  { maps, wide }: Datapath,
  attachment: Attachment,
  parts: AsyncDisposableStack,
) {
  const pods = {
    devices,
    changed: () => attachment.refresh(),
    failed: (error: Error) => log.warn("a pod's device is not ready", { error }),
  };
  const endpoints = parts.use(createEndpointTarget({ ...pods, map: maps.endpoints }));
  const wideEndpoints = wide && parts.use(createEndpointTarget({ ...pods, map: wide.endpoints }));
  return { endpoints, wideEndpoints };
}

/** What the packet path of a node is loaded with. */
export function loadOptions(config: Config, identity: NodeIdentity, ticks: Ticks): DatapathOptions {
  checkDispatch(config, identity.mtu);
  const { outerSource } = config;
  const nodePorts = config.nodePort.range;
  return {
    objects: OBJECTS,
    pins: config.paths.bpffs,
    limits: tableLimits(config, usableMemory()),
    constants: {
      nodeAddress: identity.address,
      nodeAddress6: identity.address6 ?? ANY_IPV6,
      natPortMin: config.snat.ports.first,
      nodePortMin: nodePorts === "off" ? 0 : nodePorts.first,
      nodePortMax: nodePorts === "off" ? 0 : nodePorts.last,
      nodeNetns: namespaceCookie(),
      hashSeed: BigInt(config.hashSeed),
      outerPrefix: outerSource === "node" ? ANY_IPV4 : outerSource.address,
      outerHostMask: outerSource === "node" ? 0 : ~maskOf(outerSource.length) >>> 0,
      dispatch: Dispatch[config.dispatch],
      acceptOption: config.acceptOption || config.dispatch === "option" ? 1 : 0,
      clampMss: clampMss(config, identity),
      fragmentsTrack: config.fragments === "track" ? 1 : 0,
      fragmentsPass: config.fragments === "pass" ? 1 : 0,
      socketLookup: 1,
      nodeClients: translatesSockets(config) ? 0 : 1,
      quietJiffies: ticks.fromMs(QUIET_MS),
      passLimit: PASSES_PER_SECOND,
      answerLimit: ANSWERS_PER_SECOND,
      limitWindow: ticks.fromMs(SECOND_MS),
    },
  };
}

/** The largest segment of a client that still fits with what dispatch adds; 0 leaves pods alone. */
function clampMss({ mss, encapsulate, dispatch }: Config, { mtu }: NodeIdentity): number {
  if (!mss.clamp || encapsulate === "first") return 0;
  return mtu - DISPATCH_BYTES[dispatch] - IP_HEADER_BYTES - TCP_HEADER_BYTES;
}

function cgroupOf({ socket }: Config): string | undefined {
  if (!socket.enabled) return undefined;
  return socket.cgroup === "auto" ? findCgroupRoot() : socket.cgroup;
}

/** Whether sockets are translated, so that no packet of this node's own has to be. */
function translatesSockets(config: Config): boolean {
  return cgroupOf(config) !== undefined;
}

function attachToCgroup(
  { config, log }: NodeDatapathOptions,
  { programs }: Datapath,
): SocketStatus {
  const { enabled } = config.socket;
  const path = cgroupOf(config);
  const status = attachSockets({
    programs: programs.sockets,
    pins: config.paths.bpffs,
    cgroup: path,
    guardsNodePorts: config.nodePort.guard,
  });
  const missing = enabled && path === undefined;
  const reason = missing ? NO_CGROUP : status.reason;
  if (reason !== "") log.warn("services are not translated at the socket", { reason });
  return { ...status, reason };
}

/** Each once, also where a pod has addresses of both families. */
function podDevices(targets: readonly PodDevices[]): { ifindex: number; name: string }[] {
  const names = new Map<number, string>();
  for (const target of targets)
    for (const { index, name } of target.devices()) names.set(index, name);
  return [...names].map(([ifindex, name]) => ({ ifindex, name }));
}

type PodDevices = Pick<EndpointTarget, "devices" | "hasNode">;

interface Attachment {
  begin(endpoints: readonly PodDevices[]): void;
  /** Looks again which devices there are; does nothing before `begin`. */
  refresh(): void;
  /** Devices keep what they have. */
  end(): void;
  status(): readonly DeviceStatus[];
}

/** Keeps the programs on uplinks and pods as these come and go. */
function createAttachment(
  { config, identity, devices, log }: NodeDatapathOptions,
  { programs }: Datapath,
  changed: (statuses: readonly DeviceStatus[]) => void,
): Attachment {
  const attacher: Attacher = createAttacher({
    programs,
    pins: config.paths.bpffs,
    netlink: devices.netlink,
  });
  let endpoints: readonly PodDevices[] | undefined;
  let statuses: readonly DeviceStatus[] = [];
  let scheduled = false;
  let timer: NodeJS.Timeout | undefined;
  const findUplinks = followUplinks(config, devices, (ms) => {
    clearTimeout(timer);
    timer = setTimeout(refresh, Math.ceil(ms)).unref();
  });
  const sync = (pods: readonly PodDevices[]): void => {
    const uplinks = findUplinks();
    const found = attacher.sync({
      uplinks: uplinks.links.map((link) => describeUplink(link, config, devices)),
      pods: podDevices(pods),
      acceleration: config.acceleration,
      ownPackets: !translatesSockets(config),
      ownReplies: pods.some((target) => target.hasNode()),
    });
    const missing = [...uplinks.missing].map(([name, reason]) => missingUplink(name, reason));
    const before = new Map(statuses.map((status) => [status.name, status.reason]));
    const narrow = (index: number): string =>
      identity.address6 === undefined ? "" : whyNarrow6(config, devices.links.get(index)?.mtu);
    statuses = [...missing, ...found.map((status) => withReason(status, narrow(status.ifindex)))];
    changed(statuses);
    for (const { name, reason } of statuses) {
      if (reason === "" || before.get(name) === reason) continue;
      log.warn("a device has less than was asked for", { device: name, reason });
    }
  };
  const refresh = (): void => {
    if (endpoints === undefined || scheduled) return;
    scheduled = true;
    setImmediate(() => {
      scheduled = false;
      if (endpoints !== undefined) sync(endpoints);
    });
  };
  return {
    begin(target) {
      endpoints = target;
      sync(target);
    },
    refresh,
    end() {
      clearTimeout(timer);
      endpoints = undefined;
    },
    status: () => statuses,
  };
}

function describeUplink(link: Link, { acceleration }: Config, { links }: Devices): UplinkDevice {
  const device = { ifindex: link.index, name: link.name };
  if (acceleration === "off") return device;
  return { ...device, withoutXdp: whyTagsHide(link, acceleration, links, readStripping) };
}

/** An uplink with one more reason why it has less than was asked for. */
function withReason(status: DeviceStatus, why: string): DeviceStatus {
  if (status.role !== "uplink" || why === "") return status;
  return { ...status, reason: status.reason === "" ? why : `${status.reason}; ${why}` };
}

function missingUplink(name: string, reason: string): DeviceStatus {
  return { ifindex: 0, name, role: "uplink", xdp: "none", tc: "none", reason };
}
