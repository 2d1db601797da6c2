/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only) */
#ifndef CILIATE_STAGE_QUOTE_H
#define CILIATE_STAGE_QUOTE_H

#include "icmp.h"
#include "parse.h"
#include "scratch.h"
#include "skb.h"

/* ICMP errors, and the packets that they quote. */

#define ICMP_HEADER_BYTES 8
#define ICMP_CHECKSUM_OFFSET 2

/* RFC 792: an error quotes an IPv4 header and eight bytes more, or (RFC 1812) more than eight. */
#define QUOTED_L4_BYTES 8

/*
 * Whether the ICMP packet is an error about a packet with ports that its destination sent. Then
 * `packet` speaks of that flow, as its client sends it.
 */
static __always_inline bool quote_read(struct __sk_buff *skb, struct packet *packet,
				       struct quote *quote)
{
	__u32 icmp = packet->l3 + packet->header_bytes, quoted, header;
	struct {
		struct icmp_header icmp;
		ip_t ip;
	} message;
	port_t ports[2];

	quote->ip = icmp + ICMP_HEADER_BYTES;
	quote->end = packet->l3 + packet->total_bytes;
	if (packet->fragment || quote->ip + sizeof(message.ip) > quote->end ||
	    bpf_skb_load_bytes(skb, icmp, &message, sizeof(message)))
		return false;
	if (!icmp_is_error(message.icmp.type) ||
	    !quote_header(packet, &message.ip, &header, &quoted))
		return false;
	quote->l4 = quote->ip + header;
	if (quoted < header + QUOTED_L4_BYTES || quote->l4 + QUOTED_L4_BYTES > quote->end ||
	    bpf_skb_load_bytes(skb, quote->l4, ports, sizeof(ports)))
		return false;
	quote->sender = packet->source;
	packet->source = quoted_destination(&message.ip);
	packet->protocol = quoted_protocol(&message.ip);
	packet->source_port = ports[1];
	packet->destination_port = ports[0];
	return true;
}

/*
 * The checksum of TCP or UDP, if it is quoted, after a `change` of what it covers. `sum` is how
 * the sum of all that is quoted changes, but for the IP header.
 */
static __always_inline bool quote_checksum(struct __sk_buff *skb, bool udp,
					   const struct quote *quote, __u32 change, __u32 *sum)
{
	__u32 at =
	    quote->l4 + (udp ? offsetof(struct udphdr, check) : offsetof(struct tcphdr, check));
	__u16 before, after;

	if (at + sizeof(before) > quote->end)
		return true;
	if (bpf_skb_load_bytes(skb, at, &before, sizeof(before)))
		return false;
	if (udp && !before)
		return true;
	after = checksum_apply(before, change);
	if (udp && !after)
		after = 0xffff;
	*sum += (__u16)~before + after;
	return !bpf_skb_store_bytes(skb, at, &after, sizeof(after), 0);
}

/* A quoted reply becomes what the pod has sent. Written where it lies: copies would need stack. */
static __always_inline void quoted_reply(struct quoted *to, const flow_t *flow)
{
	to->source = flow->pod;
	to->destination = flow->alias_address;
	to->source_port = flow->pod_port;
	to->destination_port = flow->alias_port;
}

/* A quoted request becomes what the client has sent. */
static __always_inline void quoted_request(struct quoted *to, const flow_t *flow)
{
	to->source = flow->client;
	to->destination = flow->service_address;
	to->source_port = flow->client_port;
	to->destination_port = flow->service_port;
}

/*
 * Rewrites the quoted packet. `sum` is how the sum of what ICMP's checksum covers changes besides,
 * by the addresses of the ICMP packet.
 */
static __always_inline bool quote_translate(struct __sk_buff *skb, const struct packet *packet,
					    const struct quote *quote, const struct quoted *to,
					    __u32 sum)
{
	port_t ports[2] = {to->source_port, to->destination_port};
	__u32 of_ports = (__u16)~packet->destination_port + to->source_port +
			 (__u16)~packet->source_port + to->destination_port;
	__u32 change = of_ports + address_change(packet->destination, to->source) +
		       address_change(packet->source, to->destination);

	sum += of_ports;
	return (packet->protocol == IPPROTO_SCTP ||
		quote_checksum(skb, packet->protocol == IPPROTO_UDP, quote, change, &sum)) &&
	       quote_addresses(skb, quote->ip, packet, to->source, to->destination, &sum) &&
	       !bpf_skb_store_bytes(skb, quote->l4, ports, sizeof(ports), 0) &&
	       !bpf_l4_csum_replace(skb, quote->ip - ICMP_HEADER_BYTES + ICMP_CHECKSUM_OFFSET, 0,
				    sum, 0);
}

/* Rewrites an error without an outer header, its own addresses included. */
static __always_inline bool error_translate(struct __sk_buff *skb, const struct packet *packet,
					    const struct quote *quote, const struct errand *to)
{
	__u32 sum = icmp_address_sum(quote->sender, to->source) +
		    icmp_address_sum(packet->destination, to->destination);
	struct packet error = {
	    .source = quote->sender,
	    .destination = packet->destination,
	    .tos = packet->tos,
	    .ttl = packet->ttl,
	};
	ip_t *ip;

	if (!quote_translate(skb, packet, quote, &to->quoted, sum))
		return false;
	if (!HEADER_SUMMED)
		bpf_csum_update(skb, header_change(packet, packet->tos, to->ttl));
	ip = skb_start(skb) + ETH_HLEN;
	if ((void *)(ip + 1) > skb_end(skb))
		return false;
	header_translate(ip, &error, to->source, to->destination, packet->tos, to->ttl);
	return true;
}

#endif
