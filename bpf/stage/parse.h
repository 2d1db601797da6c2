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

/* RFC 9260, 3.1 and 3.2: what every packet of SCTP begins with. */
struct sctp {
	port_t source;
	port_t destination;
	__be32 tag;
	__be32 checksum;
	__u8 chunk;
	__u8 chunk_flags;
	__be16 chunk_bytes;
};

#define SCTP_HEADER_BYTES 12

/* Four bits for each kind of chunk up to 15. */
#define SCTP_CHUNK(kind, flags) ((__u64)(flags) << 4 * (kind))
#define SCTP_FLAGS                                                                                 \
	(SCTP_CHUNK(1, TCP_SYN) /* INIT */ | SCTP_CHUNK(6, TCP_RST) /* ABORT */ |                  \
	 SCTP_CHUNK(7, TCP_FIN) /* SHUTDOWN */ | SCTP_CHUNK(8, TCP_FIN) /* SHUTDOWN ACK */ |       \
	 SCTP_CHUNK(14, TCP_FIN) /* SHUTDOWN COMPLETE */)

/* What a first chunk means to an association, in the flags of TCP. */
static __always_inline __u8 sctp_flags(__u8 chunk)
{
	return chunk > 15 ? 0 : SCTP_FLAGS >> 4 * chunk & 15;
}

/* Ports and flags. `l4` is where the IP header ends. */
static __always_inline enum parsed parse_sctp(struct packet *packet, void *l4, void *end)
{
	struct sctp *sctp = l4;

	if (packet->total_bytes - packet->header_bytes < (int)sizeof(*sctp) ||
	    (void *)(sctp + 1) > end)
		return PARSED_INVALID;
	packet->l4_bytes = SCTP_HEADER_BYTES;
	packet->tcp_flags = sctp_flags(sctp->chunk);
	packet->source_port = sctp->source;
	packet->destination_port = sctp->destination;
	return PARSED_WHOLE;
}

/* The same of TCP and UDP. */
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

/* The same of any of them. */
static __always_inline enum parsed parse_ports(struct packet *packet, void *l4, void *end)
{
	return packet->protocol == IPPROTO_SCTP ? parse_sctp(packet, l4, end)
						: parse_l4(packet, l4, end);
}

/*
 * The packet at `ip`, `room` bytes of frame from there on. `end` is the end of what can be read
 * directly, which is less than the room when an skb isn't linear.
 */
static __always_inline enum parsed parse_ip(struct packet *packet, ip_t *ip, void *end, __u32 room)
{
	if (parse_header(packet, ip, end, room) == PARSED_INVALID)
		return PARSED_INVALID;
	/* What most packets are is asked for first, and once. */
	if (packet->protocol != IPPROTO_TCP && packet->protocol != IPPROTO_UDP) {
		if (packet->protocol != IPPROTO_SCTP)
			return PARSED_PROTOCOL;
		if (packet->fragment)
			return PARSED_FRAGMENT;
		/* Else clang adds header_bytes for both at once, where the verifier lost its range.
		 */
		asm volatile("" : "+r"(ip));
		return parse_sctp(packet, (void *)ip + (packet->header_bytes & IP_HEADER_MASK),
				  end);
	}
	if (packet->fragment)
		return PARSED_FRAGMENT;
	return parse_l4(packet, (void *)ip + (packet->header_bytes & IP_HEADER_MASK), end);
}

#endif
