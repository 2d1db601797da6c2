// SPDX-License-Identifier: Apache-2.0
// What IPv6's extension headers (RFC 8200, 4) mean to those who build and read packets.

import { type Ipv6, readIpv6 } from "./address.ts";
import type { Init, Layer } from "./packet.ts";

/** Kinds of headers between IPv6 and its transport. */
export type ExtensionKind = "hopByHop" | "destinationOptions" | "routing" | "fragment";

const EXTENSIONS: ReadonlySet<string> = new Set<ExtensionKind>([
  "hopByHop",
  "destinationOptions",
  "routing",
  "fragment",
]);

export function isExtension<L extends { readonly kind: Layer["kind"] }>(
  layer: L,
): layer is L & { readonly kind: ExtensionKind } {
  return EXTENSIONS.has(layer.kind);
}

/** Options with what pads them to a header's length, which is a multiple of 8 bytes: Pad1, PadN. */
export function padOptions(options: Uint8Array): Uint8Array {
  const missing = (14 - (options.length % 8)) % 8;
  if (missing === 0) return options;
  const padding = new Uint8Array(missing);
  if (missing > 1) padding.set([1, missing - 2]);
  return Uint8Array.of(...options, ...padding);
}

/** Of a routing header by type, where its last address stands in `data`. */
function lastAddressAt(type: number, data: Uint8Array): number {
  // RFC 8754: a segment list counts backwards. Types 0 and 2 end with the destination.
  return type === 4 ? 4 : data.length - 16;
}

/** Where a packet with this routing header goes in the end; undefined when it is there. */
export function finalTarget({
  type = 0,
  segmentsLeft = 0,
  data = new Uint8Array(),
}: Init<"routing">): Ipv6 | undefined {
  const at = lastAddressAt(type, data);
  const known = type === 0 || type === 2 || type === 4;
  if (segmentsLeft === 0 || !known || at < 4 || at + 16 > data.length) return undefined;
  return readIpv6(data, at);
}
