/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only) */
#ifndef CILIATE_STAGE_PLAIN_H
#define CILIATE_STAGE_PLAIN_H

#include "give.h"
#include "outbound.h"
#include "skb.h"

/* Packets without an outer header to pods of this node, or to the node itself. */

/* The flow of what a backend elsewhere answers to a pod of this node, or with NODE to the node. */
static __always_inline flow_t *answered(const struct packet *packet, __u32 node)
{
	flow_key_t key = flow_key_of(packet, FLOW_REPLY);
	flow_t *flow = bpf_map_lookup_elem(&FAMILY(conntrack), &key);

	if (!flow || (flow->flags & (FLOW_OUTBOUND | FLOW_NODE)) != (FLOW_OUTBOUND | node))
		return NULL;
	return flow;
}

/* What is for no pod of this node. */
static __always_inline enum verdict plain_home(struct __sk_buff *skb, struct packet *packet)
{
	flow_t *flow = answered(packet, FLOW_NODE);
	struct translation to;

	if (!flow)
		return PASS_NOT_OURS;
	to = outbound_answer(packet, flow, packet->ttl);
	sum_follow(skb, packet, &to);
	return outbound_translate(skb, packet, &to) ? PASS_STACK : DROP_REWRITE;
}

/* What a backend elsewhere answers to a pod of this node. */
static __always_inline enum verdict plain_answer(struct __sk_buff *skb, struct packet *packet,
						 const struct endpoint *client, int *action)
{
	flow_t *flow = answered(packet, 0);
	struct translation to;

	if (!flow)
		return PASS_NOT_OURS;
	to = outbound_answer(packet, flow, packet->ttl);
	sum_follow(skb, packet, &to);
	return outbound_deliver(skb, packet, &to, client, action) ? SENT_POD : DROP_REWRITE;
}

/* `encapsulate: first`: later packets of a flow come to the pod's own address. */
static __always_inline flow_t *plain_flow(const struct packet *packet)
{
	flow_key_t key = {
	    .source = packet->destination,
	    .destination = packet->source,
	    .source_port = packet->destination_port,
	    .destination_port = packet->source_port,
	    .protocol = packet->protocol,
	    .direction = FLOW_REPLY,
	};

	return bpf_map_lookup_elem(&FAMILY(conntrack), &key);
}

static __always_inline enum verdict plain(struct __sk_buff *skb, struct packet *packet, int *action)
{
	struct endpoint *endpoint = endpoint_find(packet->destination);
	flow_t *flow = endpoint ? plain_flow(packet) : NULL;

	if (endpoint && flow) {
		flow_update(flow, packet, false, true);
		packet->service = flow->service;
		packet->backend = flow->pod;
		return endpoint_give(skb, endpoint, action) ? SENT_POD : DROP_REWRITE;
	}
	if (endpoint && !endpoint_is_node(endpoint))
		return plain_answer(skb, packet, endpoint, action);
	return plain_home(skb, packet);
}

#endif
