/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only) */
#ifndef CILIATE_STAGE_OUTBOUND_ICMP_H
#define CILIATE_STAGE_OUTBOUND_ICMP_H

#include "answer-skb.h"
#include "outbound.h"
#include "errand.h"

/* What pods say by ICMP of packets that they got, which somebody has translated on their way. */

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
	} else {
		key.direction = FLOW_REQUEST;
		flow = bpf_map_lookup_elem(&FAMILY(conntrack), &key);
		if (!flow || !(flow->flags & FLOW_OUTBOUND))
			return PASS_NOT_OURS;
		quoted_reply(&to->quoted, flow);
		to->source = flow->alias_address;
		to->destination = flow->pod;
	}
	if (packet->ttl <= 1)
		return PASS_TTL;
	to->ttl = packet->ttl - 1;
	packet->service = flow->service;
	packet->backend = flow->pod;
	return error_send(skb, packet, quote, to, action);
}

#endif
