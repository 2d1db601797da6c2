/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only) */
#ifndef CILIATE_STAGE_PARSE_H
#define CILIATE_STAGE_PARSE_H

#include "ip.h"
#include "packet.h"

typedef __u16 __attribute__((may_alias)) ethertype_t;

/* Whether it carries this family. In one load, where clang would read the packed header byte by
 * byte. */
static __always_inline bool ethernet_is_ours(const void *eth)
{
	const ethertype_t *type = eth + offsetof(struct ethhdr, h_proto);

	return *type == ETHERTYPE;
}

/* Broadcast or multicast (IEEE 802.3, 3.2.3). */
static __always_inline bool ethernet_is_group(const struct ethhdr *eth)
{
	return eth->h_dest[0] & 1;
}

/* Ports and flags. `l4` is where the IP header ends. */
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
 * The packet at `ip`, `room` bytes of frame from there on. `end` is the end of what can be read
 * directly, which is less than the room when an skb isn't linear.
 */
static __always_inline enum parsed parse_ip(struct packet *packet, ip_t *ip, void *end, __u32 room)
{
	if (parse_header(packet, ip, end, room) == PARSED_INVALID)
		return PARSED_INVALID;
	if (packet->protocol != IPPROTO_TCP && packet->protocol != IPPROTO_UDP)
		return PARSED_PROTOCOL;
	if (packet->fragment)
		return PARSED_FRAGMENT;
	return parse_l4(packet, (void *)ip + (packet->header_bytes & IP_HEADER_MASK), end);
}

#endif
