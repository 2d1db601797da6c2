// SPDX-License-Identifier: Apache-2.0

// Every command there is. Parsing, help and shell completion are read from this table.

import type { Argument, Command, Option, Run } from "./command.ts";
import { lab } from "./lab-command.ts";

const service: Argument = { name: "SERVICE", summary: "NAMESPACE/NAME; a bare name is in default" };

const pins: Option = {
  name: "bpffs",
  value: "DIR",
  path: true,
  summary: "the node's pins (default $CILIATE_BPFFS, /sys/fs/bpf/ciliate)",
};

const configFile: Option = {
  name: "config",
  value: "FILE",
  path: true,
  summary: "the node's configuration (default $CILIATE_CONFIG, /etc/ciliate/ciliate.yaml)",
};

const agent: Command = {
  name: "agent",
  summary: "Run this node's agent in the foreground",
  detail:
    "Loads the datapath, keeps it as configuration and manifests want it, and serves the API.\n" +
    "SIGHUP reads the configuration again; SIGTERM ends the agent and leaves the datapath.",
  options: [configFile],
  load: async () => (await import("./commands/agent.ts")).agent,
};

const status: Command = {
  name: "status",
  summary: "Show whether the node works, and what doesn't",
  detail: "Exits with 0 only when everything that was asked for is in force.",
  options: [{ name: "wait", value: "DURATION", summary: "wait so long for the agent to be ready" }],
  load: async () => (await import("./commands/status.ts")).status,
};

const services: Command = {
  name: "service",
  summary: "Services and what they are balanced to",
  commands: [
    {
      name: "list",
      summary: "List every port of every service",
      options: [
        { name: "namespace", short: "n", value: "NAMESPACE", summary: "only this namespace" },
      ],
      load: async () => (await import("./commands/service.ts")).listServices,
    },
    {
      name: "get",
      summary: "Show one service with its backends",
      args: [service],
      load: async () => (await import("./commands/service.ts")).getService,
    },
    {
      name: "explain",
      summary: "Say what would become of a connection, and why",
      detail:
        "Runs a made packet through a second instance of this node's programs: nothing is\n" +
        "sent, and no live table changes. Works without an agent, but for names.",
      args: [{ name: "VIP:PORT", summary: "such as 192.0.2.1:80 or [2001:db8::1]:80" }],
      options: [
        { name: "from", value: "CLIENT[:PORT]", summary: "the client (default anybody outside)" },
        {
          name: "protocol",
          value: "PROTOCOL",
          choices: ["tcp", "udp", "sctp"],
          summary: "tcp (default), udp or sctp",
        },
        { name: "device", value: "DEVICE", summary: "by which it comes (default the client's)" },
        { name: "hex", summary: "the bytes that leave, too" },
        pins,
      ],
      load: async () => (await import("./commands/explain.ts")).explainService,
    },
  ],
};

const backends: Command = {
  name: "backend",
  summary: "Backends of services",
  commands: [
    {
      name: "list",
      summary: "List the backends of every service, or of one",
      args: [{ ...service, optional: true }],
      load: async () => (await import("./commands/backend.ts")).listBackends,
    },
  ],
};

const monitor: Command = {
  name: "monitor",
  summary: "Show drops as they happen, and packets on their way",
  detail: "Events that came too fast to be shown are counted, and the count is shown.",
  options: [
    { name: "traces", short: "t", summary: "packets that pass, too; not only drops" },
    { name: "address", short: "a", value: "ADDRESS", summary: "only packets from or to it" },
    { name: "port", short: "p", value: "PORT", summary: "only packets from or to it" },
    { name: "verdict", value: "VERDICT", summary: 'only this verdict, such as "drop untrusted"' },
    { name: "count", short: "c", value: "N", summary: "end after so many events" },
  ],
  load: async () => (await import("./commands/monitor.ts")).monitor,
};

const capture: Command = {
  name: "capture",
  summary: "Capture whole packets, before and after, as tcpdump can't",
  detail:
    "Packets as they came to a program of this node and as they left it, with its verdict:\n" +
    "what XDP sends on, outer headers that come and go, and what is dropped. Works without\n" +
    "an agent. Packets that are none of ours aren't seen here; tcpdump sees them.\n" +
    "\n" +
    "FILTER is a part of pcap-filter's language: [src|dst] host, net, port; tcp, udp, sctp,\n" +
    "icmp, icmp6, ip, ip6; and, or, not, ( ). Besides: place edge|host|pod|node, and verdict\n" +
    "(or reason) drop, drop_unknown_port, sent_encapsulated and so on. Any header of either\n" +
    "frame is enough, inner ones too.",
  args: [{ name: "FILTER", summary: "in quotes; everything when left out", optional: true }],
  options: [
    {
      name: "write",
      short: "w",
      value: "FILE.pcapng",
      path: true,
      summary: "for Wireshark and tshark, - for standard output; else a line a packet",
    },
    { name: "count", short: "c", value: "N", summary: "end after so many packets" },
    { name: "duration", value: "DURATION", summary: "end after so long, such as 30s" },
    { name: "rate", value: "N", summary: "packets in a second at most (default 1000)" },
    {
      name: "snap-bytes",
      short: "s",
      value: "BYTES",
      summary: "kept of each packet (default 16384, the most)",
    },
    pins,
  ],
  load: async () => (await import("./commands/capture.ts")).capture,
};

const config: Command = {
  name: "config",
  summary: "The node's configuration",
  commands: [
    {
      name: "get",
      summary: "Show the configuration in force, or one key or section of it",
      args: [{ name: "KEY", summary: "dotted, such as conntrack.udp", optional: true }],
      load: async () => (await import("./commands/config.ts")).getConfig,
    },
    {
      name: "reload",
      summary: "Have the agent read its file again",
      detail: "A file with a fault changes nothing. Keys that need a restart are named.",
      load: async () => (await import("./commands/config.ts")).reloadConfig,
    },
    {
      name: "check",
      summary: "Check a file without an agent",
      args: [
        {
          name: "FILE",
          summary: "default $CILIATE_CONFIG, /etc/ciliate/ciliate.yaml",
          optional: true,
          path: true,
        },
      ],
      load: async () => (await import("./commands/config.ts")).checkConfig,
    },
  ],
};

const debuginfo: Command = {
  name: "debuginfo",
  summary: "Collect in one archive what somebody needs to find a fault",
  detail:
    "Secrets of the configuration are left out; addresses and names of services are not.\n" +
    "What can't be had, for lack of an agent or else, is named in missing.txt, and the exit\n" +
    "code is 0 all the same. Tables and logs are cut where they are long, and it says so.",
  options: [
    {
      name: "write",
      short: "w",
      value: "FILE.tar.gz",
      path: true,
      summary: "a new file (default ciliate-debuginfo-HOST-TIME.tar.gz)",
    },
    configFile,
    pins,
  ],
  load: async () => (await import("./commands/debuginfo.ts")).debuginfo,
};

const version: Command = {
  name: "version",
  summary: "Show the version of this program",
  options: [{ name: "agent", summary: "and of the agent that runs" }],
  load: async () => (await import("./commands/version.ts")).version,
};

const completion: Command = {
  name: "completion",
  summary: "Write a script that completes commands in a shell",
  detail:
    "bash: source <(ciliate completion bash)\n" +
    "zsh:  ciliate completion zsh >/usr/share/zsh/site-functions/_ciliate\n" +
    "fish: ciliate completion fish >~/.config/fish/completions/ciliate.fish",
  args: [{ name: "SHELL", summary: "bash, zsh or fish", choices: ["bash", "zsh", "fish"] }],
  load: async () => (await import("./commands/completion.ts")).completion,
};

type BpfCommands = typeof import("./commands/bpf.ts");

function pinnedTable(name: string, summary: string, pick: (of: BpfCommands) => Run): Command {
  const load = async (): Promise<Run> => pick(await import("./commands/bpf.ts"));
  return { name, summary, commands: [{ name: "list", summary, options: [pins], load }] };
}

const bpf: Command = {
  name: "bpf",
  summary: "The kernel's tables themselves, with or without an agent",
  commands: [
    pinnedTable("service", "List frontends and where they lead", (of) => of.listFrontends),
    pinnedTable("backend", "List backends of services", (of) => of.listBackends),
    pinnedTable("maglev", "List how many ring slots each backend has", (of) => of.listRings),
    pinnedTable("ct", "List the flows that this node remembers", (of) => of.listFlows),
    pinnedTable("nat", "List clients that pods see under this node's address", (of) => of.listNat),
    pinnedTable("affinity", "List clients that are kept with a pod", (of) => of.listAffinities),
    pinnedTable("source-range", "List who may use a service", (of) => of.listSourceRanges),
    pinnedTable("socket", "List sockets and their backends", (of) => of.listSockets),
    pinnedTable("metrics", "List packets and bytes by place and verdict", (of) => of.listMetrics),
  ],
};

const map: Command = {
  name: "map",
  summary: "Any of the kernel's maps, with or without an agent",
  commands: [
    {
      name: "dump",
      summary: "List every element of a map",
      args: [
        {
          name: "NAME",
          summary: "a map, such as conntrack",
          suggestions: async () => (await import("./commands/map.ts")).mapNames(),
        },
      ],
      options: [pins, { name: "zeros", summary: "also elements of arrays that are all zero" }],
      load: async () => (await import("./commands/map.ts")).dumpMap,
    },
  ],
};

export const ROOT: Command = {
  name: "ciliate",
  summary:
    "A container network for Linux: services, direct server return, and a view of every packet",
  commands: [
    agent,
    status,
    services,
    backends,
    bpf,
    map,
    monitor,
    capture,
    config,
    lab,
    debuginfo,
    version,
    completion,
  ],
};
