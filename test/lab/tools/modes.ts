// SPDX-License-Identifier: Apache-2.0
// The modes in which services are forwarded, for tests that go through all of them.

import type { LabOptions } from "../../../src/lab/plan.ts";
import type { Way } from "./conversation.ts";

export const PROTOCOLS = ["tcp", "udp"] as const;
export type Protocol = (typeof PROTOCOLS)[number];

/** A mode, and what makes it one. */
export interface Mode {
  readonly name: string;
  /** The annotation of its services. */
  readonly annotation: "dsr" | "snat" | "hybrid";
  readonly ways: Readonly<Record<Protocol, Way>>;
  /** What its nodes need; modes with equal settings share a lab. */
  readonly settings: LabOptions;
}

export const MODES: readonly Mode[] = [
  {
    name: "snat",
    annotation: "snat",
    ways: { tcp: "snat", udp: "snat" },
    settings: {},
  },
  {
    name: "hybrid",
    annotation: "hybrid",
    ways: { tcp: "ipip", udp: "snat" },
    settings: {},
  },
  {
    name: "dsr-ipip-all",
    annotation: "dsr",
    ways: { tcp: "ipip", udp: "ipip" },
    settings: {},
  },
  {
    name: "dsr-ipip-first",
    annotation: "dsr",
    ways: { tcp: "ipip-first", udp: "ipip-first" },
    settings: { encapsulate: "first" },
  },
  {
    name: "dsr-geneve",
    annotation: "dsr",
    ways: { tcp: "geneve", udp: "geneve" },
    settings: { dispatch: "geneve" },
  },
  {
    name: "dsr-opt",
    annotation: "dsr",
    ways: { tcp: "option", udp: "option" },
    settings: { dispatch: "option" },
  },
];
