// SPDX-License-Identifier: Apache-2.0
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { test } from "node:test";
import { createNamespace, deleteNamespace } from "../kernel/netns.ts";
import { readSysctl, writeSysctls } from "../kernel/sysctl.ts";
import { whyNotForwarded } from "./forwarding.ts";

test("forwarding that is off is told by device and family, with what turns it on", (t) => {
  const name = `cilfwd${process.pid}`;
  const path = createNamespace(name);
  t.after(() => deleteNamespace(name));
  const set = (key: string, value: number): void => writeSysctls({ [key]: value }, path);
  for (const pair of ["a0 type veth peer name a1", "b.5 type veth peer name b1"]) {
    execFileSync("ip", ["-n", name, "link", "add", ...pair.split(" ")]);
  }
  set("net/ipv4/ip_forward", 1);
  set("net/ipv4/ip_forward", 0);
  const why = (ipv4: readonly string[], ipv6: readonly string[] = []): string =>
    whyNotForwarded({ ipv4, ipv6 }, (key) => readSysctl(key, path));
  const off = (key: string, who: string): string =>
    `${key} is 0, so packets by ${who} find no way out by programs: sysctl -w ${key}=1`;

  assert.equal(why([]), "");
  assert.equal(why(["a0", "b.5"]), off("net.ipv4.ip_forward", "a0 and 1 more"));
  set("net/ipv4/conf/a0/forwarding", 1);
  assert.equal(why(["a0"]), "", "the device's own is what counts");
  set("net/ipv4/ip_forward", 1);
  assert.equal(why(["a0", "b.5", "gone"]), "");
  set("net/ipv4/conf/a0/forwarding", 0);
  assert.equal(why(["a0", "b.5"]), off("net.ipv4.conf.a0.forwarding", "a0"));
  set("net/ipv4/conf/b.5/forwarding", 0);
  assert.equal(why(["b.5"]), off("net/ipv4/conf/b.5/forwarding", "b.5"));
  const six = off("net.ipv6.conf.all.forwarding", "a0");
  assert.equal(why(["a0"], ["a0"]), `${off("net.ipv4.conf.a0.forwarding", "a0")}; ${six}`);
  set("net/ipv6/conf/all/forwarding", 1);
  assert.equal(why([], ["a0", "b.5"]), "");
});
