/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only) */
#ifndef CILIATE_STAGE_SOURCE_H
#define CILIATE_STAGE_SOURCE_H

#include "packet.h"

/* Whether a service's source ranges refuse a client. Not inlined: few services have any. */
static __noinline bool source_refused(const struct service *service, address_t client)
{
	source_range_key_t key = {
	    .prefix_length = 8 * (sizeof(key.service) + sizeof(key.address)),
	    .service = service->id,
	    .address = client,
	};
	bool listed;

	if (!(service->flags & SERVICE_SOURCE_RANGES))
		return false;
	listed = bpf_map_lookup_elem(&FAMILY(source_ranges), &key);
	return listed == !!(service->flags & SERVICE_SOURCE_DENY);
}

#endif
