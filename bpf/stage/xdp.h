/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only) */
#ifndef CILIATE_STAGE_XDP_H
#define CILIATE_STAGE_XDP_H

#include "encap.h"
#include "packet.h"
#include "parse.h"
#include "translation.h"

/* Packets changed in XDP: plain memory, whose checksums are always whole. */

static __always_inline void *start_of(struct xdp_md *ctx)
{
	return (void *)(long)ctx->data;
}

static __always_inline void *end_of(struct xdp_md *ctx)
{
	return (void *)(long)ctx->data_end;
}

static __always_inline int transmit(struct xdp_md *ctx, ifindex_t ifindex)
{
	return ifindex == ctx->ingress_ifindex ? XDP_TX : bpf_redirect(ifindex, 0);
}

typedef __u64 __attribute__((may_alias)) macs_head_t;
typedef __u32 __attribute__((may_alias)) macs_tail_t;

_Static_assert(__builtin_offsetof(nexthop_t, source) ==
		   __builtin_offsetof(nexthop_t, destination) + ETH_ALEN,
	       "both MACs stand in the order of an Ethernet header");

/* In three words, where clang would copy bytes. */
static __always_inline void ethernet_to(void *eth, const nexthop_t *nexthop)
{
	const void *macs = nexthop->destination;

	*(macs_head_t *)eth = *(const macs_head_t *)macs;
	*(macs_tail_t *)(eth + 8) = *(const macs_tail_t *)(macs + 8);
	*(ethertype_t *)(eth + 12) = ETHERTYPE;
}

/* The checksum of TCP or UDP at `l4` after a change; a UDP checksum of 0 is none. */
static __always_inline bool l4_checksum(void *l4, void *end, __u8 protocol, __u32 change)
{
	struct tcphdr *tcp = l4;
	struct udphdr *udp = l4;

	if (protocol == IPPROTO_TCP) {
		if ((void *)(tcp + 1) > end)
			return false;
		tcp->check = checksum_apply(tcp->check, change);
		return true;
	}
	if (protocol == IPPROTO_SCTP)
		return true;
	if ((void *)(udp + 1) > end)
		return false;
	if (!udp->check)
		return true;
	udp->check = checksum_apply(udp->check, change);
	/* RFC 768: a computed 0 is sent as all ones. */
	if (!udp->check)
		udp->check = 0xffff;
	return true;
}

/* Translates the packet of the frame at `eth`, which has a whole Ethernet header afterwards. */
static __always_inline bool translate(void *eth, void *end, const struct packet *packet,
				      const struct translation *to)
{
	ip_t *ip = eth + ETH_HLEN;
	void *l4 = (void *)ip + (packet->header_bytes & IP_HEADER_MASK);
	__u32 change = translation_addresses(packet, to) + translation_ports(packet, to);

	return l4_checksum(l4, end, packet->protocol, change) &&
	       translate_header(ip, end, packet, to);
}

#endif
