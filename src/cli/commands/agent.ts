// SPDX-License-Identifier: Apache-2.0
import type { Run } from "../command.ts";

const DEFAULT_FILE = "/etc/ciliate/ciliate.yaml";

export const agent: Run = async ({ option, env }) => {
  const file = option("config") ?? env["CILIATE_CONFIG"] ?? DEFAULT_FILE;
  const { runAgent } = await import("../../agent/main.ts");
  return await runAgent(file);
};
