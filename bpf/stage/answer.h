/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only) */
#ifndef CILIATE_STAGE_ANSWER_H
#define CILIATE_STAGE_ANSWER_H

#include "icmp.h"
#include "limits.h"
#include "service.h"

/* What a service's address says for itself: that nobody is there, and that it can be reached. */

/* IP and TCP headers of an RST. */
#define RESET_BYTES ((int)(sizeof(ip_t) + sizeof(struct tcphdr)))

/* Why a packet isn't answered in the name of a service; 0: it may be. */
static __always_inline enum verdict answer_refused(const struct packet *packet,
						   service_id_t service)
{
	/* RFC 1122, 3.2.2, and RFC 4443, 2.4 (e.6). */
	if (!address_is_host(packet->source))
		return DROP_SOURCE;
	return answer_allowed(service) ? 0 : DROP_ANSWER_LIMIT;
}

/* What a packet to a service without backends comes to; SENT_REJECTED: it is to be answered. */
static __always_inline enum verdict reject_verdict(const struct service *service,
						   const struct packet *packet)
{
	/* An RST is never answered, and a packet in pieces once. */
	if (!(service->flags & SERVICE_REJECT) || packet->tcp_flags & TCP_RST ||
	    packet_is_later(packet))
		return DROP_NO_BACKEND;
	return SENT_REJECTED;
}

/* What an RST says. */
struct reset {
	__be32 sequence;
	__be32 acknowledged;
	__u8 flags;
};

/* The RST for a packet of a connection that isn't there (RFC 9293, 3.10.7.1). */
static __always_inline struct reset reset_for(const struct packet *packet, const struct tcphdr *tcp)
{
	__u32 headers = packet->header_bytes + packet->l4_bytes;
	__u32 bytes = packet->total_bytes > headers ? packet->total_bytes - headers : 0;

	if (packet->tcp_flags & TCP_ACK)
		return (struct reset){.sequence = tcp->ack_seq, .flags = TCP_RST};
	bytes += !!(packet->tcp_flags & TCP_SYN) + !!(packet->tcp_flags & TCP_FIN);
	return (struct reset){
	    .acknowledged = bpf_htonl(bpf_ntohl(tcp->seq) + bytes),
	    .flags = TCP_RST | TCP_ACK,
	};
}

/* Both headers, from the service to the client. */
static __always_inline void reset_write(ip_t *ip, const struct packet *packet,
					const struct reset *reset)
{
	struct tcphdr *tcp = (void *)(ip + 1);
	__u16 *words = (void *)tcp;
	__u32 addresses = address_sum(packet->source) + address_sum(packet->destination);

	answer_write(ip, packet, 0, IPPROTO_TCP, RESET_BYTES);
	words[0] = packet->destination_port;
	words[1] = packet->source_port;
	tcp->seq = reset->sequence;
	tcp->ack_seq = reset->acknowledged;
	words[6] = bpf_htons(0x5000 | reset->flags);
	words[7] = 0;
	words[9] = 0;
	words[8] = ~checksum_fold(
	    addresses + bpf_htons(IPPROTO_TCP) + bpf_htons(20) + packet->source_port +
	    packet->destination_port + checksum_word(reset->sequence) +
	    checksum_word(reset->acknowledged) + bpf_htons(0x5000 | reset->flags));
}

/* Whether a packet is a ping of a service's own address. */
static __always_inline bool echo_asked(const struct packet *packet, const ip_t *ip, void *end)
{
	const struct icmp_header *icmp = (void *)(ip + 1);

	return packet->protocol == IPPROTO_ICMP && packet->header_bytes == sizeof(*ip) &&
	       !packet->fragment && packet->total_bytes >= ICMP_BYTES &&
	       (void *)(icmp + 1) <= end && icmp->type == ICMP_ECHO && !icmp->code &&
	       service_has_address(packet->destination);
}

/* Turns a ping into its answer. Writes within what echo_asked has read. */
static __always_inline void echo_write(struct ethhdr *eth, const struct packet *packet)
{
	ip_t *ip = (void *)(eth + 1);
	struct icmp_header *icmp = (void *)(ip + 1);
	mac_t client, own;

	__builtin_memcpy(client, eth->h_source, ETH_ALEN);
	__builtin_memcpy(own, eth->h_dest, ETH_ALEN);
	ethernet_write(eth, client, own);
	echo_header(ip, packet);
	icmp->type = ICMP_ECHO_REPLY;
	/* The type is the first byte of its word. */
	icmp->checksum = checksum_apply(icmp->checksum, (__u16)~ICMP_ECHO + ICMP_ECHO_REPLY);
}

#endif
