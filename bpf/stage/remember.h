/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only) */
#ifndef CILIATE_STAGE_REMEMBER_H
#define CILIATE_STAGE_REMEMBER_H

#include "conntrack.h"

/* Flows of datagrams that a service had by DSR, a moment before it became one of SNAT. */

/* Remembers a flow of datagrams, and its pod elsewhere. Not inlined: for a moment of a service. */
static __noinline int nat_remember(const struct packet *packet)
{
	struct scratch *held = scratch_row();
	flow_key_t key;
	flow_t *flow;

	if (!packet || !held)
		return 0;
	key = flow_key_of(packet, FLOW_REQUEST);
	flow = &held->flow;
	__builtin_memset(flow, 0, sizeof(*flow));
	flow->client = flow->alias_address = packet->source;
	flow->service_address = packet->destination;
	flow->pod = packet->backend;
	flow->client_port = packet->source_port;
	flow->service_port = packet->destination_port;
	flow->service = packet->service;
	flow->flags = FLOW_REMOTE;
	flow->created = flow->seen = jiffies_now();
	bpf_map_update_elem(&FAMILY(conntrack), &key, flow, BPF_NOEXIST);
	return 0;
}

/* Whether a packet that has gone to another node by DSR is of a flow to be remembered. */
static __always_inline bool nat_remembers(const struct service *service,
					  const struct packet *packet, enum verdict verdict)
{
	return service->flags & SERVICE_LATELY && !is_connected(packet) &&
	       (verdict == SENT_ENCAPSULATED || verdict == SENT_PLAIN);
}

#endif
