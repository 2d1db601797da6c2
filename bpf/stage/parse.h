/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only) */
#ifndef CILIATE_STAGE_PARSE_H
#define CILIATE_STAGE_PARSE_H

#include "packet.h"

#define IP_FRAGMENT bpf_htons(0x3fff) /* more-fragments and offset */
#define IP_FRAGMENT_OFFSET bpf_htons(0x1fff)

enum parsed {
	PARSED_WHOLE,	 /* a whole TCP or UDP header */
	PARSED_FRAGMENT, /* a fragment of TCP or UDP: no ports */
	PARSED_PROTOCOL, /* valid IPv4 of another protocol */
	PARSED_INVALID,
};

typedef __u16 __attribute__((may_alias)) ethertype_t;

/* In one load, where clang would read the packed header byte by byte. */
static __always_inline bool ethernet_is_ipv4(const void *eth)
{
	const ethertype_t *type = eth + offsetof(struct ethhdr, h_proto);

	return *type == bpf_htons(ETH_P_IP);
}

/* Broadcast or multicast (IEEE 802.3, 3.2.3). */
static __always_inline bool ethernet_is_group(const struct ethhdr *eth)
{
	return eth->h_dest[0] & 1;
}

/* Ports and flags. `l4` is where the IPv4 header ends. */
static __always_inline enum parsed parse_l4(struct packet *packet, void *l4, void *end)
{
	__u32 l4_room = packet->total_bytes - packet->header_bytes;
	struct tcphdr *tcp = l4;
	struct udphdr *udp = l4;

	if (packet->protocol == IPPROTO_TCP) {
		if (l4_room < sizeof(*tcp) || (void *)(tcp + 1) > end)
			return PARSED_INVALID;
		packet->l4_bytes = tcp->doff * 4;
		packet->tcp_flags = ((__u8 *)tcp)[13];
	} else {
		if (l4_room < sizeof(*udp) || (void *)(udp + 1) > end)
			return PARSED_INVALID;
		packet->l4_bytes = sizeof(*udp);
		packet->tcp_flags = 0;
	}
	packet->source_port = udp->source;
	packet->destination_port = udp->dest;
	return PARSED_WHOLE;
}

/*
 * The IPv4 header at `ip`, `room` bytes of frame from there on (RFC 791). `end` is the end of what
 * can be read directly, which is less than the room when an skb isn't linear.
 */
static __always_inline enum parsed parse_ipv4(struct packet *packet, struct iphdr *ip, void *end,
					      __u32 room)
{
	if ((void *)(ip + 1) > end || ip->version != 4)
		return PARSED_INVALID;
	packet->header_bytes = ip->ihl * 4;
	packet->total_bytes = bpf_ntohs(ip->tot_len);
	if (packet->header_bytes < sizeof(*ip) || packet->total_bytes < packet->header_bytes ||
	    packet->total_bytes > room)
		return PARSED_INVALID;
	packet->source = ip->saddr;
	packet->destination = ip->daddr;
	packet->protocol = ip->protocol;
	packet->tos = ip->tos;
	packet->ttl = ip->ttl;
	packet->fragment = ip->frag_off & IP_FRAGMENT;
	if (packet->protocol != IPPROTO_TCP && packet->protocol != IPPROTO_UDP)
		return PARSED_PROTOCOL;
	if (packet->fragment)
		return PARSED_FRAGMENT;
	return parse_l4(packet, (void *)ip + packet->header_bytes, end);
}

#endif
