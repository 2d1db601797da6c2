/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only) */
/*
 * One source for two families, against code for IPv4 alone: docs/decisions/ipv6-packet-path.md.
 * All three programs parse, find the service and the backend, keep a flow and encapsulate.
 * `separate4` is made of the packet path's own stages; `shared4` and `shared6` are one source,
 * whose family is an argument that the compiler folds.
 */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/ipv6.h>
#include <bpf/bpf_helpers.h>
#include "stage/conntrack.h"
#include "stage/metrics.h"
#include "stage/service.h"
#include "stage/xdp.h"

enum family { IPV4, IPV6 };

typedef struct {
	__u32 word[4];
} ipv6_t;

/* Addresses stand at the end of every value, so that all before them is the same in both. */
#define FLOW_KEY_COMMON                                                                            \
	port_t source_port;                                                                        \
	port_t destination_port;                                                                   \
	__u8 protocol;                                                                             \
	__u8 direction;                                                                            \
	__u16 reserved

struct flow_key4 {
	FLOW_KEY_COMMON;
	ipv4_t source;
	ipv4_t destination;
};

struct flow_key6 {
	FLOW_KEY_COMMON;
	ipv6_t source;
	ipv6_t destination;
};

struct flow_common {
	port_t client_port;
	port_t service_port;
	port_t pod_port;
	port_t alias_port;
	service_id_t service;
	jiffies_t seen;
	__u32 flags;
	__u32 counter;
	__u64 packets;
	__u64 bytes;
};

struct flow4 {
	struct flow_common common;
	ipv4_t client;
	ipv4_t service_address;
	ipv4_t pod;
	ipv4_t alias_address;
};

struct flow6 {
	struct flow_common common;
	ipv6_t client;
	ipv6_t service_address;
	ipv6_t pod;
	ipv6_t alias_address;
};

struct backend_common {
	port_t port;
	__u16 nexthop;
	__u32 counter;
	__u32 flags;
};

struct backend4 {
	struct backend_common common;
	ipv4_t address;
};

struct backend6 {
	struct backend_common common;
	ipv6_t address;
	__u32 reserved;
};

/* `rest` is published last and goes first: 0 is an empty slot. */
struct frontend6 {
	__u64 rest; /* port, protocol, kind */
	__u64 address[2];
	__u32 service;
	__u32 spill;
};

struct frontend_bucket6 {
	struct frontend6 slot[4];
};

#define TABLE(name, kind, entries, key_type, value_type)                                           \
	struct {                                                                                   \
		__uint(type, kind);                                                                \
		__uint(max_entries, entries);                                                      \
		__type(key, key_type);                                                             \
		__type(value, value_type);                                                         \
	} name SEC(".maps")

TABLE(frontends6, BPF_MAP_TYPE_ARRAY, 1024, __u32, struct frontend_bucket6);
TABLE(backends4, BPF_MAP_TYPE_ARRAY, 16384, __u32, struct backend4);
TABLE(backends6, BPF_MAP_TYPE_ARRAY, 16384, __u32, struct backend6);
TABLE(outer_sources6, BPF_MAP_TYPE_ARRAY, 256, __u32, ipv6_t);
TABLE(conntrack4, BPF_MAP_TYPE_HASH, 65536, struct flow_key4, struct flow4);
TABLE(conntrack6, BPF_MAP_TYPE_HASH, 65536, struct flow_key6, struct flow6);

/* As struct packet, with addresses of either family. */
struct any {
	port_t source_port;
	port_t destination_port;
	__u8 protocol;
	__u8 tcp_flags;
	__u8 tos;
	__u8 ttl;
	__u16 header_bytes; /* of IP, extension headers included */
	__u16 total_bytes;
	__u32 frame_bytes;
	__u32 hash;
	__u32 spread;
	union {
		struct {
			ipv4_t source;
			ipv4_t destination;
			ipv4_t backend;
		} v4;
		struct {
			ipv6_t source;
			ipv6_t destination;
			ipv6_t backend;
		} v6;
	};
};

static __always_inline bool any_is_syn(const struct any *packet)
{
	return packet->protocol == IPPROTO_TCP &&
	       (packet->tcp_flags & (TCP_SYN | TCP_ACK | TCP_RST | TCP_FIN)) == TCP_SYN;
}

static __always_inline bool parse_header4(struct any *packet, struct iphdr *ip, void *end,
					  __u32 room)
{
	if ((void *)(ip + 1) > end || ip->version != 4)
		return false;
	packet->header_bytes = ip->ihl * 4;
	packet->total_bytes = bpf_ntohs(ip->tot_len);
	if (packet->header_bytes < sizeof(*ip) || packet->total_bytes < packet->header_bytes ||
	    packet->total_bytes > room)
		return false;
	packet->v4.source = ip->saddr;
	packet->v4.destination = ip->daddr;
	packet->protocol = ip->protocol;
	packet->tos = ip->tos;
	packet->ttl = ip->ttl;
	return !(ip->frag_off & IP_FRAGMENT);
}

#define EXTENSIONS_MAX 4
#define IPPROTO_HOPOPTS 0
#define IPPROTO_ROUTING 43
#define IPPROTO_DSTOPTS 60
#define IPPROTO_IPV6 41

/* A walk over at most four extension headers; fragments are left out here. */
static __always_inline bool parse_header6(struct any *packet, struct ipv6hdr *ip, void *end,
					  __u32 room)
{
	__u8 next;

	if ((void *)(ip + 1) > end || ip->version != 6)
		return false;
	packet->header_bytes = sizeof(*ip);
	packet->total_bytes = bpf_ntohs(ip->payload_len) + sizeof(*ip);
	if (packet->total_bytes > room)
		return false;
	__builtin_memcpy(&packet->v6.source, &ip->saddr, sizeof(ipv6_t));
	__builtin_memcpy(&packet->v6.destination, &ip->daddr, sizeof(ipv6_t));
	packet->tos = bpf_ntohs(*(__be16 *)ip) >> 4;
	packet->ttl = ip->hop_limit;
	next = ip->nexthdr;
	for (int i = 0; i < EXTENSIONS_MAX; i++) {
		struct ipv6_opt_hdr *extension = (void *)ip + (packet->header_bytes & 0xfff);

		if (next != IPPROTO_HOPOPTS && next != IPPROTO_ROUTING && next != IPPROTO_DSTOPTS)
			break;
		if ((void *)(extension + 1) > end)
			return false;
		next = extension->nexthdr;
		packet->header_bytes += 8 + extension->hdrlen * 8;
	}
	packet->protocol = next;
	return packet->header_bytes <= packet->total_bytes;
}

static __always_inline bool parse_any(const enum family family, struct any *packet, void *ip,
				      void *end, __u32 room)
{
	__u32 l4_room;
	struct tcphdr *tcp;
	struct udphdr *udp;

	if (!(family == IPV4 ? parse_header4(packet, ip, end, room)
			     : parse_header6(packet, ip, end, room)))
		return false;
	tcp = ip + (packet->header_bytes & (family == IPV4 ? IP_HEADER_MASK : 0xfff));
	udp = (void *)tcp;
	l4_room = packet->total_bytes - packet->header_bytes;
	if (packet->protocol == IPPROTO_TCP) {
		if (l4_room < sizeof(*tcp) || (void *)(tcp + 1) > end)
			return false;
		packet->tcp_flags = ((__u8 *)tcp)[13];
	} else {
		if (packet->protocol != IPPROTO_UDP || l4_room < sizeof(*udp) ||
		    (void *)(udp + 1) > end)
			return false;
		packet->tcp_flags = 0;
	}
	packet->source_port = udp->source;
	packet->destination_port = udp->dest;
	return true;
}

#define fold(x) ((x) ^ (x) >> 32)

static __always_inline __u64 half(const ipv6_t *address, int index)
{
	return (__u64)address->word[2 * index + 1] << 32 | address->word[2 * index];
}

static __always_inline struct service *service_find6(const struct any *packet)
{
	__u64 first = half(&packet->v6.destination, 0), last = half(&packet->v6.destination, 1);
	__u64 rest = packet->destination_port | (__u64)packet->protocol << 16 |
		     (__u64)FRONTEND_SERVICE << 24;
	__u64 x = fold((first ^ rest) * 0x9E3779B97F4A7C15ULL) ^ last;
	__u32 index = (x * 0x9E3779B97F4A7C15ULL >> 32) & frontend_mask;
	struct frontend_bucket6 *bucket = bpf_map_lookup_elem(&frontends6, &index);

	for (int i = 0; bucket && i < 4; i++) {
		volatile struct frontend6 *slot = &bucket->slot[i];

		if (slot->rest == rest && slot->address[1] == last && slot->address[0] == first) {
			index = slot->service;
			return bpf_map_lookup_elem(&services, &index);
		}
	}
	return NULL;
}

static __always_inline struct service *any_service_find(const enum family family,
							const struct any *packet)
{
	if (family == IPV6)
		return service_find6(packet);
	return service_of(frontend_find(frontend_word(
	    packet->v4.destination, packet->destination_port, packet->protocol, FRONTEND_SERVICE)));
}

static __always_inline void any_flow_hash(const enum family family, struct any *packet)
{
	__u32 ports = packet->source_port | (__u32)packet->destination_port << 16;
	__u64 x;

	if (family == IPV4) {
		__u64 a = bpf_be64_to_cpu((__u64)ports << 32 | packet->v4.source);
		__u64 b = (__u64)bpf_ntohl(packet->v4.destination) << 8 | packet->protocol;

		x = fold((a ^ hash_seed) * 0x9E3779B97F4A7C15ULL);
		x = fold((x ^ b) * 0xD6E8FEB86659FD93ULL);
	} else {
		__u64 rest = (__u64)ports << 8 | packet->protocol;

		x = fold((rest ^ hash_seed) * 0x9E3779B97F4A7C15ULL);
		x = fold((x ^ half(&packet->v6.source, 0)) * 0xD6E8FEB86659FD93ULL);
		x = fold((x ^ half(&packet->v6.source, 1)) * 0x9E3779B97F4A7C15ULL);
		x = fold((x ^ half(&packet->v6.destination, 0)) * 0xD6E8FEB86659FD93ULL);
		x = fold((x ^ half(&packet->v6.destination, 1)) * 0x9E3779B97F4A7C15ULL);
	}
	x = fold(x * 0xCA4BCAA75EC3F625ULL);
	packet->hash = (__u32)x;
	packet->spread = x >> 32;
}

/* Backends of either family, by what they have in common. */
static __always_inline struct backend_common *
any_backend_select(const enum family family, const struct service *service, struct any *packet)
{
	void *table = family == IPV4 ? (void *)&backends4 : (void *)&backends6;
	struct ring_row *row;
	__u32 index, slot;

	any_flow_hash(family, packet);
	slot = slot_of(service, packet->hash);
	index = service->ring + slot / RING_ROW_SLOTS;
	row = bpf_map_lookup_elem(&rings, &index);
	if (!row)
		return NULL;
	index = row->backend[slot % RING_ROW_SLOTS];
	if (index >= service->backend_count)
		return NULL;
	index += service->backends;
	return bpf_map_lookup_elem(table, &index);
}

#define FLOW_KEY(packet, addresses)                                                                \
	{                                                                                          \
	    .source_port = (packet)->source_port,                                                  \
	    .destination_port = (packet)->destination_port,                                        \
	    .protocol = (packet)->protocol,                                                        \
	    .source = (packet)->addresses.source,                                                  \
	    .destination = (packet)->addresses.destination,                                        \
	}

/* A flow of either family, by what they have in common. */
static __always_inline struct flow_common *any_flow_find(const enum family family,
							 const struct any *packet)
{
	if (family == IPV4) {
		struct flow_key4 key = FLOW_KEY(packet, v4);

		return bpf_map_lookup_elem(&conntrack4, &key);
	} else {
		struct flow_key6 key = FLOW_KEY(packet, v6);

		return bpf_map_lookup_elem(&conntrack6, &key);
	}
}

/* Counts a packet of a client, as flow_update does in one entry. */
static __always_inline void any_flow_update(struct flow_common *flow, const struct any *packet)
{
	__u32 flags = 0;

	if (packet->protocol == IPPROTO_TCP) {
		if (!any_is_syn(packet))
			flags |= FLOW_CONFIRMED;
		if (packet->tcp_flags & TCP_FIN)
			flags |= FLOW_FIN_CLIENT;
		if (packet->tcp_flags & TCP_RST)
			flags |= FLOW_RESET;
	}
	flow->seen = jiffies_now();
	flow->packets++;
	flow->bytes += packet->frame_bytes;
	if ((flow->flags | flags) != flow->flags)
		flow->flags |= flags;
}

static __always_inline __u32 outer_bytes(const enum family family)
{
	return family == IPV4 ? OUTER_BYTES : sizeof(struct ipv6hdr);
}

static __always_inline void any_ethernet_to(const enum family family, void *eth,
					    const struct nexthop *nexthop)
{
	const void *macs = nexthop->destination;

	*(macs_head_t *)eth = *(const macs_head_t *)macs;
	*(macs_tail_t *)(eth + 8) = *(const macs_tail_t *)(macs + 8);
	*(ethertype_t *)(eth + 12) = bpf_htons(family == IPV4 ? ETH_P_IP : ETH_P_IPV6);
}

static __always_inline void outer_write4(struct iphdr *outer, const struct any *packet,
					 const struct nexthop *nexthop)
{
	__u16 total = bpf_htons(packet->total_bytes + OUTER_BYTES);
	ipv4_t source = nexthop->outer_source;
	__u32 sum = nexthop->checksum;

	if (outer_host_mask) {
		source = outer_prefix | bpf_htonl(packet->spread & outer_host_mask);
		sum = OUTER_CONSTANT_SUM + checksum_word(source);
	}
	sum += ((__u32)packet->tos << 8) + total + checksum_word(packet->v4.backend);
	*(__u16 *)outer = IP_VERSION_IHL | packet->tos << 8;
	outer->tot_len = total;
	outer->id = 0;
	outer->frag_off = IP_DF;
	outer->ttl = IP_DEFAULT_TTL;
	outer->protocol = IPPROTO_IPIP;
	outer->check = ~checksum_fold(sum);
	outer->saddr = source;
	outer->daddr = packet->v4.backend;
}

/* RFC 2473; the flow label spreads flows over ways of equal cost (RFC 6438). */
static __always_inline bool outer_write6(struct ipv6hdr *outer, const struct any *packet, __u32 row)
{
	ipv6_t *source = bpf_map_lookup_elem(&outer_sources6, &row);

	if (!source)
		return false;
	*(__be32 *)outer =
	    bpf_htonl(6U << 28 | (__u32)packet->tos << 20 | (packet->spread & 0xfffff));
	outer->payload_len = bpf_htons(packet->total_bytes);
	outer->nexthdr = IPPROTO_IPV6;
	outer->hop_limit = IP_DEFAULT_TTL;
	__builtin_memcpy(&outer->saddr, source, sizeof(ipv6_t));
	__builtin_memcpy(&outer->daddr, &packet->v6.backend, sizeof(ipv6_t));
	return true;
}

static __always_inline bool any_encapsulate(const enum family family, struct xdp_md *ctx,
					    const struct any *packet, const struct nexthop *nexthop,
					    __u32 row)
{
	void *data, *outer;

	if (bpf_xdp_adjust_head(ctx, -(int)outer_bytes(family)))
		return false;
	data = start_of(ctx);
	outer = data + ETH_HLEN;
	if (outer + outer_bytes(family) > end_of(ctx))
		return false;
	any_ethernet_to(family, data, nexthop);
	if (family == IPV6)
		return outer_write6(outer, packet, row);
	outer_write4(outer, packet, nexthop);
	return true;
}

static __always_inline void backend_take(const enum family family, struct any *packet,
					 const struct backend_common *backend)
{
	if (family == IPV4)
		packet->v4.backend = ((const struct backend4 *)backend)->address;
	else
		packet->v6.backend = ((const struct backend6 *)backend)->address;
}

static __always_inline enum verdict shared(const enum family family, struct xdp_md *ctx,
					   struct any *packet, int *action)
{
	void *ip = start_of(ctx) + ETH_HLEN;
	struct backend_common *backend;
	struct flow_common *flow;
	struct nexthop *nexthop;
	struct service *service;
	__u32 row;

	if (!parse_any(family, packet, ip, end_of(ctx), packet->frame_bytes - ETH_HLEN))
		return PASS_NOT_OURS;
	service = any_service_find(family, packet);
	if (!service || !service->backend_count)
		return PASS_NOT_OURS;
	backend = any_backend_select(family, service, packet);
	if (unlikely(!backend))
		return DROP_TABLE;
	row = backend->nexthop;
	nexthop = bpf_map_lookup_elem(&nexthops, &row);
	if (unlikely(!nexthop))
		return DROP_TABLE;
	if (unlikely(!(nexthop->flags & NEXTHOP_EDGE)))
		return PASS_UNRESOLVED;
	backend_take(family, packet, backend);
	if (unlikely(packet->total_bytes + outer_bytes(family) > nexthop->mtu))
		return DROP_TOO_BIG;
	flow = any_flow_find(family, packet);
	if (flow)
		any_flow_update(flow, packet);
	if (!any_encapsulate(family, ctx, packet, nexthop, row))
		return DROP_REWRITE;
	*action = transmit(ctx, nexthop->ifindex);
	return SENT_ENCAPSULATED;
}

static __always_inline int run_shared(const enum family family, struct xdp_md *ctx)
{
	struct any packet = {.frame_bytes = ctx->data_end - ctx->data};
	int action = XDP_PASS;
	enum verdict verdict = shared(family, ctx, &packet, &action);

	metrics_count(PLACE_EDGE, verdict, packet.frame_bytes);
	return verdict >= DROP_NO_BACKEND ? XDP_DROP : action;
}

SEC("xdp")
int shared4(struct xdp_md *ctx)
{
	return run_shared(IPV4, ctx);
}

SEC("xdp")
int shared6(struct xdp_md *ctx)
{
	return run_shared(IPV6, ctx);
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
