// SPDX-License-Identifier: Apache-2.0
import { resolve } from "node:path";
import {
  AddressError,
  formatIpv4,
  formatIpv6,
  type Ipv4,
  type Ipv6,
  isIpv4,
  tryParseAddress,
  tryParseIpv4,
} from "../net/address.ts";
import {
  formatPrefix,
  type Prefix,
  type Prefix4,
  parsePrefix,
  parsePrefix4,
} from "../net/prefix.ts";
import type { YamlNode } from "./yaml.ts";

/** A length of time. */
export type Milliseconds = number & { readonly __brand: "Milliseconds" };

/** Says what is wrong with a node; the reader adds file, line and key. */
export type Refuse = (node: YamlNode, text: string) => void;

/** One sort of value: what it accepts, how it is read, and how it is written back. */
export interface Kind<T> {
  /** Completes "expected …". */
  readonly expected: string;
  /** The value, or undefined after at least one refusal. */
  read(node: YamlNode, refuse: Refuse): T | undefined;
  /** The value as YAML and JSON know it. */
  plain(value: T): Plain;
}

/** What a configuration file can hold. */
export type Plain = string | number | boolean | null | readonly Plain[] | { [key: string]: Plain };

/** How a node is quoted in a refusal. */
export function quote(node: YamlNode): string {
  if (node.kind === "list") return "a list";
  if (node.kind === "map") return "a section";
  return node.value === null ? "nothing" : JSON.stringify(node.value);
}

/** A kind whose values come from one scalar; `parse` gives undefined for what it refuses. */
function scalarKind<T>(
  expected: string,
  parse: (value: string | number | boolean) => T | undefined,
  plain: (value: T) => Plain,
): Kind<T> {
  return {
    expected,
    read(node, refuse) {
      const value = node.kind === "scalar" && node.value !== null ? parse(node.value) : undefined;
      if (value === undefined) refuse(node, `expected ${expected}, got ${quote(node)}`);
      return value;
    },
    plain,
  };
}

/** `true` or `false`. */
export const flag: Kind<boolean> = scalarKind(
  "true or false",
  (value) => (typeof value === "boolean" ? value : undefined),
  (value) => value,
);

/** A whole number between `min` and `max`, both included. */
export function integer(min: number, max: number): Kind<number> {
  return scalarKind(
    `a whole number from ${min} to ${max}`,
    (value) =>
      Number.isInteger(value) && within(Number(value), min, max) ? Number(value) : undefined,
    (value) => value,
  );
}

/** One of some words. `off` unquoted is a word here, as YAML 1.2 has it. */
export function choice<const Word extends string>(...words: readonly Word[]): Kind<Word> {
  return scalarKind<Word>(
    words.length === 1 ? String(words[0]) : `one of ${words.join(", ")}`,
    (value) => words.find((word) => word === value),
    (value) => value,
  );
}

/** Text that matches `pattern`; `expected` says it in words. */
export function text(expected: string, pattern: RegExp): Kind<string> {
  return scalarKind(
    expected,
    (value) => (pattern.test(String(value)) ? String(value) : undefined),
    (value) => value,
  );
}

/** An absolute path, without what doesn't lead anywhere: `//`, `/./`, a slash at its end. */
export const path: Kind<string> = scalarKind(
  "an absolute path",
  (value) => (/^\/[^\0]*$/.test(String(value)) ? resolve(String(value)) : undefined),
  (value) => value,
);

const UNITS = { ms: 1, s: 1000, m: 60_000, h: 3_600_000, d: 86_400_000 } as const;

/** A length of time with its unit, from `min` to `max` milliseconds: `500ms`, `60s`, `2h13m20s`. */
export function duration(min: number, max: number): Kind<Milliseconds> {
  const range = `${formatDuration(min)} to ${formatDuration(max)}`;
  return scalarKind(
    `a duration of ${range} with its unit (ms, s, m, h, d), such as 60s`,
    (value) => {
      const length = typeof value === "string" ? parseDuration(value) : undefined;
      return length !== undefined && within(length, min, max) ? length : undefined;
    },
    formatDuration,
  );
}

/** Reads `2h13m20s`; undefined for anything else, a number without a unit included. */
export function parseDuration(written: string): Milliseconds | undefined {
  if (!/^(\d+(ms|s|m|h|d))+$/.test(written)) return undefined;
  let total = 0;
  for (const [, digits, unit] of written.matchAll(/(\d+)(ms|s|m|h|d)/g)) {
    total += Number(digits) * UNITS[unit as keyof typeof UNITS];
  }
  return total as Milliseconds;
}

/** The shortest text with one unit that says exactly `length`: `8000s`, `90m`, `2h`. */
export function formatDuration(length: number): string {
  if (length === 0) return "0s";
  for (const unit of ["d", "h", "m", "s"] as const) {
    if (length % UNITS[unit] === 0) return `${length / UNITS[unit]}${unit}`;
  }
  return `${length}ms`;
}

/** An IPv4 address. */
export const address: Kind<Ipv4> = scalarKind(
  "an IPv4 address such as 10.0.0.1",
  (value) => tryParseIpv4(String(value)),
  formatIpv4,
);

/** An IPv6 address. */
export const address6: Kind<Ipv6> = scalarKind(
  "an IPv6 address such as 2001:db8::1",
  (value) => {
    const found = tryParseAddress(String(value));
    return found === undefined || isIpv4(found) ? undefined : found;
  },
  formatIpv6,
);

/** An IPv4 prefix; a bare address is its /32. */
export const prefix4: Kind<Prefix4> = prefixKind("an IPv4 prefix such as 10.0.0.0/8", parsePrefix4);

/** A prefix of either family; a bare address is the prefix of itself alone. */
export const prefix: Kind<Prefix> = prefixKind(
  "a prefix such as 10.0.0.0/8 or 2001:db8::/32",
  parsePrefix,
);

function prefixKind<P extends Prefix>(expected: string, parse: (text: string) => P): Kind<P> {
  return {
    expected,
    read(node, refuse) {
      if (node.kind !== "scalar" || typeof node.value !== "string") {
        refuse(node, `expected ${expected}, got ${quote(node)}`);
        return undefined;
      }
      try {
        return parse(node.value);
      } catch (error) {
        if (!(error instanceof AddressError)) throw error;
        refuse(node, error.message);
        return undefined;
      }
    },
    plain: formatPrefix,
  };
}

/** Ports from one to another, both included. */
export interface PortRange {
  readonly first: number;
  readonly last: number;
}

/** Ports as `30000-32767`. */
export const portRange: Kind<PortRange> = scalarKind(
  "two ports such as 30000-32767",
  (value) => {
    const [, from, to] = /^(\d{1,5})-(\d{1,5})$/.exec(String(value)) ?? [];
    const [first, last] = [Number(from), Number(to)];
    return first > 0 && first <= last && last <= 65535 ? { first, last } : undefined;
  },
  formatPortRange,
);

/** `30000-32767`. */
export function formatPortRange({ first, last }: PortRange): string {
  return `${first}-${last}`;
}

/** Where a server listens. */
export interface Listen {
  readonly address: Ipv4;
  readonly port: number;
}

/** An IPv4 address and a port; port 0 is any free one. */
export const listen: Kind<Listen> = scalarKind(
  "an IPv4 address and a port such as 127.0.0.1:9962",
  (value) => {
    const [host, port, more] = String(value).split(":");
    const parsed = tryParseIpv4(host ?? "");
    if (parsed === undefined || more !== undefined || !/^\d{1,5}$/.test(port ?? ""))
      return undefined;
    return Number(port) > 65535 ? undefined : { address: parsed, port: Number(port) };
  },
  formatListen,
);

/** `127.0.0.1:9962`. */
export function formatListen(value: Listen): string {
  return `${formatIpv4(value.address)}:${value.port}`;
}

/** Either one of a few words, or a value of `kind`. */
export function wordOr<const Word extends string, T>(
  words: readonly Word[],
  kind: Kind<T>,
): Kind<Word | T> {
  const isWord = (value: unknown): value is Word => words.some((word) => word === value);
  return {
    expected: `${words.join(", ")} or ${kind.expected}`,
    read(node, refuse) {
      if (node.kind === "scalar" && isWord(node.value)) return node.value;
      let refused = false;
      const value = kind.read(node, () => {
        refused = true;
      });
      if (refused || value === undefined) {
        refuse(node, `expected ${this.expected}, got ${quote(node)}`);
        return undefined;
      }
      return value;
    },
    plain: (value) => (isWord(value) ? value : kind.plain(value)),
  };
}

/** At most `most` values of one kind. */
export function list<T>(item: Kind<T>, most: number): Kind<readonly T[]> {
  return {
    expected: `a list of at most ${most}, each ${item.expected}`,
    read(node, refuse) {
      if (node.kind !== "list") {
        refuse(node, `expected ${this.expected}, got ${quote(node)}`);
        return undefined;
      }
      if (node.items.length > most) {
        refuse(node, `expected at most ${most} items, got ${node.items.length}`);
        return undefined;
      }
      const values = node.items.map((child) => item.read(child, refuse));
      const read = values.filter((value): value is Awaited<T> & T => value !== undefined);
      return read.length === values.length ? read : undefined;
    },
    plain: (values) => values.map((value) => item.plain(value)),
  };
}

/** A value of one kind for each of some known names; `known` is what "did you mean" looks in. */
export function byName<const Name extends string, T>(
  known: readonly Name[],
  item: Kind<T>,
  suggest: (name: string) => string,
): Kind<Readonly<Partial<Record<Name, T>>>> {
  return {
    expected: `a section with any of ${known.join(", ")}, each ${item.expected}`,
    read(node, refuse) {
      if (node.kind !== "map") {
        refuse(node, `expected ${this.expected}, got ${quote(node)}`);
        return undefined;
      }
      const values: Partial<Record<Name, T>> = {};
      let good = true;
      for (const entry of node.entries) {
        const name = known.find((candidate) => candidate === entry.key);
        if (name === undefined) refuse({ ...node, at: entry.keyAt }, suggest(entry.key));
        const value = name === undefined ? undefined : item.read(entry.value, refuse);
        if (name !== undefined && value !== undefined) values[name] = value;
        else good = false;
      }
      return good ? values : undefined;
    },
    plain: (values) => {
      const written: { [key: string]: Plain } = {};
      for (const name of known) {
        const value = values[name];
        if (value !== undefined) written[name] = item.plain(value);
      }
      return written;
    },
  };
}

function within(value: number, min: number, max: number): boolean {
  return value >= min && value <= max;
}
