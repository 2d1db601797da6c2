/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only) */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

SEC("xdp")
int sound(struct xdp_md *ctx)
{
	return XDP_PASS;
}

/* Reads the packet without looking where it ends. */
SEC("xdp")
int unsafe(struct xdp_md *ctx)
{
	__u8 *data = (void *)(long)ctx->data;

	return data[0];
}

char _license[] SEC("license") = "Dual BSD/GPL";
