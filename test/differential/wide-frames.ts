// SPDX-License-Identifier: Apache-2.0
// Packets of IPv6 in place of IPv4's, with what IPv6 alone has.

import { type Ipv4, readIpv4 } from "../../src/net/address.ts";
import { dsrDestinationOptions, dsrGeneveOption } from "../../src/net/dsr.ts";
import {
  destinationOptions,
  fragment,
  hopByHop,
  type LayerInit,
  routing,
} from "../../src/net/packet.ts";
import { widen } from "../wide/address.ts";
import { type Widening, widenLayers } from "../wide/layers.ts";
import type { Extension } from "./event.ts";
import { OUTER_PREFIX } from "./places.ts";

const DSR_OPTION = 0x9a;
const DSR_BYTES = 8;
const GENEVE_BYTES = 12;
const UNIT = 8;
/** Of what clients send; nobody changes it. */
const LABEL = 0x54321;

/** Makes layers that are said of IPv4 those of IPv6, with extension headers in the innermost. */
export function widenPacket(
  layers: readonly LayerInit[],
  extensions: readonly Extension[],
  seed: bigint,
): LayerInit[] {
  // Sources that follow from IPv4's hashes are one address here, as any would do.
  const how: Widening = { seed, shorter: 0, ports: new Map(), hashedSource: OUTER_PREFIX };
  const innermost = layers.findLast((layer) => layer.kind === "ipv4");
  const told = innermost?.options?.[0] === DSR_OPTION ? innermost.options : undefined;
  const narrow = layers.map((layer): LayerInit => {
    if (layer.kind === "geneve") return { ...layer, options: geneveOptions(layer.options) };
    if (layer !== innermost || told === undefined) return layer;
    return { ...innermost, options: told.subarray(DSR_BYTES) };
  });
  const added = [...(told === undefined ? [] : [optionOf(told)]), ...extensions.map(layerOf)];
  return insert(widenLayers(narrow, how), added);
}

/** Gives the innermost header of IPv6 its label, and extension headers. */
function insert(layers: readonly LayerInit[], added: readonly LayerInit[]): LayerInit[] {
  const at = layers.findLastIndex((layer) => layer.kind === "ipv6");
  const header = layers[at];
  const last = added.at(-1);
  if (header?.kind !== "ipv6") return [...layers];
  if (last === undefined) return layers.with(at, { ...header, flowLabel: LABEL });
  const { nextHeader, ...fields } = header;
  const rest = { ...fields, flowLabel: LABEL };
  // What is carried is said where it isn't followed by a header that tells.
  const ending = nextHeader === undefined ? last : ({ ...last, nextHeader } as LayerInit);
  return [...layers.slice(0, at), rest, ...added.slice(0, -1), ending, ...layers.slice(at + 1)];
}

/** From IPv4's option, whose address and port have the least significant byte first. */
function optionOf(option: Uint8Array): LayerInit {
  const swapped = option.slice(2, DSR_BYTES).reverse();
  const port = new DataView(swapped.buffer).getUint16(4);
  return dsrDestinationOptions(widen(readIpv4(swapped)), port);
}

function geneveOptions(options: Uint8Array = new Uint8Array()): Uint8Array {
  const view = new DataView(options.buffer, options.byteOffset, options.byteLength);
  if (options.length !== GENEVE_BYTES || view.getUint16(0) !== 0x014b) return options;
  const address: Ipv4 = readIpv4(options, 4);
  return dsrGeneveOption(widen(address), view.getUint16(8));
}

function layerOf({ kind, units }: Extension): LayerInit {
  const bytes = UNIT * units;
  switch (kind) {
    case "hopByHop":
      return hopByHop({ options: new Uint8Array(bytes - 2) });
    case "destinationOptions":
      return destinationOptions({ options: new Uint8Array(bytes - 2) });
    case "routing":
      return routing({ segmentsLeft: 0, data: new Uint8Array(bytes - 4) });
    case "waypoint":
      return routing({ segmentsLeft: 1, data: new Uint8Array(bytes - 4) });
    case "atomic":
      return fragment({ fragmentOffset: 0, moreFragments: false, id: 7 });
  }
}
