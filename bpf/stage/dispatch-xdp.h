/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only) */
#ifndef CILIATE_STAGE_DISPATCH_XDP_H
#define CILIATE_STAGE_DISPATCH_XDP_H

#include "dispatch.h"
#include "xdp.h"

/*
 * Not inlined: IPIP's straight way stays what it is. A packet that is given to a function isn't
 * kept in registers, so these are given words, and read from the frame what it still says.
 */

/* What isn't read again: how long the IP header is, and what it carries. */
static __always_inline __u32 told_hand(const struct packet *packet)
{
	return packet->header_bytes | (__u32)packet->protocol << 16;
}

/* What a balancer writes of a packet for, which is a packet to a service. */
static __always_inline bool told_take(struct xdp_md *ctx, __u32 handed, struct packet *packet)
{
	ip_t *ip = start_of(ctx) + ETH_HLEN;
	struct udphdr *ports;

	packet->header_bytes = (__u16)handed;
	packet->protocol = handed >> 16;
	ports = (void *)ip + (packet->header_bytes & IP_HEADER_MASK);
	if ((void *)(ip + 1) > end_of(ctx) || (void *)(ports + 1) > end_of(ctx))
		return false;
	header_read(packet, ip);
	packet->destination_port = ports->dest;
	return true;
}

/* To the backend, one hop further or as many as it came with. */
static __always_inline bool told_lead(struct xdp_md *ctx, const struct packet *packet,
				      const backend_t *backend, bool forward)
{
	ip_t *ip = start_of(ctx) + ETH_HLEN;
	struct udphdr *ports = (void *)ip + (packet->header_bytes & IP_HEADER_MASK);
	__u32 change = address_change(packet->destination, backend->address);
	__u32 sum = change + (__u16)~packet->destination_port + backend->port;

	if ((void *)(ip + 1) > end_of(ctx) || (void *)(ports + 1) > end_of(ctx) ||
	    !l4_checksum(ports, end_of(ctx), packet->protocol, sum))
		return false;
	if (forward)
		header_forward(ip, backend->address, change);
	else
		header_lead(ip, backend->address, change);
	ports->dest = backend->port;
	return true;
}

/* The client's Ethernet header becomes the inner one, where it stands. */
static __noinline enum verdict xdp_geneve(struct xdp_md *ctx, const backend_t *backend,
					  const nexthop_t *nexthop, __u32 handed, __u32 spread)
{
	struct packet packet = {.spread = spread};
	address_t source;
	ip_t *outer;
	__u32 sum;

	if (!told_take(ctx, handed, &packet) || !told_lead(ctx, &packet, backend, false) ||
	    bpf_xdp_adjust_head(ctx, -(int)GENEVE_BYTES))
		return DROP_REWRITE;
	outer = start_of(ctx) + ETH_HLEN;
	if ((void *)(outer + 1) + sizeof(struct geneve) > end_of(ctx))
		return DROP_REWRITE;
	ethernet_to(start_of(ctx), nexthop);
	source = outer_source_of(&packet, nexthop, &sum);
	outer_write_of(outer, &packet, source, geneve_target(nexthop, backend), IP_DEFAULT_TTL, sum,
		       GENEVE_BYTES, IPPROTO_UDP);
	geneve_write((void *)(outer + 1), &packet);
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

static __noinline enum verdict xdp_option(struct xdp_md *ctx, const backend_t *backend,
					  const nexthop_t *nexthop, __u32 handed)
{
	struct packet packet = {};
	struct option *option;
	ip_t *ip;

	if (!told_take(ctx, handed, &packet))
		return DROP_REWRITE;
	if (packet.ttl <= 1)
		return PASS_TTL;
	if (option_is_over(&packet))
		return DROP_OPTION_ROOM;
	option_refuse(start_of(ctx) + ETH_HLEN, end_of(ctx), &packet);
	if (!told_lead(ctx, &packet, backend, true) ||
	    bpf_xdp_adjust_head(ctx, -(int)sizeof(*option)))
		return DROP_REWRITE;
	ip = start_of(ctx) + ETH_HLEN;
	option = (void *)(ip + 1);
	if ((void *)(option + 1) > end_of(ctx))
		return DROP_REWRITE;
	ethernet_to(start_of(ctx), nexthop);
	header_move(ip, (void *)ip + sizeof(*option));
	*option = option_of(packet.destination, packet.destination_port);
	option_add(ip, option);
	return SENT_ENCAPSULATED;
}

#endif
