/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only) */
#ifndef CILIATE_STAGE_ASIDE_H
#define CILIATE_STAGE_ASIDE_H

#include "answer.h"
#include "parse.h"
#include "xdp.h"

/*
 * What the edge does aside from its straight way. These functions aren't inlined and read the
 * packet anew, so that on the straight way it stays in registers.
 */

static __always_inline bool aside_parse(struct xdp_md *ctx, struct packet *packet)
{
	void *ip = start_of(ctx) + ETH_HLEN;

	packet->frame_bytes = ctx->data_end - ctx->data;
	packet->l3 = ETH_HLEN;
	return ip <= end_of(ctx) &&
	       parse_ip(packet, ip, end_of(ctx), packet->frame_bytes - ETH_HLEN) == PARSED_WHOLE;
}

/* ICMP to the sender, out of the device that the packet came in by; false: it can't be written. */
static __noinline bool aside_unreachable(struct xdp_md *ctx, __u32 mtu)
{
	struct packet packet = {};
	struct ethhdr *eth = start_of(ctx);
	__u32 quote_bytes;
	mac_t client, own;
	ip_t *ip;

	if (!aside_parse(ctx, &packet) || (void *)(eth + 1) > end_of(ctx))
		return false;
	quote_bytes = icmp_quote_bytes(&packet);
	__builtin_memcpy(client, eth->h_source, ETH_ALEN);
	__builtin_memcpy(own, eth->h_dest, ETH_ALEN);
	if (bpf_xdp_adjust_tail(ctx, (int)(ETH_HLEN + quote_bytes) - (int)packet.frame_bytes) ||
	    bpf_xdp_adjust_head(ctx, -ICMP_BYTES))
		return false;
	eth = start_of(ctx);
	ip = (void *)(eth + 1);
	if ((void *)ip + ICMP_BYTES > end_of(ctx))
		return false;
	ethernet_write(eth, client, own);
	icmp_write(ip, &packet, mtu, quote_bytes,
		   icmp_quote_sum((void *)ip + ICMP_BYTES, end_of(ctx), quote_bytes));
	return true;
}

/* An RST to the sender, likewise. */
static __noinline bool aside_reset(struct xdp_md *ctx)
{
	struct packet packet = {};
	struct ethhdr *eth = start_of(ctx);
	struct tcphdr *tcp;
	struct reset reset;
	mac_t client, own;

	if (!aside_parse(ctx, &packet) || (void *)(eth + 1) > end_of(ctx))
		return false;
	tcp = (void *)(eth + 1) + (packet.header_bytes & IP_HEADER_MASK);
	if ((void *)(tcp + 1) > end_of(ctx))
		return false;
	reset = reset_for(&packet, tcp);
	__builtin_memcpy(client, eth->h_source, ETH_ALEN);
	__builtin_memcpy(own, eth->h_dest, ETH_ALEN);
	if (bpf_xdp_adjust_tail(ctx, ETH_HLEN + RESET_BYTES - (int)packet.frame_bytes))
		return false;
	eth = start_of(ctx);
	if ((void *)(eth + 1) + RESET_BYTES > end_of(ctx))
		return false;
	ethernet_write(eth, client, own);
	reset_write((void *)(eth + 1), &packet, &reset);
	return true;
}

/* A ping of a service's own address, answered in place. */
static __noinline enum verdict aside_echo(struct xdp_md *ctx)
{
	struct packet packet = {};
	struct ethhdr *eth = start_of(ctx);
	ip_t *ip = (void *)(eth + 1);
	enum verdict refused;

	if ((void *)(ip + 1) > end_of(ctx))
		return PASS_NOT_OURS;
	parse_ip(&packet, ip, end_of(ctx), ctx->data_end - ctx->data - ETH_HLEN);
	if (!echo_asked(&packet, ip, end_of(ctx)))
		return PASS_NOT_OURS;
	refused = answer_refused(&packet, 0);
	if (refused)
		return refused;
	echo_write(eth, &packet);
	return SENT_ECHO;
}

#endif
