/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only) */
#ifndef CILIATE_STAGE_GO_ON_H
#define CILIATE_STAGE_GO_ON_H

#include "abi/programs.h"
#include "scratch.h"

/* From one program of an uplink to another. */

PROGRAM_TABLE(FAMILY(host_programs));

/*
 * On in another program, which begins anew with the packet. Comes back only if the agent has not
 * loaded it.
 */
static __always_inline enum verdict go_on(struct __sk_buff *skb, enum host_program program)
{
	bpf_tail_call(skb, &FAMILY(host_programs), program);
	return DROP_PROGRAM;
}

/* The same with what is left of the packet, which counts with all that it had when it came. */
static __always_inline enum verdict go_on_with(struct __sk_buff *skb, const struct packet *packet,
					       struct scratch *held, enum host_program program)
{
	held->taken = packet->frame_bytes - skb->len;
	return go_on(skb, program);
}

/* To a pod of this node. */
static __always_inline enum verdict hand_over(struct __sk_buff *skb, const address_t *pod)
{
	struct scratch *held = scratch_row();

	if (!held)
		return DROP_TABLE;
	held->pod = *pod;
	held->taken = 0;
	return go_on(skb, HOST_PROGRAM_DELIVER);
}

#endif
