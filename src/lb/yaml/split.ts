// SPDX-License-Identifier: Apache-2.0

/** One document of a file, as text. */
export interface DocumentText {
  readonly text: string;
  /** Line of the file on which `text` begins, from 1. */
  readonly line: number;
}

/**
 * Cuts a file at its document markers (`---`, `...`), which YAML allows nowhere else at the start
 * of a line. What holds only comments and blank lines is no document. Cutting first lets the good
 * documents of a file apply when another one can't be read.
 */
export function splitDocuments(file: string): DocumentText[] {
  const documents: DocumentText[] = [];
  let line = 1;
  let from = 0;
  const take = (to: number): void => {
    const text = file.slice(from, to);
    if (hasContent(text)) documents.push({ text, line });
    line += countLines(text);
    from = to;
  };
  for (const { 0: marker, index } of file.matchAll(/^(?:---|\.\.\.)(?=[ \t\r\n]|$)/gm)) {
    take(index);
    // What follows the marker on its line keeps its column. An end marker opens nothing.
    if (marker === "...") from = index + marker.length;
  }
  take(file.length);
  return documents;
}

/** Whether there is more than a marker, comments, directives and blank lines. */
function hasContent(text: string): boolean {
  let at = text.startsWith("---") ? 3 : 0;
  while (at < text.length) {
    const end = text.indexOf("\n", at);
    const line = text.slice(at, end === -1 ? text.length : end).trimStart();
    if (line !== "" && !/^[#%\r]/.test(line)) return true;
    if (end === -1) return false;
    at = end + 1;
  }
  return false;
}

function countLines(text: string): number {
  let lines = 0;
  for (let at = text.indexOf("\n"); at !== -1; at = text.indexOf("\n", at + 1)) lines++;
  return lines;
}
