/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only) */
#ifndef CILIATE_STAGE_MSS_H
#define CILIATE_STAGE_MSS_H

#include "abi/config.h"
#include "packet.h"
#include "skb.h"

#define TCP_OPTION_END 0
#define TCP_OPTION_NOP 1
#define TCP_OPTION_MSS 2
#define TCP_OPTION_BYTES 40

/*
 * Lowers the MSS that a backend offers, so that a client's segments fit with the outer header.
 * Options of TCP stand from `first` to `end` in the frame, the checksum at `check`. Not static: so
 * the verifier walks it once, whatever it knows of the packet.
 */
__noinline int FAMILY(mss_clamp)(struct __sk_buff *skb, __u32 first, __u32 end, __u32 check)
{
	const __u16 largest = clamp_mss - mss_less(), limit = bpf_htons(largest);
	__u32 at = first;

	for (__u32 i = 0; i < TCP_OPTION_BYTES; i++) {
		__u8 option[4] = {};
		__u16 offered;

		if (at + 4 > end || bpf_skb_load_bytes(skb, at, option, sizeof(option)))
			return 0;
		if (option[0] == TCP_OPTION_END)
			return 0;
		if (option[0] == TCP_OPTION_NOP) {
			at++;
			continue;
		}
		if (option[1] < 2)
			return 0;
		if (option[0] != TCP_OPTION_MSS || option[1] != 4) {
			at += option[1];
			continue;
		}
		offered = option[2] | option[3] << 8;
		if (bpf_ntohs(offered) > largest) {
			__u32 change = (__u16)~offered + limit;

			/* An option at an odd offset lies across two words of the sum. */
			if ((at - first) & 1)
				change = (__u16)~bpf_htons(offered) + bpf_htons(limit);
			if (!bpf_l4_csum_replace(skb, check, 0, change, 0))
				bpf_skb_store_bytes(skb, at + 2, &limit, sizeof(limit), 0);
		}
		return 0;
	}
	return 0;
}

/* Of a backend's SYN and ACK. */
static __always_inline void clamp(struct __sk_buff *skb, const struct packet *packet)
{
	__u32 l4 = packet->l3 + packet->header_bytes;

	if (clamp_mss && packet->tcp_flags & TCP_SYN)
		FAMILY(mss_clamp)(skb, l4 + sizeof(struct tcphdr), l4 + packet->l4_bytes, l4 + 16);
}

#endif
