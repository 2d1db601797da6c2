/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only) */
/*
 * Floors, not rivals: the least that an IPIP balancer can do. No options, fragments, ICMP, MTU,
 * counters, rings or changes under load.
 */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/ip.h>
#include <linux/pkt_cls.h>
#include <linux/udp.h>
#include <stdbool.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_endian.h>
#include "abi/abi.h"

#define IPPROTO_IPIP 4
#define OUTER_BYTES 20

struct vip_key {
	__be32 address;
	__be16 port;
	__u8 protocol;
	__u8 reserved;
};

struct vip {
	__u32 first; /* row of reals */
	__u32 count;
};

struct real {
	__be32 address;
	__u32 sum; /* of the outer header's constant words and both addresses */
};

struct outer {
	__u8 destination[6];
	__u8 source[6];
	__be32 address;
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 65536);
	__type(key, struct vip_key);
	__type(value, struct vip);
} vips SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 131072);
	__type(key, __u32);
	__type(value, struct real);
} reals SEC(".maps");

/* The same without a map: an open table in global data, four slots to look in. */
#define SLOTS 65536
#define PROBES 4

struct vip_slot {
	struct vip_key key;
	struct vip vip;
};

struct {
	struct vip_slot slots[SLOTS];
	struct real reals[131072];
} table SEC(".bss.table");

CONFIG(struct outer, outer, "MACs and outer source of every packet");
CONFIG(__u32, redirect_to, "device that tc sends to");

struct flow {
	struct vip_key key;
	__be32 source;
	__be16 source_port;
	__be16 total;
	__u8 tos;
};

static __always_inline bool parse(void *data, void *end, struct flow *flow)
{
	struct ethhdr *eth = data;
	struct iphdr *ip = (void *)(eth + 1);
	struct udphdr *l4 = (void *)(ip + 1);

	if ((void *)(l4 + 1) > end || eth->h_proto != bpf_htons(ETH_P_IP) || *(__u8 *)ip != 0x45 ||
	    ip->frag_off & bpf_htons(0x3fff))
		return false;
	if (ip->protocol != 6 && ip->protocol != 17)
		return false;
	flow->key = (struct vip_key){ip->daddr, l4->dest, ip->protocol, 0};
	flow->source = ip->saddr;
	flow->source_port = l4->source;
	flow->total = ip->tot_len;
	flow->tos = ip->tos;
	return true;
}

static __always_inline __u32 choose(const struct vip *vip, const struct flow *flow)
{
	__u64 x = ((__u64)flow->source << 16 | flow->source_port) * 0x9E3779B97F4A7C15ULL;

	return vip->first + ((x >> 32) * vip->count >> 32);
}

static __always_inline struct real *choose_from_maps(const struct flow *flow)
{
	struct vip *vip = bpf_map_lookup_elem(&vips, &flow->key);
	__u32 row;

	if (!vip)
		return NULL;
	row = choose(vip, flow);
	return bpf_map_lookup_elem(&reals, &row);
}

static __always_inline struct real *choose_from_globals(const struct flow *flow)
{
	__u64 word = *(__u64 *)&flow->key;
	__u32 index = word * 0x9E3779B97F4A7C15ULL >> 48;
	__u32 row;

	for (int probe = 0; probe < PROBES; probe++) {
		struct vip_slot *slot = &table.slots[(index + probe) & (SLOTS - 1)];

		if (*(__u64 *)&slot->key != word)
			continue;
		row = choose(&slot->vip, flow) & 131071;
		return &table.reals[row];
	}
	return NULL;
}

static __always_inline void write_ethernet(struct ethhdr *eth)
{
	__builtin_memcpy(eth->h_dest, (void *)outer.destination, ETH_ALEN);
	__builtin_memcpy(eth->h_source, (void *)outer.source, ETH_ALEN);
	eth->h_proto = bpf_htons(ETH_P_IP);
}

static __always_inline void write_outer(struct iphdr *ip, const struct flow *flow,
					const struct real *real)
{
	__u16 total = bpf_htons(bpf_ntohs(flow->total) + OUTER_BYTES);
	__u32 sum = real->sum + total + (flow->tos << 8);

	sum = (sum & 0xffff) + (sum >> 16);
	sum += sum >> 16;
	*(__u16 *)ip = 0x45 | flow->tos << 8;
	ip->tot_len = total;
	*(__u32 *)&ip->id = bpf_htonl(0x4000);
	*(__u16 *)&ip->ttl = bpf_htons(64 << 8 | IPPROTO_IPIP);
	ip->check = ~sum;
	ip->saddr = outer.address;
	ip->daddr = real->address;
}

static __always_inline int send(struct xdp_md *ctx, const struct flow *flow,
				const struct real *real)
{
	struct ethhdr *eth;

	if (!real)
		return XDP_PASS;
	if (bpf_xdp_adjust_head(ctx, -OUTER_BYTES))
		return XDP_DROP;
	eth = (void *)(long)ctx->data;
	if ((void *)(eth + 1) + sizeof(struct iphdr) > (void *)(long)ctx->data_end)
		return XDP_DROP;
	write_ethernet(eth);
	write_outer((void *)(eth + 1), flow, real);
	return XDP_TX;
}

static __always_inline int send_tc(struct __sk_buff *skb, const struct flow *flow,
				   const struct real *real)
{
	struct ethhdr *eth;

	if (!real)
		return TC_ACT_UNSPEC;
	if (bpf_skb_adjust_room(skb, OUTER_BYTES, BPF_ADJ_ROOM_MAC,
				BPF_F_ADJ_ROOM_ENCAP_L3_IPV4 | BPF_F_ADJ_ROOM_FIXED_GSO |
				    BPF_F_ADJ_ROOM_NO_CSUM_RESET))
		return TC_ACT_SHOT;
	eth = (void *)(long)skb->data;
	if ((void *)(eth + 1) + sizeof(struct iphdr) > (void *)(long)skb->data_end)
		return TC_ACT_SHOT;
	write_ethernet(eth);
	write_outer((void *)(eth + 1), flow, real);
	return bpf_redirect(redirect_to, 0);
}

SEC("xdp")
int floor_hash(struct xdp_md *ctx)
{
	struct flow flow;

	if (!parse((void *)(long)ctx->data, (void *)(long)ctx->data_end, &flow))
		return XDP_PASS;
	return send(ctx, &flow, choose_from_maps(&flow));
}

SEC("xdp")
int floor_none(struct xdp_md *ctx)
{
	struct flow flow;

	if (!parse((void *)(long)ctx->data, (void *)(long)ctx->data_end, &flow))
		return XDP_PASS;
	return send(ctx, &flow, choose_from_globals(&flow));
}

SEC("tc")
int floor_hash_tc(struct __sk_buff *skb)
{
	struct flow flow;

	if (!parse((void *)(long)skb->data, (void *)(long)skb->data_end, &flow))
		return TC_ACT_UNSPEC;
	return send_tc(skb, &flow, choose_from_maps(&flow));
}

SEC("tc")
int floor_none_tc(struct __sk_buff *skb)
{
	struct flow flow;

	if (!parse((void *)(long)skb->data, (void *)(long)skb->data_end, &flow))
		return TC_ACT_UNSPEC;
	return send_tc(skb, &flow, choose_from_globals(&flow));
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
