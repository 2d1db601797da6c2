// SPDX-License-Identifier: Apache-2.0

import assert from "node:assert/strict";
import { test } from "node:test";
import { check, errorCode, KernelError } from "./error.ts";

test("an error says what was tried, on what, why, and what more is known", () => {
  const error = new KernelError("pin map services at", "/x", -17, { detail: "unpin it first" });
  assert.equal(
    error.message,
    "cannot pin map services at /x: file exists (EEXIST): unpin it first",
  );
  assert.deepEqual([error.errno, error.code, error.log], [17, "EEXIST", ""]);
});

test("errnos keep one name each, those that Node does not know included", () => {
  assert.equal(errorCode(11), "EAGAIN");
  assert.equal(errorCode(95), "EOPNOTSUPP");
  assert.equal(errorCode(524), "ENOTSUPP");
  assert.equal(errorCode(4001), "ELIBBPF");
  assert.equal(errorCode(999), "E999");
});

test("a result that is no error passes through", () => {
  assert.equal(check(5, "open", "x"), 5);
  assert.throws(() => check(-2, "open", "x"), { code: "ENOENT", operation: "open", object: "x" });
});
