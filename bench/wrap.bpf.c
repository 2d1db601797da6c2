/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only) */
/*
 * Runs in front of the program under test: gives it the same frame again, from another flow.
 * BPF_PROG_TEST_RUN hands every repetition what the last one left.
 */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_endian.h>

/* Of a frame: its length, and where the last words of its addresses and its ports are. */
struct place {
	int bytes;
	int source;
	int destination;
	int ports;
};

static const struct place ipv4 = {.bytes = 64, .source = 26, .destination = 30, .ports = 34};
static const struct place ipv6 = {.bytes = 88, .source = 34, .destination = 50, .ports = 54};

#define FRAME_WORDS 11 /* of the longest */

/* What user space sets before a run. */
struct variation {
	__u64 frame[FRAME_WORDS]; /* as the program shall get it, from the first flow */
	__u32 next;		  /* number of the packet */
	__u32 flow_mask;	  /* flows - 1 */
	__u32 targets;		  /* flows are spread over so many destinations */
	__be32 source;		  /* of the first flow; its last octet and a half is 0 */
	__be32 destination;	  /* the first; the last octets have room for the others */
	__be32 ports;
};

struct variation variation SEC(".data.variation");

struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} under_test SEC(".maps");

/* Flows come in an order that no prefetcher follows. */
static __always_inline __u32 flow_number(__u32 packet)
{
	__u32 x = packet & 0xffff;

	x = x * 0x9e35 & 0xffff;
	x ^= x >> 7;
	x = x * 0x5ce5 & 0xffff;
	x ^= x >> 9;
	return x & variation.flow_mask;
}

static __always_inline int vary_as(struct xdp_md *ctx, const struct place *place)
{
	__u32 flow = flow_number(variation.next++);
	int grown = (int)(ctx->data_end - ctx->data) - place->bytes;
	__u8 *data;

	/* Also by 0 bytes, so that it costs every program the same. */
	if (bpf_xdp_adjust_head(ctx, grown))
		return XDP_ABORTED;
	data = (void *)(long)ctx->data;
	if (data + place->bytes > (__u8 *)(long)ctx->data_end)
		return XDP_ABORTED;
#pragma clang loop unroll(full)
	for (int i = 0; i < place->bytes / 8; i++)
		((__u64 *)data)[i] = variation.frame[i];
	/* In the widths that a program reads them in: a CPU forwards no load from several stores.
	 */
	*(__u32 *)(data + place->source) = variation.source | bpf_htonl(flow & 0xfff);
	*(__u32 *)(data + place->destination) =
	    variation.destination | bpf_htonl(flow * variation.targets >> 16);
	*(__u32 *)(data + place->ports) = variation.ports ^ flow >> 12;
	bpf_tail_call(ctx, &under_test, 0);
	return XDP_ABORTED;
}

SEC("xdp")
int vary(struct xdp_md *ctx)
{
	return vary_as(ctx, &ipv4);
}

SEC("xdp")
int vary6(struct xdp_md *ctx)
{
	return vary_as(ctx, &ipv6);
}

/* What the wrapper costs by itself. */
SEC("xdp")
int nothing(struct xdp_md *ctx)
{
	return XDP_TX;
}

/* The same through the helper that every encapsulation needs. */
SEC("xdp")
int room_only(struct xdp_md *ctx)
{
	return bpf_xdp_adjust_head(ctx, -20) ? XDP_ABORTED : XDP_TX;
}

/* What arrived at the end of a wire, on all CPUs. */
__u64 arrived;

SEC("xdp")
int sink(struct xdp_md *ctx)
{
	__sync_fetch_and_add(&arrived, 1);
	return XDP_DROP;
}

SEC("tc")
int nothing_tc(struct __sk_buff *skb)
{
	return -1;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
