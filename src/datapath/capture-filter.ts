// SPDX-License-Identifier: Apache-2.0
// Which packets a capture is of, in a part of pcap-filter's language and two words more. Programs
// test what is cheap (kernelPart), and who captures tests all of it (matches).

import { type Address, isIpv4, tryParseAddress } from "../net/address.ts";
import type { Layer } from "../net/packet.ts";
import { hostPrefix, type Prefix, parsePrefix, prefixContains } from "../net/prefix.ts";
import { Place, placeNames, Verdict, verdictNames } from "./gen/abi.ts";

type Side = "source" | "target" | "any";

/** A filter as a tree. */
export type Filter =
  | { readonly kind: "all" }
  | { readonly kind: "and" | "or"; readonly left: Filter; readonly right: Filter }
  | { readonly kind: "not"; readonly of: Filter }
  | { readonly kind: "net"; readonly side: Side; readonly prefix: Prefix }
  | {
      readonly kind: "port";
      readonly side: Side;
      readonly port: number;
      readonly protocol: Protocol | undefined;
    }
  | { readonly kind: "layer"; readonly layer: Protocol }
  | { readonly kind: "verdict" | "place"; readonly values: ReadonlySet<number> };

const PROTOCOLS = ["tcp", "udp", "sctp", "icmp", "icmp6", "ip", "ip6"] as const;
type Protocol = (typeof PROTOCOLS)[number];
const LAYERS = {
  tcp: "tcp",
  udp: "udp",
  sctp: "sctp",
  icmp: "icmp",
  icmp6: "icmpv6",
  ip: "ipv4",
  ip6: "ipv6",
} as const satisfies Record<Protocol, Layer["kind"]>;

type Names = readonly (readonly [value: number, name: string])[];

/** Of packets that are captured: what is none of ours isn't, and sockets have none. */
const VERDICTS = namesBut(verdictNames, Verdict.passNotOurs);
const PLACES = namesBut(placeNames, Place.socket);

function namesBut(names: { readonly [value: number]: string }, other: number): Names {
  return Object.entries(names)
    .map(([value, name]) => [Number(value), name] as const)
    .filter(([value]) => value !== other);
}

/** A text that is no filter; the message says where and what was expected. */
export class FilterError extends Error {
  override readonly name = "FilterError";
}

/**
 * Reads a filter; "" is for everything. As in pcap-filter, `and` and `or` bind alike, from left to
 * right, and `not` binds tighter. Throws FilterError.
 */
export function parseFilter(text: string): Filter {
  const words = text.match(/[()!]|&&|\|\||[^\s()!&|]+/g) ?? [];
  if (words.length === 0) return { kind: "all" };
  const parser = new Parser(words);
  const filter = parser.expression();
  parser.end();
  return filter;
}

const SPELLINGS: Readonly<Record<string, string>> = { "&&": "and", "||": "or", "!": "not" };

class Parser {
  readonly #words: readonly string[];
  #at = 0;

  constructor(words: readonly string[]) {
    this.#words = words.map((word) => SPELLINGS[word] ?? word);
  }

  expression(): Filter {
    let left = this.#term();
    for (;;) {
      const word = this.#words[this.#at];
      if (word !== "and" && word !== "or") return left;
      this.#at += 1;
      left = { kind: word, left, right: this.#term() };
    }
  }

  end(): void {
    const word = this.#words[this.#at];
    if (word !== undefined) throw this.#wrong(`"and", "or" or the end`, word);
  }

  #term(): Filter {
    const word = this.#next("a filter");
    switch (word) {
      case "not":
        return { kind: "not", of: this.#term() };
      case "(": {
        const inner = this.expression();
        const close = this.#next(`")"`);
        if (close !== ")") throw this.#wrong(`")"`, close);
        return inner;
      }
      case "reason":
      case "verdict":
        return this.#named("verdict", VERDICTS);
      case "place":
        return this.#named("place", PLACES);
      default:
        return this.#primitive(word);
    }
  }

  #primitive(word: string): Filter {
    const protocol = PROTOCOLS.find((one) => one === word);
    if (protocol !== undefined) return this.#ofProtocol(protocol);
    const side: Side = word === "src" ? "source" : word === "dst" ? "target" : "any";
    const what = side === "any" ? word : this.#next("an address, host, net or port");
    return this.#ofSide(side, what, undefined);
  }

  /** `tcp`, or `tcp dst port 80`. */
  #ofProtocol(protocol: Protocol): Filter {
    const [first, second] = this.#words.slice(this.#at, this.#at + 2);
    const isSide = first === "src" || first === "dst";
    if ((isSide ? second : first) !== "port") return { kind: "layer", layer: protocol };
    this.#at += isSide ? 2 : 1;
    const side: Side = first === "src" ? "source" : first === "dst" ? "target" : "any";
    return this.#ofSide(side, "port", protocol);
  }

  #ofSide(side: Side, what: string, protocol: Protocol | undefined): Filter {
    switch (what) {
      case "port": {
        const written = this.#next("a port");
        const port = Number(written);
        if (/^\d{1,5}$/.test(written) && port > 0 && port <= 65_535) {
          return { kind: "port", side, port, protocol };
        }
        throw this.#wrong("a port from 1 to 65535", written);
      }
      case "net":
        return { kind: "net", side, prefix: this.#prefix(this.#next("a prefix")) };
      case "host":
        return { kind: "net", side, prefix: hostPrefix(this.#address(this.#next("an address"))) };
      default:
        return { kind: "net", side, prefix: hostPrefix(this.#address(what)) };
    }
  }

  #address(word: string): Address {
    const address = tryParseAddress(word);
    if (address !== undefined) return address;
    const known = [...PROTOCOLS, "host", "net", "port", "src", "dst", "reason", "verdict", "place"];
    throw this.#wrong(`an address or one of ${known.join(", ")}`, word);
  }

  #prefix(word: string): Prefix {
    try {
      return parsePrefix(word);
    } catch {
      throw this.#wrong("a prefix such as 192.0.2.0/24", word);
    }
  }

  /** A whole name, or its first word: `drop_untrusted`, `drop`. */
  #named(kind: "verdict" | "place", names: Names): Filter {
    const word = this.#next(`a ${kind}`).replaceAll("-", "_");
    const values = names
      .filter(([, name]) => name === word || name.startsWith(`${word}_`))
      .map(([value]) => value);
    if (values.length > 0) return { kind, values: new Set(values) };
    throw this.#wrong(`a ${kind}: one of ${names.map(([, name]) => name).join(", ")}`, word);
  }

  #next(expected: string): string {
    const word = this.#words[this.#at];
    if (word === undefined) throw this.#wrong(expected, undefined);
    this.#at += 1;
    return word;
  }

  #wrong(expected: string, got: string | undefined): FilterError {
    const what = got === undefined ? "it ends there" : `got "${got}"`;
    return new FilterError(`expected ${expected}, ${what}`);
  }
}

/** What a filter is asked about: a packet's end, and the layers of its frames, both of them. */
export interface Subject {
  readonly verdict: number;
  readonly place: number;
  readonly layers: readonly Layer[];
}

/** Whether a packet is one of those. A header in either of its frames is enough. */
export function matches(filter: Filter, subject: Subject): boolean {
  switch (filter.kind) {
    case "all":
      return true;
    case "and":
      return matches(filter.left, subject) && matches(filter.right, subject);
    case "or":
      return matches(filter.left, subject) || matches(filter.right, subject);
    case "not":
      return !matches(filter.of, subject);
    case "verdict":
      return filter.values.has(subject.verdict);
    case "place":
      return filter.values.has(subject.place);
    case "layer":
      return subject.layers.some(({ kind }) => kind === LAYERS[filter.layer]);
    case "net":
      return subject.layers.some((layer) => hasAddress(layer, filter.side, filter.prefix));
    case "port":
      return hasPort(subject.layers, filter.side, filter.port, filter.protocol);
  }
}

function hasAddress(layer: Layer, side: Side, prefix: Prefix): boolean {
  if (layer.kind !== "ipv4" && layer.kind !== "ipv6") return false;
  const { source, target } = layer;
  const sides = side === "any" ? [source, target] : [side === "source" ? source : target];
  return sides.some(
    (address) => isIpv4(address) === isIpv4(prefix.address) && prefixContains(prefix, address),
  );
}

function hasPort(
  layers: readonly Layer[],
  side: Side,
  port: number,
  protocol: Protocol | undefined,
): boolean {
  if (protocol === "ip" || protocol === "ip6") {
    const kind = LAYERS[protocol];
    if (!layers.some((layer) => layer.kind === kind)) return false;
  }
  return layers.some((layer) => {
    if (layer.kind !== "tcp" && layer.kind !== "udp" && layer.kind !== "sctp") return false;
    const isOther = protocol !== "ip" && protocol !== "ip6" && protocol !== undefined;
    if (isOther && LAYERS[protocol] !== layer.kind) return false;
    const { sourcePort, targetPort } = layer;
    if (side === "any") return sourcePort === port || targetPort === port;
    return (side === "source" ? sourcePort : targetPort) === port;
  });
}

/** What programs test: every packet that the filter wants has all of it, and some others have. */
export interface KernelPart {
  /** Bits by verdict and by place. */
  readonly verdicts: bigint;
  readonly places: number;
  readonly prefix: Prefix | undefined;
  readonly port: number | undefined;
  readonly version: 4 | 6 | undefined;
}

const ALL_VERDICTS = (1n << 64n) - 1n;
const ALL_PLACES = 0xff;
const ANYTHING: KernelPart = {
  verdicts: ALL_VERDICTS,
  places: ALL_PLACES,
  prefix: undefined,
  port: undefined,
  version: undefined,
};

/** The part of a filter that programs test. */
export function kernelPart(filter: Filter): KernelPart {
  switch (filter.kind) {
    case "and":
      return both(kernelPart(filter.left), kernelPart(filter.right));
    case "or":
      return either(kernelPart(filter.left), kernelPart(filter.right));
    case "not":
      return without(filter.of);
    case "verdict":
      return { ...ANYTHING, verdicts: bitsOf(filter.values) };
    case "place":
      return { ...ANYTHING, places: Number(bitsOf(filter.values)) };
    case "net":
      return { ...ANYTHING, prefix: filter.prefix, version: isIpv4(filter.prefix.address) ? 4 : 6 };
    case "port":
      return { ...ANYTHING, port: filter.port };
    case "layer":
      return { ...ANYTHING, version: VERSIONS[filter.layer] };
    default:
      return ANYTHING;
  }
}

const VERSIONS: Readonly<Record<Protocol, 4 | 6 | undefined>> = {
  ip: 4,
  icmp: 4,
  ip6: 6,
  icmp6: 6,
  tcp: undefined,
  udp: undefined,
  sctp: undefined,
};

function bitsOf(values: ReadonlySet<number>): bigint {
  return [...values].reduce((bits, value) => bits | (1n << BigInt(value)), 0n);
}

function both(a: KernelPart, b: KernelPart): KernelPart {
  return {
    verdicts: a.verdicts & b.verdicts,
    places: a.places & b.places,
    prefix: a.prefix ?? b.prefix,
    port: a.port ?? b.port,
    version: a.version ?? b.version,
  };
}

function either(a: KernelPart, b: KernelPart): KernelPart {
  const isSamePrefix =
    a.prefix?.address === b.prefix?.address && a.prefix?.length === b.prefix?.length;
  return {
    verdicts: a.verdicts | b.verdicts,
    places: a.places | b.places,
    prefix: isSamePrefix ? a.prefix : undefined,
    port: a.port === b.port ? a.port : undefined,
    version: a.version === b.version ? a.version : undefined,
  };
}

/** Only of what a packet has one of, it can be said what all others have. */
function without(filter: Filter): KernelPart {
  if (filter.kind === "verdict") {
    return { ...ANYTHING, verdicts: ALL_VERDICTS & ~bitsOf(filter.values) };
  }
  if (filter.kind === "place") {
    return { ...ANYTHING, places: ALL_PLACES & ~Number(bitsOf(filter.values)) };
  }
  return ANYTHING;
}
