/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only) */
#include <linux/bpf.h>
#include <linux/pkt_cls.h>
#include <bpf/bpf_helpers.h>

struct counter {
	__u64 packets;
	__u64 bytes;
};

struct event {
	__u32 number;
	__u32 length;
	__u64 filler;
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 4);
	__type(key, __u32);
	__type(value, struct counter);
} counters SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 5);
	__uint(key_size, sizeof(__u32));
	__uint(value_size, 12);
} rows SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 4096);
} events SEC(".maps");

volatile const __u32 verdict = TC_ACT_UNSPEC;

SEC("tc")
int count_tc(struct __sk_buff *skb)
{
	__u32 key = skb->mark;
	struct counter *counter = bpf_map_lookup_elem(&counters, &key);

	if (counter) {
		counter->packets++;
		counter->bytes += skb->wire_len;
	}
	skb->cb[0] = skb->gso_size;
	skb->cb[1] = skb->gso_segs;
	skb->cb[2] = skb->ifindex;
	skb->mark = key + 1;
	return verdict;
}

SEC("tc")
int grow_tc(struct __sk_buff *skb)
{
	bpf_skb_change_tail(skb, skb->len + 1000, 0);
	return TC_ACT_OK;
}

SEC("xdp")
int pass_xdp(struct xdp_md *ctx)
{
	__u32 index = 1;
	__u32 *row = bpf_map_lookup_elem(&rows, &index);

	if (row && ctx->rx_queue_index == 0)
		row[0] = ctx->ingress_ifindex;
	return XDP_PASS;
}

SEC("xdp")
int drop_xdp(struct xdp_md *ctx)
{
	return XDP_DROP;
}

SEC("xdp")
int count_xdp(struct xdp_md *ctx)
{
	__u32 index = 2;
	__u32 *row = bpf_map_lookup_elem(&rows, &index);

	if (row)
		row[0]++;
	return XDP_DROP;
}

/* One event per run, numbered by the first row, so that a reader sees gaps. */
SEC("tc")
int emit(struct __sk_buff *skb)
{
	__u32 index = 0;
	__u32 *row = bpf_map_lookup_elem(&rows, &index);
	struct event *event;

	if (!row)
		return TC_ACT_SHOT;
	row[0]++;
	event = bpf_ringbuf_reserve(&events, sizeof(*event), 0);
	if (!event) {
		row[1]++;
		return TC_ACT_SHOT;
	}
	event->number = row[0];
	event->length = skb->len;
	event->filler = 0;
	if (skb->mark == 1 && (row[0] & 1))
		bpf_ringbuf_discard(event, 0);
	else
		bpf_ringbuf_submit(event, 0);
	return TC_ACT_OK;
}

char _license[] SEC("license") = "Dual BSD/GPL";
