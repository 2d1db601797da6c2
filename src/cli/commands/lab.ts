// SPDX-License-Identifier: Apache-2.0
import { once } from "node:events";
import { constants } from "node:os";
import { resolve } from "node:path";
import type { Context, Run } from "../command.ts";
import { CliError } from "../exit.ts";

const DEFAULT_NAME = "lab";

function nameOf({ option, env }: Context): string {
  return option("name") ?? env["CILIATE_LAB"] ?? DEFAULT_NAME;
}

function number(context: Context, name: string): number | undefined {
  const written = context.option(name);
  if (written === undefined) return undefined;
  if (/^\d{1,9}$/.test(written)) return Number(written);
  throw new CliError("usage", `--${name}: expected a whole number, got "${written}"`);
}

/** What was given of these options, under the lab's names for them. */
function given<T>(values: { readonly [K in keyof T]: T[K] | undefined }): Partial<T> {
  const entries = Object.entries(values).filter(([, value]) => value !== undefined);
  return Object.fromEntries(entries) as Partial<T>;
}

const ACCELERATIONS = ["native", "generic", "off"] as const;
const ENCAPSULATIONS = ["all", "first"] as const;
const DISPATCHES = ["ipip", "geneve", "option"] as const;
const LINK_LOCAL = /^fe80:/;

/** A thing of IPv4 and, where the lab has IPv6, the same of IPv6. */
const both = (ipv4: string, ipv6: string | null): string =>
  ipv6 === null ? ipv4 : `${ipv4} ${ipv6}`;

export const labUp: Run = async (context) => {
  const { createLab } = await import("../../lab/lab.ts");
  const { option, output } = context;
  const start = performance.now();
  const lab = await createLab({
    name: nameOf(context),
    bundle: option("bundle") !== undefined,
    agents: option("no-agents") === undefined,
    ...given({
      ipv6: option("no-ipv6") === undefined ? undefined : false,
      nodes: number(context, "nodes"),
      podsPerNode: number(context, "pods-per-node"),
      mtu: number(context, "mtu"),
      acceleration: ACCELERATIONS.find((mode) => mode === option("acceleration")),
      encapsulate: ENCAPSULATIONS.find((mode) => mode === option("encapsulate")),
      dispatch: DISPATCHES.find((mode) => mode === option("dispatch")),
    }),
  });
  if (output.format === "json") {
    output.json(lab.status());
    return 0;
  }
  const { nodes, podsPerNode, acceleration, encapsulate } = lab.plan.settings;
  const seconds = ((performance.now() - start) / 1000).toFixed(1);
  const pods = nodes * podsPerNode;
  const name = lab.name === DEFAULT_NAME ? "" : ` --name ${lab.name}`;
  output.write(
    `lab ${lab.name} is up after ${seconds} s: ${nodes} nodes, ${pods} pods, ` +
      `acceleration ${acceleration}, encapsulate ${encapsulate}\n` +
      `look at it:   ciliate lab status${name}\n` +
      `be in it:     ciliate lab exec${name} client -- bash\n` +
      `take it down: ciliate lab down${name}\n`,
  );
  return 0;
};

export const labStatus: Run = async (context) => {
  const { openLab } = await import("../../lab/lab.ts");
  const { output } = context;
  const status = openLab(nameOf(context)).status();
  if (output.format === "json") {
    output.json(status);
    return 0;
  }
  output.write(
    `lab ${status.name}: acceleration ${status.acceleration}, encapsulate ${status.encapsulate}, ` +
      `virtual IPs ${both(status.virtualIps, status.virtualIps6)}, files in ${status.state}\n\n`,
  );
  output.table({
    columns: [{ title: "NODE" }, { title: "ADDRESS" }, { title: "POD CIDR" }, { title: "AGENT" }],
    rows: status.nodes.map(({ name, address, address6, podCidr, podCidr6, agent }) => [
      name,
      both(address, address6),
      both(podCidr, podCidr6),
      agent === null
        ? "none"
        : agent.running
          ? { text: `pid ${agent.pid}`, colour: "green" as const }
          : { text: `dead (was pid ${agent.pid})`, colour: "red" as const },
    ]),
  });
  output.write("\n");
  output.table({
    columns: [
      { title: "PLACE" },
      { title: "DEVICE" },
      { title: "ADDRESS" },
      { title: "WIRED TO" },
      { title: "NAMESPACE" },
    ],
    rows: status.places.flatMap(({ name, namespace, devices }) =>
      devices
        .filter((device) => device.name !== "lo")
        .map((device) => [
          name,
          device.name,
          device.addresses.filter((address) => !LINK_LOCAL.test(address)).join(" "),
          device.peer ?? "",
          namespace,
        ]),
    ),
  });
  return 0;
};

export const labExec: Run = async (context) => {
  const { openLab } = await import("../../lab/lab.ts");
  const [where = "", ...argv] = context.args;
  if (argv.length === 0) {
    throw new CliError("usage", "lab exec needs a command: ciliate lab exec client -- ip address");
  }
  const lab = openLab(nameOf(context));
  const child = lab.spawn(where, argv, { stdio: "inherit" });
  // A terminal's Ctrl-C goes to the command as well, which decides; this process hears of its end.
  process.on("SIGINT", () => {});
  process.on("SIGQUIT", () => {});
  process.on("SIGTERM", () => child.kill("SIGTERM"));
  const [code, signal] = (await once(child, "close")) as [number | null, NodeJS.Signals | null];
  return code ?? 128 + (signal === null ? 0 : constants.signals[signal]);
};

export const labCapture: Run = async (context) => {
  const packets = number(context, "packets");
  if (packets === 0) {
    throw new CliError("usage", "--packets: expected 1 or more; leave it out to end by Ctrl-C");
  }
  const { openLab } = await import("../../lab/lab.ts");
  const { option, output, signal } = context;
  const [where = ""] = context.args;
  const lab = openLab(nameOf(context));
  const file = resolve(option("write") ?? `${lab.name}-${where}.pcapng`);
  const devices = option("device")?.split(",");
  const filter = option("filter");
  const capture = await lab.capture(where, file, given({ devices, filter, packets }));
  if (output.format === "text") output.write(`capturing in ${where}; Ctrl-C ends it\n`);
  const told = new Promise<void>((done) => {
    if (signal.aborted) done();
    signal.addEventListener("abort", () => done(), { once: true });
  });
  const lost = await Promise.race([told.then(() => capture.stop()), capture.ended]);
  if (output.format === "json") output.json({ file, lost });
  else output.write(`wrote ${file}; read it with: tshark -r ${file}\n`);
  if (lost > 0 && output.format === "text") {
    output.write(`${lost} packets came too fast and aren't in it; a --filter makes them fewer\n`);
  }
  return 0;
};

export const labDown: Run = async (context) => {
  const { labExists, removeLab } = await import("../../lab/state.ts");
  const name = nameOf(context);
  const existed = labExists(name);
  await removeLab(name);
  const { output } = context;
  if (output.format === "json") output.json({ name, existed });
  else output.write(existed ? `lab ${name} is gone\n` : `there was no lab ${name}\n`);
  return 0;
};
