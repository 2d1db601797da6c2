// SPDX-License-Identifier: Apache-2.0
import type { ServiceBackend } from "../../api/gen/ciliate.ts";
import { connectAgent, parseServiceName } from "../agent-api.ts";
import type { Run } from "../command.ts";
import { CliError } from "../exit.ts";
import { BACKEND_COLUMNS, backendCells } from "./rows.ts";

export const listBackends: Run = async (context) => {
  const [word] = context.args;
  const { namespace, name } =
    word === undefined ? { namespace: "", name: "" } : parseServiceName(word);
  using client = await connectAgent(context);
  if (word !== undefined) await checkService(client, namespace, name);
  const found: ServiceBackend[] = [];
  const request = { namespace, service: name };
  for await (const backend of client.listBackends(request)) found.push(backend);
  const { output } = context;
  if (output.format === "json") {
    output.json(found);
    return 0;
  }
  const rows = found.map((row) => [
    `${row.namespace}/${row.service}`,
    `${row.servicePort}/${row.protocol}${row.local ? " local" : ""}`,
    ...(row.backend === undefined ? [] : backendCells(row.backend)),
  ]);
  const columns = [{ title: "SERVICE" }, { title: "PORT" }, ...BACKEND_COLUMNS];
  output.table({ columns, rows, empty: "no backends" });
  return 0;
};

/** A service without backends and a service that isn't there look the same in the list. */
async function checkService(
  client: Awaited<ReturnType<typeof connectAgent>>,
  namespace: string,
  name: string,
): Promise<void> {
  for await (const _ of client.listServices({ namespace, name, backends: false })) return;
  throw new CliError(
    "notFound",
    `there is no service ${namespace}/${name}; see: ciliate service list`,
  );
}
