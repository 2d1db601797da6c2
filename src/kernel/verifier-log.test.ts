// SPDX-License-Identifier: Apache-2.0

import assert from "node:assert/strict";
import { test } from "node:test";
import { missingFromKernel, summarizeVerifierLog } from "./verifier-log.ts";

const LOG = `0: R1=ctx() R10=fp0
; __u8 *data = (void *)(long)ctx->data; @ unsafe.bpf.c:15
0: (61) r1 = *(u32 *)(r1 +0)          ; R1=pkt(r=0)
; return data[0]; @ unsafe.bpf.c:17
1: (71) r0 = *(u8 *)(r1 +0)
invalid access to packet, off=0 size=1, R1(id=0,off=0,r=0)
R1 offset is outside of the packet
processed 2 insns (limit 1000000) max_states_per_insn 0 total_states 0 peak_states 0 mark_read 0
`;

test("a log is summed up by its last words and the line that they are about", () => {
  const where = "return data[0]; @ unsafe.bpf.c:17 | 1: (71) r0 = *(u8 *)(r1 +0)";
  assert.equal(summarizeVerifierLog(LOG), `R1 offset is outside of the packet [${where}]`);
});

test("a log without instructions is its last line, and an empty one is empty", () => {
  assert.equal(
    summarizeVerifierLog("BPF program is too large\nprocessed 0 insns\n"),
    "BPF program is too large",
  );
  assert.equal(summarizeVerifierLog(""), "");
});

test("a log that is about the kernel names what the kernel lacks", () => {
  assert.match(missingFromKernel("unknown func bpf_loop#181"), /has no bpf_loop for/);
  const newer = "program of this type cannot use helper bpf_get_current_pid_tgid#14";
  assert.match(missingFromKernel(newer), /has no bpf_get_current_pid_tgid for/);
  assert.match(missingFromKernel("<invalid CO-RE relocation>"), /lacks a type or field/);
  assert.match(missingFromKernel("calling kernel function bpf_x is not allowed"), /has no bpf_x/);
  assert.equal(missingFromKernel(LOG), "");
});
