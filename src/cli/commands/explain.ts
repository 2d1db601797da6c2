// SPDX-License-Identifier: Apache-2.0
import {
  type Address,
  formatAddress,
  formatAddressPort,
  isIpv4,
  parseAddress,
  tryParseAddress,
} from "../../net/address.ts";
import { connectAgent } from "../agent-api.ts";
import type { Context, Run } from "../command.ts";
import { CliError } from "../exit.ts";
import type { Colour, Output } from "../output.ts";
import { pinsOf, reading } from "../pins.ts";

/** The door to the packet path: what is behind it loads libbpf. */
const door = () => import("../../datapath/explain.ts");

type Explain = Awaited<ReturnType<typeof door>>["explain"];
type Question = Parameters<Explain>[1];
type Explanation = ReturnType<Explain>;

/** What the agent knows besides the tables; nothing without one. */
interface Names {
  readonly service: string;
  readonly mode: string;
  readonly node: string;
  readonly weight: number | undefined;
}

/**
 * Of the blocks for documentation (RFC 5737, RFC 3849): anybody outside, and no virtual IP of our
 * own documents and labs.
 */
const ANYBODY = { ipv4: "203.0.113.1", ipv6: "2001:db8::1" } as const;
const ANY_PORT = 50_000;

export const explainService: Run = async (context) => {
  const question = readQuestion(context);
  const pins = pinsOf(context);
  const { explain } = await door();
  const explanation = reading(pins, () => explain(pins, question));
  const names = await askNames(context, explanation);
  if (context.output.format === "json") {
    context.output.json(asJson(question, explanation, names));
  } else {
    show(context, question, explanation, names);
  }
  return 0;
};

function readQuestion({ args, option }: Context): Question {
  const at = parseEndpoint(args[0] ?? "", "VIP:PORT");
  if (at.port === undefined) throw wrong("VIP:PORT", "an address and a port", args[0] ?? "");
  const family = isIpv4(at.address) ? "ipv4" : "ipv6";
  const from = parseEndpoint(option("from") ?? ANYBODY[family], "--from");
  if (isIpv4(from.address) !== isIpv4(at.address)) {
    throw new CliError("usage", "--from: the client and the service are of different families");
  }
  return {
    client: from.address,
    clientPort: from.port ?? ANY_PORT,
    address: at.address,
    port: at.port,
    protocol: protocolOf(option("protocol")),
    device: option("device"),
  };
}

function protocolOf(word: string | undefined): Question["protocol"] {
  return word === "udp" || word === "sctp" ? word : "tcp";
}

/** `192.0.2.1`, `192.0.2.1:80`, `2001:db8::1`, `[2001:db8::1]:80`. */
function parseEndpoint(
  text: string,
  what: string,
): { readonly address: Address; readonly port: number | undefined } {
  const whole = tryParseAddress(text);
  if (whole !== undefined) return { address: whole, port: undefined };
  const match = /^(?:\[([0-9a-fA-F:.]+)\]|([\d.]+)):(\d{1,5})$/.exec(text);
  const [, wide, narrow, digits] = match ?? [];
  const address = tryParseAddress(wide ?? narrow ?? "");
  const port = Number(digits);
  if (address === undefined || port < 1 || port > 65_535) {
    throw wrong(what, "an address and a port, such as 192.0.2.1:80 or [2001:db8::1]:80", text);
  }
  return { address, port };
}

function wrong(what: string, wanted: string, got: string): CliError {
  return new CliError("usage", `${what}: expected ${wanted}, got "${got}"`);
}

async function askNames(
  context: Context,
  { service, backend }: Explanation,
): Promise<Names | undefined> {
  if (service === undefined) return undefined;
  try {
    using client = await connectAgent(context);
    const request = { namespace: "", name: "", backends: true };
    for await (const row of client.listServices(request)) {
      const port = row.ports.find(({ id }) => id === service.id);
      if (port === undefined) continue;
      const chosen = port.backends.find(
        (one) =>
          backend !== undefined &&
          one.port === backend.port &&
          parseAddress(one.address) === backend.address,
      );
      return {
        service: `${row.namespace}/${row.name}${port.name === "" ? "" : `:${port.name}`}`,
        mode: port.mode,
        node: chosen?.node ?? "",
        weight: chosen?.weight,
      };
    }
  } catch {
    // Tables and programs answer without an agent; only names are its.
  }
  return undefined;
}

function asJson(question: Question, explanation: Explanation, names: Names | undefined) {
  const { service, backend, steps, ...rest } = explanation;
  return {
    protocol: question.protocol,
    client: formatAddressPort(question.client, question.clientPort),
    destination: formatAddressPort(question.address, question.port),
    ...rest,
    service: service && { name: names?.service ?? "", mode: names?.mode ?? "", ...service },
    backend: backend && {
      ...backend,
      address: formatAddress(backend.address),
      node: names?.node ?? "",
      weight: names?.weight,
    },
    steps: steps.map(({ way, bytes, ...step }) => ({
      ...step,
      way: way && {
        ...way,
        nexthop: way.nexthop === undefined ? undefined : formatAddress(way.nexthop),
      },
      bytes: hexOf(bytes),
    })),
  };
}

function show(
  { output, option }: Context,
  question: Question,
  explanation: Explanation,
  names: Names | undefined,
): void {
  const { client, clientPort, address, port, protocol } = question;
  const { device, service, backend, steps, notes, isKnownFlow } = explanation;
  const from = formatAddressPort(client, clientPort);
  const what = `${protocol} ${from} -> ${formatAddressPort(address, port)}`;
  output.write(`${output.paint("bold", what)}  by ${device}\n`);
  if (option("from") === undefined) {
    fact(
      output,
      "client",
      "anybody outside: --from names a client, whom ranges or affinity may know",
    );
  }
  if (isKnownFlow) fact(output, "flow", "known already: it stays with its pod");
  fact(output, "service", service === undefined ? "none" : serviceText(service, names));
  if (backend !== undefined) fact(output, "backend", backendText(backend, service, names));
  for (const step of steps) showStep(output, step, option("hex") === "true");
  for (const note of notes) fact(output, "but", output.paint("yellow", note));
}

function fact(output: Output, title: string, text: string): void {
  output.write(`${title.padEnd(9)}${text}\n`);
}

function serviceText(
  { id, flags, ringSize, backends }: NonNullable<Explanation["service"]>,
  names: Names | undefined,
): string {
  const name = names === undefined ? "(no agent to tell its name)" : names.service;
  const parts = [`${name}, id ${id}`, `${backends} backends in a ring of ${ringSize}`];
  if (names !== undefined && names.mode !== "") parts.push(`by ${names.mode}`);
  if (flags.length > 0) parts.push(`flags ${flags.join(" ")}`);
  return parts.join(", ");
}

function backendText(
  { address, port, slot, slots }: NonNullable<Explanation["backend"]>,
  service: Explanation["service"],
  names: Names | undefined,
): string {
  const parts = [formatAddressPort(address, port)];
  if (names !== undefined && names.node !== "") parts.push(`on ${names.node}`);
  parts.push(slot === undefined ? "chosen for what is remembered" : `slot ${slot}`);
  const share = (slots / Math.max(1, service?.ringSize ?? 1)) * 100;
  const weight = names?.weight === undefined ? "" : `weight ${names.weight}, `;
  return `${parts.join(", ")} (${weight}${share.toFixed(1)} % of the ring)`;
}

function showStep(output: Output, step: Explanation["steps"][number], hex: boolean): void {
  const { place, verdict, why, way, layers, bytes } = step;
  const colour: Colour = verdict.startsWith("drop") ? "red" : "green";
  fact(output, place, `${output.paint(colour, verdict)}: ${why}`);
  if (way === undefined) return;
  const to = way.mac === undefined ? "MAC by the kernel's neighbours" : `to ${way.mac}`;
  const nexthop = way.nexthop === undefined ? "" : `, next hop ${formatAddress(way.nexthop)}`;
  fact(output, "way", `${way.device} ${to}${nexthop}`);
  fact(output, "leaves", `${bytes.length} bytes`);
  for (const layer of layers) fact(output, "", layer);
  if (!hex) return;
  for (let at = 0; at < bytes.length; at += HEX_COLUMNS) {
    const line = hexOf(bytes.subarray(at, at + HEX_COLUMNS)).replace(/../g, "$& ");
    fact(output, "", `${at.toString(16).padStart(4, "0")}  ${line.trimEnd()}`);
  }
}

const HEX_COLUMNS = 16;

function hexOf(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString("hex");
}
