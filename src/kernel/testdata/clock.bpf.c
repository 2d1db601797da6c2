/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only) */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#define LINGER_NS 10000000000ULL
#define WORD_BEGUN 0
#define WORD_ENDED 1
#define WORD_RELEASED 2

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 3);
	__type(key, __u32);
	__type(value, __u64);
} words SEC(".maps");

__u64 told;

SEC("tc")
int tell_time(struct __sk_buff *skb)
{
	told = bpf_ktime_get_ns();
	return 0;
}

struct wait {
	volatile __u64 *released;
	__u64 end;
	long over;
};

static long look(__u32 index, struct wait *wait)
{
	wait->over = *wait->released || bpf_ktime_get_ns() >= wait->end;
	return wait->over;
}

static long look_often(__u32 index, struct wait *wait)
{
	bpf_loop(1 << 20, look, wait, 0);
	return wait->over;
}

/* Runs until it is released, but not for ever: says so at its beginning and at its end. */
SEC("tc")
int linger(struct __sk_buff *skb)
{
	__u32 first = WORD_BEGUN, second = WORD_ENDED, third = WORD_RELEASED;
	__u64 *begun = bpf_map_lookup_elem(&words, &first);
	__u64 *ended = bpf_map_lookup_elem(&words, &second);
	struct wait wait = {
	    .released = bpf_map_lookup_elem(&words, &third),
	    .end = bpf_ktime_get_ns() + LINGER_NS,
	};

	if (!begun || !ended || !wait.released)
		return 1;
	*begun = 1;
	bpf_loop(1 << 20, look_often, &wait, 0);
	*ended = 1;
	return 0;
}

char _license[] SEC("license") = "Dual BSD/GPL";
