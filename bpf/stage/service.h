/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only) */
#ifndef CILIATE_STAGE_SERVICE_H
#define CILIATE_STAGE_SERVICE_H

#include "ip.h"
#include "packet.h"

static __always_inline frontend_t *bucket_find(frontend_bucket_t *bucket, frontend_key_t key)
{
	for (int i = 0; i < 4; i++)
		if (frontend_is(&bucket->slot[i], key))
			return &bucket->slot[i];
	return NULL;
}

/* The buckets after a key's own one. Not inlined: few buckets are full. */
static __noinline frontend_t *frontend_find_spilled(frontend_key_handed_t handed, __u32 index)
{
	for (int probe = 1; probe < FRONTEND_PROBES; probe++) {
		frontend_bucket_t *bucket;
		frontend_t *found;

		index = (index + 1) & FAMILY(frontend_mask);
		bucket = bpf_map_lookup_elem(&FAMILY(frontends), &index);
		if (!bucket)
			return NULL;
		found = bucket_find(bucket, frontend_key_take(handed));
		if (found || !bucket->slot[3].spill)
			return found;
	}
	return NULL;
}

static __always_inline frontend_t *frontend_find(frontend_key_t key)
{
	__u32 index = frontend_bucket_index(key);
	frontend_bucket_t *bucket = bpf_map_lookup_elem(&FAMILY(frontends), &index);
	frontend_t *found;

	if (!bucket)
		return NULL;
	found = bucket_find(bucket, key);
	if (found || likely(!bucket->slot[3].spill))
		return found;
	return frontend_find_spilled(frontend_key_hand(key), index);
}

/* What an address of a node is to this one, enum node_address; 0: it is no node's. */
static __always_inline __u32 node_address_kind(address_t address)
{
	frontend_t *frontend = frontend_find(frontend_key(address, 0, 0, FRONTEND_NODE));

	return frontend ? *(volatile __u32 *)&frontend->service : 0;
}

/* Whether services have this address, whatever the port, and no node has it. */
static __always_inline bool service_has_address(address_t address)
{
	return frontend_find(frontend_key(address, 0, 0, FRONTEND_ADDRESS)) &&
	       !node_address_kind(address);
}

/*
 * The frontend of a port that all nodes serve, if the packet is to an address where it is served:
 * one of this node's or, for what another node sent here, any node's. Not inlined: every packet
 * that isn't a service's comes by.
 */
static __noinline frontend_t *node_port_find(address_t address, port_t port, __u8 protocol,
					     bool inner)
{
	frontend_t *frontend =
	    frontend_find(frontend_key(no_address(), port, protocol, FRONTEND_NODE_PORT));
	__u32 kind;

	if (!frontend)
		return NULL;
	kind = node_address_kind(address);
	return kind == NODE_ADDRESS_OWN || (inner && kind) ? frontend : NULL;
}

/*
 * Whether a packet may begin a flow of its source's. Services of UDP that answer whatever comes
 * would answer each other for ever, each time with a new time to live.
 */
static __always_inline bool source_is_client(const struct packet *packet)
{
	return address_is_host(packet->source) &&
	       (packet->protocol != IPPROTO_UDP ||
		!frontend_find(frontend_key(packet->source, packet->source_port, IPPROTO_UDP,
					    FRONTEND_SERVICE)));
}

/* The row that a frontend leads to; NULL without a frontend. */
static __always_inline struct service *service_of(const frontend_t *frontend)
{
	__u32 row;

	if (!frontend)
		return NULL;
	row = *(const volatile __u32 *)&frontend->service;
	return bpf_map_lookup_elem(&services, &row);
}

static __always_inline struct service *service_find(const struct packet *packet)
{
	frontend_t *frontend = frontend_find(frontend_key(
	    packet->destination, packet->destination_port, packet->protocol, FRONTEND_SERVICE));

	if (!frontend) {
		__u16 port = bpf_ntohs(packet->destination_port);

		if (port < node_port_min || port > node_port_max)
			return NULL;
		frontend = node_port_find(packet->destination, packet->destination_port,
					  packet->protocol, has_outer(packet) || packet->told);
	}
	return service_of(frontend);
}

/* Hash of the flow as the client sends it: the same on every node. */
static __always_inline void flow_hash(struct packet *packet)
{
	__u32 ports = packet->source_port | (__u32)packet->destination_port << 16;
	__u64 x = hash_mix(packet->source, packet->destination, ports, packet->protocol);

	packet->hash = (__u32)x;
	packet->spread = x >> 32;
}

/* For an outer header that is written where no slot was looked for: IPv6's has the hash in it. */
static __always_inline void outer_hash(struct packet *packet)
{
	if (OUTER_HASHED)
		flow_hash(packet);
}

/* The same of all flows of a client to a service's address. Not inlined: few services want it. */
static __noinline __u32 client_hash(address_t source, address_t destination, __u8 protocol)
{
	return hash_mix(source, destination, 0, protocol);
}

/* The slot that 32 bits of a hash, or of chance, lead to. */
static __always_inline __u32 slot_of(const struct service *service, __u32 hash)
{
	return (__u64)hash * service->ring_size >> 32;
}

/* Which of the service's backends a slot has; none of them if its row is outside its table. */
static __always_inline __u32 backend_index(const struct service *service, __u32 slot)
{
	__u32 index = service->ring + slot / RING_ROW_SLOTS;
	struct ring_row *row = bpf_map_lookup_elem(&rings, &index);

	return row ? row->backend[slot % RING_ROW_SLOTS] : ~0U;
}

static __always_inline backend_t *backend_of(const struct service *service, __u32 index)
{
	if (index >= service->backend_count)
		return NULL;
	index += service->backends;
	return bpf_map_lookup_elem(&FAMILY(backends), &index);
}

/* The backend of a slot; NULL if a row points outside its table. Needs a backend_count. */
static __always_inline backend_t *backend_at(const struct service *service, __u32 slot)
{
	return backend_of(service, backend_index(service, slot));
}

/* The flow's hash, and its slot: all flows of a client have one where the service wants it. */
static __always_inline void slot_find(const struct service *service, struct packet *packet)
{
	flow_hash(packet);
	packet->slot = slot_of(
	    service, unlikely(service->flags & SERVICE_AFFINITY)
			 ? client_hash(packet->source, packet->destination, packet->protocol)
			 : packet->hash);
}

/* The backend of the flow's slot, as above. */
static __always_inline backend_t *backend_select(const struct service *service,
						 struct packet *packet)
{
	slot_find(service, packet);
	return backend_at(service, packet->slot);
}

static __always_inline former_owners_t *former_owners_of(const struct service *service, __u32 slot)
{
	struct slot_key key = {.service = service->id, .slot = slot};

	if (!(service->flags & SERVICE_FORMER_OWNERS))
		return NULL;
	return bpf_map_lookup_elem(&FAMILY(former_owners), &key);
}

/* Whether a service may have flows of SNAT on this node. */
static __always_inline bool has_nat_flows(const struct service *service)
{
	return service->flags & (SERVICE_SNAT | SERVICE_WAS_SNAT);
}

/* Of a packet of no flow of SNAT: whether it goes by DSR, as it did before the service's change. */
static __always_inline bool travels_as_before(const struct service *service,
					      const struct packet *packet)
{
	if (!(service->flags & SERVICE_SNAT))
		return true;
	return service->flags & SERVICE_WAS_DSR && is_connected(packet) && !packet_is_syn(packet);
}

/* `encapsulate: first`: whether this packet travels without an outer header. */
static __always_inline bool travels_plain(const struct service *service,
					  const struct packet *packet)
{
	return service->flags & SERVICE_ENCAPSULATE_FIRST && packet->protocol == IPPROTO_TCP &&
	       !packet_is_syn(packet) && !former_owners_of(service, packet->slot);
}

/*
 * Whether a SYN, which another node sent on, opens a flow of which later packets travel so. What
 * came to the service's own address goes on doing so.
 */
static __always_inline bool opens_plain(const struct service *service, const struct packet *packet)
{
	return service->flags & SERVICE_ENCAPSULATE_FIRST && packet->protocol == IPPROTO_TCP &&
	       (has_outer(packet) || packet->told);
}

#endif
