// SPDX-License-Identifier: Apache-2.0
import type { PacketEvent } from "../../api/gen/ciliate.ts";
import { tryParseAddress } from "../../net/address.ts";
import { connectAgent, countOption } from "../agent-api.ts";
import type { Context, Run } from "../command.ts";
import { CliError } from "../exit.ts";
import { endpointText, type Output } from "../output.ts";

export const monitor: Run = async (context) => {
  const request = readRequest(context);
  const count = countOption(context, "count") ?? Number.POSITIVE_INFINITY;
  const { output, signal } = context;
  const ended = new AbortController();
  const show = output.format === "json" ? showJson : showText;
  using client = await connectAgent(context);
  let shown = 0;
  for await (const message of client.monitor(request, AbortSignal.any([signal, ended.signal]))) {
    for (const event of message.events.slice(0, count - shown)) show(output, event);
    shown += message.events.length;
    if (message.lost > 0n) tellLost(output, message.lost, "this terminal was too slow");
    if (message.overwritten > 0n) tellLost(output, message.overwritten, "the agent was too slow");
    if (shown >= count) ended.abort();
  }
  return 0;
};

function readRequest(context: Context) {
  const address = context.option("address") ?? "";
  if (address !== "" && tryParseAddress(address) === undefined) {
    throw new CliError("usage", `--address: expected an address, got "${address}"`);
  }
  const port = countOption(context, "port") ?? 0;
  if (port > 65_535) throw new CliError("usage", `--port: expected at most 65535, got "${port}"`);
  const traces = context.option("traces") === "true";
  return { drops: true, traces, address, port, verdict: context.option("verdict") ?? "" };
}

function tellLost(output: Output, count: bigint, why: string): void {
  if (output.format === "json") output.json({ lost: count, why }, true);
  else output.write(`${output.paint("yellow", `${count} events are missing here: ${why}`)}\n`);
}

function showJson(output: Output, { timeUnixNs, ...event }: PacketEvent): void {
  output.json({ time: formatTime(timeUnixNs), ...event }, true);
}

/** RFC 3339 with nanoseconds. */
function formatTime(unixNs: bigint): string {
  const seconds = new Date(Number(unixNs / 1_000_000n)).toISOString().slice(0, 19);
  return `${seconds}.${(unixNs % 1_000_000_000n).toString().padStart(9, "0")}Z`;
}

function showText(output: Output, event: PacketEvent): void {
  const time = formatTime(event.timeUnixNs).slice(11, 23);
  const colour = event.verdict.startsWith("drop") ? "red" : "green";
  const verdict = output.paint(colour, event.verdict.padEnd(20));
  output.write(`${time} ${event.place.padEnd(4)} ${verdict} ${describePacket(event)}\n`);
}

function describePacket(event: PacketEvent): string {
  const source = endpointText(event.source, event.sourcePort);
  const destination = endpointText(event.destination, event.destinationPort);
  const flags = event.tcpFlags === "" ? "" : ` [${event.tcpFlags}]`;
  const parts = [`${event.protocol} ${source} -> ${destination}${flags} ${event.length} B`];
  if (event.outerSource !== "") {
    parts.push(`in ${event.outerSource} -> ${event.outerDestination}`);
  }
  if (event.device !== "") parts.push(`on ${event.device}`);
  if (event.service !== "") parts.push(`for ${event.service}`);
  if (event.backend !== "") parts.push(`to ${event.backend}`);
  return parts.join(" ");
}
