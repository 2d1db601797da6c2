/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only) */
#ifndef CILIATE_STAGE_ICMP_H
#define CILIATE_STAGE_ICMP_H

#include "checksum.h"
#include "encap.h"
#include "packet.h"

#define IPPROTO_ICMP 1
#define ICMP_DEST_UNREACH 3
#define ICMP_PORT_UNREACH 3
#define ICMP_FRAG_NEEDED 4
#define ICMP_TOS 0xc0 /* internetwork control, RFC 1812 4.3.2.5 */

/* RFC 792, RFC 1191; linux/icmp.h would bring the host's socket headers. */
struct icmp_frag_needed {
	__u8 type;
	__u8 code;
	__u16 checksum;
	__u16 unused;
	__u16 mtu;
};

/* IPv4 and ICMP header in front of what is quoted. */
#define ICMP_BYTES 28

/* RFC 792: the client's IPv4 header and 64 bits of what follows. */
static __always_inline __u32 icmp_quote_bytes(const struct packet *packet)
{
	return packet->header_bytes + 8;
}

/* Sum of the quoted words from `quote` on; at most 68 bytes, a multiple of four. */
static __always_inline __u32 icmp_quote_sum(void *quote, void *end, __u32 bytes)
{
	__u32 sum = 0;

	for (__u32 at = 0; at < 68; at += 4) {
		__u32 *word = quote + at;

		if (at >= bytes || (void *)(word + 1) > end)
			break;
		sum += checksum_word(*word);
	}
	return sum;
}

/* The IPv4 header of an answer to a packet, from whom it was for; `bytes` with this header. */
static __always_inline void answer_write(struct iphdr *ip, const struct packet *packet, __u8 tos,
					 __u8 protocol, __u16 bytes)
{
	__u16 total = bpf_htons(bytes);
	__u32 sum =
	    (IP_VERSION_IHL | tos << 8) + total + IP_DF + bpf_htons(IP_DEFAULT_TTL << 8 | protocol);

	sum += checksum_word(packet->destination) + checksum_word(packet->source);
	*(__u8 *)ip = IP_VERSION_IHL;
	ip->tos = tos;
	ip->tot_len = total;
	ip->id = 0;
	ip->frag_off = IP_DF;
	ip->ttl = IP_DEFAULT_TTL;
	ip->protocol = protocol;
	ip->check = ~checksum_fold(sum);
	ip->saddr = packet->destination;
	ip->daddr = packet->source;
}

/*
 * Writes both headers of "destination unreachable" (RFC 792, RFC 1191); the quote stands behind
 * them already. `mtu`: with ICMP_FRAG_NEEDED the largest packet that the sender may send, else 0.
 */
static __always_inline void icmp_write(struct iphdr *ip, const struct packet *packet, __u8 code,
				       __u32 mtu, __u32 quote_sum)
{
	struct icmp_frag_needed *icmp = (void *)(ip + 1);
	__u16 next = bpf_htons(mtu);

	answer_write(ip, packet, ICMP_TOS, IPPROTO_ICMP, ICMP_BYTES + icmp_quote_bytes(packet));
	icmp->type = ICMP_DEST_UNREACH;
	icmp->code = code;
	icmp->unused = 0;
	icmp->mtu = next;
	icmp->checksum =
	    ~checksum_fold(bpf_htons(ICMP_DEST_UNREACH << 8 | code) + next + quote_sum);
}

#endif
