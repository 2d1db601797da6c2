/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only) */
#ifndef CILIATE_STAGE_FORGET_H
#define CILIATE_STAGE_FORGET_H

#include "conntrack.h"

/* Both entries of a flow that is over. Not inlined: it has a stack of its own. */
static __noinline int flow_delete(const flow_t *flow, __u8 protocol)
{
	flow_key_t request, reply;

	if (!flow)
		return 0;
	/* Keys first: deleting an entry may recycle the memory of `flow`. */
	request = request_key(flow, protocol);
	reply = reply_key(flow, protocol);
	if (!(flow->flags & FLOW_REMOTE))
		bpf_map_delete_elem(&FAMILY(conntrack), &reply);
	bpf_map_delete_elem(&FAMILY(conntrack), &request);
	return 0;
}

#endif
