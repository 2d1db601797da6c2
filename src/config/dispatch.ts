// SPDX-License-Identifier: Apache-2.0
import { choice, type Kind } from "./kind.ts";

/** How packets to pods of other nodes say their service. */
export type Dispatch = "ipip" | "geneve" | "option";

/** Bytes by which a packet of IPv4 grows. */
export const DISPATCH_BYTES: Readonly<Record<Dispatch, number>> = {
  ipip: 20,
  geneve: 62,
  option: 8,
};

/** The same of IPv6. */
export const DISPATCH_BYTES6: Readonly<Record<Dispatch, number>> = {
  ipip: 40,
  geneve: 94,
  option: 24,
};

const words = choice("ipip", "geneve", "option", "opt");

/** One of the three; `opt` is `option`. */
export const dispatchWord: Kind<Dispatch> = {
  expected: "one of ipip, geneve, option",
  read(node, refuse) {
    const word = words.read(node, (at, text) =>
      refuse(at, text.replace(words.expected, this.expected)),
    );
    return word === "opt" ? "option" : word;
  },
  plain: (dispatch) => dispatch,
};
