/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only) */
#ifndef CILIATE_STAGE_ANSWER_SKB_H
#define CILIATE_STAGE_ANSWER_SKB_H

#include "answer.h"
#include "scratch.h"
#include "skb.h"

/*
 * Turns a packet into ICMP to its sender, see unreachable_write. The bytes of the old L4 header
 * are pulled off and pushed anew, because only that makes the kernel forget a partial checksum. Not
 * inlined: it has a stack of its own.
 */
static __noinline bool skb_unreachable(struct __sk_buff *skb, struct packet *packet, __u32 mtu,
				       int *action)
{
	__u32 quote_bytes, room;
	__u8 quote[ICMP_QUOTE_MAX] = {};
	struct ethhdr *eth = skb_start(skb);
	ip_t *ip;
	mac_t client, own;

	if (!packet || !action)
		return false;
	quote_bytes = icmp_quote_bytes(packet);
	if ((void *)(eth + 1) > skb_end(skb) || quote_bytes < sizeof(*ip) + 8)
		return false;
	/* Else the comparisons become one of a copy, which verifiers up to 6.12 can't follow. */
	asm volatile("" : "+r"(quote_bytes));
	if (quote_bytes > sizeof(quote))
		return false;
	room = quote_bytes + 8;
	__builtin_memcpy(client, eth->h_source, ETH_ALEN);
	__builtin_memcpy(own, eth->h_dest, ETH_ALEN);
	if (bpf_skb_load_bytes(skb, ETH_HLEN, quote, quote_bytes) ||
	    bpf_skb_change_tail(skb, ETH_HLEN + sizeof(*ip) + room, 0) ||
	    bpf_skb_adjust_room(skb, -(int)room, BPF_ADJ_ROOM_MAC, 0) ||
	    bpf_skb_adjust_room(skb, room, BPF_ADJ_ROOM_MAC, 0) ||
	    bpf_skb_store_bytes(skb, ETH_HLEN + ICMP_BYTES, quote, quote_bytes, 0))
		return false;
	eth = skb_start(skb);
	ip = (void *)(eth + 1);
	if ((void *)ip + ICMP_BYTES > skb_end(skb))
		return false;
	ethernet_write(eth, client, own);
	icmp_write(ip, packet, mtu, quote_bytes,
		   icmp_quote_sum(quote, quote + sizeof(quote), quote_bytes));
	*action = bpf_redirect(skb->ifindex, 0);
	return true;
}

/* Turns a packet into an RST to its sender, in the same way. */
static __noinline bool skb_reset(struct __sk_buff *skb, struct packet *packet, int *action)
{
	const int tcp_bytes = sizeof(struct tcphdr);
	struct ethhdr *eth = skb_start(skb);
	struct tcphdr tcp = {};
	struct reset reset;
	mac_t client, own;

	if (!packet || !action || (void *)(eth + 1) > skb_end(skb) ||
	    bpf_skb_load_bytes(skb, ETH_HLEN + packet->header_bytes, &tcp, sizeof(tcp)))
		return false;
	reset = reset_for(packet, &tcp);
	__builtin_memcpy(client, eth->h_source, ETH_ALEN);
	__builtin_memcpy(own, eth->h_dest, ETH_ALEN);
	if (bpf_skb_change_tail(skb, ETH_HLEN + RESET_BYTES, 0) ||
	    bpf_skb_adjust_room(skb, -tcp_bytes, BPF_ADJ_ROOM_MAC, 0) ||
	    bpf_skb_adjust_room(skb, tcp_bytes, BPF_ADJ_ROOM_MAC, 0))
		return false;
	eth = skb_start(skb);
	if ((void *)(eth + 1) + RESET_BYTES > skb_end(skb))
		return false;
	ethernet_write(eth, client, own);
	reset_write((void *)(eth + 1), packet, &reset);
	*action = bpf_redirect(skb->ifindex, 0);
	return true;
}

/* The answer that a verdict stands for, written where the stack has room for it. */
static __always_inline enum verdict skb_answer(struct __sk_buff *skb, struct packet *packet,
					       enum verdict verdict, int *action)
{
	enum verdict refused;
	bool written;

	refused = answer_refused(packet, packet->service);
	if (refused)
		return refused;
	if (verdict == SENT_FRAG_NEEDED)
		written = skb_unreachable(skb, packet, packet->mtu, action);
	else if (packet->protocol == IPPROTO_TCP)
		written = skb_reset(skb, packet, action);
	else
		written = skb_unreachable(skb, packet, 0, action);
	return written ? verdict : DROP_REWRITE;
}

/* Leaves word for the program that answers; false: it can't. */
static __always_inline bool answer_asked(const struct packet *packet, enum verdict verdict)
{
	struct scratch *held = scratch_row();

	if (!held)
		return false;
	held->backend = packet->backend;
	held->service = packet->service;
	held->frame_bytes = packet->frame_bytes;
	held->mtu = verdict == SENT_FRAG_NEEDED ? packet->mtu : 0;
	return true;
}

/* Answers a packet as another program has asked for. */
static __always_inline enum verdict answer_make(struct __sk_buff *skb, struct packet *packet,
						int *action)
{
	struct scratch *held = scratch_row();

	if (!held)
		return DROP_TABLE;
	packet->backend = held->backend;
	packet->service = held->service;
	packet->frame_bytes = held->frame_bytes;
	packet->mtu = held->mtu;
	return skb_answer(skb, packet, packet->mtu ? SENT_FRAG_NEEDED : SENT_REJECTED, action);
}

#endif
