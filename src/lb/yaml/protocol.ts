// SPDX-License-Identifier: Apache-2.0
import type { ManifestObject } from "./manifest.ts";

// What the main thread and the parsing worker say to each other.

/** Read a share of a file's documents: those of the `part`-th of `parts` equal pieces. */
export interface ParseRequest {
  readonly kind: "parse";
  readonly job: number;
  readonly path: string;
  /** What to read instead of the file at `path`, which then only names it. */
  readonly text: string | undefined;
  readonly part: number;
  readonly parts: number;
  /** Hashes of documents that needn't be parsed again, a line each: one text is quick to send. */
  readonly known: string;
}

/** A chunk has been taken, send another. */
export interface Acknowledge {
  readonly kind: "taken";
  readonly job: number;
}

export interface ParsedDocument {
  /** Place among the file's documents, from 0. */
  readonly index: number;
  /** Of its text. */
  readonly hash: string;
  /** Where its text begins, from 1. */
  readonly line: number;
  /** Undefined for a known document. Lines of remarks and objects are those of the file. */
  readonly objects: readonly ManifestObject[] | undefined;
}

export type WorkerAnswer =
  | {
      readonly kind: "chunk";
      readonly job: number;
      readonly documents: readonly ParsedDocument[];
    }
  /** All was sent. `stamp` tells versions of the file apart. */
  | { readonly kind: "done"; readonly job: number; readonly stamp: string }
  /** The file could not be read; `code` is the system's, or empty. */
  | {
      readonly kind: "failed";
      readonly job: number;
      readonly code: string;
      readonly text: string;
    };

/** Chunks that may be on their way at a time. */
export const WINDOW = 2;

/** Objects and endpoints in one chunk, about: 2 ms of the main thread's time. */
export const CHUNK_WEIGHT = 1000;

/** The largest file that is read, in bytes. */
export const MAX_FILE_BYTES = 64 * 2 ** 20;
