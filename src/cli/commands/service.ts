// SPDX-License-Identifier: Apache-2.0
import type { Service, ServicePort } from "../../api/gen/ciliate.ts";
import { connectAgent, parseServiceName } from "../agent-api.ts";
import type { Run } from "../command.ts";
import { CliError } from "../exit.ts";
import { type Cell, formatBytes, type Output } from "../output.ts";
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
  { title: "ADDRESS" },
  { title: "PORT" },
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
    service.addresses.join(",") || "-",
    portText(port),
    backendCount(port),
    port.ringSize,
    port.traffic?.connections ?? 0,
    port.traffic?.packets ?? 0,
    formatBytes(port.traffic?.bytes ?? 0),
    syncCell(service.sync),
  ]);
}

function portText(port: ServicePort): string {
  const name = port.name === "" ? "" : ` ${port.name}`;
  return `${port.port}/${port.protocol}${name}`;
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
  output.write(`addresses  ${service.addresses.join(", ") || "-"}\n`);
  output.write(`from       ${service.source}\n`);
  output.write(`state      ${shown}\n`);
  if (service.sync !== undefined && service.sync.problem !== "") {
    output.write(`problem    ${output.paint("red", service.sync.problem)}\n`);
  }
  for (const port of service.ports) {
    const ring = port.ringSize === 0 ? "" : `, ring of ${port.ringSize}`;
    output.write(`\nport ${output.paint("bold", portText(port))}, id ${port.id}${ring}\n`);
    const rows = port.backends.map(backendCells);
    output.table({ columns: BACKEND_COLUMNS, rows, empty: "no backends" });
  }
}
