/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only) */
#ifndef CILIATE_STAGE_AFFINITY_H
#define CILIATE_STAGE_AFFINITY_H

#include "limits.h"
#include "service.h"

/*
 * Services that keep a client with its backend. The slot goes by the client alone, so that nodes
 * agree as long as the ring is the same; affinities remembers what a changed ring would not say.
 */

struct affinity_search {
	__u32 first; /* row of backends */
	ipv4_t pod;
	__u32 found; /* index, or no backend's */
};

static long affinity_compare(__u32 index, struct affinity_search *search)
{
	__u32 row = search->first + index;
	struct backend *backend = bpf_map_lookup_elem(&backends, &row);

	if (!backend || backend->address != search->pod)
		return 0;
	search->found = index;
	return 1;
}

/* The backend of an entry, wherever a change of the service has moved it; NULL: it is none now. */
static __always_inline struct backend *affinity_find(const struct service *service,
						     struct affinity *known)
{
	struct backend *backend = backend_of(service, known->backend);
	struct affinity_search search = {
	    .first = service->backends,
	    .pod = known->pod,
	    .found = service->backend_count,
	};

	if (backend && backend->address == known->pod)
		return backend;
	bpf_loop(service->backend_count, affinity_compare, &search, 0);
	known->backend = search.found;
	return backend_of(service, search.found);
}

/* `opens`: the packet may begin a connection. NULL if a row points outside its table. */
static __noinline struct backend *affinity_backend(const struct service *service, ipv4_t client,
						   __u32 slot, bool opens)
{
	struct affinity_key key = {.service = service->id, .client = client};
	struct affinity entry = {.backend = backend_index(service, slot), .seen = jiffies_now()};
	struct affinity *known = bpf_map_lookup_elem(&affinities, &key);
	struct backend *backend;

	if (known && !(opens && entry.seen - known->seen > service->affinity_age)) {
		backend = affinity_find(service, known);
		if (backend) {
			if (opens)
				known->seen = entry.seen;
			return backend;
		}
		bpf_map_delete_elem(&affinities, &key);
	}
	backend = backend_of(service, entry.backend);
	if (!backend || !opens)
		return backend;
	entry.pod = backend->address;
	bpf_map_update_elem(&affinities, &key, &entry, BPF_ANY);
	return backend;
}

/* The backend for a client's packet, as a balancer chooses. Needs a backend_count. */
static __always_inline struct backend *backend_choose(const struct service *service,
						      struct packet *packet)
{
	slot_find(service, packet);
	if (likely(!(service->flags & SERVICE_AFFINITY)))
		return backend_at(service, packet->slot);
	return affinity_backend(service, packet->source, packet->slot,
				packet->protocol == IPPROTO_UDP || packet_is_syn(packet));
}

#endif
