/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only) */
#ifndef CILIATE_STAGE_NAT_XDP_H
#define CILIATE_STAGE_NAT_XDP_H

#include "nat.h"
#include "option.h"
#include "xdp.h"

/* SNAT in XDP. What is too big is the caller's to answer. */

/* To the flow's pod on another node. */
static __always_inline enum verdict nat_send(struct xdp_md *ctx, struct packet *packet,
					     flow_t *flow, int *action)
{
	void *eth = start_of(ctx);
	nexthop_t *nexthop;
	struct translation to;

	nexthop = nat_nexthop(flow, NEXTHOP_EDGE);
	if (!nexthop)
		return PASS_UNRESOLVED;
	if (packet->ttl <= 1)
		return PASS_TTL;
	packet->mtu = nexthop->mtu;
	if (packet->total_bytes > packet->mtu)
		return SENT_FRAG_NEEDED;
	flow_update(flow, packet, false, false);
	option_refuse(eth + ETH_HLEN, end_of(ctx), packet);
	to = nat_to_pod(packet, flow);
	if (!translate(eth, end_of(ctx), packet, &to))
		return DROP_REWRITE;
	ethernet_to(eth, nexthop);
	traffic_count(flow->counter, packet);
	*action = transmit(ctx, nexthop->ifindex);
	return SENT_NAT;
}

/* A pod's reply, to the flow's client by the FIB. */
static __always_inline enum verdict nat_answer(struct xdp_md *ctx, struct packet *packet,
					       flow_t *flow, int *action)
{
	struct bpf_fib_lookup fib = {};
	void *eth = start_of(ctx);
	ip_t *ip = eth + ETH_HLEN;
	struct translation to;
	long found;

	if ((void *)(ip + 1) > end_of(ctx))
		return DROP_REWRITE;
	if (packet->ttl <= 1)
		return PASS_TTL;
	to = nat_to_client(packet, flow);
	fib.tot_len = packet->total_bytes;
	fib.ifindex = ctx->ingress_ifindex;
	fib_between(&fib, to.source, to.destination);
	found = bpf_fib_lookup(ctx, &fib, sizeof(fib), 0);
	packet->mtu = fib.mtu_result;
	if (found == BPF_FIB_LKUP_RET_FRAG_NEEDED && ip_dont_fragment(ip))
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
