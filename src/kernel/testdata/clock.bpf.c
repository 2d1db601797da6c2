/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only) */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#define LINGER_NS 100000000ULL

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 2);
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

static long look_at_clock(__u32 index, void *end)
{
	return bpf_ktime_get_ns() >= *(__u64 *)end;
}

/* Runs for a tenth of a second: says so at its beginning and at its end. */
SEC("tc")
int linger(struct __sk_buff *skb)
{
	__u64 end = bpf_ktime_get_ns() + LINGER_NS;
	__u32 first = 0, second = 1;
	__u64 *begun = bpf_map_lookup_elem(&words, &first);
	__u64 *ended = bpf_map_lookup_elem(&words, &second);

	if (!begun || !ended)
		return 1;
	*begun = 1;
	bpf_loop(8000000, look_at_clock, &end, 0);
	*ended = 1;
	return 0;
}

char _license[] SEC("license") = "Dual BSD/GPL";
