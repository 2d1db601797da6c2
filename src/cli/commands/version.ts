// SPDX-License-Identifier: Apache-2.0
import { release } from "node:os";
import { VERSION } from "../../config/version.ts";
import type { Run } from "../command.ts";

export const version: Run = async (context) => {
  const { output } = context;
  const own = {
    version: VERSION,
    nodeVersion: process.versions.node,
    kernel: release(),
    architecture: process.arch,
  };
  let agent: unknown;
  if (context.option("agent") === "true") {
    const { connectAgent } = await import("../agent-api.ts");
    using client = await connectAgent(context);
    agent = await client.getVersion();
  }
  if (output.format === "json") {
    output.json({ ...own, ...(agent === undefined ? {} : { agent }) });
    return 0;
  }
  output.write(describe("ciliate", own));
  if (agent !== undefined) output.write(describe("agent", agent as typeof own));
  return 0;
};

function describe(
  name: string,
  {
    version,
    nodeVersion,
    kernel,
    architecture,
  }: Record<"version" | "nodeVersion" | "kernel" | "architecture", string>,
): string {
  return `${name} ${version} (Node ${nodeVersion}, Linux ${kernel}, ${architecture})\n`;
}
