/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only) */
#ifndef CILIATE_STAGE_TRANSLATION_H
#define CILIATE_STAGE_TRANSLATION_H

#include "ip.h"
#include "packet.h"

/* What a translation writes into a packet's headers. */
struct translation {
	address_t source;
	address_t destination;
	port_t source_port;
	port_t destination_port;
	__u8 tos;
	__u8 ttl;
};

/* What the addresses add to the sums that cover them. */
static __always_inline __u32 translation_addresses(const struct packet *packet,
						   const struct translation *to)
{
	return address_change(packet->source, to->source) +
	       address_change(packet->destination, to->destination);
}

/* What the ports add to the sum of TCP or UDP. */
static __always_inline __u32 translation_ports(const struct packet *packet,
					       const struct translation *to)
{
	return checksum_word(~(__u32)packet->source_port) + to->source_port +
	       checksum_word(~(__u32)packet->destination_port) + to->destination_port;
}

/* The IP header and the ports; the checksum of TCP or UDP is the caller's. */
static __always_inline bool translate_header(ip_t *ip, void *end, const struct packet *packet,
					     const struct translation *to)
{
	struct udphdr *ports;

	if ((void *)(ip + 1) > end)
		return false;
	header_translate(ip, packet, to->source, to->destination, to->tos, to->ttl);
	if (packet_is_later(packet))
		return true;
	ports = (void *)ip + (packet->header_bytes & IP_HEADER_MASK);
	if ((void *)(ports + 1) > end)
		return false;
	ports->source = to->source_port;
	ports->dest = to->destination_port;
	return true;
}

#endif
