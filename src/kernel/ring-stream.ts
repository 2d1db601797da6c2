// SPDX-License-Identifier: Apache-2.0

import { Worker } from "node:worker_threads";
import { check } from "./error.ts";
import * as sys from "./ffi.ts";
import type { BpfMap } from "./map.ts";
import { eachRecord, type RecordVisitor } from "./ring.ts";

/** Some records of a ring, in memory that holds only while the receiver runs. */
export interface RingBatch {
  readonly view: DataView;
  readonly records: number;
  /** Records thrown away since the batch before, because the receiver was behind. */
  readonly lost: number;
  /** Visits the records in order; offsets are into `view`. */
  each(visit: RecordVisitor): void;
}

/** How a ring is streamed. */
export interface RingStreamOptions {
  /** Called on the main thread for every batch. What it wants to keep it copies. */
  readonly receive: (batch: RingBatch) => void;
  /** Called once when the Worker dies of an error; the stream is over then. */
  readonly fail: (error: Error) => void;
  /** Bytes of a batch at most; 256 KiB when left out. It must hold the largest record. */
  readonly batchBytes?: number;
  /** Batches under way at most; 8 when left out. */
  readonly batches?: number;
}

/** What the Worker is started with. */
export interface RingWorkerData {
  readonly fd: number;
  readonly control: SharedArrayBuffer;
  readonly batchBytes: number;
  readonly batches: number;
}

/** What the Worker posts: its buffer is transferred, and comes back the same way. */
export interface RingWorkerBatch {
  readonly buffer: ArrayBuffer;
  readonly bytes: number;
  readonly records: number;
  readonly lost: number;
}

/** Words of the control block. */
export const Control = { stop: 0, returned: 1, words: 2 } as const;

/**
 * Reads a ring in a Worker that blocks in poll(2), and hands batches to the main thread. While the
 * receiver is behind, records wait in the ring; when that is three quarters full they are thrown
 * away and counted.
 */
export class RingStream implements AsyncDisposable {
  readonly #worker: Worker;
  readonly #control: Int32Array;
  readonly #exited: Promise<void>;

  constructor(map: BpfMap, options: RingStreamOptions) {
    const control = new SharedArrayBuffer(Control.words * 4);
    this.#control = new Int32Array(control);
    const workerData: RingWorkerData = {
      fd: check(sys.duplicate(map.fd), "share", `map ${map.name}`),
      control,
      batchBytes: options.batchBytes ?? 256 * 1024,
      batches: options.batches ?? 8,
    };
    this.#worker = new Worker(new URL("./ring-worker.ts", import.meta.url), { workerData });
    this.#worker.on("message", (batch: RingWorkerBatch) => this.#receive(batch, options.receive));
    this.#worker.on("error", (error) => options.fail(asError(error)));
    this.#exited = new Promise((resolve) => this.#worker.once("exit", () => resolve()));
  }

  /** Ends the Worker, which takes up to 100 ms. What it has read by then is still received. */
  async close(): Promise<void> {
    Atomics.store(this.#control, Control.stop, 1);
    this.#wake();
    await this.#exited;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  #receive(batch: RingWorkerBatch, receive: RingStreamOptions["receive"]): void {
    const view = new DataView(batch.buffer);
    const { bytes, records, lost } = batch;
    try {
      receive({ view, records, lost, each: (visit) => eachRecord(view, 0, bytes, visit) });
    } finally {
      this.#worker.postMessage(batch.buffer, [batch.buffer]);
      this.#wake();
    }
  }

  #wake(): void {
    Atomics.add(this.#control, Control.returned, 1);
    Atomics.notify(this.#control, Control.returned);
  }
}

function asError(error: unknown): Error {
  return error instanceof Error ? error : new Error(String(error));
}
