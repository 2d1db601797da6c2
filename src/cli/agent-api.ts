// SPDX-License-Identifier: Apache-2.0
import { type ApiClient, openApiClient } from "../api/client.ts";
import { parseDuration } from "../config/kind.ts";
import type { Context } from "./command.ts";
import { CliError } from "./exit.ts";

const DEFAULT_SOCKET = "/run/ciliate/ciliate.sock";

/** Where the agent is expected: `--socket`, $CILIATE_SOCKET, or the default. */
export function socketOf({ option, env }: Context): string {
  return option("socket") ?? env["CILIATE_SOCKET"] ?? DEFAULT_SOCKET;
}

/** Connects to the node's agent as the command line says. */
export function connectAgent(context: Context): Promise<ApiClient> {
  const timeoutMs = durationOption(context, "timeout") ?? 5000;
  return openApiClient({ socket: socketOf(context), timeoutMs });
}

/** The value of an option that is a duration, in milliseconds. */
export function durationOption({ option }: Context, name: string): number | undefined {
  const written = option(name);
  if (written === undefined) return undefined;
  const length = parseDuration(written);
  if (length !== undefined) return length;
  throw new CliError("usage", `--${name}: expected a duration such as 5s, got "${written}"`);
}

/** The value of an option that is a whole number of at least 1. */
export function countOption({ option }: Context, name: string): number | undefined {
  const written = option(name);
  if (written === undefined) return undefined;
  if (/^[1-9]\d{0,14}$/.test(written)) return Number(written);
  throw new CliError("usage", `--${name}: expected a whole number from 1 on, got "${written}"`);
}

/** `NAMESPACE/NAME`, or a bare name in `default`. */
export function parseServiceName(text: string): { namespace: string; name: string } {
  const [first = "", second, more] = text.split("/");
  const parsed =
    second === undefined
      ? { namespace: "default", name: first }
      : { namespace: first, name: second };
  if (more === undefined && parsed.namespace !== "" && parsed.name !== "") return parsed;
  throw new CliError("usage", `SERVICE: expected NAMESPACE/NAME or a name, got "${text}"`);
}
