// SPDX-License-Identifier: Apache-2.0
// Faults in what is told to who captures packets.

import type { Fault, Mutant } from "./list.ts";

const FAULTS: readonly Fault[] = [
  {
    name: "a capture that was killed goes on",
    from: "if (now > capture->deadline) {",
    to: "if (!capture->deadline) {",
  },
  {
    name: "a capture that was killed goes on being looked at",
    from: "__sync_fetch_and_and(&state->events, ~EVENT_PACKETS);",
    to: "__sync_fetch_and_and(&state->events, ~0u);",
  },
  {
    name: "the end of a capture ends the agent's events",
    from: "__sync_fetch_and_and(&state->events, ~EVENT_PACKETS);",
    to: "__sync_fetch_and_and(&state->events, 0);",
  },
  {
    name: "packets that XDP sends are captured as they left",
    file: "stage/capture-xdp.h",
    from: "bpf_xdp_load_bytes(ctx, 0, copy->bytes, kept);\n\treturn 0;",
    to: "return 0;",
  },
  {
    name: "packets at tc are captured as they left",
    file: "stage/capture-skb.h",
    from: "bpf_skb_load_bytes(skb, 0, copy->bytes, kept);\n\treturn 0;",
    to: "return 0;",
  },
  {
    name: "what is dropped leaves",
    from: "event->verdict < DROP_NO_BACKEND ? CAPTURED_MORE : 0",
    to: "CAPTURED_MORE",
  },
  {
    name: "ports that a packet leaves with aren't looked at",
    from: "header_port(capture, came) ||\n\t       header_port(capture, left);",
    to: "header_port(capture, came);",
  },
  {
    name: "the other family is captured",
    from: "capture->version != IP_VERSION)",
    to: "capture->version == IP_VERSION)",
  },
  {
    name: "places are alike",
    from: "capture->places >> (event->place & (PLACE_SLOTS - 1)) & 1",
    to: "capture->places >> (event->place & 0) & 1",
  },
  {
    name: "all verdicts are captured",
    from: "capture->verdicts >> (event->verdict & (VERDICT_SLOTS - 1)) & 1",
    to: "capture->verdicts",
  },
  {
    name: "what has an outer header is looked at no further",
    from: "\tif (is_wrapped(event))\n\t\treturn true;\n",
    to: "",
  },
  {
    name: "captures know no rate",
    from: "__sync_fetch_and_add(&capture->taken, 1) < capture->rate",
    to: "__sync_fetch_and_add(&capture->taken, 1) < ~0u",
  },
  {
    name: "what a rate leaves out isn't counted",
    from: "__sync_fetch_and_add(&capture->left_out, 1);",
    to: "__sync_fetch_and_add(&capture->left_out, 0);",
  },
];

export const CAPTURE_MUTANTS: readonly Mutant[] = FAULTS.map((fault) => ({
  file: "stage/capture.h",
  ...fault,
}));
