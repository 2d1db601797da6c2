// SPDX-License-Identifier: Apache-2.0

// The node's file. Validation, defaults, docs/configuration.md and `ciliate config get` are all
// read from this table, so a key is added here and nowhere else.

import { parseIpv4 } from "../net/address.ts";
import { dispatchWord } from "./dispatch.ts";
import type { Milliseconds } from "./kind.ts";
import {
  address,
  address6,
  byName,
  choice,
  duration,
  flag,
  integer,
  type Kind,
  list,
  listen,
  parseDuration,
  path,
  portRange,
  prefix,
  prefix4,
  text,
  wordOr,
} from "./kind.ts";
import { nearest } from "./nearest.ts";

/** What a changed key needs: `live` is taken over by a reload, `restart` waits for a new agent. */
export type Change = "live" | "restart";

/** One key of the file. */
export interface Field<T> {
  readonly kind: Kind<T>;
  readonly fallback: T;
  readonly change: Change;
  readonly doc: string;
}

/** Keys under one name. */
export interface Section<Keys> {
  readonly doc: string;
  readonly keys: Keys;
}

function live<T>(kind: Kind<T>, fallback: NoInfer<T>, doc: string): Field<T> {
  return { kind, fallback, change: "live", doc };
}

function restart<T>(kind: Kind<T>, fallback: NoInfer<T>, doc: string): Field<T> {
  return { kind, fallback, change: "restart", doc };
}

function section<Keys>(doc: string, keys: Keys): Section<Keys> {
  return { doc, keys };
}

function time(written: string): Milliseconds {
  const length = parseDuration(written);
  if (length === undefined) throw new Error(`${written} is not a duration`);
  return length;
}

const SECOND = 1000;
const DAY = 86_400_000;

/** The parts of the agent whose log level can be set apart. */
export const SUBSYSTEMS = [
  "agent",
  "api",
  "config",
  "conntrack",
  "datapath",
  "device",
  "endpoint",
  "flow",
  "lb",
  "node",
  "socket",
  "state",
  "telemetry",
] as const;

const level = choice("debug", "info", "warn", "error");

function unknownSubsystem(name: string): string {
  const near = nearest(name, SUBSYSTEMS);
  const hint = near === undefined ? `known: ${SUBSYSTEMS.join(", ")}` : `did you mean "${near}"?`;
  return `unknown subsystem "${name}"; ${hint}`;
}

const deviceName = text("a device name of 1 to 15 characters", /^[^\s/:]{1,15}$/);

export const schema = section("", {
  node: section("Who this node is.", {
    name: restart(
      wordOr(
        ["auto"],
        text("a name of lower-case letters, digits, - and .", /^[a-z0-9][a-z0-9.-]{0,252}$/),
      ),
      "auto",
      "The node's name, unique in the cluster. `auto` is the host name.",
    ),
    address: restart(
      wordOr(["auto"], address),
      "auto",
      "The IPv4 address by which the other nodes reach this one. `auto` is the first address of the first uplink.",
    ),
    address6: restart(
      wordOr(["auto"], address6),
      "auto",
      "The IPv6 address by which the other nodes reach this one. `auto` is the first global address of the first uplink that has one.",
    ),
  }),
  ipv6: restart(
    choice("auto", "off"),
    "auto",
    "Whether services are served to clients of IPv6. `auto`: if an uplink has an address for it, see `node.address6`; `ciliate status` says why not.",
  ),
  devices: restart(
    wordOr(["auto"], list(deviceName, 16)),
    "auto",
    "The uplinks: devices on which traffic for services arrives and leaves. `auto` is every device with a default route of either family.",
  ),
  acceleration: restart(
    choice("native", "generic", "off"),
    "native",
    "Where services are balanced: in the device's driver (`native` XDP), in the kernel's emulation of it (`generic`, for trying out), or in tc (`off`). A device that can't do what is asked falls back to tc, and `ciliate status` says why.",
  ),
  encapsulate: restart(
    choice("all", "first"),
    "all",
    "Which packets of a flow to another node travel in IP-in-IP: `all` of them, or only the `first` (TCP SYN, and every packet that isn't TCP), which leaves later packets the full MTU.",
  ),
  dispatch: restart(
    dispatchWord,
    "ipip",
    "How a packet to a pod of another node says which service it is for: in `ipip`, which carries the client's packet as it is; in `geneve` to the pod's node, as Cilium does; or by an `option` in its own header (Cilium's word `opt` is taken too), which many switches forward slowly. All nodes understand `ipip` and `geneve` at any time.",
  ),
  acceptOption: restart(
    flag,
    false,
    "Believe the option of `dispatch: option` in packets for pods of this node, and erase it from clients' packets. `dispatch: option` implies it; set it on all nodes before the first one sends options.",
  ),
  mode: live(
    choice("dsr", "snat", "hybrid"),
    "dsr",
    "How services reach backends on other nodes: `dsr` keeps the client's address, and replies go straight to the client; `snat` puts this node's address in its place, and replies come back here; `hybrid` is TCP by DSR and the rest by SNAT. A service's annotation wins.",
  ),
  algorithm: live(
    choice("maglev", "random"),
    "maglev",
    "How a new connection finds its backend where services are forwarded by SNAT: by `maglev`, which gives one client port the same backend every time, or at `random`. DSR is always by Maglev. A service's annotation wins.",
  ),
  noBackend: live(
    choice("reject", "drop"),
    "reject",
    "What clients of a service without backends get: a `reject` (RST, or ICMP port unreachable), or a counted `drop`.",
  ),
  outerSource: restart(
    wordOr(["node"], prefix4),
    "node",
    "The source of IPv4's outer header: the `node`'s address, or a prefix whose host bits are filled with a hash of the flow, so that fabrics and receive queues spread the load. Every node must list the prefix in `trustedSources`.",
  ),
  trustedSources: live(
    list(prefix, 256),
    [],
    "Sources of encapsulated packets to be believed besides the cluster's own nodes: load balancers that are no nodes, and the prefixes of `outerSource`.",
  ),
  fragments: restart(
    choice("track", "drop", "pass"),
    "track",
    "What happens to fragments for a service: `track` sends them where the first of them went, which has the ports; `drop` drops and counts them; `pass` leaves them to the host untouched.",
  ),
  mss: section("The largest segment that TCP connections of pods agree on.", {
    clamp: restart(
      flag,
      true,
      "Lower the MSS of pods by the encapsulation's overhead, so that no full-sized segment needs a smaller MTU.",
    ),
  }),
  mtu: restart(
    wordOr(["auto"], integer(576, 65535)),
    "auto",
    "The MTU between nodes, in bytes. `auto` is the smallest MTU of the uplinks; none is more.",
  ),
  hashSeed: restart(
    integer(0, 0xffffffff),
    0,
    "Seed of the hash that picks a backend. Every node of a cluster must have the same.",
  ),
  socket: section(
    "Services of sockets of pods and of the node itself: translated where a socket connects or sends, before there is a packet.",
    {
      enabled: restart(
        flag,
        true,
        "Translate services at the socket. Without it, packets of pods and of the node itself are translated one by one, at their node.",
      ),
      cgroup: restart(
        wordOr(["auto"], path),
        "auto",
        "The directory of the cgroup (version 2) whose processes' sockets are translated, with all cgroups below. `auto` is the root: every process of the machine. Sockets whose backend or service is gone are closed in the node's own network namespace, and in those that Pods name by `ciliate.io/netns`; elsewhere they stay.",
      ),
      maxEntries: restart(
        wordOr(["auto"], integer(1024, 16_777_216)),
        "auto",
        "Sockets whose service is remembered, for who asks them about their peer. The least used is forgotten for one more. `auto`: a quarter as many as flows by the memory; 16384 to 262144.",
      ),
    },
  ),
  conntrack: section("Flows that this node remembers: those of its own pods.", {
    tcpEstablished: live(
      // Ages are told apart up to 2^31 ticks: 24.8 days where the kernel has 1000 in a second.
      duration(SECOND, 20 * DAY),
      time("8000s"),
      "An established TCP or SCTP connection without traffic is forgotten after this time.",
    ),
    tcpSyn: live(
      duration(SECOND, DAY),
      time("60s"),
      "A TCP or SCTP connection whose handshake isn't complete.",
    ),
    tcpClosing: live(
      duration(SECOND, DAY),
      time("10s"),
      "A TCP connection after FIN from both sides, or RST; SCTP after SHUTDOWN or ABORT.",
    ),
    udp: live(duration(SECOND, DAY), time("60s"), "A UDP flow without traffic."),
    collectInterval: live(
      duration(SECOND, DAY),
      time("10s"),
      "How often forgotten flows are removed from the table.",
    ),
    maxEntries: restart(
      wordOr(["auto"], integer(1024, 16_777_216)),
      "auto",
      "Flows that the table holds, of each family. `auto`: by the machine's memory, of which a part in 64 is set aside; 16384 to 1048576. At another size after a restart flows are taken over as far as there is room.",
    ),
  }),
  tables: section(
    "Limits of the kernel tables; where there are addresses in a table, IPv6 has one of its own, as large. The space for services, backends and rings is set aside at start.",
    {
      services: restart(
        integer(16, 1_048_576),
        65_536,
        "Frontends: one for each address, port and protocol of a service.",
      ),
      backends: restart(
        integer(16, 1_048_576),
        262_144,
        "Backends, counted once per service port.",
      ),
      ringEntries: restart(
        integer(4096, 134_217_728),
        33_554_432,
        "Entries of all services' Maglev rings together; each takes 2 bytes.",
      ),
      formerOwners: restart(
        integer(1024, 16_777_216),
        1_048_576,
        "Ring slots whose flows may belong to an earlier backend.",
      ),
      endpoints: restart(integer(16, 65_536), 4096, "Pods on this node."),
      nodes: restart(integer(16, 65_536), 16_384, "Nodes of the cluster, and trusted prefixes."),
      sourceRanges: restart(
        integer(16, 1_048_576),
        65_536,
        "Prefixes in the source ranges of all services together.",
      ),
      affinities: restart(
        wordOr(["auto"], integer(16, 16_777_216)),
        "auto",
        "Clients of services with session affinity whose backend is remembered. `auto`: a quarter as many as flows by the memory; 16384 to 262144.",
      ),
    },
  ),
  nodePort: section("Ports at which every node serves services.", {
    range: restart(
      wordOr(["off"], portRange),
      { first: 30_000, last: 32_767 },
      "Node ports that are served; the same as the cluster's own range. `off`: none are.",
    ),
    addresses: live(
      wordOr(["auto"], list(prefix, 64)),
      "auto",
      "At which of this node's addresses node ports and host ports are served: those in any of these prefixes. `auto` is all addresses of its devices, but those of loopback.",
    ),
    guard: restart(
      flag,
      true,
      "Refuse programs of this node that want to bind a node port of a service, and would get nothing there: EADDRINUSE. Needs `socket.enabled`.",
    ),
  }),
  snat: section("Clients of SNAT, which backends of other nodes see as this node.", {
    ports: restart(
      portRange,
      { first: 32_768, last: 65_535 },
      "Ports of this node that clients get; the last one has to be 65535. What the node itself sends from these ports to the same pod and port is told apart, but best kept apart by `net.ipv4.ip_local_port_range`.",
    ),
  }),
  manifests: restart(
    list(path, 16),
    ["/etc/ciliate/manifests"],
    "Directories of Kubernetes-shaped YAML (Service, EndpointSlice, …), watched for changes. Where two hold the same object, the first directory wins.",
  ),
  paths: section("Where this node keeps its things.", {
    bpffs: restart(
      path,
      "/sys/fs/bpf/ciliate",
      "Directory of pinned maps and links, on a BPF file system. They outlive the agent.",
    ),
    runtime: restart(
      path,
      "/run/ciliate",
      "Directory of the agent's lock, its socket and what the API was given. One agent runs per directory.",
    ),
    socket: restart(
      text("a file name or an absolute path", /^\/?[^\0]{1,100}$/),
      "ciliate.sock",
      "The API's unix socket; a name without a leading slash is taken from `paths.runtime`.",
    ),
  }),
  metrics: section("The HTTP server of `/metrics`, `/healthz` and `/readyz`.", {
    listen: restart(
      wordOr(["off"], listen),
      { address: parseIpv4("127.0.0.1"), port: 9962 },
      "Address and port, or `off`. It has no authentication: keep it on loopback, or behind something that does.",
    ),
  }),
  log: section("What the agent writes to its standard error.", {
    level: live(level, "info", "Nothing below this level is written."),
    format: live(
      choice("auto", "json", "text"),
      "auto",
      "One `json` object a line, or `text` for people. `auto` is text on a terminal, else json.",
    ),
    levels: live(
      byName(SUBSYSTEMS, level, unknownSubsystem),
      {},
      `Levels that differ by subsystem: ${SUBSYSTEMS.join(", ")}.`,
    ),
  }),
});

/** The values of a section's keys. */
type Values<Keys> = {
  readonly [Key in keyof Keys]: Keys[Key] extends Field<infer T>
    ? T
    : Keys[Key] extends Section<infer Inner>
      ? Values<Inner>
      : never;
};

/** A whole, valid configuration. */
export type Config = Values<typeof schema.keys>;

/** A key as code that walks the table sees it. */
export type AnyField = Field<unknown>;
export type AnySection = Section<Readonly<Record<string, AnyField | AnySectionOf>>>;
interface AnySectionOf extends AnySection {}

/** Whether a part of the table is a section. */
export function isSection(part: AnyField | AnySection): part is AnySection {
  return "keys" in part;
}

/** Every key of the file with its dotted path, in the table's order. */
export function* fields(
  root: AnySection = schema,
  parent: readonly string[] = [],
): Generator<{ readonly path: readonly string[]; readonly field: AnyField }> {
  for (const [key, part] of Object.entries(root.keys)) {
    const path = [...parent, key];
    if (isSection(part)) yield* fields(part, path);
    else yield { path, field: part };
  }
}

/** The value at `path`, undefined if there is none. */
export function valueAt(config: unknown, path: readonly string[]): unknown {
  let value = config;
  for (const key of path) {
    if (typeof value !== "object" || value === null) return undefined;
    value = (value as Record<string, unknown>)[key];
  }
  return value;
}
