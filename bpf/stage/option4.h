/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only) */
#ifndef CILIATE_STAGE_OPTION4_H
#define CILIATE_STAGE_OPTION4_H

#include "ip.h"

/*
 * The option by which Cilium's balancers say the service of an IPv4 packet, first behind the base
 * header. Its port and address have the least significant byte first: sender and receiver swap
 * them, and both are little-endian.
 */

#define OPTION_TYPE 0x9a
#define OPTION_NOP 0x0101

struct option {
	__u8 type;
	__u8 bytes;
	__u16 port;
	__u32 address;
};

static __always_inline struct option option_of(ipv4_t address, port_t port)
{
	return (struct option){
	    .type = OPTION_TYPE,
	    .bytes = sizeof(struct option),
	    .port = __builtin_bswap16(port),
	    .address = __builtin_bswap32(address),
	};
}

static __always_inline ipv4_t option_address(const struct option *option)
{
	return __builtin_bswap32(option->address);
}

static __always_inline port_t option_port(const struct option *option)
{
	return __builtin_bswap16(option->port);
}

/* The option of a packet, NULL if it has none. */
static __always_inline struct option *option_find(ip_t *ip, void *end, const struct packet *packet)
{
	struct option *option = (void *)(ip + 1);

	if (packet->header_bytes < sizeof(*ip) + sizeof(*option) || (void *)(option + 1) > end ||
	    option->type != OPTION_TYPE || option->bytes != sizeof(*option))
		return NULL;
	return option;
}

static __always_inline __u16 option_first(const struct option *option)
{
	return option->type | option->bytes << 8;
}

/* The header has an option more, for which there is room behind it. */
static __always_inline void option_add(ip_t *ip, struct option *option)
{
	__u16 total = bpf_htons(bpf_ntohs(ip->tot_len) + sizeof(*option));
	__u32 change = sizeof(*option) / 4 + (__u16)~ip->tot_len + total + option_first(option) +
		       option->port + checksum_word(option->address);

	ip->ihl += sizeof(*option) / 4;
	ip->tot_len = total;
	ip->check = checksum_apply(ip->check, change);
}

/* The header has lost an option. */
static __always_inline void option_remove(ip_t *ip, const struct option *option)
{
	__u16 total = bpf_htons(bpf_ntohs(ip->tot_len) - sizeof(*option));
	__u32 change = (__u16) ~(sizeof(*option) / 4) + (__u16)~ip->tot_len + total +
		       (__u16)~option_first(option) + (__u16)~option->port +
		       checksum_word(~option->address);

	ip->ihl -= sizeof(*option) / 4;
	ip->tot_len = total;
	ip->check = checksum_apply(ip->check, change);
}

/*
 * How the sum of the whole packet changes with option_remove, which leaves the header's own sum as
 * it was: by the bytes that the kernel takes off for the option when they go.
 */
static __always_inline __u32 option_change(const ip_t *ip, const struct option *option)
{
	return option_first(option) + option->port + checksum_word(option->address);
}

/* Makes an option say nothing. */
static __always_inline void option_erase(ip_t *ip, struct option *option)
{
	__u32 change = 4 * OPTION_NOP + (__u16)~option_first(option) + (__u16)~option->port +
		       checksum_word(~option->address);

	ip->check = checksum_apply(ip->check, change);
	option->type = option->bytes = 1;
	option->port = OPTION_NOP;
	option->address = OPTION_NOP << 16 | OPTION_NOP;
}

#endif
