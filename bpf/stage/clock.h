/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only) */
#ifndef CILIATE_STAGE_CLOCK_H
#define CILIATE_STAGE_CLOCK_H

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include "abi/maps.h"

#ifndef FAMILY_IPV6
/* What the kernel's clocks say, for user space to tell jiffies from time. */
struct clock_reading {
	time_ns_t monotonic;
	__u64 jiffies;
};

EXPORT(struct clock_reading);

SEC("syscall")
int clock(struct clock_reading *reading)
{
	reading->monotonic = bpf_ktime_get_ns();
	reading->jiffies = bpf_jiffies64();
	return 0;
}
#endif

#endif
