/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only) */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

/* Nothing like the kernel's own. */
struct sk_buff {
	int no_such_field;
} __attribute__((preserve_access_index));

/* Reads a field that no kernel has. */
SEC("tc")
int missing_field(struct __sk_buff *skb)
{
	struct sk_buff *inner = (void *)skb;
	int value = 0;

	bpf_probe_read_kernel(&value, sizeof(value), &inner->no_such_field);
	return value;
}

/* Calls what is for tc programs only. */
SEC("xdp")
int missing_helper(struct xdp_md *ctx)
{
	__u32 word;

	return bpf_skb_load_bytes(ctx, 0, &word, sizeof(word));
}

char _license[] SEC("license") = "Dual BSD/GPL";
