/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only) */
#ifndef CILIATE_STAGE_METRICS_H
#define CILIATE_STAGE_METRICS_H

#include "abi/config.h"
#include "abi/events.h"
#include "packet.h"

/* Per-CPU parts of plain arrays: no atomics, as programs of one CPU don't interrupt each other. */

static __always_inline void metrics_count(enum place place, enum verdict verdict, __u32 bytes)
{
	__u32 row = (bpf_get_smp_processor_id() * PLACE_SLOTS + place) * VERDICT_SLOTS + verdict;
	struct metric *metric = bpf_map_lookup_elem(&metrics, &row);

	if (metric) {
		metric->packets++;
		metric->bytes += bytes;
	}
}

static __always_inline struct traffic *traffic_of(__u32 counter)
{
	__u32 row = bpf_get_smp_processor_id() * counter_stride + counter;

	return bpf_map_lookup_elem(&counters, &row);
}

static __always_inline void traffic_count(__u32 counter, const struct packet *packet)
{
	struct traffic *traffic = traffic_of(counter);

	if (traffic) {
		traffic->packets++;
		traffic->bytes += packet->frame_bytes;
		traffic->connections += packet_is_syn(packet);
	}
}

/* All but its time and device. */
static __always_inline void event_write(packet_event_t *event, const struct packet *packet,
					enum place place, enum verdict verdict)
{
	event->length = packet->frame_bytes;
	event->source = packet->source;
	event->destination = packet->destination;
	event->source_port = packet->source_port;
	event->destination_port = packet->destination_port;
	event->protocol = packet->protocol;
	event->tcp_flags = packet->tcp_flags;
	event->verdict = verdict;
	event->place = place;
	event->outer_source = packet->outer_source;
	event->outer_destination = packet->outer_destination;
	event->backend = packet->backend;
	event->service = packet->service;
	FAMILY_WIDE(event->reserved = 0;)
}

/* NULL never, but for verifiers before Linux 6.14. */
static __always_inline struct runtime *runtime_row(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&runtime, &zero);
}

/*
 * What somebody listens to now. Likely: verifiers walk on with the row first, and what they have
 * seen then holds without one, too; else they walk all of it twice.
 */
static __always_inline __u32 events_now(void)
{
	struct runtime *state = runtime_row();

	return likely(state) ? state->events : 0;
}

_Static_assert(EVENT_DROPS == 1 && DROP_NO_BACKEND * 2 == VERDICT_SLOTS,
	       "a verdict's highest bit is that of drops");

/* What of it a packet that ends in this verdict is told to. */
static __always_inline __u32 events_wanted(__u32 events, enum verdict verdict)
{
	return events & (EVENT_PACKETS | EVENT_TRACES | verdict / DROP_NO_BACKEND);
}

/* The one end of every packet: its verdict counted. Gives who is to be told of it. */
static __always_inline __u32 conclude(const struct packet *packet, enum place place,
				      enum verdict verdict)
{
	/* Counted in two places, so that what is none of ours needs nothing but its length. */
	if (verdict == PASS_NOT_OURS) {
		metrics_count(place, PASS_NOT_OURS, packet->frame_bytes);
		return 0;
	}
	metrics_count(place, verdict, packet->frame_bytes);
	return events_wanted(packet->events, verdict);
}

#endif
