/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only) */
#ifndef CILIATE_STAGE_DISPATCH_SKB_H
#define CILIATE_STAGE_DISPATCH_SKB_H

#include "dispatch.h"
#include "skb.h"

/* Where a packet's outer header comes from and leads to. */
struct outer_ends {
	address_t source;
	address_t destination;
	__u32 sum;
};

static __always_inline bool skb_translate(struct __sk_buff *skb, const struct packet *packet,
					  const struct translation *to)
{
	return translate_l4_checksum(skb, packet, ETH_HLEN, to) &&
	       translate_headers(skb, packet, ETH_HLEN, to);
}

static __always_inline enum verdict skb_geneve(struct __sk_buff *skb, const struct packet *packet,
					       const backend_t *backend,
					       const struct outer_ends *ends, const struct way *way)
{
	const __u64 marks = OUTER_ROOM | BPF_F_ADJ_ROOM_ENCAP_L4_UDP | BPF_F_ADJ_ROOM_ENCAP_L2_ETH |
			    BPF_F_ADJ_ROOM_ENCAP_L2(ETH_HLEN);
	struct translation to = dispatch_translation(packet, backend);
	struct ethhdr *eth;
	ip_t *outer;

	if (!skb_translate(skb, packet, &to) || !skb_outer_room(skb, GENEVE_BYTES, marks))
		return DROP_REWRITE;
	eth = skb_start(skb);
	outer = (void *)(eth + 1);
	if ((void *)outer + GENEVE_BYTES > skb_end(skb))
		return DROP_REWRITE;
	__builtin_memcpy((void *)outer + GENEVE_BYTES - ETH_HLEN, eth, ETH_HLEN);
	ethernet_write(eth, way->destination, way->source);
	outer_write_of(outer, packet, ends->source, ends->destination, IP_DEFAULT_TTL, ends->sum,
		       GENEVE_BYTES, IPPROTO_UDP);
	geneve_write((void *)(outer + 1), packet);
	return SENT_ENCAPSULATED;
}

static __always_inline enum verdict skb_option(struct __sk_buff *skb, const struct packet *packet,
					       const backend_t *backend, const struct way *way)
{
	const __u64 flags = BPF_F_ADJ_ROOM_FIXED_GSO | BPF_F_ADJ_ROOM_NO_CSUM_RESET;
	struct translation to = dispatch_translation(packet, backend);
	struct option *option;
	ip_t *ip;

	if (packet->ttl <= 1)
		return PASS_TTL;
	if (option_is_over(packet))
		return DROP_OPTION_ROOM;
	option_refuse(skb_start(skb) + ETH_HLEN, skb_end(skb), packet);
	/* In this mode, the room is made behind the base header. */
	if (!skb_translate(skb, packet, &to) ||
	    bpf_skb_adjust_room(skb, sizeof(*option), BPF_ADJ_ROOM_NET, flags))
		return DROP_REWRITE;
	ip = skb_start(skb) + ETH_HLEN;
	option = (void *)(ip + 1);
	if ((void *)(option + 1) > skb_end(skb) ||
	    !skb_ethernet(skb, way->destination, way->source))
		return DROP_REWRITE;
	*option = option_of(packet->destination, packet->destination_port);
	option_add(ip, option);
	return SENT_ENCAPSULATED;
}

#endif
