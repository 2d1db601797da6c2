/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only) */
#ifndef CILIATE_STAGE_IP4_H
#define CILIATE_STAGE_IP4_H

#include <linux/ip.h>
#include "abi/config.h"
#include "checksum.h"
#include "packet.h"

/* IPv4: what the other stages ask of a family. ip6.h answers the same for IPv6. */

typedef struct iphdr ip_t;

#define ETHERTYPE bpf_htons(ETH_P_IP)
#define KERNEL_FAMILY 2 /* AF_INET */
#define HEADER_SUMMED 1 /* whether the header has a checksum of its own */
#define OUTER_ROOM BPF_F_ADJ_ROOM_ENCAP_L3_IPV4
#define OUTER_HASHED 0 /* whether every outer header has the flow's hash in it */

#define IP_DF bpf_htons(0x4000)
#define IP_FRAGMENT bpf_htons(0x3fff) /* more-fragments and offset */
#define IP_FRAGMENT_OFFSET bpf_htons(0x1fff)
#define IP_VERSION_IHL 0x45
#define IP_VERSION 4

/* Who a pod is that talks to itself: link-local, 169.254.42.1 (RFC 3927). */
static __always_inline ipv4_t itself(void)
{
	return bpf_htonl(0xa9fe2a01);
}

/* This node's. */
static __always_inline ipv4_t own_address(void)
{
	return node_address;
}

/* Whether it may be one host's: not of this network, loopback, a group or all (RFC 1122, 3.2.1.3).
 */
static __always_inline bool address_is_host(ipv4_t address)
{
	__u32 value = bpf_ntohl(address);
	__u32 first = value >> 24;

	return first && first != 127 && (first & 0xf0) != 224 && ~value;
}

static __always_inline ipv4_t ip_source(const ip_t *ip)
{
	return ip->saddr;
}

static __always_inline ipv4_t ip_destination(const ip_t *ip)
{
	return ip->daddr;
}

/* Where ports stand if there are any, from `ip` on; 0: it can't be told from the header alone. */
static __always_inline __u32 ip_ports_at(const ip_t *ip)
{
	return ip->ihl * 4;
}

/* The sum of an address in the checksums that cover it. */
static __always_inline __u32 address_sum(ipv4_t address)
{
	return checksum_word(address);
}

/* The sum that replaces an address. */
static __always_inline __u32 address_change(ipv4_t from, ipv4_t to)
{
	return checksum_change(from, to);
}

/* How much smaller than clamp_mss a segment has to be. */
static __always_inline __u16 mss_less(void)
{
	return 0;
}

/* The header at `ip`, up to what it carries (RFC 791); `room` bytes of frame from there on. */
static __always_inline enum parsed parse_header(struct packet *packet, const ip_t *ip, void *end,
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
	packet->fragment_id = ip->id;
	return PARSED_WHOLE;
}

/* Whether whoever sent the packet wants to be told that it is too big, rather than have it cut. */
static __always_inline bool ip_dont_fragment(const ip_t *ip)
{
	return ip->frag_off & IP_DF;
}

/* The flow hash of docs/packet-path.md. `ports`: the source's, then the destination's, as they lie
 * in memory. */
static __always_inline __u64 hash_mix(ipv4_t source, ipv4_t destination, __u32 ports, __u8 protocol)
{
	__u64 a = bpf_be64_to_cpu((__u64)ports << 32 | source);
	__u64 b = (__u64)bpf_ntohl(destination) << 8 | protocol;
	__u64 x = (a ^ hash_seed) * 0x9E3779B97F4A7C15ULL;

	x ^= x >> 32;
	x = (x ^ b) * 0xD6E8FEB86659FD93ULL;
	x ^= x >> 32;
	x *= 0xCA4BCAA75EC3F625ULL;
	return x ^ x >> 32;
}

/* A key of frontends is compared as the one word that was published, never as two halves. */
typedef __u64 __attribute__((may_alias)) frontend_key_t;

/* How a key is handed to a function that isn't inlined. */
typedef frontend_key_t frontend_key_handed_t;
#define frontend_key_hand(key) (key)
#define frontend_key_take(handed) (handed)

static __always_inline frontend_key_t frontend_key(ipv4_t address, port_t port, __u8 protocol,
						   __u8 kind)
{
	frontend_t key = {.address = address, .port = port, .protocol = protocol, .kind = kind};

	return *(frontend_key_t *)&key;
}

static __always_inline __u32 frontend_bucket_index(frontend_key_t key)
{
	return (key * 0x9E3779B97F4A7C15ULL >> 32) & FAMILY(frontend_mask);
}

static __always_inline bool frontend_is(const frontend_t *frontend, frontend_key_t key)
{
	return *(const volatile frontend_key_t *)(const void *)frontend == key;
}

/* Question and answer of the kernel's FIB. */
static __always_inline void fib_between(struct bpf_fib_lookup *fib, ipv4_t source,
					ipv4_t destination)
{
	fib->family = KERNEL_FAMILY;
	fib->ipv4_src = source;
	fib->ipv4_dst = destination;
}

/* An IPv4 route may have an IPv6 gateway (RFC 5549): the kernel finds that one itself. */
static __always_inline ipv4_t fib_gateway(const struct bpf_fib_lookup *fib)
{
	return fib->family == KERNEL_FAMILY ? fib->ipv4_dst : 0;
}

static __always_inline void neighbour_of(struct bpf_redir_neigh *neighbour, ipv4_t gateway)
{
	neighbour->nh_family = KERNEL_FAMILY;
	neighbour->ipv4_nh = gateway;
}

/* Source, destination, TOS and time to live, and the checksum over them. */
static __always_inline void header_translate(ip_t *ip, const struct packet *packet, ipv4_t source,
					     ipv4_t destination, __u8 tos, __u8 ttl)
{
	__u32 change = address_change(packet->source, source) +
		       address_change(packet->destination, destination) +
		       (__u16) ~(packet->tos << 8) + (tos << 8) + (__u16)~packet->ttl + ttl;

	ip->check = checksum_apply(ip->check, change);
	ip->saddr = source;
	ip->daddr = destination;
	ip->tos = tos;
	ip->ttl = ttl;
}

/* Nothing of a header's change shows in the sum of the whole packet. */
static __always_inline __u32 header_change(const struct packet *packet, __u8 tos, __u8 ttl)
{
	return 0;
}

/* What a header says of itself that is not its lengths' nor its protocol's. */
static __always_inline void header_read(struct packet *packet, const ip_t *ip)
{
	packet->destination = ip->daddr;
	packet->total_bytes = bpf_ntohs(ip->tot_len);
	packet->tos = ip->tos;
	packet->ttl = ip->ttl;
}

/* To another destination; `change` is the address's. */
static __always_inline void header_lead(ip_t *ip, ipv4_t destination, __u32 change)
{
	ip->daddr = destination;
	ip->check = checksum_apply(ip->check, change);
}

/* The same, one hop further. */
static __always_inline void header_forward(ip_t *ip, ipv4_t destination, __u32 change)
{
	ip->daddr = destination;
	ip->ttl--;
	/* The time to live is the first byte of its word, whose sum shrinks by one unit of it. */
	ip->check = checksum_apply(ip->check, change + (__u16)~bpf_htons(0x0100));
}

/* Sum of the outer header's words that are the same for every packet but for addresses and TTL. */
#define OUTER_CONSTANT_SUM                                                                         \
	(IP_VERSION_IHL + bpf_htons(0x4000) + (__u32)bpf_htons(IP_DEFAULT_TTL << 8 | IPPROTO_OUTER))

/* The outer source, and the sum of all constant words including it. */
static __always_inline ipv4_t outer_source_of(const struct packet *packet, const nexthop_t *nexthop,
					      __u32 *sum)
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

/* The sum that goes with a source of the caller's own and a time to live. */
static __always_inline __u32 outer_sum(ipv4_t source, __u8 ttl)
{
	return IP_VERSION_IHL + IP_DF + (__u32)bpf_htons(ttl << 8 | IPPROTO_OUTER) +
	       checksum_word(source);
}

/* Whether outer sources are made from flows' hashes, not by next hops. */
static __always_inline bool outer_source_hashed(void)
{
	return outer_host_mask;
}

/* A header of so many bytes in all, in network order; `sum` is as below. */
static __always_inline void outer_fields(ip_t *outer, __u8 tos, __u16 total, ipv4_t source,
					 ipv4_t destination, __u8 ttl, __u32 sum, __u8 protocol)
{
	sum += ((__u32)tos << 8) + total + checksum_word(destination) +
	       bpf_htons(protocol - IPPROTO_OUTER);
	*(__u16 *)outer = IP_VERSION_IHL | tos << 8;
	outer->tot_len = total;
	outer->id = 0;
	outer->frag_off = IP_DF;
	outer->ttl = ttl;
	outer->protocol = protocol;
	outer->check = ~checksum_fold(sum);
	outer->saddr = source;
	outer->daddr = destination;
}

/*
 * Writes a header in front of a packet, `bytes` before it; `sum` is that of all words but TOS,
 * length and destination, for IPPROTO_OUTER.
 */
static __always_inline void outer_write_of(ip_t *outer, const struct packet *packet, ipv4_t source,
					   ipv4_t destination, __u8 ttl, __u32 sum, __u32 bytes,
					   __u8 protocol)
{
	outer_fields(outer, packet->tos, bpf_htons(packet->total_bytes + bytes), source,
		     destination, ttl, sum, protocol);
}

/* That of RFC 2003. */
static __always_inline void outer_write(ip_t *outer, const struct packet *packet, ipv4_t source,
					ipv4_t destination, __u8 ttl, __u32 sum)
{
	outer_write_of(outer, packet, source, destination, ttl, sum, OUTER_BYTES, IPPROTO_OUTER);
}

/* A second outer header, in front of the one at `first`. */
static __always_inline void outer_write_again(ip_t *outer, const ip_t *first, ipv4_t node)
{
	outer_fields(outer, first->tos, bpf_htons(bpf_ntohs(first->tot_len) + OUTER_BYTES),
		     node_address, node, IP_DEFAULT_TTL, outer_sum(node_address, IP_DEFAULT_TTL),
		     IPPROTO_OUTER);
}

/* Leads a packet that came with an outer header to a pod of this node. */
static __always_inline void outer_lead(ip_t *outer, const struct packet *packet, ipv4_t pod)
{
	outer->check =
	    checksum_apply(outer->check, checksum_change(packet->outer_destination, pod));
	outer->daddr = pod;
}

/* Sends a packet that came with an outer header to another owner or node. */
static __always_inline void outer_redirect(ip_t *outer, const struct packet *packet,
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

#endif
