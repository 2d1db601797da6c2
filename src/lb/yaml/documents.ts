// SPDX-License-Identifier: Apache-2.0
import { hash } from "node:crypto";
import { readFile } from "node:fs/promises";
import { intern } from "./intern.ts";
import { type ManifestObject, readManifest, readManifestSources } from "./manifest.ts";
import type { ParsedDocument } from "./protocol.ts";
import { type DocumentText, splitDocuments } from "./split.ts";

/** Text that is parsed where it is, in characters: about 5 ms, less than asking another thread. */
const QUICK_CHARS = 16_384;

/** A file in which what has changed is looked for where it is, in bytes: about 3 ms. */
const QUICK_FILE_BYTES = 2 ** 19;

/** Of a document's text; short is enough, it only tells the documents of one file apart. */
export function digestOf({ text }: DocumentText): string {
  return hash("sha1", text, "base64").slice(0, 16);
}

/** The documents of a short text, each object with its source; undefined for a longer one. */
export function parseShort(text: string): readonly ParsedDocument[] | undefined {
  if (text.length > QUICK_CHARS) return undefined;
  const documents = splitDocuments(text);
  return detach(
    documents.map((document, index) => {
      const objects = readManifestSources(document);
      return { index, hash: digestOf(document), line: document.line, objects };
    }),
  );
}

/**
 * The documents of a file of about `sizeBytes` of which little is not known; undefined when there
 * is more to it, or anything wrong with it.
 */
export async function parseChanged(
  path: string,
  sizeBytes: number,
  known: ReadonlySet<string>,
): Promise<readonly ParsedDocument[] | undefined> {
  if (known.size === 0 || sizeBytes > QUICK_FILE_BYTES) return undefined;
  const text = await readText(path);
  if (text === undefined) return undefined;
  await ownTurn();
  let unknownChars = 0;
  const parts: { readonly document: DocumentText; readonly digest: string }[] = [];
  for (const document of splitDocuments(text)) {
    const digest = digestOf(document);
    parts.push({ document, digest });
    if (!known.has(digest)) unknownChars += document.text.length;
  }
  if (unknownChars > QUICK_CHARS) return undefined;
  if (unknownChars > 0) await ownTurn();
  const read = ({ document, digest }: (typeof parts)[number]): ManifestObject[] | undefined =>
    known.has(digest) ? undefined : readManifest(document);
  return detach(
    parts.map((part, index) => {
      const { digest, document } = part;
      return { index, hash: digest, line: document.line, objects: read(part) };
    }),
  );
}

let turns: Promise<void> = Promise.resolve();

/** Waits for a turn of the event loop that nobody else has got: files are read several at once. */
function ownTurn(): Promise<void> {
  turns = turns.then(() => new Promise((resolve) => setImmediate(resolve)));
  return turns;
}

async function readText(path: string): Promise<string | undefined> {
  try {
    const bytes = await readFile(path);
    if (bytes.length > QUICK_FILE_BYTES) return undefined;
    return new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch {
    return undefined;
  }
}

/** A part of a text keeps all of it in memory: what stays must be a copy. */
function detach(documents: readonly ParsedDocument[]): readonly ParsedDocument[] {
  return structuredClone(documents).map(intern);
}
