// SPDX-License-Identifier: Apache-2.0
import type { Argument, Command, Option } from "./command.ts";

const name: Option = {
  name: "name",
  value: "NAME",
  summary: "which lab, as there may be several (default $CILIATE_LAB, lab)",
};

const place: Argument = {
  name: "PLACE",
  summary: "client, switch, a node (node1) or a pod (pod1-2, the second of node1)",
};

const upOptions: readonly Option[] = [
  name,
  { name: "nodes", value: "N", summary: "1 to 32 (default 3)" },
  { name: "pods-per-node", value: "N", summary: "0 to 200 (default 4)" },
  {
    name: "acceleration",
    value: "MODE",
    choices: ["native", "generic", "off"],
    summary: "of every node: native (default) or generic XDP, or off for tc",
  },
  {
    name: "encapsulate",
    value: "WHAT",
    choices: ["all", "first"],
    summary: "all packets of a flow to another node (default), or the first",
  },
  {
    name: "dispatch",
    value: "WAY",
    choices: ["ipip", "geneve", "option"],
    summary: "how packets to another node say their service (default ipip)",
  },
  { name: "mtu", value: "BYTES", summary: "of every wire (default 1500)" },
  { name: "no-ipv6", summary: "IPv4 alone" },
  { name: "bundle", summary: "run the agents from the bundle instead of the sources" },
  { name: "no-agents", summary: "start no agents: bare wires and routes" },
];

const captureOptions: readonly Option[] = [
  name,
  { name: "device", value: "NAMES", summary: "devices, with commas (default: all of the place)" },
  { name: "filter", value: "EXPRESSION", summary: "as for tcpdump, like 'ip proto 4'" },
  { name: "packets", value: "N", summary: "end after so many" },
  { name: "write", value: "FILE", path: true, summary: "default NAME-PLACE.pcapng, here" },
];

/** `ciliate lab`: nodes, pods, a client and a switch on one machine. */
export const lab: Command = {
  name: "lab",
  summary: "A cluster of network namespaces on this machine, to play and test with",
  commands: [
    {
      name: "up",
      summary: "Bring a lab up, agents and all",
      detail: "What a killed lab of the same name left is removed first.",
      options: upOptions,
      load: async () => (await import("./commands/lab.ts")).labUp,
    },
    {
      name: "status",
      summary: "Show its namespaces, devices, addresses and agents",
      options: [name],
      load: async () => (await import("./commands/lab.ts")).labStatus,
    },
    {
      name: "exec",
      summary: "Run a command in a place of the lab",
      detail:
        "In a node's place, `ciliate` talks to that node's agent.\n" +
        "The exit code is the command's.",
      options: [name],
      args: [place, { name: "COMMAND", summary: "with its arguments", rest: true }],
      load: async () => (await import("./commands/lab.ts")).labExec,
    },
    {
      name: "capture",
      summary: "Write packets into a pcapng file until Ctrl-C",
      options: captureOptions,
      args: [place],
      load: async () => (await import("./commands/lab.ts")).labCapture,
    },
    {
      name: "down",
      summary: "Remove a lab, whole or in ruins",
      options: [name],
      load: async () => (await import("./commands/lab.ts")).labDown,
    },
  ],
};
