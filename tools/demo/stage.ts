// SPDX-License-Identifier: Apache-2.0

// What the demo plays on: a lab, nginx in its pods, and services.

import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { cgroupPath, cgroupPids } from "../../src/kernel/cgroup.ts";
import { createLab, type Lab } from "../../src/lab/lab.ts";
import type { ServiceSpec } from "../../src/lab/manifest.ts";
import { type NodePlan, type PodPlan, placeNamed } from "../../src/lab/plan.ts";
import { until } from "../../src/lab/process.ts";

export const VIP = "198.51.100.1";
export const VIP_PORT = 80;
export const POD_PORT = 8080;
/** Of a service that only has pods of other nodes than the balancer. */
export const FAR_VIP = "198.51.100.2";
/** Another of its addresses: a client remembers the MTU of each. */
export const FAR_UDP_VIP = "198.51.100.3";
/** The node that the switch sends the service's packets to. */
export const BALANCER = "node1";
/** Nginx writes it when it listens. */
const PID_FILE = "nginx.pid";
const READY_LIMIT_MS = 60_000;

/** A service and pod as `ciliate service get -o json` tells of them; what the demo reads of it. */
export interface ServiceView {
  readonly ports: readonly {
    readonly ringSize: number;
    readonly activeBackends: number;
    readonly backends: readonly {
      readonly address: string;
      readonly condition: string;
      readonly share: number;
      readonly traffic?: { readonly connections: number };
    }[];
  }[];
  readonly sync?: { readonly state: string; readonly problem: string };
}

/** One line of a pod's access log. */
export interface Access {
  readonly client: string;
  readonly port: number;
  readonly status: number;
  readonly uri: string;
}

function nginxConfig(pod: PodPlan, directory: string): string {
  const { name } = pod.place;
  const temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
    .map((kind) => `  ${kind}_temp_path ${directory}/${kind};`)
    .join("\n");
  return `daemon off;
user root;
worker_processes 1;
pid ${directory}/${PID_FILE};
error_log ${directory}/error.log;
events { worker_connections 4096; }
http {
  log_format demo '$remote_addr $remote_port $status $request_uri';
  access_log ${directory}/access.log demo;
  default_type text/plain;
  keepalive_timeout 1h;
  keepalive_requests 1000000;
${temporary}
  server {
    listen ${POD_PORT} backlog=4096;
    location / {
      return 200 "${name} on ${pod.node} greets $remote_addr:$remote_port\\n";
    }
    location /stream/ {
      access_log off;
      return 200 "${name} $uri\\n";
    }
  }
}
`;
}

/** The lab with what runs in it. */
export class Stage {
  readonly lab: Lab;
  /** The demo's own files; it goes with the lab. */
  readonly directory: string;
  readonly pods: readonly PodPlan[];

  constructor(lab: Lab) {
    this.lab = lab;
    this.directory = join(lab.plan.state, "demo");
    this.pods = lab.plan.nodes.flatMap(({ pods }) => pods);
    mkdirSync(this.directory, { recursive: true });
  }

  podDirectory(pod: string): string {
    return join(this.directory, pod);
  }

  /** Starts nginx in pods, by one configuration each, and waits until all listen. */
  async startWebServers(pods = this.pods): Promise<void> {
    for (const pod of pods) {
      const directory = this.podDirectory(pod.place.name);
      mkdirSync(directory, { recursive: true });
      rmSync(join(directory, PID_FILE), { force: true });
      const config = join(directory, "nginx.conf");
      writeFileSync(config, nginxConfig(pod, directory));
      const argv = ["nginx", "-c", config, "-p", directory, "-e", join(directory, "error.log")];
      this.lab.start(pod.place.name, argv, join("demo", pod.place.name, "nginx.out"));
    }
    for (const { place } of pods) {
      const pid = join(this.podDirectory(place.name), PID_FILE);
      await until(`nginx in ${place.name} to listen`, READY_LIMIT_MS, () => existsSync(pid));
    }
  }

  /** Kills the web server of a pod, without a chance to say good-bye. */
  killWebServer(pod: string): void {
    const { cgroup } = placeNamed(this.lab.plan, pod);
    for (const pid of cgroupPids(cgroupPath(cgroup))) process.kill(pid, "SIGKILL");
  }

  /** The web service with these pods behind it. */
  web(pods = this.pods.map(({ place }) => place.name)): ServiceSpec {
    const ports = [{ name: "http", port: VIP_PORT, targetPort: POD_PORT }];
    return { name: "web", addresses: [VIP], ports, backends: pods };
  }

  /** Waits until all nodes have the service with so many backends in their kernel's tables. */
  async waitService(name: string, backends: number): Promise<void> {
    for (const { place } of this.lab.plan.nodes) {
      await until(`service ${name} on ${place.name}`, READY_LIMIT_MS, async () => {
        const view = await this.service(name, place.name).catch(() => undefined);
        const ready = view?.ports.every(({ activeBackends }) => activeBackends === backends);
        return ready === true && view?.sync?.state === "applied";
      });
    }
  }

  /** A service as a node's agent knows it; throws LabError. */
  async service(name: string, node = BALANCER): Promise<ServiceView> {
    const argv = ["ciliate", "service", "get", name, "-o", "json"];
    return JSON.parse(await this.lab.output(node, argv)) as ServiceView;
  }

  /** The packets that met each verdict on a node, by `verdict`, over all places. */
  async verdicts(node: string): Promise<Record<string, number>> {
    const argv = ["ciliate", "bpf", "metrics", "list", "-o", "json"];
    const rows = JSON.parse(await this.lab.output(node, argv)) as {
      readonly verdict: string;
      readonly packets: number;
    }[];
    const counts: Record<string, number> = {};
    for (const { verdict, packets } of rows) counts[verdict] = (counts[verdict] ?? 0) + packets;
    return counts;
  }

  /** What nginx in a pod has logged. */
  accesses(pod: string): Access[] {
    const text = readFileSync(join(this.podDirectory(pod), "access.log"), "latin1");
    return text
      .split("\n")
      .filter((line) => line !== "")
      .map((line) => {
        const [client = "", port = "", status = "", uri = ""] = line.split(" ");
        return { client, port: Number(port), status: Number(status), uri };
      });
  }

  /** The last line of a pod's log, which nginx writes after its answer. */
  async nextAccess(pod: string): Promise<Access | undefined> {
    await until(`${pod} to log`, READY_LIMIT_MS, () => this.accesses(pod).length > 0);
    return this.accesses(pod).at(-1);
  }

  /** Changes keys of all nodes' configuration and restarts their agents. */
  async reconfigure(change: (config: string) => string): Promise<void> {
    const restart = async ({ place, paths }: NodePlan): Promise<void> => {
      writeFileSync(paths.config, change(readFileSync(paths.config, "utf8")));
      await this.lab.stopAgent(place.name);
      await this.lab.startAgent(place.name);
    };
    await Promise.all(this.lab.plan.nodes.map(restart));
  }
}

/** A lab on its way up, which can be taken down at any moment. */
export class Rise {
  readonly #lab: Promise<Lab>;

  constructor(name: string) {
    // The pods' segment size is the datapath's to lower here, so that the demo can compare.
    this.#lab = createLab({ name, lowerMss: false });
  }

  get lab(): Promise<Lab> {
    return this.#lab;
  }

  /** Removes the lab; one that failed to come up has removed itself. */
  async down(): Promise<void> {
    const lab = await this.#lab.catch(() => undefined);
    await lab?.down();
  }
}
