// SPDX-License-Identifier: Apache-2.0
import type { ServerWritableStream } from "@grpc/grpc-js";
import type { MonitorRequest, MonitorResponse, PacketEvent } from "./gen/ciliate.ts";

/** Where a monitor's events go. */
export interface EventSink {
  /** Never waits: an event that has no room is counted as lost. */
  push(event: PacketEvent): void;
  /** Counts events that the kernel had no room for. */
  overwritten(count: number): void;
}

/** Events that wait for one slow client. */
const MAX_WAITING = 8192;
const MAX_PER_MESSAGE = 128;

type Stream = Pick<
  ServerWritableStream<MonitorRequest, MonitorResponse>,
  "write" | "on" | "destroyed"
>;

/** A bounded queue in front of one client's stream. A client is told how much it missed. */
export function createEventStream(stream: Stream): EventSink {
  let waiting: PacketEvent[] = [];
  let lost = 0n;
  let overwritten = 0n;
  let scheduled = false;
  let blocked = false;

  const flush = (): void => {
    scheduled = false;
    while (!blocked && (waiting.length > 0 || lost > 0n || overwritten > 0n)) {
      const events = waiting.slice(0, MAX_PER_MESSAGE);
      waiting = waiting.slice(MAX_PER_MESSAGE);
      const message: MonitorResponse = { events, lost, overwritten };
      lost = 0n;
      overwritten = 0n;
      blocked = !stream.write(message);
    }
  };
  const schedule = (): void => {
    if (scheduled || blocked || stream.destroyed) return;
    scheduled = true;
    setImmediate(flush);
  };
  stream.on("drain", () => {
    blocked = false;
    schedule();
  });
  return {
    push(event) {
      if (waiting.length < MAX_WAITING) waiting.push(event);
      else lost += 1n;
      schedule();
    },
    overwritten(count) {
      overwritten += BigInt(count);
      schedule();
    },
  };
}
