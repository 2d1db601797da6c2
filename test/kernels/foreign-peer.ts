// SPDX-License-Identifier: Apache-2.0

// The kernel's own ipip device at the other end. The main machine's kernel has none.

import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import type { Lab } from "../../src/lab/lab.ts";

const FABRIC_ADDRESS = "203.0.113.254";

/** Runs `ip` in a namespace; the words of the line are its arguments. */
export function ip(namespace: string, line: string): void {
  execFileSync("ip", ["-n", namespace, ...line.split(" ")]);
}

/** A host on the lab's fabric that runs no Ciliate. */
export class ForeignPeer implements AsyncDisposable {
  readonly address = "203.0.113.2";
  readonly #namespace: string;
  readonly #servers: ChildProcess[] = [];

  constructor(lab: Lab) {
    const namespace = `cil-peer-${process.pid}`;
    this.#namespace = namespace;
    const fabric = lab.plan.switch.namespace;
    execFileSync("ip", ["netns", "add", namespace]);
    ip(namespace, `link add eth0 type veth peer name peer netns ${fabric}`);
    ip(fabric, `addr add ${FABRIC_ADDRESS}/24 dev peer`);
    ip(fabric, "link set peer up");
    ip(namespace, `addr add ${this.address}/24 dev eth0`);
    ip(namespace, "link set lo up");
    ip(namespace, "link set eth0 up");
    ip(namespace, `route add default via ${FABRIC_ADDRESS}`);
  }

  /** Makes its kernel strip IPIP from anyone, and take what was inside for its own address. */
  strip(address: string): void {
    execFileSync("modprobe", ["ipip"]); // brings tunl0 into every namespace
    for (const device of ["all", "default", "tunl0"]) {
      this.#run("sysctl", "-q", "-w", `net.ipv4.conf.${device}.rp_filter=0`);
    }
    ip(this.#namespace, `addr add ${address}/32 dev tunl0`);
    ip(this.#namespace, "link set tunl0 up");
  }

  /** Starts a server that runs until disposal. */
  start(argv: readonly string[]): void {
    this.#servers.push(spawn("ip", ["netns", "exec", this.#namespace, ...argv]));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const server of this.#servers) {
      const ended = once(server, "exit");
      server.kill();
      await ended;
    }
    execFileSync("ip", ["netns", "del", this.#namespace]);
  }

  #run(...argv: readonly string[]): void {
    execFileSync("ip", ["netns", "exec", this.#namespace, ...argv]);
  }
}
