/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only) */
#ifndef CILIATE_STAGE_ICMP6_H
#define CILIATE_STAGE_ICMP6_H

#include "encap.h"
#include "ip.h"
#include "packet.h"

/* ICMPv6 (RFC 4443), whose checksum covers the addresses, as TCP's does. */

#define ICMP_DEST_UNREACH 1
#define ICMP_PACKET_TOO_BIG 2
#define ICMP_TIME_EXCEEDED 3
#define ICMP_PARAMETER_PROBLEM 4
#define ICMP_PORT_UNREACH 4
#define ICMP_ECHO 128
#define ICMP_ECHO_REPLY 129
#define ICMP_TOS 0

struct icmp_header {
	__u8 type;
	__u8 code;
	__u16 checksum;
	__be32 mtu;
};

/* Headers and ports; more of the packet would have to be summed up. */
#define ICMP_QUOTE_MAX 96

static __always_inline __u32 icmp_quote_bytes(const struct packet *packet)
{
	__u32 bytes = packet->header_bytes + 8;

	return bytes < ICMP_QUOTE_MAX ? bytes : ICMP_QUOTE_MAX;
}

static __always_inline bool icmp_is_error(__u8 type)
{
	return type >= ICMP_DEST_UNREACH && type <= ICMP_PARAMETER_PROBLEM;
}

static __always_inline void answer_write(ip_t *ip, const struct packet *packet, __u8 tos,
					 __u8 protocol, __u16 bytes)
{
	*(__be32 *)(void *)ip = bpf_htonl(6U << 28 | (__u32)tos << 20);
	ip->payload_len = bpf_htons(bytes - sizeof(*ip));
	ip->nexthdr = protocol;
	ip->hop_limit = IP_DEFAULT_TTL;
	address_store(&ip->saddr, packet->destination);
	address_store(&ip->daddr, packet->source);
}

/* No link of IPv6 has less (RFC 8200, 5): a sender that is told less takes it for this. */
#define MTU_MIN 1280

/* `mtu`: of "packet too big", or 0 where nobody listens at the port. */
static __always_inline void unreachable_write(struct icmp_header *icmp, const struct packet *packet,
					      __u32 mtu, __u32 quote_bytes, __u32 quote_sum)
{
	__u32 sum = address_sum(packet->source) + address_sum(packet->destination) +
		    bpf_htons(sizeof(*icmp) + quote_bytes) + bpf_htons(IPPROTO_ICMP) + quote_sum;

	icmp->type = mtu ? ICMP_PACKET_TOO_BIG : ICMP_DEST_UNREACH;
	icmp->code = mtu ? 0 : ICMP_PORT_UNREACH;
	icmp->mtu = bpf_htonl(mtu && mtu < MTU_MIN ? MTU_MIN : mtu);
	sum += bpf_htons(icmp->type << 8 | icmp->code) + checksum_word(icmp->mtu);
	icmp->checksum = ~checksum_fold(sum);
}

static __always_inline void echo_header(ip_t *ip, const struct packet *packet)
{
	ip->hop_limit = IP_DEFAULT_TTL;
	address_store(&ip->saddr, packet->destination);
	address_store(&ip->daddr, packet->source);
}

/* Quoted packets with extension headers are not looked into. */
static __always_inline bool quote_header(const struct packet *packet, const ip_t *ip, __u32 *bytes,
					 __u32 *total)
{
	*bytes = sizeof(*ip);
	*total = bpf_ntohs(ip->payload_len) + sizeof(*ip);
	return ip->version == 6 && same_address(address_load(&ip->saddr), packet->destination) &&
	       has_ports(ip->nexthdr);
}

static __always_inline address_t quoted_destination(const ip_t *ip)
{
	return address_load(&ip->daddr);
}

static __always_inline __u8 quoted_protocol(const ip_t *ip)
{
	return ip->nexthdr;
}

static __always_inline bool quote_addresses(struct __sk_buff *skb, __u32 at,
					    const struct packet *packet, ipv6_t source,
					    ipv6_t destination, __u32 *sum)
{
	ipv6_t addresses[2] = {source, destination};

	*sum += address_change(packet->destination, source) +
		address_change(packet->source, destination);
	return !bpf_skb_store_bytes(skb, at + offsetof(struct ipv6hdr, saddr), addresses,
				    sizeof(addresses), 0);
}

static __always_inline bool icmp_destination(struct __sk_buff *skb, const struct packet *packet,
					     ipv6_t destination)
{
	return !bpf_skb_store_bytes(skb, packet->l3 + offsetof(struct ipv6hdr, daddr), &destination,
				    sizeof(destination), 0);
}

static __always_inline __u32 icmp_address_sum(ipv6_t from, ipv6_t to)
{
	return address_change(from, to);
}

#endif
