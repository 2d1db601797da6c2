/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only) */
#ifndef CILIATE_STAGE_ALIAS_H
#define CILIATE_STAGE_ALIAS_H

#include <linux/errno.h>
#include "forget.h"

/* The client's address and port as a pod sees them: a REPLY key, which one flow has at a time. */

/* Candidates for another client port when the client's own is taken. */
#define ALIAS_TRIES 8

/*
 * Makes the REPLY entry of the flow in the scratch row; 0, -EEXIST when another flow has its key,
 * or what the kernel says. Global, as FAMILY(flow_adopt) is: the verifier walks it once, not once
 * for each call. Linux 6.1 takes no pointer that such a function was given for a table's value.
 */
__noinline int FAMILY(reply_key_take)(__u8 protocol)
{
	struct scratch *held = scratch_row();
	flow_key_t *key;
	flow_t *flow;
	flow_t *other;
	int failed; /* before Linux 6.4 the upper half of a long isn't the sign */

	if (!held)
		return -ENOENT;
	flow = &held->flow;
	key = &held->key;
	*key = reply_key(flow, protocol);
	failed = bpf_map_update_elem(&FAMILY(conntrack), key, flow, BPF_NOEXIST);
	if (failed != -EEXIST)
		return failed;
	other = bpf_map_lookup_elem(&FAMILY(conntrack), key);
	if (!other)
		return -EEXIST;
	if (flow_is_same(other, flow))
		return bpf_map_update_elem(&FAMILY(conntrack), key, flow, BPF_ANY);
	if (!flow_is_over(other))
		return -EEXIST;
	flow_delete(other, protocol);
	return bpf_map_update_elem(&FAMILY(conntrack), key, flow, BPF_NOEXIST);
}

/* Makes the REQUEST entry of the row's flow, which has the REPLY one; false: it has neither. */
static __always_inline bool request_made(struct scratch *held, __u8 protocol)
{
	const flow_t *flow = &held->flow;

	held->key = request_key(flow, protocol);
	if (!bpf_map_update_elem(&FAMILY(conntrack), &held->key, flow, BPF_ANY))
		return true;
	held->key = reply_key(flow, protocol);
	bpf_map_delete_elem(&FAMILY(conntrack), &held->key);
	return false;
}

/* The port of a try: the client's own first. */
static __always_inline port_t alias_candidate(const struct packet *packet, __u32 try)
{
	if (!try)
		return packet->source_port;
	return bpf_htons(0x8000 | ((packet->hash + (try - 1) * 4099) & 0x7fff));
}

/*
 * Gives the row's flow a client port that no other flow of the same client and pod uses, and makes
 * its REPLY entry. `plain`: by its own port alone, as later packets say nothing else of the flow.
 */
static __always_inline enum verdict alias_choose(struct scratch *held, const struct packet *packet,
						 bool plain)
{
	for (__u32 try = 0; try <= ALIAS_TRIES; try++) {
		int failed;

		if (try && ports_stay(packet->protocol))
			break;
		held->flow.alias_port = alias_candidate(packet, try);
		failed = FAMILY(reply_key_take)(packet->protocol);
		if (!failed)
			return SENT_POD;
		if (failed != -EEXIST)
			return DROP_CONNTRACK_FULL;
		if (plain)
			return DROP_PORT_TAKEN;
	}
	return DROP_PORT_COLLISION;
}

#endif
