/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only) */
#ifndef CILIATE_STAGE_CHECKSUM_H
#define CILIATE_STAGE_CHECKSUM_H

#include <linux/types.h>

/* One's complement sums of 16-bit words as they lie in memory (RFC 1071). */

static __always_inline __u16 checksum_fold(__u32 sum)
{
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return (__u16)sum;
}

static __always_inline __u32 checksum_word(__u32 word)
{
	return (word & 0xffff) + (word >> 16);
}

/* The sum that replaces 32 bits of what a checksum covers (RFC 1624, equation 3). */
static __always_inline __u32 checksum_change(__u32 from, __u32 to)
{
	return checksum_word(~from) + checksum_word(to);
}

/* A checksum after a change. */
static __always_inline __u16 checksum_apply(__u16 checksum, __u32 change)
{
	return ~checksum_fold((__u16)~checksum + change);
}

#endif
