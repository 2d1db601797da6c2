// SPDX-License-Identifier: Apache-2.0
import { closeSync, fstatSync, openSync, readFileSync, readlinkSync } from "node:fs";
import { getPriority, setPriority } from "node:os";
import { type MessagePort, parentPort } from "node:worker_threads";
import { digestOf } from "./documents.ts";
import { type ManifestObject, readManifest, readManifestSources } from "./manifest.ts";
import {
  type Acknowledge,
  CHUNK_WEIGHT,
  MAX_FILE_BYTES,
  type ParsedDocument,
  type ParseRequest,
  WINDOW,
  type WorkerAnswer,
} from "./protocol.ts";
import { splitDocuments } from "./split.ts";

/** Sends to the main thread no faster than it takes. */
class Outbox {
  readonly #port: MessagePort;
  #onTheWay = 0;
  #room: (() => void) | undefined;

  constructor(port: MessagePort) {
    this.#port = port;
  }

  async send(answer: WorkerAnswer): Promise<void> {
    if (this.#onTheWay >= WINDOW) await new Promise<void>((resolve) => (this.#room = resolve));
    this.#onTheWay++;
    this.#port.postMessage(answer);
  }

  taken(): void {
    this.#onTheWay--;
    this.#room?.();
    this.#room = undefined;
  }
}

async function parse(request: ParseRequest, outbox: Outbox): Promise<void> {
  const { job, path, part, parts } = request;
  const given = request.text !== undefined;
  const read = given ? readManifestSources : readManifest;
  const known = new Set(request.known.split("\n"));
  const { text, stamp } = given ? { text: request.text, stamp: "" } : readFile(path);
  const documents = splitDocuments(text);
  const from = Math.floor((documents.length * part) / parts);
  const to = Math.floor((documents.length * (part + 1)) / parts);
  let chunk: ParsedDocument[] = [];
  let weight = 0;
  for (const [offset, document] of documents.slice(from, to).entries()) {
    const digest = digestOf(document);
    const objects = known.has(digest) ? undefined : read(document);
    chunk.push({ index: from + offset, hash: digest, line: document.line, objects });
    weight += weigh(objects);
    if (weight < CHUNK_WEIGHT) continue;
    await outbox.send({ kind: "chunk", job, documents: chunk });
    chunk = [];
    weight = 0;
  }
  await outbox.send({ kind: "chunk", job, documents: chunk });
  await outbox.send({ kind: "done", job, stamp });
}

function weigh(objects: readonly ManifestObject[] | undefined): number {
  let weight = 0.25;
  for (const { content } of objects ?? []) {
    weight += content?.kind === "EndpointSlice" ? 1 + content.row.endpoints.length : 2;
  }
  return weight;
}

function readFile(path: string): { text: string; stamp: string } {
  const file = openSync(path, "r");
  try {
    const { size, mtimeMs, ino } = fstatSync(file);
    if (size > MAX_FILE_BYTES) {
      const limit = `${MAX_FILE_BYTES / 2 ** 20} MiB`;
      throw new Error(`the file has ${size} bytes: split it into files of at most ${limit}`);
    }
    const bytes = readFileSync(file);
    const text = new TextDecoder("utf-8", { fatal: true }).decode(bytes);
    return { text, stamp: `${ino}:${bytes.length}:${mtimeMs}` };
  } finally {
    closeSync(file);
  }
}

function toAnswer(job: number, error: unknown): WorkerAnswer {
  const { code, message } = error as { code?: string; message?: string };
  if (code === "ERR_ENCODING_INVALID_ENCODED_DATA") {
    return { kind: "failed", job, code: "", text: "the file is not UTF-8 text" };
  }
  return { kind: "failed", job, code: code ?? "", text: message ?? String(error) };
}

/** How much nicer than the main thread; more would let other programs starve the parsing. */
const NICER = 5;
const NICEST = 19;

/** Parsing can wait for the main thread, should there be fewer processors than threads. */
function yieldToOthers(): void {
  try {
    const thread = Number(readlinkSync("/proc/thread-self").split("/").at(-1));
    setPriority(thread, Math.min(NICEST, getPriority(thread) + NICER));
  } catch {
    // Without /proc all threads are equal.
  }
}

const port = parentPort;
if (port !== null) {
  yieldToOthers();
  const outbox = new Outbox(port);
  port.on("message", (message: ParseRequest | Acknowledge) => {
    if (message.kind === "taken") return outbox.taken();
    void parse(message, outbox).catch((error: unknown) =>
      outbox.send(toAnswer(message.job, error)),
    );
  });
}
