/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only) */
#ifndef CILIATE_STAGE_FORGET_H
#define CILIATE_STAGE_FORGET_H

#include "conntrack.h"

/* Of those who would remove an entry at once, on several CPUs, one may. */
static __always_inline bool flow_claim(flow_t *flow)
{
	return !__sync_fetch_and_or(&flow->claimed, 1);
}

/*
 * Both entries of a flow that is over; its REPLY key may be another flow's by now. Not inlined: it
 * has a stack of its own.
 */
static __noinline int flow_delete(const flow_t *flow, __u8 protocol)
{
	struct scratch *held = scratch_row();
	flow_key_t *request, *reply;
	flow_t *other;

	if (!flow || !held)
		return 0;
	request = &held->forgotten[0];
	reply = &held->forgotten[1];
	/* Keys first: deleting an entry may recycle the memory of `flow`. */
	*request = request_key(flow, protocol);
	*reply = reply_key(flow, protocol);
	other = flow->flags & FLOW_REMOTE ? NULL : bpf_map_lookup_elem(&FAMILY(conntrack), reply);
	if (other && flow_is_same(other, flow) && flow_claim(other))
		bpf_map_delete_elem(&FAMILY(conntrack), reply);
	bpf_map_delete_elem(&FAMILY(conntrack), request);
	return 0;
}

#endif
