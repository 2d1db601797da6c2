/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only) */
#ifndef CILIATE_STAGE_IP_H
#define CILIATE_STAGE_IP_H

#include "abi/config.h"

/* The family that this object speaks. */
#ifdef FAMILY_IPV6
#include "ip6.h"
#else
#include "ip4.h"
#endif

/* Whether it is a piece behind the first, which has neither ports nor a checksum. */
static __always_inline bool packet_is_later(const struct packet *packet)
{
	return packet->fragment & IP_FRAGMENT_OFFSET;
}

#endif
