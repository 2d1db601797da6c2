/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only) */
#ifndef CILIATE_STAGE_CAPTURE_SKB_H
#define CILIATE_STAGE_CAPTURE_SKB_H

#include "capture.h"

/*
 * Not static: so the verifier walks them once, whatever it knows of the packet, and the straight
 * way stays what it is.
 */

/* The packet as it came. */
__noinline int FAMILY(skb_came)(struct __sk_buff *skb)
{
	struct capture *capture = capture_row();
	struct capture_copy *copy = capture ? capture_begin(capture) : NULL;
	__u32 kept;

	if (!copy)
		return 0;
	copy->frame_bytes = skb->len;
	copy->segment_bytes = skb->gso_size;
	kept = capture_share(capture, copy->frame_bytes);
	copy->kept_bytes = kept;
	bpf_skb_load_bytes(skb, 0, copy->bytes, kept);
	return 0;
}

/* Tells what event_keep has kept to whoever wants to know it. */
__noinline int FAMILY(skb_told)(struct __sk_buff *skb)
{
	struct capture *capture = capture_row();
	struct capture_copy *copy = capture_copy_row();
	__u32 wanted, bytes = skb->len, kept;

	if (!copy || !capture)
		return 0;
	wanted = event_end(copy, skb->ifindex);
	if (wanted & (EVENT_DROPS | EVENT_TRACES))
		event_send(copy);
	if (!(wanted & EVENT_PACKETS))
		return 0;
	__builtin_memset(copy->left, 0, PEEK_BYTES);
	bpf_skb_load_bytes(skb, 0, copy->left, capture_peek(bytes));
	if (!capture_came(copy, capture))
		return 0;
	kept = capture_share(capture, bytes);
	if (!bpf_skb_load_bytes(skb, 0, copy->bytes, kept))
		capture_left(copy, capture, bytes, skb->gso_size, kept);
	return 0;
}

/* Where the program of a device begins; `events`: what somebody listens to. */
static __always_inline __u32 skb_begin(struct __sk_buff *skb, __u32 events)
{
	if (unlikely(events & EVENT_PACKETS))
		FAMILY(skb_came)(skb);
	return events;
}

/* Where every program ends. */
static __always_inline void skb_conclude(struct __sk_buff *skb, const struct packet *packet,
					 enum place place, enum verdict verdict)
{
	if (likely(!conclude(packet, place, verdict)))
		return;
	event_keep(packet, place, verdict);
	FAMILY(skb_told)(skb);
}

#endif
