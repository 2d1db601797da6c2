/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only) */
#ifndef CILIATE_STAGE_ICMP4_H
#define CILIATE_STAGE_ICMP4_H

#include "encap.h"
#include "ip.h"
#include "packet.h"

/* ICMP of IPv4 (RFC 792); icmp6.h answers the same for IPv6. */

#define ICMP_ECHO_REPLY 0
#define ICMP_DEST_UNREACH 3
#define ICMP_PORT_UNREACH 3
#define ICMP_FRAG_NEEDED 4
#define ICMP_ECHO 8
#define ICMP_TIME_EXCEEDED 11
#define ICMP_PARAMETER_PROBLEM 12
#define ICMP_TOS 0xc0 /* internetwork control, RFC 1812 4.3.2.5 */

/* RFC 1191; linux/icmp.h would bring the host's socket headers. */
struct icmp_header {
	__u8 type;
	__u8 code;
	__u16 checksum;
	__u16 unused;
	__u16 mtu;
};

/* An IP header with all options, and what is quoted behind it. */
#define ICMP_QUOTE_MAX 68

/* The client's header and 64 bits of what follows. */
static __always_inline __u32 icmp_quote_bytes(const struct packet *packet)
{
	return packet->header_bytes + 8;
}

static __always_inline bool icmp_is_error(__u8 type)
{
	return type == ICMP_DEST_UNREACH || type == ICMP_TIME_EXCEEDED ||
	       type == ICMP_PARAMETER_PROBLEM;
}

/* The header of an answer to a packet, from whom it was for; `bytes` with this header. */
static __always_inline void answer_write(ip_t *ip, const struct packet *packet, __u8 tos,
					 __u8 protocol, __u16 bytes)
{
	__u16 total = bpf_htons(bytes);
	__u32 sum =
	    (IP_VERSION_IHL | tos << 8) + total + IP_DF + bpf_htons(IP_DEFAULT_TTL << 8 | protocol);

	sum += checksum_word(packet->destination) + checksum_word(packet->source);
	*(__u8 *)ip = IP_VERSION_IHL;
	ip->tos = tos;
	ip->tot_len = total;
	ip->id = 0;
	ip->frag_off = IP_DF;
	ip->ttl = IP_DEFAULT_TTL;
	ip->protocol = protocol;
	ip->check = ~checksum_fold(sum);
	ip->saddr = packet->destination;
	ip->daddr = packet->source;
}

/*
 * Writes the header of "destination unreachable"; the quote stands behind it already. `mtu`: the
 * largest packet that the sender may send (RFC 1191), or 0 where nobody listens at the port.
 */
static __always_inline void unreachable_write(struct icmp_header *icmp, const struct packet *packet,
					      __u32 mtu, __u32 quote_bytes, __u32 quote_sum)
{
	__u8 code = mtu ? ICMP_FRAG_NEEDED : ICMP_PORT_UNREACH;
	__u16 next = bpf_htons(mtu);

	icmp->type = ICMP_DEST_UNREACH;
	icmp->code = code;
	icmp->unused = 0;
	icmp->mtu = next;
	icmp->checksum =
	    ~checksum_fold(bpf_htons(ICMP_DEST_UNREACH << 8 | code) + next + quote_sum);
}

/* The header of a ping's answer: addresses swapped. */
static __always_inline void echo_header(ip_t *ip, const struct packet *packet)
{
	ip->check = checksum_apply(ip->check, (__u16)~packet->ttl + IP_DEFAULT_TTL);
	ip->ttl = IP_DEFAULT_TTL;
	ip->saddr = packet->destination;
	ip->daddr = packet->source;
}

/*
 * Whether a quoted header is the beginning of a packet with ports that the ICMP packet's
 * destination sent. `bytes`: of the header; `total`: of what it was.
 */
static __always_inline bool quote_header(const struct packet *packet, const ip_t *ip, __u32 *bytes,
					 __u32 *total)
{
	*bytes = ip->ihl * 4;
	*total = bpf_ntohs(ip->tot_len);
	return ip->version == 4 && *bytes >= sizeof(*ip) && !(ip->frag_off & IP_FRAGMENT_OFFSET) &&
	       ip->saddr == packet->destination && has_ports(ip->protocol);
}

static __always_inline address_t quoted_destination(const ip_t *ip)
{
	return ip->daddr;
}

static __always_inline __u8 quoted_protocol(const ip_t *ip)
{
	return ip->protocol;
}

/* New addresses of the quoted header at `at`; its own checksum keeps the quote's sum. */
static __always_inline bool quote_addresses(struct __sk_buff *skb, __u32 at,
					    const struct packet *packet, ipv4_t source,
					    ipv4_t destination, __u32 *sum)
{
	const __u32 check = at + offsetof(struct iphdr, check);
	ipv4_t addresses[2] = {source, destination};

	return !bpf_l3_csum_replace(skb, check, packet->destination, source, sizeof(source)) &&
	       !bpf_l3_csum_replace(skb, check, packet->source, destination, sizeof(source)) &&
	       !bpf_skb_store_bytes(skb, at + offsetof(struct iphdr, saddr), addresses,
				    sizeof(addresses), 0);
}

/* To another destination; what it changes in the checksum of ICMP is nothing. */
static __always_inline bool icmp_destination(struct __sk_buff *skb, const struct packet *packet,
					     ipv4_t destination)
{
	return !bpf_l3_csum_replace(skb, packet->l3 + offsetof(struct iphdr, check),
				    packet->destination, destination, sizeof(destination)) &&
	       !bpf_skb_store_bytes(skb, packet->l3 + offsetof(struct iphdr, daddr), &destination,
				    sizeof(destination), 0);
}

/* How another address of the packet's own changes the sum of ICMP. */
static __always_inline __u32 icmp_address_sum(ipv4_t from, ipv4_t to)
{
	return 0;
}

#endif
