/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only) */
#ifndef CILIATE_STAGE_CAPTURE_H
#define CILIATE_STAGE_CAPTURE_H

#include "abi/capture.h"
#include "geneve.h"
#include "ip.h"
#include "metrics.h"

/*
 * Whole packets for whoever captures: as they came, copied where a device's program begins, and as
 * they left, told with the verdict where a program ends. What is none of ours isn't told. Reading
 * frames is what XDP and tc do each in their way: capture-xdp.h, capture-skb.h.
 */

#define SECOND_NS 1000000000ll
/* As much of a frame as its addresses and ports need where there are no extension headers. */
#define PEEK_BYTES 128

/* One row for each CPU, as with scratch; both families have the same. */
struct capture_copy {
	__u64 event[16]; /* packet_event_t */
	time_ns_t came;
	__u32 session;
	__u32 frame_bytes; /* as it came */
	__u32 segment_bytes;
	__u32 kept_bytes;	    /* of it */
	__u8 left[PEEK_BYTES];	    /* the beginning of what leaves, and zeros */
	struct captured_frame head; /* with the bytes that follow it, one record */
	__u8 bytes[CAPTURE_BYTES];
};

_Static_assert(sizeof(packet_event_t) <= sizeof(((struct capture_copy *)0)->event),
	       "an event of either family has room");
_Static_assert(offsetof(struct capture_copy, bytes) ==
		   offsetof(struct capture_copy, head) + sizeof(struct captured_frame),
	       "a frame's bytes follow its head");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__uint(key_size, sizeof(__u32));
	__uint(value_size, sizeof(struct capture_copy));
} capture_copies SEC(".maps");

static __always_inline struct capture_copy *capture_copy_row(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&capture_copies, &zero);
}

static __always_inline struct capture *capture_row(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&captures, &zero);
}

/* 1 to CAPTURE_BYTES, said so that the verifier sees it: helpers don't read nothing. */
static __always_inline __u32 capture_bytes(__u32 bytes)
{
	return ((bytes - 1) & (CAPTURE_BYTES - 1)) + 1;
}

/* How much of a frame is kept. */
static __always_inline __u32 capture_share(const struct capture *capture, __u32 frame_bytes)
{
	return capture_bytes(frame_bytes < capture->snap_bytes ? frame_bytes : capture->snap_bytes);
}

/* How much of it is peeked at. */
static __always_inline __u32 capture_peek(__u32 frame_bytes)
{
	return ((frame_bytes < PEEK_BYTES ? frame_bytes : PEEK_BYTES) - 1 & (PEEK_BYTES - 1)) + 1;
}

/* Whoever captured has died: so that packets pay nothing for it any more. */
static __always_inline void capture_end(void)
{
	struct runtime *state = runtime_row();

	if (state)
		__sync_fetch_and_and(&state->events, ~EVENT_PACKETS);
}

/* The row for a packet that has just come; NULL: it isn't to be captured. */
static __always_inline struct capture_copy *capture_begin(const struct capture *capture)
{
	struct capture_copy *copy = capture_copy_row();
	time_ns_t now = bpf_ktime_get_ns();

	if (!copy)
		return NULL;
	if (now > capture->deadline) {
		capture_end();
		return NULL;
	}
	copy->came = now;
	copy->session = capture->session;
	return copy;
}

static __always_inline bool is_within(address_t address, const struct capture *capture)
{
	const ipv6_t *wanted = &capture->address, *mask = &capture->mask;
#ifdef FAMILY_IPV6
	return !(((address.word[0] ^ wanted->word[0]) & mask->word[0]) |
		 ((address.word[1] ^ wanted->word[1]) & mask->word[1]) |
		 ((address.word[2] ^ wanted->word[2]) & mask->word[2]) |
		 ((address.word[3] ^ wanted->word[3]) & mask->word[3]));
#else
	return !((address ^ wanted->word[0]) & mask->word[0]);
#endif
}

/* Whether more is inside than the packet path has looked at: who captures has to look himself. */
static __always_inline bool is_wrapped(const packet_event_t *event)
{
	return event->protocol == IPPROTO_OUTER ||
	       (event->protocol == IPPROTO_UDP && event->destination_port == GENEVE_PORT);
}

static __always_inline bool header_address(const struct capture *capture, const ip_t *ip)
{
	return is_within(ip_source(ip), capture) || is_within(ip_destination(ip), capture);
}

static __always_inline bool header_port(const struct capture *capture, const ip_t *ip)
{
	const __u32 at = ip_ports_at(ip);
	const port_t *ports = (const void *)ip + at, wanted = capture->port;

	return !at || ports[0] == wanted || ports[1] == wanted || ports[1] == GENEVE_PORT;
}

static __always_inline bool address_wanted(const struct capture *capture,
					   const packet_event_t *event)
{
	return is_within(event->source, capture) || is_within(event->destination, capture) ||
	       is_within(event->outer_source, capture) ||
	       is_within(event->outer_destination, capture) || is_within(event->backend, capture);
}

/*
 * What can be told cheaply: it lets more through than is wanted, and never less. Who captures looks
 * at all headers of both frames. A mask of 0 wants any address.
 */
static __always_inline bool capture_wants(const struct capture *capture,
					  const struct capture_copy *copy)
{
	const packet_event_t *event = (const void *)copy->event;
	const ip_t *came = (const void *)copy->bytes + ETH_HLEN;
	const ip_t *left = (const void *)copy->left + ETH_HLEN;

	if (!(capture->verdicts >> (event->verdict & (VERDICT_SLOTS - 1)) & 1) ||
	    !(capture->places >> (event->place & (PLACE_SLOTS - 1)) & 1))
		return false;
	if (capture->version && capture->version != IP_VERSION)
		return false;
	if (is_wrapped(event))
		return true;
	if (!address_wanted(capture, event) && !header_address(capture, came) &&
	    !header_address(capture, left))
		return false;
	return !capture->port || event->source_port == capture->port ||
	       event->destination_port == capture->port || header_port(capture, came) ||
	       header_port(capture, left);
}

/* Whether there is a place for one more packet in this second. */
static __always_inline bool capture_admits(struct capture *capture, time_ns_t now)
{
	if ((__s64)(now - capture->second) >= SECOND_NS) {
		capture->second = now;
		capture->taken = 0;
	}
	if (__sync_fetch_and_add(&capture->taken, 1) < capture->rate)
		return true;
	__sync_fetch_and_add(&capture->left_out, 1);
	return false;
}

static __always_inline void capture_head(struct capture_copy *copy, struct capture *capture,
					 const packet_event_t *event)
{
	copy->head = (struct captured_frame){
	    .time = copy->came,
	    .packet = __sync_fetch_and_add(&capture->packets, 1),
	    .session = copy->session,
	    .ifindex = event->ifindex,
	    .frame_bytes = copy->frame_bytes,
	    .segment_bytes = copy->segment_bytes,
	    .service = event->service,
	    .cpu = bpf_get_smp_processor_id(),
	    .verdict = event->verdict,
	    .place = event->place,
	    .flags = event->verdict < DROP_NO_BACKEND ? CAPTURED_MORE : 0,
	};
}

static __always_inline void capture_send(struct capture_copy *copy, struct capture *capture,
					 __u32 kept_bytes)
{
	if (bpf_ringbuf_output(&captured_frames, &copy->head, sizeof(copy->head) + kept_bytes, 0))
		__sync_fetch_and_add(&capture->lost, 1);
}

/* The packet is to be told as it came. false: nobody wants it, or there are too many. */
static __always_inline bool capture_came(struct capture_copy *copy, struct capture *capture)
{
	const packet_event_t *event = (const void *)copy->event;

	if (copy->session != capture->session || !capture_wants(capture, copy) ||
	    !capture_admits(capture, event->time))
		return false;
	capture_head(copy, capture, event);
	capture_send(copy, capture, capture_bytes(copy->kept_bytes));
	return copy->head.flags & CAPTURED_MORE;
}

/* And as it left, which `kept_bytes` of copy->bytes are now. */
static __always_inline void capture_left(struct capture_copy *copy, struct capture *capture,
					 __u32 frame_bytes, __u32 segment_bytes, __u32 kept_bytes)
{
	copy->head.time = ((const packet_event_t *)copy->event)->time;
	copy->head.frame_bytes = frame_bytes;
	copy->head.segment_bytes = segment_bytes;
	copy->head.flags = CAPTURED_LEFT;
	capture_send(copy, capture, kept_bytes);
}

/* What is known of a packet at its end, for xdp_told and skb_told. */
static __always_inline void event_keep(const struct packet *packet, enum place place,
				       enum verdict verdict)
{
	struct capture_copy *copy = capture_copy_row();

	if (copy)
		event_write((void *)copy->event, packet, place, verdict);
}

/* Adds what is known without the packet. Gives who wants to know of it, enum event_mask. */
static __always_inline __u32 event_end(struct capture_copy *copy, ifindex_t ifindex)
{
	packet_event_t *event = (void *)copy->event;

	event->time = bpf_ktime_get_ns();
	event->ifindex = ifindex;
	return events_wanted(events_now(), event->verdict);
}

static __always_inline void event_send(const struct capture_copy *copy)
{
	bpf_ringbuf_output(&events, (void *)copy->event, sizeof(packet_event_t), 0);
}

#endif
