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
	address_t pod;
	__u32 found; /* index, or no backend's */
};

static long affinity_compare(__u32 index, struct affinity_search *search)
{
	__u32 row = search->first + index;
	backend_t *backend = bpf_map_lookup_elem(&FAMILY(backends), &row);

	if (!backend || !same_address(backend->address, search->pod))
		return 0;
	search->found = index;
	return 1;
}

/* The backend of an entry, wherever a change of the service has moved it; NULL: it is none now. */
static __always_inline backend_t *affinity_find(const struct service *service, affinity_t *known)
{
	backend_t *backend = backend_of(service, known->backend);
	struct affinity_search search = {
	    .first = service->backends,
	    .pod = known->pod,
	    .found = service->backend_count,
	};

	if (backend && same_address(backend->address, known->pod))
		return backend;
	bpf_loop(service->backend_count, affinity_compare, &search, 0);
	known->backend = search.found;
	return backend_of(service, search.found);
}

/* `opens`: the packet may begin a connection. NULL if a row points outside its table. */
static __noinline backend_t *affinity_backend(const struct service *service, address_t client,
					      __u32 slot, bool opens)
{
	affinity_key_t key = {.service = service->id, .client = client};
	affinity_t entry = {.backend = backend_index(service, slot), .seen = jiffies_now()};
	affinity_t *known = bpf_map_lookup_elem(&FAMILY(affinities), &key);
	backend_t *backend;

	if (known && !(opens && jiffies_since(known->seen, entry.seen) > service->affinity_age)) {
		backend = affinity_find(service, known);
		if (backend) {
			if (opens)
				known->seen = entry.seen;
			return backend;
		}
		bpf_map_delete_elem(&FAMILY(affinities), &key);
	}
	backend = backend_of(service, entry.backend);
	if (!backend || !opens)
		return backend;
	entry.pod = backend->address;
	bpf_map_update_elem(&FAMILY(affinities), &key, &entry, BPF_ANY);
	return backend;
}

/* The backend of the slot that was found, or the one that the client had. */
static __always_inline backend_t *backend_of_slot(const struct service *service,
						  const struct packet *packet)
{
	if (likely(!(service->flags & SERVICE_AFFINITY)))
		return backend_at(service, packet->slot);
	return affinity_backend(service, packet->source, packet->slot,
				packet->protocol == IPPROTO_UDP || packet_is_syn(packet));
}

/* The backend for a client's packet, as a balancer chooses. Needs a backend_count. */
static __always_inline backend_t *backend_choose(const struct service *service,
						 struct packet *packet)
{
	slot_find(service, packet);
	return backend_of_slot(service, packet);
}

/* The same for a flow that gets an entry here, by which its later packets find it. */
static __always_inline backend_t *backend_draw(const struct service *service, struct packet *packet)
{
	slot_find(service, packet);
	if (service->flags & SERVICE_RANDOM)
		packet->slot = slot_of(service, bpf_get_prandom_u32());
	return backend_of_slot(service, packet);
}

#endif
