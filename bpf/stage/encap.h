/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only) */
#ifndef CILIATE_STAGE_ENCAP_H
#define CILIATE_STAGE_ENCAP_H

#include "ip.h"
#include "packet.h"

/* How a packet leaves: device, MACs, and the largest packet in bytes. */
struct way {
	ifindex_t ifindex;
	__u32 mtu;
	bool neighbour; /* the MACs are known; else the kernel finds that of the gateway */
	address_t gateway;
	mac_t destination;
	mac_t source;
};

static __always_inline void ethernet_write(struct ethhdr *eth, const __u8 *destination,
					   const __u8 *source)
{
	__builtin_memcpy(eth->h_dest, destination, ETH_ALEN);
	__builtin_memcpy(eth->h_source, source, ETH_ALEN);
	eth->h_proto = ETHERTYPE;
}

#endif
