// SPDX-License-Identifier: Apache-2.0
import { Worker } from "node:worker_threads";
import { parseChanged, parseShort } from "./documents.ts";
import { intern } from "./intern.ts";
import type { Acknowledge, ParsedDocument, ParseRequest, WorkerAnswer } from "./protocol.ts";

/** A file that could not be read; `code` is the system's (`ENOENT`), or empty. */
export class ManifestFileError extends Error {
  override readonly name = "ManifestFileError";
  readonly code: string;

  constructor(message: string, code: string) {
    super(message);
    this.code = code;
  }
}

export interface ParserPoolOptions {
  /** Workers at most. They are started when needed and stopped when idle. */
  readonly workers?: number;
  /** An idle worker is stopped after so long: its memory is the agent's. */
  readonly idleMs?: number;
  /** A file that takes longer is given up. */
  readonly limitMs?: number;
}

/** Files from this size on are shared between all workers, in bytes. */
const SHARED_BYTES = 2 ** 20;

/** A worker's heap, in MiB: plenty for the largest file. */
const HEAP_MB = 512;

interface Job {
  readonly request: Omit<ParseRequest, "job">;
  readonly documents: ParsedDocument[];
  readonly resolve: (part: { documents: ParsedDocument[]; stamp: string }) => void;
  readonly reject: (error: Error) => void;
}

interface Slot {
  readonly worker: Worker;
  job: Job | undefined;
  timer: NodeJS.Timeout | undefined;
}

/**
 * Parses files on other threads, so that the main one only takes what came out, in chunks. What is
 * quickly done is done here: another thread may have to wait for a processor, or isn't there yet.
 */
export class ParserPool {
  readonly #limit: number;
  readonly #idleMs: number;
  readonly #limitMs: number;
  readonly #slots = new Set<Slot>();
  readonly #queue: Job[] = [];
  #jobs = 0;
  #closed = false;

  constructor(options: ParserPoolOptions = {}) {
    this.#limit = options.workers ?? 2;
    this.#idleMs = options.idleMs ?? 200;
    this.#limitMs = options.limitMs ?? 120_000;
  }

  /** Workers that run now. */
  get running(): number {
    return this.#slots.size;
  }

  /**
   * The documents of a file of about `sizeBytes`, in order; those with a known hash are not parsed.
   * Throws ManifestFileError.
   */
  async parse(
    path: string,
    sizeBytes: number,
    knownHashes: Iterable<string>,
  ): Promise<readonly ParsedDocument[]> {
    if (this.#closed) throw closedError();
    const hashes = new Set(knownHashes);
    const changed = await parseChanged(path, sizeBytes, hashes);
    if (this.#closed) throw closedError();
    if (changed !== undefined) return changed;
    const known = [...hashes].join("\n");
    const parts = sizeBytes >= SHARED_BYTES ? this.#limit : 1;
    const pieces = await Promise.all(
      Array.from({ length: parts }, (_, part) =>
        this.#run({ kind: "parse", path, text: undefined, part, parts, known }),
      ),
    );
    if (new Set(pieces.map(({ stamp }) => stamp)).size > 1) {
      throw new ManifestFileError(`${path} changed while it was read`, "EAGAIN");
    }
    return pieces.flatMap(({ documents }) => documents);
  }

  /**
   * The documents of a text, each object with its source; `name` is what errors call the text.
   * Throws ManifestFileError.
   */
  async parseText(name: string, text: string): Promise<readonly ParsedDocument[]> {
    if (this.#closed) throw closedError();
    const short = parseShort(text);
    if (short !== undefined) return short;
    const whole = { part: 0, parts: 1, known: "" };
    return (await this.#run({ kind: "parse", path: name, text, ...whole })).documents;
  }

  async close(): Promise<void> {
    this.#closed = true;
    for (const job of this.#queue.splice(0)) job.reject(closedError());
    await Promise.all([...this.#slots].map((slot) => this.#stop(slot, closedError())));
  }

  #run(
    request: Omit<ParseRequest, "job">,
  ): Promise<{ documents: ParsedDocument[]; stamp: string }> {
    if (this.#closed) return Promise.reject(closedError());
    return new Promise((resolve, reject) => {
      this.#queue.push({ request, documents: [], resolve, reject });
      this.#dispatch();
    });
  }

  #dispatch(): void {
    while (this.#queue.length > 0 && !this.#closed) {
      const idle = [...this.#slots].find(({ job }) => job === undefined);
      const slot = idle ?? (this.#slots.size < this.#limit ? this.#start() : undefined);
      if (slot === undefined) return;
      const job = this.#queue.shift();
      if (job === undefined) return;
      slot.job = job;
      slot.worker.ref();
      this.#setTimer(slot, this.#limitMs, () => {
        const seconds = this.#limitMs / 1000;
        return new ManifestFileError(
          `${job.request.path} took more than ${seconds} s to parse`,
          "",
        );
      });
      slot.worker.postMessage({ ...job.request, job: ++this.#jobs } satisfies ParseRequest);
    }
  }

  #start(): Slot {
    const worker = new Worker(new URL("./worker.ts", import.meta.url), {
      resourceLimits: { maxOldGenerationSizeMb: HEAP_MB },
      stdin: false,
    });
    const slot: Slot = { worker, job: undefined, timer: undefined };
    this.#slots.add(slot);
    worker.on("message", (answer: WorkerAnswer) => this.#take(slot, answer));
    worker.on("error", (error) => {
      const path = slot.job?.request.path;
      void this.#stop(slot, new ManifestFileError(`parsing ${path} failed: ${error.message}`, ""));
    });
    return slot;
  }

  #take(slot: Slot, answer: WorkerAnswer): void {
    // Not at once: chunks that arrive while others are taken would be taken in the same turn.
    const taken: Acknowledge = { kind: "taken", job: answer.job };
    setImmediate(() => slot.worker.postMessage(taken));
    const { job } = slot;
    if (job === undefined) return;
    if (answer.kind === "chunk") {
      for (const document of answer.documents) job.documents.push(intern(document));
      return;
    }
    slot.job = undefined;
    slot.worker.unref();
    this.#setTimer(slot, this.#idleMs, closedError);
    if (answer.kind === "done") job.resolve({ documents: job.documents, stamp: answer.stamp });
    else job.reject(new ManifestFileError(answer.text, answer.code));
    this.#dispatch();
  }

  #setTimer(slot: Slot, delayMs: number, why: () => Error): void {
    clearTimeout(slot.timer);
    slot.timer = setTimeout(() => void this.#stop(slot, why()), delayMs).unref();
  }

  async #stop(slot: Slot, why: Error): Promise<void> {
    clearTimeout(slot.timer);
    this.#slots.delete(slot);
    slot.job?.reject(why);
    slot.job = undefined;
    this.#dispatch();
    await slot.worker.terminate();
  }
}

function closedError(): ManifestFileError {
  return new ManifestFileError("the parser is closed", "");
}
