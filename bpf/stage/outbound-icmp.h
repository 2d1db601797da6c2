/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only) */
#ifndef CILIATE_STAGE_OUTBOUND_ICMP_H
#define CILIATE_STAGE_OUTBOUND_ICMP_H

#include "echo-skb.h"
#include "errand.h"
#include "outbound.h"

/* What pods say by ICMP of packets that they got, which somebody has translated on their way. */

/* Not inlined: it has a stack of its own. */
static __noinline bool error_home(struct __sk_buff *skb, const struct errand *to, int *action)
{
	return way_home(skb, to->source, to->destination, action);
}

/* Pings of services, and errors about packets of flows that are known here. */
static __always_inline enum verdict outbound_icmp(struct __sk_buff *skb, struct scratch *held,
						  struct packet *packet, int *action)
{
	enum verdict verdict = skb_echo(skb, packet, action);
	struct quote *quote = &held->quote;
	struct errand *to = &held->errand;
	flow_key_t key;
	flow_t *flow;

	if (verdict != PASS_NOT_OURS)
		return verdict;
	if (!quote_read(skb, packet, quote) || !sender_find(skb, packet->source))
		return PASS_NOT_OURS;
	key = flow_key_of(packet, FLOW_REPLY);
	flow = bpf_map_lookup_elem(&FAMILY(conntrack), &key);
	if (flow && !(flow->flags & FLOW_SNAT)) {
		quoted_request(&to->quoted, flow);
		to->source = flow->service_address;
		to->destination = flow->client;
		to->stack = flow->flags & FLOW_NODE;
	} else {
		key.direction = FLOW_REQUEST;
		flow = bpf_map_lookup_elem(&FAMILY(conntrack), &key);
		if (!flow || !(flow->flags & FLOW_OUTBOUND))
			return PASS_NOT_OURS;
		quoted_reply(&to->quoted, flow);
		to->source = flow->alias_address;
		to->destination = flow->pod;
		to->stack = false;
	}
	if (packet->ttl <= 1)
		return PASS_TTL;
	to->ttl = packet->ttl - 1;
	packet->service = flow->service;
	packet->backend = flow->pod;
	verdict = error_send(skb, packet, quote, to, action);
	return verdict == PASS_STACK && error_home(skb, to, action) ? SENT_RELAYED : verdict;
}

#endif
