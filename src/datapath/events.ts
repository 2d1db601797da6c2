// SPDX-License-Identifier: Apache-2.0
// What happens to packets, told as it happens, while somebody listens.

import type { BpfMap } from "../kernel/map.ts";
import { RingStream } from "../kernel/ring-stream.ts";
import { EventMask, PacketEvent, PacketEvent6, type Runtime } from "./gen/abi.ts";
import type { TypedMap } from "./maps.ts";

/** What happened to a packet of either family. */
export type AnyPacketEvent = PacketEvent | PacketEvent6;

/**
 * Reads one record of the ring: those of IPv6 are longer. Undefined for one that is too short for
 * either.
 */
export function decodeEvent(
  view: DataView,
  offset: number,
  length: number,
): AnyPacketEvent | undefined {
  if (length >= PacketEvent6.size) return PacketEvent6.decode(view, offset);
  return length >= PacketEvent.size ? PacketEvent.decode(view, offset) : undefined;
}

/** Some packets, in the order in which the ring got them. */
export interface EventBatch {
  readonly events: readonly AnyPacketEvent[];
  /** Events thrown away since the batch before, because nobody read fast enough. */
  readonly lost: number;
}

/** What a listener wants to hear of: drops alone, or every verdict on packets of ours. */
export type EventWish = "drops" | "traces";

/** The packet path's events. */
export interface EventSource extends AsyncDisposable {
  /**
   * Calls `receive` with what happens from now on; a listener for drops gets no other verdicts.
   * Returns a function that ends it. While nobody listens, programs write no events.
   */
  listen(wish: EventWish, receive: (batch: EventBatch) => void): () => void;
}

interface Listener {
  readonly wish: EventWish;
  readonly receive: (batch: EventBatch) => void;
}

/** Of `runtime.events`. */
const OWN_BITS = EventMask.drops | EventMask.traces;

/** The first verdict that is a drop. */
const FIRST_DROP = 32;

/** `failed` is called when reading ends by an error; listeners then hear nothing more. */
export function openEvents(
  ring: BpfMap,
  runtime: TypedMap<number, Runtime>,
  failed: (error: Error) => void,
): EventSource {
  const listeners = new Set<Listener>();
  let stream: RingStream | undefined;
  let closing: Promise<void> = Promise.resolve();

  const tellPrograms = (): void => {
    let events = 0;
    for (const { wish } of listeners) events |= EventMask[wish];
    using mapping = runtime.raw.mmap();
    const word = new Uint32Array(mapping.buffer, 0, 1);
    // The other bits are of who captures packets.
    Atomics.or(word, 0, events);
    Atomics.and(word, 0, events | ~OWN_BITS);
  };
  const receive = (batch: EventBatch): void => {
    const drops = batch.events.filter(({ verdict }) => verdict >= FIRST_DROP);
    for (const listener of [...listeners]) {
      const events = listener.wish === "drops" ? drops : batch.events;
      if (events.length > 0 || batch.lost > 0) listener.receive({ events, lost: batch.lost });
    }
  };
  const start = (): RingStream =>
    new RingStream(ring, {
      receive(batch) {
        const events: AnyPacketEvent[] = [];
        batch.each((offset, length) => {
          const event = decodeEvent(batch.view, offset, length);
          if (event !== undefined) events.push(event);
        });
        receive({ events, lost: batch.lost });
      },
      fail: failed,
    });
  /** One reader at a time: the next stream begins when the one before is over. */
  const settle = (): void => {
    // A stream that couldn't begin has been told of; the next listener tries again.
    closing = closing
      .catch(() => undefined)
      .then(async () => {
        if (listeners.size > 0) stream ??= start();
        else if (stream !== undefined) {
          await stream.close();
          stream = undefined;
        }
      });
    closing.catch(failed);
  };
  tellPrograms();
  return {
    listen(wish, receiver) {
      const listener: Listener = { wish, receive: receiver };
      listeners.add(listener);
      tellPrograms();
      settle();
      return () => {
        if (!listeners.delete(listener)) return;
        tellPrograms();
        settle();
      };
    },
    async [Symbol.asyncDispose]() {
      listeners.clear();
      tellPrograms();
      settle();
      await closing;
    },
  };
}
