/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only) */
/*
 * What an address of 16 bytes costs in the tables that every packet touches, against one of four:
 * docs/decisions/address-families.md. The tables are the packet path's, in both widths.
 */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/ip.h>
#include <linux/udp.h>
#include <stdbool.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_endian.h>

/* As bench/world.ts has them. */
#define SERVICES 10000
#define FIRST_VIP 0x0a600000
#define VIP_PORT bpf_htons(80)

#define BUCKETS 65536
#define FLOWS 131072
#define MULTIPLIER 0x9E3779B97F4A7C15ULL
#define MAPPED_PREFIX 0xffff0000ULL /* of ::ffff:0:0/96, as the word lies in memory */

struct bucket4 {
	struct {
		__u64 key; /* address, port, protocol, kind */
		__u32 service;
		__u32 spill;
	} slot[4];
};

struct bucket16 {
	struct {
		__u64 address[2];
		__u64 rest; /* port, protocol, kind */
		__u32 service;
		__u32 spill;
	} slot[4];
};

struct backend4 {
	__be32 address;
	__be16 port;
	__u16 nexthop;
	__u32 counter;
	__u32 flags;
};

struct backend16 {
	__u64 address[2];
	__be16 port;
	__u16 nexthop;
	__u32 counter;
	__u32 flags;
	__u32 reserved;
};

struct flow_key4 {
	__be32 source;
	__be32 destination;
	__u32 ports;
	__u32 protocol;
};

struct flow_key16 {
	__u64 source[2];
	__u64 destination[2];
	__u32 ports;
	__u32 protocol;
};

struct flow {
	__u64 words[7];
};

struct ring_row {
	__u16 backend[32];
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, BUCKETS);
	__type(key, __u32);
	__type(value, struct bucket4);
} buckets4 SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, BUCKETS);
	__type(key, __u32);
	__type(value, struct bucket16);
} buckets16 SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, SERVICES * 32);
	__type(key, __u32);
	__type(value, struct ring_row);
} rings SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 131072);
	__type(key, __u32);
	__type(value, struct backend4);
} backends4 SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 131072);
	__type(key, __u32);
	__type(value, struct backend16);
} backends16 SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, FLOWS);
	__type(key, struct flow_key4);
	__type(value, struct flow);
} flows4 SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, FLOWS);
	__type(key, struct flow_key16);
	__type(value, struct flow);
} flows16 SEC(".maps");

struct seen {
	__be32 source;
	__be32 destination;
	__be16 source_port;
	__be16 destination_port;
	__u8 protocol;
};

static __always_inline bool parse(struct xdp_md *ctx, struct seen *seen)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	struct iphdr *ip = data + ETH_HLEN;
	struct udphdr *l4 = (void *)(ip + 1);

	if ((void *)(l4 + 1) > end || *(__u8 *)ip != 0x45)
		return false;
	seen->source = ip->saddr;
	seen->destination = ip->daddr;
	seen->source_port = l4->source;
	seen->destination_port = l4->dest;
	seen->protocol = ip->protocol;
	return true;
}

static __always_inline __u32 ports_of(const struct seen *seen)
{
	return seen->source_port | (__u32)seen->destination_port << 16;
}

static __always_inline __u64 fold(__u64 x)
{
	return x ^ x >> 32;
}

/* A service's rings and backends are where its number says. */
static __always_inline __u32 slot_backend(__u32 service, __u64 hash)
{
	__u32 slot = (hash & 0xffffffff) * 1021 >> 32;
	__u32 index = service * 32 + slot / 32;
	struct ring_row *row = bpf_map_lookup_elem(&rings, &index);

	return service * 10 + (row ? row->backend[slot % 32] : 0);
}

SEC("xdp")
int table4(struct xdp_md *ctx)
{
	struct bucket4 *bucket;
	struct backend4 *backend;
	struct seen seen;
	__u64 key, hash;
	__u32 index;

	if (!parse(ctx, &seen))
		return XDP_ABORTED;
	key = seen.destination | (__u64)seen.destination_port << 32 | (__u64)seen.protocol << 48 |
	      1ULL << 56;
	index = (key * MULTIPLIER >> 32) & (BUCKETS - 1);
	bucket = bpf_map_lookup_elem(&buckets4, &index);
	if (!bucket)
		return XDP_ABORTED;
	for (int i = 0; i < 4; i++) {
		if (bucket->slot[i].key != key)
			continue;
		hash = ((__u64)ports_of(&seen) << 32 | seen.source) * MULTIPLIER;
		hash = (fold(hash) ^ seen.destination) * 0xD6E8FEB86659FD93ULL;
		hash = fold(fold(hash) * 0xCA4BCAA75EC3F625ULL);
		index = slot_backend(bucket->slot[i].service, hash);
		backend = bpf_map_lookup_elem(&backends4, &index);
		return backend && backend->flags ? XDP_TX : XDP_ABORTED;
	}
	return XDP_PASS;
}

static __always_inline __u64 mapped(__be32 address)
{
	return MAPPED_PREFIX | (__u64)address << 32;
}

SEC("xdp")
int table16(struct xdp_md *ctx)
{
	struct bucket16 *bucket;
	struct backend16 *backend;
	struct seen seen;
	__u64 high, rest, hash;
	__u32 index;

	if (!parse(ctx, &seen))
		return XDP_ABORTED;
	high = mapped(seen.destination);
	rest = seen.destination_port | (__u64)seen.protocol << 16 | 1ULL << 24;
	hash = 0;
	/* The first half of a mapped address, which the compiler must not know. */
	asm volatile("" : "+r"(hash));
	index = (fold(fold((hash * MULTIPLIER) ^ high) * MULTIPLIER) ^ rest) * MULTIPLIER >> 32 &
		(BUCKETS - 1);
	bucket = bpf_map_lookup_elem(&buckets16, &index);
	if (!bucket)
		return XDP_ABORTED;
	for (int i = 0; i < 4; i++) {
		if (bucket->slot[i].address[1] != high || bucket->slot[i].rest != rest ||
		    bucket->slot[i].address[0] != hash)
			continue;
		hash = fold((hash ^ ports_of(&seen)) * MULTIPLIER);
		hash = fold((hash ^ mapped(seen.source)) * MULTIPLIER);
		hash = fold((hash ^ bucket->slot[i].address[0]) * MULTIPLIER);
		hash = fold((hash ^ high) * 0xD6E8FEB86659FD93ULL);
		hash = fold(hash * 0xCA4BCAA75EC3F625ULL);
		index = slot_backend(bucket->slot[i].service, hash);
		backend = bpf_map_lookup_elem(&backends16, &index);
		return backend && backend->flags ? XDP_TX : XDP_ABORTED;
	}
	return XDP_PASS;
}

SEC("xdp")
int track4(struct xdp_md *ctx)
{
	struct seen seen;
	struct flow_key4 key;
	struct flow *flow;

	if (!parse(ctx, &seen))
		return XDP_ABORTED;
	key = (struct flow_key4){seen.source, seen.destination, ports_of(&seen), seen.protocol};
	flow = bpf_map_lookup_elem(&flows4, &key);
	if (flow)
		flow->words[0]++;
	else
		bpf_map_update_elem(&flows4, &key, &(struct flow){}, BPF_ANY);
	return XDP_TX;
}

SEC("xdp")
int track16(struct xdp_md *ctx)
{
	struct seen seen;
	struct flow_key16 key;
	struct flow *flow;

	if (!parse(ctx, &seen))
		return XDP_ABORTED;
	key = (struct flow_key16){
	    .source = {0, mapped(seen.source)},
	    .destination = {0, mapped(seen.destination)},
	    .ports = ports_of(&seen),
	    .protocol = seen.protocol,
	};
	flow = bpf_map_lookup_elem(&flows16, &key);
	if (flow)
		flow->words[0]++;
	else
		bpf_map_update_elem(&flows16, &key, &(struct flow){}, BPF_ANY);
	return XDP_TX;
}

static long fill_service(__u64 service, void *unused)
{
	__be32 address = bpf_htonl(FIRST_VIP + (__u32)service);
	__u64 key = address | (__u64)VIP_PORT << 32 | 6ULL << 48 | 1ULL << 56;
	__u64 rest = VIP_PORT | 6ULL << 16 | 1ULL << 24;
	__u32 four = (key * MULTIPLIER >> 32) & (BUCKETS - 1);
	__u32 sixteen =
	    (fold(fold(mapped(address)) * MULTIPLIER) ^ rest) * MULTIPLIER >> 32 & (BUCKETS - 1);
	struct bucket4 *bucket4 = bpf_map_lookup_elem(&buckets4, &four);
	struct bucket16 *bucket16 = bpf_map_lookup_elem(&buckets16, &sixteen);

	for (int i = 0; bucket4 && i < 4; i++) {
		if (bucket4->slot[i].key)
			continue;
		bucket4->slot[i].service = service;
		bucket4->slot[i].key = key;
		break;
	}
	for (int i = 0; bucket16 && i < 4; i++) {
		if (bucket16->slot[i].rest)
			continue;
		bucket16->slot[i].service = service;
		bucket16->slot[i].address[1] = mapped(address);
		bucket16->slot[i].rest = rest;
		break;
	}
	return 0;
}

static long fill_backend(__u64 index, void *unused)
{
	__u32 at = index;
	struct backend4 *four = bpf_map_lookup_elem(&backends4, &at);
	struct backend16 *sixteen = bpf_map_lookup_elem(&backends16, &at);

	if (four)
		four->flags = 1;
	if (sixteen)
		sixteen->flags = 1;
	return 0;
}

static long fill_ring(__u64 index, void *unused)
{
	__u32 at = index;
	struct ring_row *row = bpf_map_lookup_elem(&rings, &at);

	for (int i = 0; row && i < 32; i++)
		row->backend[i] = (index * 32 + i) * 7 % 10;
	return 0;
}

/* Fills both widths. */
SEC("xdp")
int fill(struct xdp_md *ctx)
{
	bpf_loop(SERVICES, fill_service, NULL, 0);
	bpf_loop(SERVICES * 10, fill_backend, NULL, 0);
	bpf_loop(SERVICES * 32, fill_ring, NULL, 0);
	return XDP_PASS;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
