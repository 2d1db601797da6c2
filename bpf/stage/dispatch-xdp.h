/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only) */
#ifndef CILIATE_STAGE_DISPATCH_XDP_H
#define CILIATE_STAGE_DISPATCH_XDP_H

#include "dispatch.h"
#include "xdp.h"

/* Not inlined: IPIP's straight way stays what it is. */

/* The client's Ethernet header becomes the inner one, where it stands. */
static __noinline enum verdict xdp_geneve(struct xdp_md *ctx, const struct packet *packet,
					  const backend_t *backend, const nexthop_t *nexthop)
{
	struct translation to = dispatch_translation(packet, backend);
	address_t source;
	ip_t *outer;
	__u32 sum;

	if (start_of(ctx) + ETH_HLEN > end_of(ctx) ||
	    !translate(start_of(ctx), end_of(ctx), packet, &to) ||
	    bpf_xdp_adjust_head(ctx, -(int)GENEVE_BYTES))
		return DROP_REWRITE;
	outer = start_of(ctx) + ETH_HLEN;
	if ((void *)(outer + 1) + sizeof(struct geneve) > end_of(ctx))
		return DROP_REWRITE;
	ethernet_to(start_of(ctx), nexthop);
	source = outer_source_of(packet, nexthop, &sum);
	outer_write_of(outer, packet, source, geneve_target(nexthop, backend), IP_DEFAULT_TTL, sum,
		       GENEVE_BYTES, IPPROTO_UDP);
	geneve_write((void *)(outer + 1), packet);
	return SENT_ENCAPSULATED;
}

typedef __u32 __attribute__((may_alias)) header_word_t;

/* Moves a base header to where room was made in front of it. */
static __always_inline void header_move(void *to, const void *from)
{
	const header_word_t *source = from;
	header_word_t *target = to;

#pragma clang loop unroll(full)
	for (__u32 i = 0; i < sizeof(ip_t) / sizeof(*target); i++)
		target[i] = source[i];
}

static __noinline enum verdict xdp_option(struct xdp_md *ctx, const struct packet *packet,
					  const backend_t *backend, const nexthop_t *nexthop)
{
	struct translation to = dispatch_translation(packet, backend);
	struct option *option;
	ip_t *ip;

	if (packet->ttl <= 1)
		return PASS_TTL;
	if (option_is_over(packet))
		return DROP_OPTION_ROOM;
	option_refuse(start_of(ctx) + ETH_HLEN, end_of(ctx), packet);
	if (start_of(ctx) + ETH_HLEN > end_of(ctx) ||
	    !translate(start_of(ctx), end_of(ctx), packet, &to) ||
	    bpf_xdp_adjust_head(ctx, -(int)sizeof(*option)))
		return DROP_REWRITE;
	ip = start_of(ctx) + ETH_HLEN;
	option = (void *)(ip + 1);
	if ((void *)(option + 1) > end_of(ctx))
		return DROP_REWRITE;
	ethernet_to(start_of(ctx), nexthop);
	header_move(ip, (void *)ip + sizeof(*option));
	*option = option_of(packet->destination, packet->destination_port);
	option_add(ip, option);
	return SENT_ENCAPSULATED;
}

#endif
