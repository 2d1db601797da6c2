// SPDX-License-Identifier: Apache-2.0
import assert from "node:assert/strict";
import { test } from "node:test";
import { formatReport, parseReport } from "./soak-report.ts";

const KNOWN = ["restart", "churn", "flood"];
const churn = "## churn: passed\n\nCommit a, one day.\n\n- a row\n  - what it told\n";
const restart = "## restart: passed\n\nCommit b, another day.\n";

test("a campaign's results stay when another one runs", () => {
  const before = formatReport(new Map([["churn", churn]]), KNOWN);
  const after = formatReport(new Map([...parseReport(before, KNOWN), ["restart", restart]]), KNOWN);
  assert.deepEqual(
    [...parseReport(after, KNOWN)],
    [
      ["restart", restart],
      ["churn", churn],
    ],
  );
});

test("a campaign that runs again replaces its results, and one that is no more loses them", () => {
  const before = formatReport(new Map([["churn", churn]]), KNOWN);
  const again = "## churn: **1 failed**\n\nCommit c.\n";
  const after = formatReport(new Map([...parseReport(before, KNOWN), ["churn", again]]), KNOWN);
  assert.deepEqual([...parseReport(after, KNOWN)], [["churn", again]]);
  assert.equal(parseReport(after, ["restart"]).size, 0);
});
