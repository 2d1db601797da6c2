// SPDX-License-Identifier: Apache-2.0

// The kernel's own tunnel devices at the other end, ipip for IPv4 and ip6tnl (ip6ip6) for IPv6. The
// main machine's kernel has neither.

import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import type { Lab } from "../../src/lab/lab.ts";
import type { Family } from "../../src/net/address.ts";

const FABRIC = { ipv4: "203.0.113.254", ipv6: "fd00:203:0:113::254" } as const;
const PEER = { ipv4: "203.0.113.2", ipv6: "fd00:203:0:113::2" } as const;
const NETWORK = { ipv4: "24", ipv6: "64 nodad" } as const;

/** Runs `ip` in a namespace; the words of the line are its arguments. */
export function ip(namespace: string, line: string): void {
  execFileSync("ip", ["-n", namespace, ...line.split(" ")]);
}

/** A host on the lab's fabric that runs no Ciliate. */
export class ForeignPeer implements AsyncDisposable {
  readonly address: Readonly<Record<Family, string>> = PEER;
  readonly #namespace: string;
  readonly #servers: ChildProcess[] = [];

  constructor(lab: Lab) {
    const namespace = `cil-peer-${process.pid}`;
    this.#namespace = namespace;
    const fabric = lab.plan.switch.namespace;
    execFileSync("ip", ["netns", "add", namespace]);
    ip(namespace, `link add eth0 type veth peer name peer netns ${fabric}`);
    ip(fabric, "link set peer up");
    ip(namespace, "link set lo up");
    ip(namespace, "link set eth0 up");
    for (const family of ["ipv4", "ipv6"] as const) {
      ip(fabric, `addr add ${FABRIC[family]}/${NETWORK[family]} dev peer`);
      ip(namespace, `addr add ${PEER[family]}/${NETWORK[family]} dev eth0`);
      ip(namespace, `route add default via ${FABRIC[family]}`);
    }
  }

  /** Makes its kernel strip outer headers from anyone, and take what was inside for its own. */
  strip(addresses: Readonly<Record<Family, string>>): void {
    this.#stripIpip(addresses.ipv4);
    ip(this.#namespace, `link add strip type ip6tnl mode ip6ip6 local ${PEER.ipv6}`);
    ip(this.#namespace, `addr add ${addresses.ipv6}/128 dev strip nodad`);
    ip(this.#namespace, "link set strip up");
  }

  #stripIpip(address: string): void {
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
