/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only) */
#ifndef CILIATE_STAGE_CAPTURE_XDP_H
#define CILIATE_STAGE_CAPTURE_XDP_H

#include "capture.h"
#include "xdp.h"

/*
 * Not static: so the verifier walks them once, whatever it knows of the packet, and the straight
 * way stays what it is.
 */

/* The packet as it came. */
__noinline int FAMILY(xdp_came)(struct xdp_md *ctx)
{
	struct capture *capture = capture_row();
	struct capture_copy *copy = capture ? capture_begin(capture) : NULL;
	__u32 kept;

	if (!copy)
		return 0;
	copy->frame_bytes = end_of(ctx) - start_of(ctx);
	copy->segment_bytes = 0;
	kept = capture_share(capture, copy->frame_bytes);
	copy->kept_bytes = kept;
	bpf_xdp_load_bytes(ctx, 0, copy->bytes, kept);
	return 0;
}

/* Tells what event_keep has kept to whoever wants to know it. */
__noinline int FAMILY(xdp_told)(struct xdp_md *ctx)
{
	struct capture *capture = capture_row();
	struct capture_copy *copy = capture_copy_row();
	__u32 wanted, bytes, kept;

	if (!copy || !capture)
		return 0;
	wanted = event_end(copy, ctx->ingress_ifindex);
	if (wanted & (EVENT_DROPS | EVENT_TRACES))
		event_send(copy);
	if (!(wanted & EVENT_PACKETS))
		return 0;
	bytes = end_of(ctx) - start_of(ctx);
	__builtin_memset(copy->left, 0, PEEK_BYTES);
	bpf_xdp_load_bytes(ctx, 0, copy->left, capture_peek(bytes));
	if (!capture_came(copy, capture))
		return 0;
	kept = capture_share(capture, bytes);
	if (!bpf_xdp_load_bytes(ctx, 0, copy->bytes, kept))
		capture_left(copy, capture, bytes, 0, kept);
	return 0;
}

/* Where the program of a device begins; `events`: what somebody listens to. */
static __always_inline __u32 xdp_begin(struct xdp_md *ctx, __u32 events)
{
	if (unlikely(events & EVENT_PACKETS))
		FAMILY(xdp_came)(ctx);
	return events;
}

/* Where every program ends. */
static __always_inline void xdp_conclude(struct xdp_md *ctx, const struct packet *packet,
					 enum verdict verdict)
{
	if (likely(!conclude(packet, PLACE_EDGE, verdict)))
		return;
	event_keep(packet, PLACE_EDGE, verdict);
	FAMILY(xdp_told)(ctx);
}

#endif
