// SPDX-License-Identifier: Apache-2.0
// Routing rules: RTM_*RULE (include/uapi/linux/fib_rules.h).

import type { Family } from "../../net/address.ts";
import { formatPrefix, type Prefix } from "../../net/prefix.ts";
import {
  AF,
  addressAttribute,
  addressFrom,
  dumpFamilies,
  familyOfMessage,
  withLength,
} from "./family.ts";
import { FLAG, type Netlink, type Request } from "./socket.ts";
import {
  type Attribute,
  type Attributes,
  decodeAttributes,
  encodeBody,
  type Received,
  text,
  u32,
  viewOf,
} from "./wire.ts";

const RTM = { new: 32, delete: 33, get: 34 } as const;
const FRA = {
  destination: 1,
  source: 2,
  inputDevice: 3,
  priority: 6,
  mark: 10,
  table: 15,
  mask: 16,
  outputDevice: 17,
} as const;
const HEADER_BYTES = 12;
const FR_ACT_TO_TABLE = 1;

/** A rule that sends matching packets to a routing table; what is left out matches all. */
export interface Rule {
  /** Of the packets, and so of its prefixes. */
  readonly family: Family;
  readonly priority: number;
  readonly table: number;
  readonly source?: Prefix;
  readonly destination?: Prefix;
  readonly inputDevice?: string;
  readonly outputDevice?: string;
  readonly mark?: { readonly value: number; readonly mask: number };
}

function encodeRule(rule: Rule): Uint8Array {
  const header = new Uint8Array(HEADER_BYTES);
  header[0] = AF[rule.family];
  header[1] = rule.destination?.length ?? 0;
  header[2] = rule.source?.length ?? 0;
  header[7] = FR_ACT_TO_TABLE;
  const attributes: Attribute[] = [u32(FRA.priority, rule.priority), u32(FRA.table, rule.table)];
  if (rule.destination !== undefined) {
    attributes.push(addressAttribute(FRA.destination, rule.destination.address));
  }
  if (rule.source !== undefined) {
    attributes.push(addressAttribute(FRA.source, rule.source.address));
  }
  if (rule.inputDevice !== undefined) attributes.push(text(FRA.inputDevice, rule.inputDevice));
  if (rule.outputDevice !== undefined) attributes.push(text(FRA.outputDevice, rule.outputDevice));
  if (rule.mark !== undefined) {
    attributes.push(u32(FRA.mark, rule.mark.value), u32(FRA.mask, rule.mark.mask));
  }
  return encodeBody(header, attributes);
}

function request(operation: string, type: number, flags: number, rule: Rule): Request {
  const from = rule.source === undefined ? "all" : formatPrefix(rule.source);
  return {
    operation,
    object: `${rule.priority} from ${from} to table ${rule.table}`,
    message: { type, flags, body: encodeRule(rule) },
  };
}

/** Adds a rule; EEXIST when there is one just like it. */
export function addRule(rule: Rule): Request {
  const add = request("add rule", RTM.new, FLAG.create | FLAG.exclusive, rule);
  return { ...add, undo: deleteRule(rule) };
}

/** Deletes the first rule that has all this one has; ENOENT when there is none. */
export function deleteRule(rule: Rule): Request {
  return request("delete rule", RTM.delete, 0, rule);
}

/** Every rule that leads to a table, IPv4's first, those of a family in order of priority. */
export function listRules(netlink: Netlink): Rule[] {
  const body = (family: number) => Uint8Array.of(family, ...new Uint8Array(HEADER_BYTES - 1));
  return dumpFamilies(netlink, "rules", RTM.get, body)
    .filter((reply) => reply.body[7] === FR_ACT_TO_TABLE)
    .map(decodeRule);
}

function prefixFrom(
  attributes: Attributes,
  type: number,
  length: number,
  family: Family,
): Prefix | undefined {
  return length === 0 ? undefined : withLength(addressFrom(attributes, type, family), length);
}

function decodeRule(message: Received): Rule {
  const { body } = message;
  const attributes = decodeAttributes(body, HEADER_BYTES);
  const family = familyOfMessage(message);
  const destination = prefixFrom(attributes, FRA.destination, body[1] ?? 0, family);
  const source = prefixFrom(attributes, FRA.source, body[2] ?? 0, family);
  const inputDevice = attributes.text(FRA.inputDevice);
  const outputDevice = attributes.text(FRA.outputDevice);
  const value = attributes.u32(FRA.mark);
  return {
    family,
    priority: attributes.u32(FRA.priority) ?? 0,
    table: attributes.u32(FRA.table) ?? viewOf(body).getUint8(4),
    ...(source === undefined ? {} : { source }),
    ...(destination === undefined ? {} : { destination }),
    ...(inputDevice === undefined ? {} : { inputDevice }),
    ...(outputDevice === undefined ? {} : { outputDevice }),
    ...(value === undefined ? {} : { mark: { value, mask: attributes.u32(FRA.mask) ?? 0 } }),
  };
}
