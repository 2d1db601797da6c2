/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only) */
#ifndef CILIATE_STAGE_OPTION_H
#define CILIATE_STAGE_OPTION_H

#include "ip.h"

/* Services said by an option in the packet's own header: docs/decisions/dispatch.md. */
#ifdef FAMILY_IPV6
#include "option6.h"
#else
#include "option4.h"
#endif

/* Whether a packet's header has no room for one more. */
static __always_inline bool option_is_over(const struct packet *packet)
{
	return packet->header_bytes + sizeof(struct option) > IP_HEADER_MAX;
}

/* Erases the option of a client's own, where some node could believe it. */
static __always_inline void option_refuse(ip_t *ip, void *end, const struct packet *packet)
{
	struct option *option;

	if (!accept_option || packet->header_bytes == sizeof(*ip) || (void *)(ip + 1) > end)
		return;
	option = option_find(ip, end, packet);
	if (option)
		option_erase(ip, option);
}

#endif
