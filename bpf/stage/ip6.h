/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only) */
#ifndef CILIATE_STAGE_IP6_H
#define CILIATE_STAGE_IP6_H

#include <linux/ipv6.h>
#include "abi/config.h"
#include "checksum.h"
#include "packet.h"

/* IPv6: what the other stages ask of a family, as ip4.h for IPv4. */

typedef struct ipv6hdr ip_t;

#define ETHERTYPE bpf_htons(ETH_P_IPV6)
#define KERNEL_FAMILY 10 /* AF_INET6 */
#define HEADER_SUMMED 0	 /* whether the header has a checksum of its own */
#define OUTER_ROOM BPF_F_ADJ_ROOM_ENCAP_L3_IPV6
#define OUTER_HASHED 1 /* whether every outer header has the flow's hash in it */

#define IP_FRAGMENT bpf_htons(0xfff9) /* offset and more-fragments (RFC 8200, 4.5) */
#define IP_FRAGMENT_OFFSET bpf_htons(0xfff8)

#define IP_VERSION 6

#define NEXT_HOP_BY_HOP 0
#define NEXT_ROUTING 43
#define NEXT_FRAGMENT 44
#define NEXT_DESTINATION 60

/* Extension headers that are walked; a packet with more is none of ours. */
#define EXTENSIONS 4

/* Who a pod is that talks to itself: fd00:c111:a7e::1 (RFC 4193). */
static __always_inline ipv6_t itself(void)
{
	return (ipv6_t){.word = {bpf_htonl(0xfd00c111), bpf_htonl(0x0a7e0000), 0, bpf_htonl(1)}};
}

/* Word by word: of a volatile struct that is handed on as a whole, clang takes what C says it is,
 * which is not what the loader has set. */
static __always_inline ipv6_t own_address(void)
{
	return (ipv6_t){.word = {node_address6.word[0], node_address6.word[1],
				 node_address6.word[2], node_address6.word[3]}};
}

/* Whether it may be one host's: not unspecified, loopback or a group (RFC 4291, 2.4). */
static __always_inline bool address_is_host(ipv6_t address)
{
	if (address.word[0] | address.word[1] | address.word[2])
		return bpf_ntohl(address.word[0]) >> 24 != 0xff;
	return bpf_ntohl(address.word[3]) > 1;
}

static __always_inline __u32 address_sum(ipv6_t address)
{
	return checksum_word(address.word[0]) + checksum_word(address.word[1]) +
	       checksum_word(address.word[2]) + checksum_word(address.word[3]);
}

static __always_inline __u32 address_change(ipv6_t from, ipv6_t to)
{
	return checksum_change(from.word[0], to.word[0]) +
	       checksum_change(from.word[1], to.word[1]) +
	       checksum_change(from.word[2], to.word[2]) +
	       checksum_change(from.word[3], to.word[3]);
}

static __always_inline void address_store(struct in6_addr *to, ipv6_t address)
{
	__builtin_memcpy(to, &address, sizeof(address));
}

static __always_inline ipv6_t address_load(const struct in6_addr *from)
{
	ipv6_t address;

	__builtin_memcpy(&address, from, sizeof(address));
	return address;
}

/* A segment's own header has 20 bytes more, and so much more is in front of it or in it: a header
 * of IP, one and an address in Geneve's option, or the option's other layout. */
static __always_inline __u16 mss_less(void)
{
	if (dispatch == DISPATCH_GENEVE)
		return 20 + 32;
	return dispatch == DISPATCH_OPTION ? 20 + 16 : 20 + 20;
}

static __always_inline ipv6_t ip_source(const ip_t *ip)
{
	return address_load(&ip->saddr);
}

static __always_inline ipv6_t ip_destination(const ip_t *ip)
{
	return address_load(&ip->daddr);
}

/* Where ports stand if there are any, from `ip` on; 0: behind extension headers. */
static __always_inline __u32 ip_ports_at(const ip_t *ip)
{
	const __u8 next = ip->nexthdr;

	if (next == NEXT_HOP_BY_HOP || next == NEXT_ROUTING || next == NEXT_DESTINATION ||
	    next == NEXT_FRAGMENT)
		return 0;
	return sizeof(*ip);
}

/* How extension headers begin; what a fragment's and a routing header have there. */
struct extension {
	__u8 next;
	__u8 units; /* of eight bytes, the first one not counted */
	union {
		__be16 fragment;
		struct {
			__u8 kind;
			__u8 segments_left;
		} routing;
	};
	__be32 id; /* of a fragment header */
};

/*
 * Steps over one extension header; PARSED_PROTOCOL: there is none, packet->protocol is what is
 * carried. A routing header with segments left hides the destination that the checksum is of.
 */
static __always_inline enum parsed extension_skip(struct packet *packet, const void *ip, void *end)
{
	const struct extension *extension = ip + (packet->header_bytes & IP_HEADER_MASK);

	if (packet->protocol != NEXT_HOP_BY_HOP && packet->protocol != NEXT_ROUTING &&
	    packet->protocol != NEXT_DESTINATION && packet->protocol != NEXT_FRAGMENT)
		return PARSED_PROTOCOL;
	if ((void *)(extension + 1) > end)
		return PARSED_INVALID;
	if (packet->protocol == NEXT_ROUTING && extension->routing.segments_left)
		return PARSED_INVALID;
	if (packet->protocol == NEXT_FRAGMENT) {
		/* One fragment of one is a whole packet (RFC 6946). */
		packet->fragment = extension->fragment & IP_FRAGMENT;
		packet->fragment_id = extension->id;
		packet->header_bytes += 8;
	} else {
		packet->header_bytes += 8 + extension->units * 8;
	}
	packet->protocol = extension->next;
	if (packet->header_bytes > IP_HEADER_MAX)
		return PARSED_INVALID;
	return packet->fragment ? PARSED_PROTOCOL : PARSED_WHOLE;
}

static __always_inline __u8 class_read(const ip_t *ip)
{
	return bpf_ntohs(*(const __be16 *)ip) >> 4;
}

/* The header at `ip` with its extension headers, up to what they carry (RFC 8200). */
static __always_inline enum parsed parse_header(struct packet *packet, const ip_t *ip, void *end,
						__u32 room)
{
	__u32 carried;

	if ((void *)(ip + 1) > end || ip->version != 6)
		return PARSED_INVALID;
	carried = bpf_ntohs(ip->payload_len);
	if (carried + sizeof(*ip) > room || carried + sizeof(*ip) > 0xffff)
		return PARSED_INVALID;
	packet->header_bytes = sizeof(*ip);
	packet->total_bytes = carried + sizeof(*ip);
	packet->source = address_load(&ip->saddr);
	packet->destination = address_load(&ip->daddr);
	packet->tos = class_read(ip);
	packet->ttl = ip->hop_limit;
	packet->protocol = ip->nexthdr;
	packet->fragment = 0;
#pragma clang loop unroll(full)
	for (__u32 i = 0; i < EXTENSIONS; i++) {
		enum parsed step = extension_skip(packet, ip, end);

		if (step == PARSED_INVALID)
			return PARSED_INVALID;
		if (step == PARSED_PROTOCOL)
			break;
	}
	return packet->header_bytes <= packet->total_bytes ? PARSED_WHOLE : PARSED_INVALID;
}

/* Routers never cut IPv6. */
static __always_inline bool ip_dont_fragment(const ip_t *ip)
{
	return true;
}

static __always_inline __u64 address_half(ipv6_t address, int index)
{
	return (__u64)address.word[2 * index + 1] << 32 | address.word[2 * index];
}

static __always_inline __u64 hash_step(__u64 x, __u64 with, __u64 factor)
{
	x = (x ^ with) * factor;
	return x ^ x >> 32;
}

/* The flow hash of docs/packet-path.md. */
static __always_inline __u64 hash_mix(ipv6_t source, ipv6_t destination, __u32 ports, __u8 protocol)
{
	__u64 x = hash_step(hash_seed, (__u64)ports << 8 | protocol, 0x9E3779B97F4A7C15ULL);

	x = hash_step(x, address_half(source, 0), 0xD6E8FEB86659FD93ULL);
	x = hash_step(x, address_half(source, 1), 0x9E3779B97F4A7C15ULL);
	x = hash_step(x, address_half(destination, 0), 0xD6E8FEB86659FD93ULL);
	x = hash_step(x, address_half(destination, 1), 0x9E3779B97F4A7C15ULL);
	return hash_step(x, 0, 0xCA4BCAA75EC3F625ULL);
}

/* A key of frontends. `rest`, port, protocol and kind, is the word that is published: written last,
 * cleared first, compared first. */
typedef struct {
	__u64 first;
	__u64 last;
	__u32 rest;
} frontend_key_t;

typedef const frontend_key_t *frontend_key_handed_t;
#define frontend_key_hand(key) (&(key))
#define frontend_key_take(handed) (*(handed))

static __always_inline frontend_key_t frontend_key(ipv6_t address, port_t port, __u8 protocol,
						   __u8 kind)
{
	return (frontend_key_t){
	    .first = address_half(address, 0),
	    .last = address_half(address, 1),
	    .rest = port | (__u32)protocol << 16 | (__u32)kind << 24,
	};
}

static __always_inline __u32 frontend_bucket_index(frontend_key_t key)
{
	__u64 x = hash_step(key.first, key.rest, 0x9E3779B97F4A7C15ULL) ^ key.last;

	/* The address's last bytes are the uppermost here, and no product reaches downwards. By 31:
	 * by 32 once more would undo the step before. */
	x ^= x >> 31;
	return (x * 0x9E3779B97F4A7C15ULL >> 32) & FAMILY(frontend_mask);
}

static __always_inline bool frontend_is(const frontend_t *frontend, frontend_key_t key)
{
	const volatile __u32 *rest = (const void *)&frontend->port;

	return *rest == key.rest && address_half(frontend->address, 0) == key.first &&
	       address_half(frontend->address, 1) == key.last;
}

static __always_inline void fib_between(struct bpf_fib_lookup *fib, ipv6_t source,
					ipv6_t destination)
{
	fib->family = KERNEL_FAMILY;
	__builtin_memcpy(fib->ipv6_src, &source, sizeof(source));
	__builtin_memcpy(fib->ipv6_dst, &destination, sizeof(destination));
}

static __always_inline ipv6_t fib_gateway(const struct bpf_fib_lookup *fib)
{
	ipv6_t gateway;

	__builtin_memcpy(&gateway, fib->ipv6_dst, sizeof(gateway));
	return gateway;
}

static __always_inline void neighbour_of(struct bpf_redir_neigh *neighbour, ipv6_t gateway)
{
	neighbour->nh_family = KERNEL_FAMILY;
	__builtin_memcpy(neighbour->ipv6_nh, &gateway, sizeof(gateway));
}

/* Version, traffic class, and the flow label as it was. */
static __always_inline void class_write(ip_t *ip, __u8 tos)
{
	__be32 *first = (void *)ip;

	*first = (*first & bpf_htonl(0x000fffff)) | bpf_htonl(6U << 28 | (__u32)tos << 20);
}

static __always_inline void header_translate(ip_t *ip, const struct packet *packet, ipv6_t source,
					     ipv6_t destination, __u8 tos, __u8 ttl)
{
	address_store(&ip->saddr, source);
	address_store(&ip->daddr, destination);
	class_write(ip, tos);
	ip->hop_limit = ttl;
}

/* How another traffic class and hop limit change the sum of the whole packet. */
static __always_inline __u32 header_change(const struct packet *packet, __u8 tos, __u8 ttl)
{
	return (__u16)~bpf_htons(packet->tos << 4) + bpf_htons(tos << 4) +
	       (__u16)~bpf_htons(packet->ttl) + bpf_htons(ttl);
}

static __always_inline void header_read(struct packet *packet, const ip_t *ip)
{
	packet->destination = address_load(&ip->daddr);
	packet->total_bytes = bpf_ntohs(ip->payload_len) + sizeof(*ip);
	packet->tos = class_read(ip);
	packet->ttl = ip->hop_limit;
}

static __always_inline void header_lead(ip_t *ip, ipv6_t destination, __u32 change)
{
	address_store(&ip->daddr, destination);
}

static __always_inline void header_forward(ip_t *ip, ipv6_t destination, __u32 change)
{
	address_store(&ip->daddr, destination);
	ip->hop_limit--;
}

/* IPv6 headers have no checksum: the sums that IPv4 carries along are 0. */
static __always_inline ipv6_t outer_source_of(const struct packet *packet, const nexthop_t *nexthop,
					      __u32 *sum)
{
	*sum = 0;
	return nexthop->outer_source;
}

static __always_inline __u32 outer_sum(ipv6_t source, __u8 ttl)
{
	return 0;
}

/* The flow label spreads flows, see outer_write. */
static __always_inline bool outer_source_hashed(void)
{
	return false;
}

/* Writes a header in front of a packet, `bytes` before it. The flow label spreads flows over ways
 * of equal cost (RFC 6438).
 */
static __always_inline void outer_write_of(ip_t *outer, const struct packet *packet, ipv6_t source,
					   ipv6_t destination, __u8 ttl, __u32 sum, __u32 bytes,
					   __u8 protocol)
{
	*(__be32 *)(void *)outer =
	    bpf_htonl(6U << 28 | (__u32)packet->tos << 20 | (packet->spread & 0xfffff));
	outer->payload_len = bpf_htons(packet->total_bytes + bytes - sizeof(*outer));
	outer->nexthdr = protocol;
	outer->hop_limit = ttl;
	address_store(&outer->saddr, source);
	address_store(&outer->daddr, destination);
}

/* That of RFC 2473. */
static __always_inline void outer_write(ip_t *outer, const struct packet *packet, ipv6_t source,
					ipv6_t destination, __u8 ttl, __u32 sum)
{
	outer_write_of(outer, packet, source, destination, ttl, sum, OUTER_BYTES, IPPROTO_OUTER);
}

/* A second outer header, in front of the one at `first`, with its class and label. */
static __always_inline void outer_write_again(ip_t *outer, const ip_t *first, ipv6_t node)
{
	*(__be32 *)(void *)outer = *(const __be32 *)(const void *)first;
	outer->payload_len = bpf_htons(bpf_ntohs(first->payload_len) + OUTER_BYTES);
	outer->nexthdr = IPPROTO_OUTER;
	outer->hop_limit = IP_DEFAULT_TTL;
	address_store(&outer->saddr, own_address());
	address_store(&outer->daddr, node);
}

static __always_inline void outer_lead(ip_t *outer, const struct packet *packet, ipv6_t pod)
{
	address_store(&outer->daddr, pod);
}

static __always_inline void outer_redirect(ip_t *outer, const struct packet *packet,
					   ipv6_t destination, __u8 ttl)
{
	address_store(&outer->saddr, own_address());
	address_store(&outer->daddr, destination);
	outer->hop_limit = ttl;
}

#endif
