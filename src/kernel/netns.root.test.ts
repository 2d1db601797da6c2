// SPDX-License-Identifier: Apache-2.0
import assert from "node:assert/strict";
import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, readlinkSync, statSync, writeFileSync } from "node:fs";
import test from "node:test";
import {
  addToCgroup,
  cgroupId,
  cgroupPath,
  cgroupPids,
  cgroupRoot,
  createCgroup,
  removeCgroup,
} from "./cgroup.ts";
import { KernelError } from "./error.ts";
import {
  createNamespace,
  deleteNamespace,
  inNamespace,
  isNamespace,
  listNamespaces,
  namespaceCookie,
  namespaceInode,
  namespacePath,
  spawnInNamespace,
} from "./netns.ts";
import { readSysctl, writeSysctls } from "./sysctl.ts";

const name = (suffix: string): string => `ciliate-ns-${process.pid}-${suffix}`;
const own = (): string => readlinkSync("/proc/thread-self/ns/net");

test("a namespace is seen by ip netns, entered and removed", (t) => {
  const home = own();
  const path = createNamespace(name("a"));
  t.after(() => deleteNamespace(name("a")));
  assert.equal(own(), home);
  assert.ok(listNamespaces().includes(name("a")));
  assert.match(
    execFileSync("ip", ["netns"], { encoding: "utf8" }),
    new RegExp(`^${name("a")}`, "m"),
  );
  assert.equal(
    execFileSync("ip", ["netns", "exec", name("a"), "ls", "/sys/class/net"]).toString(),
    "lo\n",
  );
  const inside = inNamespace(path, own);
  assert.equal(inside, `net:[${namespaceInode(path)}]`);
  assert.notEqual(inside, home);
  assert.notEqual(namespaceCookie(path), namespaceCookie());
  assert.throws(
    () => createNamespace(name("a")),
    (error) => error instanceof KernelError && error.code === "EEXIST",
  );
  deleteNamespace(name("a"));
  assert.ok(!existsSync(path));
  deleteNamespace(name("a"));
});

test("the thread comes home when what it did inside fails", (t) => {
  const home = own();
  const path = createNamespace(name("b"));
  t.after(() => deleteNamespace(name("b")));
  assert.throws(
    () =>
      inNamespace(path, () => {
        throw new Error("inside");
      }),
    /inside/,
  );
  assert.throws(() => inNamespace(path, async () => 1), /async/);
  assert.throws(
    () => inNamespace("/run/netns/ciliate-none", own),
    /cannot open namespace .*ciliate-none/,
  );
  assert.throws(() => inNamespace("/etc/hostname", own), /cannot enter namespace \/etc\/hostname/);
  assert.equal(own(), home);
});

test("a file that a broken removal left behind is no namespace, and is taken over", (t) => {
  const path = namespacePath(name("c"));
  createNamespace(name("c0"));
  t.after(() => deleteNamespace(name("c0")));
  writeFileSync(path, "");
  assert.ok(!isNamespace(path));
  assert.ok(!listNamespaces().includes(name("c")));
  createNamespace(name("c"));
  assert.ok(isNamespace(path));
  deleteNamespace(name("c"));
  assert.throws(() => namespacePath("../evil"), /can't name a namespace/);
});

test("a process runs in the namespace and sees the host's mounts", async (t) => {
  const path = createNamespace(name("d"));
  t.after(() => deleteNamespace(name("d")));
  const script = "readlink /proc/self/ns/net; readlink /proc/self/ns/mnt";
  const child = spawnInNamespace(path, "sh", ["-c", script], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  let output = "";
  child.stdout?.on("data", (chunk) => {
    output += chunk;
  });
  await once(child, "close");
  assert.deepEqual(output.trim().split("\n"), [
    `net:[${namespaceInode(path)}]`,
    readlinkSync("/proc/self/ns/mnt"),
  ]);
});

test("sysctls are the namespace's own", (t) => {
  const path = createNamespace(name("e"));
  t.after(() => deleteNamespace(name("e")));
  const before = readSysctl("net/ipv4/ip_default_ttl");
  writeSysctls({ "net/ipv4/ip_default_ttl": 77, "net/ipv4/ip_forward": 1 }, path);
  assert.equal(readSysctl("net/ipv4/ip_default_ttl", path), "77");
  assert.equal(readSysctl("net/ipv4/ip_forward", path), "1");
  assert.equal(readSysctl("net/ipv4/ip_default_ttl"), before);
  assert.throws(() => readSysctl("net.ipv4.ip_forward/../../x"), /is not a sysctl/);
  assert.throws(() => writeSysctls({ "net/ipv4/no_such": 1 }, path), /ENOENT/);
});

test("a cgroup takes a process in and is removed with those below", async (t) => {
  const path = createCgroup(`${name("cgroup")}/below`);
  const top = cgroupPath(name("cgroup"));
  t.after(() => removeCgroup(top));
  assert.ok(path.startsWith(cgroupRoot()));
  assert.equal(cgroupId(path), statSync(path, { bigint: true }).ino);
  const child = spawn("sleep", ["30"]);
  addToCgroup(path, child.pid ?? -1);
  assert.deepEqual(cgroupPids(path), [child.pid]);
  assert.throws(() => removeCgroup(top), /EBUSY/);
  child.kill();
  await once(child, "close");
  removeCgroup(top);
  assert.ok(!existsSync(top));
  removeCgroup(top);
});
