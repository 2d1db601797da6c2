// SPDX-License-Identifier: Apache-2.0
import type { ManifestRow } from "../shape/object.ts";
import type { Claim } from "./claims.ts";
import type { Located, ManifestObject } from "./manifest.ts";
import type { ParsedDocument } from "./protocol.ts";

/** Something wrong or odd with manifests, for people. */
export interface ManifestProblem {
  readonly severity: "error" | "warning";
  readonly file: string;
  /** From 1; undefined for the file as a whole. */
  readonly line: number | undefined;
  /** `Service default/web`, where known. */
  readonly object: string | undefined;
  /** `spec.ports[0].port`; empty for the object as a whole. */
  readonly field: string;
  readonly text: string;
  /** Whether the object's previous version stays in force. */
  readonly kept: boolean;
}

/** What a file defines. */
export interface FileVersion {
  /** By id, what is to be in force: of bad objects, the previous version. */
  readonly objects: ReadonlyMap<string, Claim>;
  /** By hash of their text, documents without remarks: their objects, lines from theirs. */
  readonly documents: ReadonlyMap<string, readonly DocumentObject[]>;
  readonly problems: readonly ManifestProblem[];
}

export interface DocumentObject {
  readonly id: string;
  readonly line: number;
  readonly content: ManifestRow;
}

export const NO_VERSION: FileVersion = { objects: new Map(), documents: new Map(), problems: [] };

/** Makes the next version of a file from its documents, which are added in their order. */
export class VersionBuilder {
  readonly #path: string;
  readonly #before: FileVersion;
  readonly #objects = new Map<string, Claim>();
  readonly #documents = new Map<string, readonly DocumentObject[]>();
  readonly #problems: ManifestProblem[] = [];
  readonly #bad: { readonly object: ManifestObject; readonly fault: Located }[] = [];

  constructor(path: string, before: FileVersion) {
    this.#path = path;
    this.#before = before;
  }

  add(document: ParsedDocument): void {
    const { hash, line: first, objects } = document;
    const known = objects === undefined ? this.#before.documents.get(hash) : undefined;
    if (known !== undefined) {
      this.#documents.set(hash, known);
      for (const { id, line, content } of known) this.#define(id, line + first, content, hash);
      return;
    }
    const good: DocumentObject[] = [];
    for (const object of objects ?? []) {
      const { id, line, content, faults, warnings } = object;
      for (const fault of faults) this.#bad.push({ object, fault });
      for (const remark of warnings) {
        const { line, field, text } = remark;
        this.#tell({ severity: "warning", line, object: id, field, text, kept: false });
      }
      if (id === undefined || content === undefined) continue;
      this.#define(id, line, content, hash);
      good.push({ id, line: line - first, content });
    }
    // A copy has room for what it holds only: what grew has room for sixteen more.
    if (good.length > 0 && isClean(document)) this.#documents.set(hash, good.slice());
  }

  finish(): FileVersion {
    const before = this.#before.objects;
    this.#keepPrevious();
    for (const { object, fault } of this.#bad) {
      const { line, field, text } = fault;
      const kept = object.id === undefined ? before.size > 0 : before.has(object.id);
      this.#tell({ severity: "error", line, object: object.id, field, text, kept });
    }
    return { objects: this.#objects, documents: this.#documents, problems: this.#problems };
  }

  #define(id: string, line: number, content: ManifestRow, hash: string): void {
    const first = this.#objects.get(id);
    if (first === undefined) {
      this.#objects.set(id, { id, path: this.#path, line, content, hash, leaving: false });
      return;
    }
    const text = `defined before on line ${first.line}: the first one counts`;
    this.#tell({ severity: "error", line, object: id, field: "", text, kept: false });
  }

  /**
   * Bad objects go on as they were. When it isn't known which object a bad document is, everything
   * goes on that the file doesn't define anew.
   */
  #keepPrevious(): void {
    const bad = this.#bad.map(({ object }) => object.id);
    const ids = bad.includes(undefined) ? this.#before.objects.keys() : bad;
    for (const id of ids) {
      const claim = id === undefined ? undefined : this.#before.objects.get(id);
      if (claim !== undefined && !this.#objects.has(claim.id)) {
        this.#objects.set(claim.id, staying(claim));
      }
    }
  }

  #tell(problem: Omit<ManifestProblem, "file">): void {
    this.#problems.push({ file: this.#path, ...problem });
  }
}

/** The version of a file that can't be read: all that it had stays. */
export function unreadVersion(path: string, before: FileVersion, text: string): FileVersion {
  const kept = before.objects.size > 0;
  const place = { line: undefined, object: undefined, field: "" };
  const problem: ManifestProblem = { ...place, severity: "error", file: path, text, kept };
  const objects = new Map([...before.objects].map(([id, claim]) => [id, staying(claim)]));
  return { ...before, objects, problems: [problem] };
}

/** The version without what was kept of its predecessor's as it may come back. */
export function withoutLeaving(version: FileVersion): FileVersion {
  const objects = new Map([...version.objects].filter(([, { leaving }]) => !leaving));
  return { ...version, objects };
}

function staying(claim: Claim): Claim {
  return claim.leaving ? { ...claim, leaving: false } : claim;
}

function isClean({ objects }: ParsedDocument): boolean {
  return objects?.every(({ faults, warnings }) => faults.length + warnings.length === 0) === true;
}
