/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only) */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

extern int ciliate_no_such_function(struct xdp_md *ctx) __ksym;

SEC("xdp")
int missing_function(struct xdp_md *ctx)
{
	return ciliate_no_such_function(ctx);
}

char _license[] SEC("license") = "Dual BSD/GPL";
