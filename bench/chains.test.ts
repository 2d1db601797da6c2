// SPDX-License-Identifier: Apache-2.0

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { parseElf } from "../src/kernel/elf.ts";
import { chainsOf, MOST_STACK } from "./chains.ts";
import { BUILD, OBJECTS } from "./ledger.ts";

test("no chain of calls takes more stack than Linux 6.1 has", () => {
  const deep = OBJECTS.flatMap((object) =>
    [...chainsOf(parseElf(readFileSync(`${BUILD}/${object}.bpf.o`))).values()]
      .filter(({ bytes }) => bytes > MOST_STACK)
      .map(({ bytes, path }) => `${object}: ${bytes} bytes, ${path.join(" > ")}`),
  );
  assert.deepEqual(deep, []);
});
