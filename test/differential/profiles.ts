// SPDX-License-Identifier: Apache-2.0
// Configurations of nodes under which sequences are played.

import type { Limits } from "../../src/datapath/sizes.ts";
import { ANY_IPV4, type Family } from "../../src/net/address.ts";
import { DISPATCH } from "../model/numbers.ts";
import { widen } from "../wide/address.ts";
import type { NodeIndex } from "./event.ts";
import { NODES, OUTER_HOST_MASK, OUTER_PREFIX } from "./places.ts";
import { OBJECTS } from "./real.ts";
import { Twin, type TwinOptions } from "./twin.ts";
import type { World } from "./world.ts";

export interface Profile {
  readonly name: string;
  readonly config: Omit<TwinOptions["config"], "nodeAddress">;
  readonly flows: number;
  /** IPv4 when left out. */
  readonly family?: Family;
}

const LIMITS: Limits = {
  services: 16,
  backends: 128,
  ringEntries: 128 * 32,
  formerOwners: 1024,
  endpoints: 16,
  nodes: 16,
  sourceRanges: 64,
  affinities: 16_384,
  sockets: 16,
  flows: 512,
};

const USUAL: Profile["config"] = {
  hashSeed: 0x0123456789abcdefn,
  natPortMin: 32_768,
  nodePortMin: 30_000,
  nodePortMax: 32_767,
  outerPrefix: 0,
  outerHostMask: 0,
  dispatch: DISPATCH.ipip,
  acceptOption: false,
  clampMss: 1400,
  fragmentsTrack: true,
  fragmentsPass: false,
  nodeClients: true,
  socketLookup: true,
  quietJiffies: 50_000,
  passLimit: 1_000_000,
  answerLimit: 1_000_000,
  limitWindow: 50_000,
};

const SCARCE: Profile["config"] = {
  ...USUAL,
  fragmentsTrack: false,
  // SNAT has one port.
  natPortMin: 65_535,
  clampMss: 536,
  passLimit: 3,
  answerLimit: 2,
};

export const PROFILES: readonly Profile[] = [
  { name: "usual", config: USUAL, flows: 512 },
  {
    name: "other",
    config: {
      ...USUAL,
      hashSeed: 0xfedcba9876543210n,
      natPortMin: 40_001,
      nodePortMin: 30_053,
      nodePortMax: 30_080,
      outerPrefix: OUTER_PREFIX,
      outerHostMask: OUTER_HOST_MASK,
      acceptOption: true,
      clampMss: 0,
      fragmentsTrack: false,
      fragmentsPass: true,
      nodeClients: false,
      socketLookup: false,
    },
    flows: 512,
  },
  {
    name: "scarce",
    config: SCARCE,
    flows: 4,
  },
  { name: "geneve", config: { ...USUAL, dispatch: DISPATCH.geneve }, flows: 512 },
  {
    name: "option",
    config: { ...USUAL, dispatch: DISPATCH.option, acceptOption: true },
    flows: 512,
  },
  { name: "ipv6", family: "ipv6", config: USUAL, flows: 512 },
  { name: "ipv6 scarce", family: "ipv6", config: SCARCE, flows: 4 },
  {
    name: "ipv6 geneve",
    family: "ipv6",
    config: { ...USUAL, dispatch: DISPATCH.geneve },
    flows: 512,
  },
  {
    name: "ipv6 option",
    family: "ipv6",
    config: { ...USUAL, dispatch: DISPATCH.option, acceptOption: true },
    flows: 512,
  },
];

/** Both nodes of a profile; `objects` is the directory that they are loaded from. */
export function openTwins(world: World, profile: Profile, objects = OBJECTS): [Twin, Twin] {
  const { family = "ipv4" } = profile;
  const open = (node: NodeIndex): Twin => {
    const address = NODES[node] ?? ANY_IPV4;
    return new Twin({
      family,
      objects,
      limits: { ...LIMITS, flows: profile.flows },
      config: { ...profile.config, nodeAddress: family === "ipv4" ? address : widen(address) },
      around: world.around,
    });
  };
  const first = open(0);
  try {
    return [first, open(1)];
  } catch (error) {
    first.close();
    throw error;
  }
}
