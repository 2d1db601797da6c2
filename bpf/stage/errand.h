/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only) */
#ifndef CILIATE_STAGE_ERRAND_H
#define CILIATE_STAGE_ERRAND_H

#include "conntrack.h"
#include "give.h"
#include "quote.h"

/* ICMP errors on their way, translated with what they quote. */

/* Into a pod of this node, or by the FIB; PASS_STACK: it is for the node itself. */
static __noinline enum verdict error_send(struct __sk_buff *skb, struct packet *packet,
					  const struct quote *quote, const struct errand *to,
					  int *action)
{
	struct endpoint *endpoint = endpoint_find(to->destination);
	struct way way = {};

	if (!endpoint && !to->stack) {
		if (!way_find(skb, to->source, to->destination, packet->total_bytes, &way))
			return DROP_NO_ROUTE;
		if (packet->total_bytes > way.mtu)
			return DROP_TOO_BIG;
	}
	if (!answer_allowed(packet->service))
		return DROP_ANSWER_LIMIT;
	if (!error_translate(skb, packet, quote, to))
		return DROP_REWRITE;
	if (to->stack)
		return PASS_STACK;
	if (endpoint)
		return endpoint_give(skb, endpoint, action) ? SENT_RELAYED : DROP_REWRITE;
	if (!skb_ethernet(skb, way.destination, way.source))
		return DROP_REWRITE;
	*action = way_take(&way);
	return SENT_RELAYED;
}

/*
 * An error about a flow of SNAT: of the client's side about a reply, which goes to the pod from
 * this node's address, or of the pod's side about a request, which goes to the client from the
 * service's.
 */
static __always_inline enum verdict nat_icmp(struct __sk_buff *skb, struct scratch *held,
					     struct packet *packet, int *action)
{
	struct quote *quote = &held->quote;
	struct errand *to = &held->errand;
	flow_key_t key;
	flow_t *flow;

	if (!quote_read(skb, packet, quote))
		return PASS_NOT_OURS;
	key = flow_key_of(packet, FLOW_REQUEST);
	flow = bpf_map_lookup_elem(&FAMILY(conntrack), &key);
	if (flow && flow->flags & FLOW_SNAT) {
		quoted_reply(&to->quoted, flow);
		to->source = flow->alias_address;
		to->destination = flow->pod;
	} else {
		key.direction = FLOW_REPLY;
		flow = bpf_map_lookup_elem(&FAMILY(conntrack), &key);
		if (!flow || !(flow->flags & FLOW_SNAT))
			return PASS_NOT_OURS;
		quoted_request(&to->quoted, flow);
		to->source = flow->service_address;
		to->destination = flow->client;
	}
	if (packet->ttl <= 1)
		return PASS_TTL;
	to->ttl = packet->ttl - 1;
	to->stack = false;
	packet->service = flow->service;
	packet->backend = flow->pod;
	return error_send(skb, packet, quote, to, action);
}

#endif
