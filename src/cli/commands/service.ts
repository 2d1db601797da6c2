// SPDX-License-Identifier: Apache-2.0
import type { Service, ServicePort } from "../../api/gen/ciliate.ts";
import { connectAgent, parseServiceName } from "../agent-api.ts";
import type { Run } from "../command.ts";
import { CliError } from "../exit.ts";
import { type Cell, endpointText, formatBytes, type Output } from "../output.ts";
import { BACKEND_COLUMNS, backendCells, syncCell } from "./rows.ts";

export const listServices: Run = async (context) => {
  using client = await connectAgent(context);
  const namespace = context.option("namespace") ?? "";
  const services: Service[] = [];
  const request = { namespace, name: "", backends: false };
  for await (const service of client.listServices(request)) services.push(service);
  services.sort(compareServices);
  const { output } = context;
  if (output.format === "json") output.json(services);
  else
    output.table({ columns: COLUMNS, rows: services.flatMap(serviceRows), empty: "no services" });
  return 0;
};

export const getService: Run = async (context) => {
  const { namespace, name } = parseServiceName(context.args[0] ?? "");
  using client = await connectAgent(context);
  const request = { namespace, name, backends: true };
  for await (const service of client.listServices(request)) {
    if (context.output.format === "json") context.output.json(service);
    else showService(context.output, service);
    return 0;
  }
  throw new CliError(
    "notFound",
    `there is no service ${namespace}/${name}; see: ciliate service list`,
  );
};

const COLUMNS = [
  { title: "NAMESPACE" },
  { title: "NAME" },
  { title: "TYPE" },
  { title: "ADDRESS" },
  { title: "PORT" },
  { title: "MODE" },
  { title: "BACKENDS", align: "right" },
  { title: "RING", align: "right" },
  { title: "CONNECTIONS", align: "right" },
  { title: "PACKETS", align: "right" },
  { title: "BYTES", align: "right" },
  { title: "STATE" },
] as const;

function serviceRows(service: Service): Cell[][] {
  return service.ports.map((port) => [
    service.namespace,
    service.name,
    service.type,
    addressText(service, port),
    portText(port),
    modeText(port),
    backendCount(port),
    port.ringSize,
    port.traffic?.connections ?? 0,
    port.traffic?.packets ?? 0,
    formatBytes(port.traffic?.bytes ?? 0),
    syncCell(service.sync),
  ]);
}

/** Addresses for clients outside, then those for pods and nodes. */
function addressText(service: Service, { frontends, family }: ServicePort): string {
  const nodes = family === "IPv6" ? "nodes by IPv6" : "nodes";
  if (frontends.length === 0) return service.addresses.join(",") || "-";
  return ["outside", "inside"]
    .map((scope) => [scope, frontends.filter((one) => one.scope === scope)] as const)
    .filter(([, found]) => found.length > 0)
    .map(([scope, found]) => {
      const list = found.map(({ address }) => address || nodes).join(",");
      return scope === "inside" ? `${list} (inside)` : list;
    })
    .join(" ");
}

/** `80/TCP http`, `80:30080/TCP` with a node port. */
function portText({ port, nodePort, protocol, name, frontends }: ServicePort): string {
  const isAtNodes = frontends.some(({ address }) => address === "");
  return `${port}${isAtNodes ? `:${nodePort}` : ""}/${protocol}${name === "" ? "" : ` ${name}`}`;
}

/** `snat`, `snat random`, `dsr local`; Maglev, the usual algorithm, isn't named. */
function modeText({ mode, algorithm, local }: ServicePort): string {
  const words = [mode, algorithm === "random" ? algorithm : "", local ? "local" : ""];
  return words.filter((word) => word !== "").join(" ") || "-";
}

function backendCount({ activeBackends, backendCount: all }: ServicePort): Cell {
  const text = activeBackends === all ? String(all) : `${activeBackends}/${all}`;
  return activeBackends === 0 ? { text, colour: "red" } : text;
}

function compareServices(a: Service, b: Service): number {
  if (a.namespace !== b.namespace) return a.namespace < b.namespace ? -1 : 1;
  if (a.name === b.name) return 0;
  return a.name < b.name ? -1 : 1;
}

function showService(output: Output, service: Service): void {
  const state = syncCell(service.sync);
  const shown = typeof state === "object" ? output.paint(state.colour, state.text) : String(state);
  output.write(
    `${output.paint("bold", `${service.namespace}/${service.name}`)}  ${service.type}\n`,
  );
  for (const [title, text] of factsOf(service)) output.write(`${title.padEnd(11)}${text}\n`);
  output.write(`from       ${service.source}\n`);
  output.write(`state      ${shown}\n`);
  if (service.sync !== undefined && service.sync.problem !== "") {
    output.write(`problem    ${output.paint("red", service.sync.problem)}\n`);
  }
  for (const { ok, text } of service.conditions) {
    if (ok || text === service.sync?.problem) continue;
    output.write(`but        ${output.paint("yellow", text)}\n`);
  }
  for (const port of service.ports) {
    const ring = port.ringSize === 0 ? "" : `, ring of ${port.ringSize}`;
    const mode = port.mode === "" ? "" : `, by ${port.mode} and ${port.algorithm}`;
    const local = port.local ? ", pods of this node only" : "";
    const family = port.family === "IPv6" ? " by IPv6" : "";
    const title = output.paint("bold", `${portText(port)}${family}`);
    output.write(`\nport ${title}, id ${port.id}${ring}${mode}${local}\n`);
    for (const { address, port: at, scope } of port.frontends) {
      output.write(`  ${endpointText(address || "any node", at)} from ${scope}\n`);
    }
    const rows = port.backends.map(backendCells);
    output.table({ columns: BACKEND_COLUMNS, rows, empty: "no backends" });
  }
}

/** What a service has besides its ports, as far as it has it. */
function factsOf(service: Service): (readonly [title: string, text: string])[] {
  const { affinitySeconds, sourceRanges, sourceRangesPolicy, healthCheckNodePort } = service;
  const { externalTrafficPolicy, internalTrafficPolicy } = service;
  const facts: [boolean, string, string][] = [
    [true, "addresses", service.addresses.join(", ") || "-"],
    [service.clusterAddresses.length > 0, "inside", service.clusterAddresses.join(", ")],
    [
      [externalTrafficPolicy, internalTrafficPolicy].includes("Local"),
      "policy",
      `from outside ${externalTrafficPolicy}, from inside ${internalTrafficPolicy}`,
    ],
    [affinitySeconds > 0, "affinity", `by client, for ${affinitySeconds} s`],
    [
      sourceRangesPolicy !== "",
      "clients",
      `${sourceRangesPolicy} ${sourceRanges.join(", ") || "none"}`,
    ],
    [healthCheckNodePort > 0, "health", `asked at port ${healthCheckNodePort}`],
  ];
  return facts.filter(([isThere]) => isThere).map(([, title, text]) => [title, text]);
}
