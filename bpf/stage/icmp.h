/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only) */
#ifndef CILIATE_STAGE_ICMP_H
#define CILIATE_STAGE_ICMP_H

#ifdef FAMILY_IPV6
#include "icmp6.h"
#else
#include "icmp4.h"
#endif

/* IP and ICMP header in front of what is quoted. */
#define ICMP_BYTES ((int)(sizeof(ip_t) + sizeof(struct icmp_header)))

/* Sum of the quoted words from `quote` on; a multiple of four bytes. */
static __always_inline __u32 icmp_quote_sum(void *quote, void *end, __u32 bytes)
{
	__u32 sum = 0;

	for (__u32 at = 0; at < ICMP_QUOTE_MAX; at += 4) {
		__u32 *word = quote + at;

		if (at >= bytes || (void *)(word + 1) > end)
			break;
		sum += checksum_word(*word);
	}
	return sum;
}

/* Writes both headers in front of the quote; `mtu` as unreachable_write has it. */
static __always_inline void icmp_write(ip_t *ip, const struct packet *packet, __u32 mtu,
				       __u32 quote_bytes, __u32 quote_sum)
{
	answer_write(ip, packet, ICMP_TOS, IPPROTO_ICMP, ICMP_BYTES + quote_bytes);
	unreachable_write((void *)(ip + 1), packet, mtu, quote_bytes, quote_sum);
}

#endif
