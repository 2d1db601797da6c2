// SPDX-License-Identifier: Apache-2.0
import { EventMask, PacketEvent } from "../datapath/gen/abi.ts";

/** Records of the events ring, in memory that holds only while they are visited. */
export interface EventBatch {
  readonly view: DataView;
  /** Records that were thrown away before these. */
  readonly lost: number;
  each(visit: (offset: number, length: number) => void): void;
}

export interface EventListener {
  event(event: PacketEvent): void;
  /** So many events are missing here. */
  overwritten(count: number): void;
}

/** Hands the datapath's events to whoever listens; while nobody does, it makes none. */
export interface EventHub extends AsyncDisposable {
  /** Calls back for drops, and for every verdict if `traces`, until the returned call. */
  subscribe(traces: boolean, listener: EventListener): () => void;
}

export interface EventHubOptions {
  /** Starts to read the ring. */
  readonly open: (
    receive: (batch: EventBatch) => void,
    fail: (error: Error) => void,
  ) => AsyncDisposable;
  /** Tells the programs which events are wanted: a sum of EventMask. */
  readonly setEvents: (mask: number) => void;
  readonly onFailure: (error: Error) => void;
}

interface Subscription {
  readonly traces: boolean;
  readonly listener: EventListener;
}

export function createEventHub({ open, setEvents, onFailure }: EventHubOptions): EventHub {
  const subscriptions = new Set<Subscription>();
  let stream: AsyncDisposable | undefined;
  let closing: Promise<void> = Promise.resolve();

  const close = (): void => {
    const last = stream;
    stream = undefined;
    // The next reader starts when this one has let go of the ring: it has one reader.
    if (last !== undefined) closing = closing.then(() => last[Symbol.asyncDispose]());
  };
  const fail = (error: Error): void => {
    close();
    onFailure(error);
  };
  const receive = (batch: EventBatch): void => {
    for (const { listener } of subscriptions) if (batch.lost > 0) listener.overwritten(batch.lost);
    batch.each((offset) => {
      const event = PacketEvent.decode(batch.view, offset);
      const isDrop = event.verdict >= FIRST_DROP;
      for (const { traces, listener } of subscriptions) if (isDrop || traces) listener.event(event);
    });
  };
  const settle = (): void => {
    const traces = [...subscriptions].some((subscription) => subscription.traces);
    const wanted = subscriptions.size > 0;
    setEvents((wanted ? EventMask.drops : 0) | (traces ? EventMask.traces : 0));
    if (!wanted) close();
    else if (stream === undefined) {
      void closing.then(() => {
        if (subscriptions.size > 0) stream ??= open(receive, fail);
      });
    }
  };
  return {
    subscribe(traces, listener) {
      const subscription = { traces, listener };
      subscriptions.add(subscription);
      settle();
      return () => {
        if (subscriptions.delete(subscription)) settle();
      };
    },
    async [Symbol.asyncDispose]() {
      subscriptions.clear();
      settle();
      await closing;
    },
  };
}

/** Verdicts from here on are drops (bpf/abi/verdict.h). */
const FIRST_DROP = 32;
