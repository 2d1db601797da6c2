/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only) */
#ifndef CILIATE_STAGE_ENCAP_H
#define CILIATE_STAGE_ENCAP_H

#include "abi/config.h"
#include "checksum.h"
#include "packet.h"

#define IP_DF bpf_htons(0x4000)
#define IP_VERSION_IHL 0x45
#define IP_DEFAULT_TTL 64

/* AF_INET, as the kernel's helpers want it. */
#define FAMILY_IPV4 2

/* How a packet leaves: device, MACs, and the largest IPv4 packet in bytes. */
struct way {
	ifindex_t ifindex;
	__u32 mtu;
	bool neighbour; /* the MACs are known; else the kernel finds that of the gateway */
	ipv4_t gateway;
	mac_t destination;
	mac_t source;
};

/* Sum of the outer header's words that are the same for every packet but for addresses and TTL. */
#define OUTER_CONSTANT_SUM                                                                         \
	(IP_VERSION_IHL + bpf_htons(0x4000) + (__u32)bpf_htons(IP_DEFAULT_TTL << 8 | IPPROTO_IPIP))

/* The outer source, and the sum of all constant words including it. */
static __always_inline ipv4_t outer_source_of(const struct packet *packet,
					      const struct nexthop *nexthop, __u32 *sum)
{
	ipv4_t source;

	if (!outer_host_mask) {
		*sum = nexthop->checksum;
		return nexthop->outer_source;
	}
	source = outer_prefix | bpf_htonl(packet->spread & outer_host_mask);
	*sum = OUTER_CONSTANT_SUM + checksum_word(source);
	return source;
}

/* Writes the header of RFC 2003; `sum` is that of all words but TOS, length and destination. */
static __always_inline void outer_write(struct iphdr *outer, const struct packet *packet,
					ipv4_t source, ipv4_t destination, __u8 ttl, __u32 sum)
{
	__u16 total = bpf_htons(packet->total_bytes + OUTER_BYTES);

	sum += ((__u32)packet->tos << 8) + total + checksum_word(destination);
	*(__u16 *)outer = IP_VERSION_IHL | packet->tos << 8;
	outer->tot_len = total;
	outer->id = 0;
	outer->frag_off = IP_DF;
	outer->ttl = ttl;
	outer->protocol = IPPROTO_IPIP;
	outer->check = ~checksum_fold(sum);
	outer->saddr = source;
	outer->daddr = destination;
}

/* Sends a packet that came with an outer header to another owner or node. */
static __always_inline void outer_redirect(struct iphdr *outer, const struct packet *packet,
					   ipv4_t destination, __u8 ttl)
{
	__u32 change = checksum_change(packet->outer_source, node_address) +
		       checksum_change(packet->outer_destination, destination) +
		       (__u16)~packet->outer_ttl + ttl;

	outer->check = checksum_apply(outer->check, change);
	outer->saddr = node_address;
	outer->daddr = destination;
	outer->ttl = ttl;
}

static __always_inline void ethernet_write(struct ethhdr *eth, const __u8 *destination,
					   const __u8 *source)
{
	__builtin_memcpy(eth->h_dest, destination, ETH_ALEN);
	__builtin_memcpy(eth->h_source, source, ETH_ALEN);
	eth->h_proto = bpf_htons(ETH_P_IP);
}

#endif
