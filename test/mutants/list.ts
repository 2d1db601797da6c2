// SPDX-License-Identifier: Apache-2.0
// Faults of the packet path: a place in a file of bpf/ that stands there once, and what it becomes.
// Each is one that a person could make and that would load.

import { BY_NODE_MUTANTS } from "./by-node.ts";
import { CAPTURE_MUTANTS } from "./capture.ts";
import { DISPATCH_MUTANTS } from "./dispatch.ts";
import { CONNTRACK_MUTANTS } from "./flows.ts";
import { FRAGMENT_MUTANTS } from "./fragments.ts";
import { HERE_MUTANTS } from "./here.ts";
import { IPV6_MUTANTS } from "./ipv6.ts";
import { OUTBOUND_MUTANTS } from "./outbound.ts";
import { RELAY_MUTANTS } from "./relay.ts";
import { REWRITE_MUTANTS } from "./rewriting.ts";
import { SCTP_MUTANTS } from "./sctp.ts";
import { SELECTION_MUTANTS } from "./selection.ts";
import { SOCKET_MUTANTS } from "./sockets.ts";
import { TOLD_MUTANTS } from "./told.ts";

export interface Mutant {
  readonly name: string;
  /** Below bpf/. */
  readonly file: string;
  readonly from: string;
  readonly to: string;
}

/** One of a list for a file; `file` where it stands in another. */
export type Fault = Omit<Mutant, "file"> & { readonly file?: string };

export const MUTANTS: readonly Mutant[] = [
  ...SELECTION_MUTANTS,
  ...REWRITE_MUTANTS,
  ...CONNTRACK_MUTANTS,
  ...RELAY_MUTANTS,
  ...OUTBOUND_MUTANTS,
  ...SOCKET_MUTANTS,
  ...FRAGMENT_MUTANTS,
  ...IPV6_MUTANTS,
  ...DISPATCH_MUTANTS,
  ...SCTP_MUTANTS,
  ...CAPTURE_MUTANTS,
  ...TOLD_MUTANTS,
  ...HERE_MUTANTS,
  ...BY_NODE_MUTANTS,
];
