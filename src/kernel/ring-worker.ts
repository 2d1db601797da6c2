// SPDX-License-Identifier: Apache-2.0

import { parentPort, receiveMessageOnPort, workerData } from "node:worker_threads";
import { BpfMap } from "./map.ts";
import { RingReader } from "./ring.ts";
import { Control, type RingWorkerBatch, type RingWorkerData } from "./ring-stream.ts";

// A Worker's exit waits for a blocked poll(2): this is how long closing a stream takes at most.
const POLL_MS = 100;
const RETRY_MS = 1;
const RETURN_MS = 20;

/** The loop of a Worker that reads one ring. */
class Pump {
  readonly #ring: RingReader;
  readonly #control: Int32Array;
  readonly #port: NonNullable<typeof parentPort>;
  readonly #free: ArrayBuffer[];
  #lost = 0;

  constructor(ring: RingReader, data: RingWorkerData, port: NonNullable<typeof parentPort>) {
    this.#ring = ring;
    this.#control = new Int32Array(data.control);
    this.#port = port;
    this.#free = Array.from({ length: data.batches }, () => new ArrayBuffer(data.batchBytes));
  }

  run(): void {
    while (Atomics.load(this.#control, Control.stop) === 0) {
      const returned = Atomics.load(this.#control, Control.returned);
      this.#collect();
      const buffer = this.#free.pop();
      if (buffer === undefined) this.#hold(returned);
      else this.#pass(buffer);
    }
    const buffer = this.#free.pop();
    if (buffer !== undefined) this.#post(buffer);
  }

  /** Buffers that the receiver is done with. */
  #collect(): void {
    for (;;) {
      const message = receiveMessageOnPort(this.#port);
      if (message === undefined) return;
      this.#free.push(message.message as ArrayBuffer);
    }
  }

  /**
   * The receiver is behind: let the ring be the queue, and make room before programs meet a full
   * one.
   */
  #hold(returned: number): void {
    if (this.#ring.pendingBytes > (this.#ring.sizeBytes * 3) / 4) this.#lost += this.#ring.skip();
    Atomics.wait(this.#control, Control.returned, returned, RETURN_MS);
  }

  #pass(buffer: ArrayBuffer): void {
    const pending = this.#ring.pendingBytes;
    if (this.#post(buffer)) return;
    // Readable and yet nothing finished: a program is writing its record right now.
    if (pending > 0) Atomics.wait(this.#control, Control.stop, 0, RETRY_MS);
    else this.#ring.wait(POLL_MS);
  }

  /** False when there was nothing to read. */
  #post(buffer: ArrayBuffer): boolean {
    const { bytes, records } = this.#ring.copy(new Uint8Array(buffer));
    if (records === 0 && this.#lost === 0) {
      this.#free.push(buffer);
      return bytes > 0;
    }
    const batch: RingWorkerBatch = { buffer, bytes, records, lost: this.#lost };
    this.#lost = 0;
    this.#port.postMessage(batch, [buffer]);
    return true;
  }
}

if (parentPort === null) throw new Error("ring-worker runs as the Worker of a RingStream only");
const data = workerData as RingWorkerData;
using map = new BpfMap(data.fd);
using ring = new RingReader(map);
new Pump(ring, data, parentPort).run();
