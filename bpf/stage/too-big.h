/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only) */
#ifndef CILIATE_STAGE_TOO_BIG_H
#define CILIATE_STAGE_TOO_BIG_H

#include "icmp.h"
#include "skb.h"

/*
 * Turns a packet into ICMP "fragmentation needed" to its sender. The bytes of the old L4 header are
 * pulled off and pushed anew, because only that makes the kernel forget a partial checksum.
 * Not inlined: it has a stack of its own.
 */
static __noinline enum verdict skb_frag_needed(struct __sk_buff *skb, struct packet *packet,
					       __u32 mtu, int *action)
{
	__u32 quote_bytes, room;
	__u8 quote[68] = {};
	struct ethhdr *eth = skb_start(skb);
	struct iphdr *ip;
	mac_t client, own;

	if (!packet || !action)
		return DROP_REWRITE;
	quote_bytes = icmp_quote_bytes(packet);
	if ((void *)(eth + 1) > skb_end(skb) || quote_bytes < 28)
		return DROP_REWRITE;
	/* Else the comparisons become one of a copy, which verifiers up to 6.12 can't follow. */
	asm volatile("" : "+r"(quote_bytes));
	if (quote_bytes > sizeof(quote))
		return DROP_REWRITE;
	room = quote_bytes + 8;
	__builtin_memcpy(client, eth->h_source, ETH_ALEN);
	__builtin_memcpy(own, eth->h_dest, ETH_ALEN);
	if (bpf_skb_load_bytes(skb, ETH_HLEN, quote, quote_bytes) ||
	    bpf_skb_change_tail(skb, ETH_HLEN + sizeof(*ip) + room, 0) ||
	    bpf_skb_adjust_room(skb, -(int)room, BPF_ADJ_ROOM_MAC, 0) ||
	    bpf_skb_adjust_room(skb, room, BPF_ADJ_ROOM_MAC, 0) ||
	    bpf_skb_store_bytes(skb, ETH_HLEN + ICMP_BYTES, quote, quote_bytes, 0))
		return DROP_REWRITE;
	eth = skb_start(skb);
	ip = (void *)(eth + 1);
	if ((void *)ip + ICMP_BYTES > skb_end(skb))
		return DROP_REWRITE;
	ethernet_write(eth, client, own);
	icmp_write(ip, packet, mtu, icmp_quote_sum(quote, quote + sizeof(quote), quote_bytes));
	*action = bpf_redirect(skb->ifindex, 0);
	return SENT_FRAG_NEEDED;
}

#endif
