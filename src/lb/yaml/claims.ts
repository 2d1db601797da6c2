// SPDX-License-Identifier: Apache-2.0
import { isDeepStrictEqual } from "node:util";
import type { Kind, ManifestRow } from "../shape/object.ts";

/** Where rows go. It may refuse a row for what other rows say; `refusals` tells. */
export interface ManifestSink {
  put(content: ManifestRow): void;
  delete(kind: Kind, key: string): void;
  /** Rows that were put but aren't in force, or not wholly, by the id of their object. */
  refusals(): Iterable<Refusal>;
}

export interface Refusal {
  /** `Service default/web`. */
  readonly id: string;
  readonly field: string;
  readonly text: string;
  /** Whether a previous version stays in force. */
  readonly kept: boolean;
  /** Set when the row is in force but for a part of it. */
  readonly severity?: "warning";
}

/** An object that a file defines. */
export interface Claim {
  readonly id: string;
  readonly path: string;
  readonly line: number;
  readonly content: ManifestRow;
  /** Of the document. */
  readonly hash: string;
  /** Whether the file lacks it now, which may be for a moment only: any other file's counts. */
  readonly leaving: boolean;
}

/** The key of a row in its table. */
export function rowKey({ kind, row }: ManifestRow): string {
  return kind === "Node" ? row.name : row.key;
}

/** Which file's version of an object counts: that of the first file which defines it. */
export class Claims {
  readonly #sink: ManifestSink;
  readonly #rank: (path: string) => number;
  readonly #owners = new Map<string, Claim>();
  /** Of objects that several files define, all claims, the owner's first. */
  readonly #rivals = new Map<string, readonly Claim[]>();

  /** `rank` orders files: the smaller one comes first, then the one with the smaller path. */
  constructor(sink: ManifestSink, rank: (path: string) => number) {
    this.#sink = sink;
    this.#rank = rank;
  }

  get size(): number {
    return this.#owners.size;
  }

  owner(id: string): Claim | undefined {
    return this.#owners.get(id);
  }

  /** Puts a file's version of an object in place of the one that it had. */
  set(claim: Claim): void {
    const others = this.#claims(claim.id).filter(({ path }) => path !== claim.path);
    this.#settle(claim.id, [...others, claim]);
  }

  /** The file doesn't define the object any more. */
  drop(id: string, path: string): void {
    this.#settle(
      id,
      this.#claims(id).filter((claim) => claim.path !== path),
    );
  }

  /** Claims that don't count, each with the one that does. */
  *overruled(): Generator<{ readonly claim: Claim; readonly owner: Claim }> {
    for (const [owner, ...others] of this.#rivals.values()) {
      if (owner === undefined) continue;
      for (const claim of others) if (!claim.leaving) yield { claim, owner };
    }
  }

  #claims(id: string): readonly Claim[] {
    const owner = this.#owners.get(id);
    return this.#rivals.get(id) ?? (owner === undefined ? [] : [owner]);
  }

  #settle(id: string, claims: readonly Claim[]): void {
    const ordered = claims.toSorted(
      (a, b) =>
        Number(a.leaving) - Number(b.leaving) ||
        this.#rank(a.path) - this.#rank(b.path) ||
        (a.path < b.path ? -1 : 1),
    );
    if (ordered.length > 1) this.#rivals.set(id, ordered);
    else this.#rivals.delete(id);
    const before = this.#owners.get(id);
    const [owner] = ordered;
    if (owner === undefined) {
      this.#owners.delete(id);
      if (before !== undefined) this.#sink.delete(before.content.kind, rowKey(before.content));
      return;
    }
    const same = before !== undefined && isDeepStrictEqual(before.content, owner.content);
    this.#owners.set(id, same ? { ...owner, content: before.content } : owner);
    if (!same) this.#sink.put(owner.content);
  }
}
