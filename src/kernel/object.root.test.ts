// SPDX-License-Identifier: Apache-2.0

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { readdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { KernelError } from "./error.ts";
import { BpfMap } from "./map.ts";
import { openObject } from "./object.ts";
import { buildObject, makePinDirectory, u32 } from "./testdata/build.ts";

const sample = buildObject("sample");
const unsafe = buildObject("unsafe");
const packet = new Uint8Array(64);

test("an object tells its maps and programs before anything is loaded", () => {
  using object = openObject(sample);
  assert.equal(object.name, "sample");
  assert.deepEqual([...object.maps.keys()].sort(), [".rodata", "counters", "events", "rows"]);
  const { type, keySize, valueSize, maxEntries } = object.map("counters");
  assert.deepEqual([type, keySize, valueSize, maxEntries], ["hash", 4, 16, 4]);
  const { section, expectedAttachType } = object.program("pass_xdp");
  assert.deepEqual([section, expectedAttachType], ["xdp", 37]);
  assert.equal(new DataView(object.btf.buffer).getUint16(0, true), 0xeb9f);
  assert.throws(() => object.map("absent"), /no map absent in .*sample.bpf.o: it has counters, /);
});

test("constants set before the load are what the verifier and the program see", () => {
  using object = openObject(sample);
  using before = object.load();
  assert.equal(before.program("count_tc").testRun({ data: packet }).retval, -1);
  object.map(".rodata").initialValue?.set(u32(7));
  using after = object.load();
  assert.equal(after.program("count_tc").testRun({ data: packet }).retval, 7);
});

test("the size of a map can be set before the load", () => {
  using object = openObject(sample);
  object.map("counters").maxEntries = 1000;
  using loaded = object.load();
  assert.equal(loaded.map("counters").info.maxEntries, 1000);
});

test("programs of a second load use the map of the first", () => {
  const path = join(makePinDirectory(), "counters");
  using object = openObject(sample);
  using first = object.load();
  first.map("counters").pin(path);
  first.map("counters").update(u32(5), new Uint8Array(16));
  using pinned = BpfMap.openPinned(path);
  object.map("counters").reuse(pinned);
  using second = object.load();
  assert.equal(second.map("counters").id, pinned.id);
  second.program("count_tc").testRun({ data: packet, skb: { mark: 5 } });
  assert.equal(pinned.lookup(u32(5))?.[0], 1);
});

test("a map of another shape is not reused", () => {
  using object = openObject(sample);
  const sizes = { keySize: 4, valueSize: 8, maxEntries: 4 };
  using map = BpfMap.create({ name: "cil_other", type: "lru_hash", ...sizes });
  assert.throws(
    () => object.map("counters").reuse(map),
    /type lru_hash instead of hash, values of 8 bytes instead of 16/,
  );
});

test("a program that is not to be loaded is not verified", () => {
  using object = openObject(unsafe);
  object.program("unsafe").autoload = false;
  using loaded = object.load();
  assert.deepEqual([...loaded.programs.keys()], ["sound"]);
  assert.throws(() => loaded.program("unsafe"), /no program unsafe in .*: it has sound/);
});

test("the type and the hook of a program can be set before the load", () => {
  using object = openObject(sample);
  object.program("drop_xdp").expectedAttachType = 35; // BPF_XDP_DEVMAP
  object.program("emit").type = "sched_act";
  using loaded = object.load();
  assert.equal(loaded.program("emit").type, "sched_act");
});

test("what the verifier refuses comes with its last words and its whole log", () => {
  using object = openObject(unsafe);
  assert.throws(
    () => object.load(),
    (error) =>
      error instanceof KernelError &&
      error.operation === "load program" &&
      error.object === `unsafe of ${unsafe}` &&
      error.code === "EACCES" &&
      /R1 offset is outside of the packet \[return data\[0\]; (@ unsafe.bpf.c:\d+ )?\|/.test(
        error.detail,
      ) &&
      error.log.includes("invalid access to packet, off=0 size=1") &&
      error.log.includes("processed"),
  );
});

test("a program that asks for what this kernel lacks is told what that is", () => {
  using object = openObject(buildObject("missing"));
  object.program("missing_helper").autoload = false;
  assert.throws(() => object.load(), {
    operation: "load program",
    object: /^missing_field of/,
    detail: /no_such_field.*this kernel lacks a type or field that the program reads/,
  });
  object.program("missing_helper").autoload = true;
  object.program("missing_field").autoload = false;
  assert.throws(() => object.load(), { detail: /this kernel has no bpf_skb_load_bytes for/ });
  using another = openObject(buildObject("extern"));
  assert.throws(() => another.load(), {
    operation: "load object",
    detail: /'ciliate_no_such_function': not found in kernel/,
  });
});

test("libbpf says nothing on standard error by itself", () => {
  const script = `
    import { openObject } from ${JSON.stringify(new URL("./object.ts", import.meta.url).href)};
    try { openObject(${JSON.stringify(unsafe)}).load(); } catch { console.log("refused"); }`;
  const child = spawnSync(process.execPath, ["--input-type=module", "--eval", script]);
  assert.deepEqual([String(child.stdout), String(child.stderr)], ["refused\n", ""]);
});

test("a map that the kernel refuses is named, with the rule that it breaks", () => {
  using object = openObject(sample);
  object.map("counters").maxEntries = 0;
  assert.throws(() => object.load(), {
    operation: "create map",
    object: `counters of ${sample}`,
    code: "EINVAL",
    detail: /one entry at least/,
  });
});

test("a file that is no object, or is not there, is refused by its name", () => {
  const text = join(unsafe, "..", "text.bpf.o");
  writeFileSync(text, "not an object");
  assert.throws(() => openObject(text), { object: text, code: "ELIBBPF", detail: /ELF/ });
  assert.throws(() => openObject("/nowhere/x.o"), /cannot open object \/nowhere\/x.o: .*ENOENT/);
});

test("loading and closing leaves no descriptor behind, failures included", () => {
  const count = () => readdirSync("/proc/self/fd").length;
  const round = () => {
    using good = openObject(sample);
    good.load().close();
    using bad = openObject(unsafe);
    assert.throws(() => bad.load());
  };
  round();
  const before = count();
  for (let index = 0; index < 5; index += 1) round();
  assert.equal(count(), before);
});
