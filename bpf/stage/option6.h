/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only) */
#ifndef CILIATE_STAGE_OPTION6_H
#define CILIATE_STAGE_OPTION6_H

#include "ip.h"

/*
 * The destination option (RFC 8200, 4.6) by which Cilium's balancers say the service of an IPv6
 * packet, in an extension header of its own, the first.
 */

#define OPTION_TYPE 0x1b
/* An experiment's (RFC 4727, 3.5), to be skipped. Not PadN: Linux drops more than 7 bytes of it. */
#define OPTION_SKIPPED 0x1e

struct option {
	__u8 next;
	__u8 units;
	__u8 type;
	__u8 bytes;
	ipv6_t address;
	port_t port;
	__u16 reserved;
};

static __always_inline struct option option_of(ipv6_t address, port_t port)
{
	return (struct option){
	    .units = sizeof(struct option) / 8 - 1,
	    .type = OPTION_TYPE,
	    .bytes = sizeof(struct option) - 4,
	    .address = address,
	    .port = port,
	};
}

static __always_inline ipv6_t option_address(const struct option *option)
{
	return option->address;
}

static __always_inline port_t option_port(const struct option *option)
{
	return option->port;
}

/* The option of a packet, NULL if it has none. */
static __always_inline struct option *option_find(ip_t *ip, void *end, const struct packet *packet)
{
	struct option *option = (void *)(ip + 1);

	if ((void *)(option + 1) > end || ip->nexthdr != NEXT_DESTINATION ||
	    option->units != sizeof(*option) / 8 - 1 || option->type != OPTION_TYPE ||
	    option->bytes != sizeof(*option) - 4)
		return NULL;
	return option;
}

/* The header has an option more, for which there is room behind it. */
static __always_inline void option_add(ip_t *ip, struct option *option)
{
	option->next = ip->nexthdr;
	ip->nexthdr = NEXT_DESTINATION;
	ip->payload_len = bpf_htons(bpf_ntohs(ip->payload_len) + sizeof(*option));
}

/* The header has lost an option. */
static __always_inline void option_remove(ip_t *ip, const struct option *option)
{
	ip->nexthdr = option->next;
	ip->payload_len = bpf_htons(bpf_ntohs(ip->payload_len) - sizeof(*option));
}

/* How the sum of the whole packet changes with option_remove, but for the option's own bytes. */
static __always_inline __u32 option_change(const ip_t *ip, const struct option *option)
{
	return (__u16)~ip->payload_len + bpf_htons(bpf_ntohs(ip->payload_len) - sizeof(*option)) +
	       (__u16)~bpf_htons(NEXT_DESTINATION << 8) + bpf_htons(option->next << 8);
}

/* Makes an option say nothing. */
static __always_inline void option_erase(ip_t *ip, struct option *option)
{
	option->type = OPTION_SKIPPED;
}

#endif
