/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only) */
#ifndef CILIATE_STAGE_NAT_SKB_H
#define CILIATE_STAGE_NAT_SKB_H

#include "nat.h"
#include "option.h"
#include "skb.h"

/* SNAT at tc. */

/* The answer is the caller's. */
static __always_inline enum verdict nat_too_big(struct packet *packet, const struct way *way)
{
	packet->mtu = way->mtu;
	return SENT_FRAG_NEEDED;
}

/* Addresses, ports, TTL and MACs, and out. */
static __always_inline bool nat_leave(struct __sk_buff *skb, struct packet *packet,
				      const struct translation *to, const struct way *way,
				      int *action)
{
	if (!translate_l4_checksum(skb, packet, ETH_HLEN, to) ||
	    !translate_headers(skb, packet, ETH_HLEN, to) ||
	    !skb_ethernet(skb, way->destination, way->source))
		return false;
	*action = way_take(way);
	return true;
}

/* To the flow's pod on another node. */
static __always_inline enum verdict nat_send(struct __sk_buff *skb, struct packet *packet,
					     flow_t *flow, int *action)
{
	nexthop_t *nexthop;
	struct translation to;
	struct way way = {};
	__u32 bytes;

	bytes = segment_bytes(skb, packet);
	nexthop = nat_nexthop(flow, NEXTHOP_RESOLVED);
	if (nexthop)
		way_by(nexthop, &way);
	else if (!way_find(skb, own_address(), flow->pod, bytes, &way))
		return DROP_NO_ROUTE;
	if (packet->ttl <= 1)
		return PASS_TTL;
	if (bytes > way.mtu)
		return nat_too_big(packet, &way);
	flow_update(flow, packet, false, false);
	option_refuse(skb_start(skb) + ETH_HLEN, skb_end(skb), packet);
	to = nat_to_pod(packet, flow);
	if (!nat_leave(skb, packet, &to, &way, action))
		return DROP_REWRITE;
	traffic_count(flow->counter, packet);
	return SENT_NAT;
}

/* A pod's reply to this node's address, to the flow's client by the FIB. */
static __always_inline enum verdict nat_answer(struct __sk_buff *skb, struct packet *packet,
					       flow_t *flow, int *action)
{
	ip_t *ip = skb_start(skb) + ETH_HLEN;
	struct translation to;
	struct way way = {};
	bool routed, fits;
	__u32 bytes;

	if ((void *)(ip + 1) > skb_end(skb))
		return DROP_REWRITE;
	packet->service = flow->service;
	packet->backend = flow->pod;
	if (packet->ttl <= 1)
		return PASS_TTL;
	to = nat_to_client(packet, flow);
	bytes = segment_bytes(skb, packet);
	routed = way_find(skb, to.source, to.destination, bytes, &way);
	fits = !routed || bytes <= way.mtu;
	if (!fits && ip_dont_fragment(ip))
		return nat_too_big(packet, &way);
	flow_update(flow, packet, true, true);
	if (routed && fits)
		return nat_leave(skb, packet, &to, &way, action) ? SENT_NAT_REPLY : DROP_REWRITE;
	/* The kernel forwards what was translated, and cuts it if it has to. */
	to.ttl = packet->ttl;
	sum_follow(skb, packet, &to);
	if (!translate_l4_checksum(skb, packet, ETH_HLEN, &to) ||
	    !translate_headers(skb, packet, ETH_HLEN, &to))
		return DROP_REWRITE;
	return routed ? PASS_TOO_BIG : PASS_STACK;
}

#endif
