// SPDX-License-Identifier: Apache-2.0
import { AddressError } from "../../net/address.ts";
import { type Prefix, parsePrefix } from "../../net/prefix.ts";
import type { Node } from "../../node/rows.ts";
import type { Field } from "./field.ts";
import { readAddress, readAnnotations, readMeta } from "./meta.ts";

/** Reads a v1 Node: its internal addresses and the prefixes of its pods. */
export function readNode(root: Field): Node | undefined {
  const meta = readMeta(root);
  readAnnotations(root, []);
  const addresses = root
    .get("status")
    .get("addresses")
    .items()
    .filter((item) => item.get("type").value === "InternalIP")
    .flatMap((item) => readAddress(item.get("address")) ?? []);
  const spec = root.get("spec");
  const several = spec.get("podCIDRs").items();
  const fields = several.length > 0 ? several : [spec.get("podCIDR")];
  const podPrefixes = fields.flatMap((field) => readPrefix(field) ?? []);
  if (meta === undefined) return undefined;
  return { name: meta.name, addresses: [...new Set(addresses)], podPrefixes };
}

function readPrefix(field: Field): Prefix | undefined {
  const text = field.text("a prefix");
  if (text === undefined || text === "") return undefined;
  try {
    return parsePrefix(text);
  } catch (error) {
    if (error instanceof AddressError) return field.fault(error.message);
    throw error;
  }
}
