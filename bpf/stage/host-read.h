/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only) */
#ifndef CILIATE_STAGE_HOST_READ_H
#define CILIATE_STAGE_HOST_READ_H

#include <linux/if_packet.h>
#include "fragment.h"
#include "parse.h"
#include "skb.h"

/* Ethernet, outer and inner IP header at their longest, and a TCP header. */
#define HEADER_BYTES (ETH_HLEN + 2 * IP_HEADER_MAX + 20)

/* Reads the packet's headers; PARSED_INVALID for whatever is none of ours. */
static __always_inline enum parsed host_parse(struct __sk_buff *skb, struct packet *packet)
{
	struct ethhdr *eth;

	/* Frames for others get here while somebody listens to all of them. */
	if (skb->protocol != ETHERTYPE || skb->vlan_present || skb->pkt_type != PACKET_HOST ||
	    !skb_readable(skb, HEADER_BYTES))
		return PARSED_INVALID;
	eth = skb_start(skb);
	if ((void *)(eth + 1) > skb_end(skb) || eth->h_proto != ETHERTYPE)
		return PARSED_INVALID;
	return parse_ip(packet, (void *)(eth + 1), skb_end(skb), skb->len - ETH_HLEN);
}

/* The same for programs that others go on in: pieces have the ports of the first one. */
static __always_inline enum parsed host_read(struct __sk_buff *skb, struct packet *packet)
{
	enum parsed parsed = host_parse(skb, packet);

	if (parsed != PARSED_FRAGMENT || !fragments_track)
		return parsed;
	return fragment_parse(packet, skb_start(skb) + ETH_HLEN, skb_end(skb));
}

#endif
