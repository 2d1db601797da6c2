// SPDX-License-Identifier: Apache-2.0
import { Trust, type Trusted, type TrustedKey } from "../datapath/gen/abi.ts";
import type { TrustedSource } from "./rows.ts";

/** A prefix in the table of trusted sources. */
export interface TrustedEntry {
  readonly target: "trusted";
  readonly key: TrustedKey;
  readonly value: Trusted;
}

/** What a trusted source needs in the kernel. */
export function trustedEntries({ prefix, trust }: TrustedSource): TrustedEntry[] {
  const { address, length: prefixLength } = prefix;
  const kind = trust === "node" ? Trust.node : Trust.loadBalancer;
  return [{ target: "trusted", key: { prefixLength, address }, value: { kind } }];
}
