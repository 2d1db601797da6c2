// SPDX-License-Identifier: Apache-2.0
// Real programs in a lab's pods: nginx, iperf3, and socat's echo over UDP.

import { randomBytes } from "node:crypto";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { Lab } from "../../../src/lab/lab.ts";
import { until } from "../../../src/lab/process.ts";

export const HTTP_PORT = 8080;
export const OTHER_HTTP_PORT = 8081;
export const IPERF_PORT = 5201;
export const ECHO_PORT = 9000;
/** Of the large body. */
export const BODY_BYTES = 10 * 1024 * 1024;

const START_LIMIT_MS = 10_000;

/** The programs of one pod. */
export interface PodPrograms {
  /** What nginx serves as /large. */
  readonly large: string;
  /** What nginx got by PUT as /NAME. */
  stored(name: string): Buffer;
  /** nginx's log: a line for each request, "CLIENT PORT METHOD STATUS". */
  requests(): string[];
}

function nginxConfig(directory: string): string {
  return `daemon off;
master_process off;
user root;
pid ${directory}/nginx.pid;
error_log ${directory}/nginx-error.log;
events {}
http {
  log_format short "$remote_addr $server_port $request_method $status";
  access_log ${directory}/access.log short;
  client_body_temp_path ${directory}/body;
  client_max_body_size 64m;
  server {
    listen ${HTTP_PORT};
    listen [::]:${HTTP_PORT};
    listen ${OTHER_HTTP_PORT};
    root ${directory}/www;
    dav_methods PUT;
  }
}
`;
}

/** Starts them in a pod; they end with the lab. nginx answers /name with the pod's name. */
export async function startPrograms(
  lab: Lab,
  pod: string,
  bodyBytes = BODY_BYTES,
): Promise<PodPrograms> {
  const directory = join(lab.plan.state, `programs-${pod}`);
  const file = (name: string): string => join(directory, name);
  mkdirSync(file("www"), { recursive: true });
  mkdirSync(file("body"));
  writeFileSync(file("www/name"), pod);
  writeFileSync(file("www/large"), randomBytes(bodyBytes));
  writeFileSync(file("nginx.conf"), nginxConfig(directory));
  lab.start(pod, ["nginx", "-c", file("nginx.conf")], `${pod}-nginx.log`);
  lab.start(pod, ["iperf3", "-s", "-p", String(IPERF_PORT)], `${pod}-iperf3.log`);
  for (const listen of [`UDP4-RECVFROM:${ECHO_PORT}`, `UDP6-RECVFROM:${ECHO_PORT},ipv6only`]) {
    lab.start(pod, ["socat", `${listen},fork`, "PIPE"], `${pod}-socat.log`);
  }
  await until(`the programs of ${pod} to listen`, START_LIMIT_MS, async () => {
    const listening = await lab.output(pod, ["ss", "-Hlntu"]);
    const wanted = ["0.0.0.0", "[::]"].flatMap((any) =>
      [HTTP_PORT, ECHO_PORT].map((port) => `${any}:${port} `),
    );
    return [...wanted, `:${IPERF_PORT} `].every((socket) => listening.includes(socket));
  });
  return {
    large: file("www/large"),
    stored: (name) => readFileSync(file(`www/${name}`)),
    requests: () => readFileSync(file("access.log"), "utf8").split("\n").slice(0, -1),
  };
}

/** Turns a device's checksum and segmentation offloads on or off. */
export async function setOffloads(
  lab: Lab,
  place: string,
  on: boolean,
  device = "eth0",
): Promise<void> {
  await lab.output(place, ["ethtool", "-K", device, "tx", on ? "on" : "off"]);
}

/** An address as it stands before a port. */
export function inUrl(address: string): string {
  return address.includes(":") ? `[${address}]` : address;
}

/** Sends one datagram by socat and returns what came back. */
export function echo(
  lab: Lab,
  address: string,
  port: number,
  text: string,
  options = "",
): Promise<string> {
  const family = address.includes(":") ? "UDP6" : "UDP4";
  const target = `${family}:${inUrl(address)}:${port},readbytes=${text.length}${options}`;
  return lab.output("client", ["socat", "-t", "3", "-", target], { input: text });
}
