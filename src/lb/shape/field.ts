// SPDX-License-Identifier: Apache-2.0
import { nearest } from "../../config/nearest.ts";

/** Where in an object something stands: `["spec", "ports", 0, "port"]`. */
export type Path = readonly (string | number)[];

/** What is wrong, or only odd, at one place of an object. */
export interface Remark {
  readonly path: Path;
  readonly text: string;
}

/** What reading an object had to say. An object with a fault is not used. */
export interface Remarks {
  readonly faults: Remark[];
  readonly warnings: Remark[];
}

/** Faults of one object that are told: the first ones. */
const MAX_FAULTS = 20;

/** `spec.ports[0].port`; annotations and labels in brackets, as their names have dots. */
export function formatPath(path: Path): string {
  return path
    .map((key, index) => {
      if (typeof key === "number") return `[${key}]`;
      if (/[./]/.test(key)) return `["${key}"]`;
      return index === 0 ? key : `.${key}`;
    })
    .join("");
}

/** One value of an object that came from outside, and the way to it. */
export class Field {
  readonly value: unknown;
  readonly #remarks: Remarks;
  readonly #parent: Field | undefined;
  readonly #key: string | number;

  private constructor(
    value: unknown,
    remarks: Remarks,
    parent: Field | undefined,
    key: string | number,
  ) {
    // YAML's null stands for an absent value, as it does in Kubernetes.
    this.value = value ?? undefined;
    this.#remarks = remarks;
    this.#parent = parent;
    this.#key = key;
  }

  static root(value: unknown, remarks: Remarks): Field {
    return new Field(value, remarks, undefined, "");
  }

  get path(): Path {
    return this.#parent === undefined ? [] : [...this.#parent.path, this.#key];
  }

  get absent(): boolean {
    return this.value === undefined;
  }

  fault(text: string): undefined {
    const { faults } = this.#remarks;
    if (faults.length < MAX_FAULTS) faults.push({ path: this.path, text });
    return undefined;
  }

  warn(text: string): void {
    this.#remarks.warnings.push({ path: this.path, text });
  }

  /** Says what was expected, and what is there instead. */
  refuse(expected: string): undefined {
    return this.fault(`expected ${expected}, got ${quote(this.value)}`);
  }

  /** The value under a key; an absent one when this isn't a map. */
  get(key: string): Field {
    const inner = isMap(this.value) && Object.hasOwn(this.value, key) ? this.value[key] : undefined;
    return new Field(inner, this.#remarks, this, key);
  }

  /** A fault unless this is a map, or absent, that has no other keys than these. */
  only(known: ReadonlySet<string>): this {
    if (this.absent) return this;
    if (!isMap(this.value)) {
      this.refuse("a map");
      return this;
    }
    for (const key in this.value) if (!known.has(key)) this.#unknown(key, known);
    return this;
  }

  /** The elements of a list; none when it is absent, a fault when it is something else. */
  items(): Field[] {
    if (this.absent) return [];
    if (!Array.isArray(this.value)) {
      this.refuse("a list");
      return [];
    }
    return this.value.map((inner, index) => new Field(inner, this.#remarks, this, index));
  }

  /** The keys and values of a map of texts. */
  texts(): { readonly key: string; readonly text: string; readonly field: Field }[] {
    if (this.absent) return [];
    if (!isMap(this.value)) {
      this.refuse("a map of texts");
      return [];
    }
    return Object.keys(this.value).flatMap((key) => {
      const field = this.get(key);
      const text = typeof field.value === "string" ? field.value : undefined;
      if (text === undefined) field.refuse("a text (put it in quotes)");
      return text === undefined ? [] : [{ key, text, field }];
    });
  }

  /** A text; undefined when it is absent or, with a fault, something else. */
  text(expected = "a text"): string | undefined {
    if (this.absent || typeof this.value === "string") return this.value as string | undefined;
    return this.refuse(
      typeof this.value === "number" ? `${expected} (put it in quotes)` : expected,
    );
  }

  /** A text that must be there and match. */
  required(expected: string, pattern: RegExp): string | undefined {
    if (typeof this.value === "string" && pattern.test(this.value)) return this.value;
    return this.refuse(expected);
  }

  integer(expected: string, min: number, max: number): number | undefined {
    if (this.absent) return undefined;
    const { value } = this;
    if (typeof value === "number" && Number.isInteger(value) && value >= min && value <= max) {
      return value;
    }
    return this.refuse(expected);
  }

  flag(): boolean | undefined {
    if (this.absent || typeof this.value === "boolean") return this.value as boolean | undefined;
    return this.refuse("true or false");
  }

  #unknown(key: string, known: ReadonlySet<string>): void {
    const near = nearest(key, known);
    const hint = near === undefined ? "" : `; did you mean "${near}"?`;
    this.get(key).fault(`unknown field "${key}"${hint}`);
  }
}

export function isMap(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function quote(value: unknown): string {
  if (value === undefined) return "nothing";
  if (Array.isArray(value)) return "a list";
  if (isMap(value)) return "a map";
  const text = JSON.stringify(value) ?? String(value);
  return text.length > 60 ? `${text.slice(0, 60)}…` : text;
}
