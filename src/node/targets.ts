// SPDX-License-Identifier: Apache-2.0
// The trusted sources' target.

import { type Trusted, type TrustedKey, Trust as TrustKind } from "../datapath/gen/abi.ts";
import type { MapTarget } from "../datapath/map-target.ts";
import type { TypedMap } from "../datapath/maps.ts";
import { translateTarget } from "../datapath/targets.ts";
import type { Prefix4 } from "../net/prefix.ts";
import type { Trust } from "./rows.ts";

/** Whose IPIP is believed: prefix → why. */
export function createTrustedTarget(map: TypedMap<TrustedKey, Trusted>): MapTarget<Prefix4, Trust> {
  return translateTarget(map, {
    toKey: ({ address, length }) => ({ prefixLength: length, address }),
    fromKey: ({ prefixLength, address }) => ({ length: prefixLength, address }),
    toValue: (trust) => ({ kind: trust === "node" ? TrustKind.node : TrustKind.loadBalancer }),
  });
}
