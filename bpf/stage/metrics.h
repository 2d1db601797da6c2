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

static __always_inline void event_send(const struct packet *packet, enum place place,
				       enum verdict verdict, ifindex_t ifindex)
{
	packet_event_t *event = bpf_ringbuf_reserve(&events, sizeof(*event), 0);

	if (!event)
		return;
	event->time = bpf_ktime_get_ns();
	event->ifindex = ifindex;
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
	bpf_ringbuf_submit(event, 0);
}

/* Whether somebody listens to packets that end in this verdict. */
static __always_inline bool event_wanted(enum verdict verdict)
{
	const __u32 wanted = verdict >= DROP_NO_BACKEND ? EVENT_DROPS | EVENT_TRACES : EVENT_TRACES;
	__u32 zero = 0;
	struct runtime *state = bpf_map_lookup_elem(&runtime, &zero);

	return state && state->events & wanted;
}

/* The one end of every packet: its verdict counted, and told to whoever listens. */
static __always_inline void conclude(const struct packet *packet, enum place place,
				     enum verdict verdict, ifindex_t ifindex)
{
	/* Counted in two places, so that what is none of ours needs nothing but its length. */
	if (verdict == PASS_NOT_OURS) {
		metrics_count(place, PASS_NOT_OURS, packet->frame_bytes);
		return;
	}
	metrics_count(place, verdict, packet->frame_bytes);
	if (unlikely(event_wanted(verdict)))
		event_send(packet, place, verdict, ifindex);
}

#endif
