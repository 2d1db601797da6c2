// SPDX-License-Identifier: Apache-2.0
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { documentConfig, exampleConfig } from "./document.ts";
import { defaultConfig, parseConfig } from "./load.ts";
import { fields } from "./schema.ts";

const read = (path: string): string =>
  readFileSync(new URL(`../../${path}`, import.meta.url), "utf8");

test("docs/configuration.md and deploy/ciliate.yaml are what the schema says", () => {
  assert.equal(read("docs/configuration.md"), documentConfig());
  assert.equal(read("deploy/ciliate.yaml"), exampleConfig());
});

test("the example is the defaults, with its comment signs and without", () => {
  const written = parseConfig(exampleConfig(), "ciliate.yaml");
  assert.deepEqual(written.config, defaultConfig());
  assert.equal(written.lines.size, 0);
  const bare = exampleConfig().replaceAll(/^( *)#(?=[a-z])/gim, "$1");
  const shown = parseConfig(bare, "ciliate.yaml");
  assert.deepEqual(shown.config, defaultConfig());
  assert.deepEqual(
    [...shown.lines.keys()],
    [...fields()].map(({ path }) => path.join(".")),
  );
});
