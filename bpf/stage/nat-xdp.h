/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only) */
#ifndef CILIATE_STAGE_NAT_XDP_H
#define CILIATE_STAGE_NAT_XDP_H

#include "nat.h"
#include "xdp.h"

/* SNAT in XDP. What is too big is the caller's to answer: packet->mtu says how much would fit. */

/* To the flow's pod on another node. Not inlined: DSR traffic keeps its registers. */
static __noinline enum verdict nat_send(struct xdp_md *ctx, struct packet *packet,
					struct flow *flow, int *action)
{
	void *eth = start_of(ctx);
	struct nexthop *nexthop;
	struct translation to;

	if (!packet || !flow || !action)
		return DROP_REWRITE;
	nexthop = nat_nexthop(flow, NEXTHOP_EDGE);
	if (!nexthop)
		return PASS_UNRESOLVED;
	if (packet->ttl <= 1)
		return PASS_TTL;
	packet->mtu = nexthop->mtu;
	if (packet->total_bytes > packet->mtu)
		return SENT_FRAG_NEEDED;
	flow_update(flow, packet, false, false);
	to = nat_to_pod(packet, flow);
	if (!translate(eth, end_of(ctx), packet, &to))
		return DROP_REWRITE;
	ethernet_to(eth, nexthop);
	traffic_count(flow->counter, packet);
	*action = transmit(ctx, nexthop->ifindex);
	return SENT_NAT;
}

/* A pod's reply, to the flow's client by the FIB. Not inlined, as above. */
static __noinline enum verdict nat_answer(struct xdp_md *ctx, struct packet *packet,
					  struct flow *flow, int *action)
{
	struct bpf_fib_lookup fib = {};
	void *eth = start_of(ctx);
	struct iphdr *ip = eth + ETH_HLEN;
	struct translation to;
	long found;

	if (!packet || !flow || !action || (void *)(ip + 1) > end_of(ctx))
		return DROP_REWRITE;
	if (packet->ttl <= 1)
		return PASS_TTL;
	to = nat_to_client(packet, flow);
	fib.family = FAMILY_IPV4;
	fib.tot_len = packet->total_bytes;
	fib.ifindex = ctx->ingress_ifindex;
	fib.ipv4_src = to.source;
	fib.ipv4_dst = to.destination;
	found = bpf_fib_lookup(ctx, &fib, sizeof(fib), 0);
	packet->mtu = fib.mtu_result;
	if (found == BPF_FIB_LKUP_RET_FRAG_NEEDED && ip->frag_off & IP_DF)
		return SENT_FRAG_NEEDED;
	/* Whether XDP can send by another device than this one isn't known here. */
	if (found != BPF_FIB_LKUP_RET_SUCCESS || fib.ifindex != ctx->ingress_ifindex)
		return PASS_UNRESOLVED;
	flow_update(flow, packet, true, true);
	if (!translate(eth, end_of(ctx), packet, &to))
		return DROP_REWRITE;
	ethernet_write(eth, fib.dmac, fib.smac);
	*action = XDP_TX;
	return SENT_NAT_REPLY;
}

#endif
