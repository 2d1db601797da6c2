/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only) */
#ifndef CILIATE_STAGE_NAT_H
#define CILIATE_STAGE_NAT_H

#include "alias.h"
#include "service.h"
#include "translation.h"

/*
 * SNAT: a pod of another node sees this node as its client, so its replies come back here. Flows
 * whose backend is a pod of this node keep the client's address.
 */

/* Candidates for a port of this node when the client's own can't be kept. */
#define NAT_TRIES 32

/* Whether something of this node's own gets what the pod would send to the flow's port. */
static __always_inline bool nat_port_used(void *ctx, const flow_t *flow, __u8 protocol)
{
	struct socket_tuple tuple = {
	    .source = flow->pod,
	    .destination = own_address(),
	    .source_port = flow->pod_port,
	    .destination_port = flow->alias_port,
	};
	struct bpf_sock_tuple *find = (void *)&tuple;
	struct bpf_sock *sk;

	if (frontend_find(
		frontend_key(own_address(), flow->alias_port, protocol, FRONTEND_SERVICE)))
		return true;
	/* The kernel tells nobody of sockets of SCTP. */
	if (protocol == IPPROTO_SCTP)
		return false;
	if (protocol == IPPROTO_TCP)
		sk = bpf_skc_lookup_tcp(ctx, find, sizeof(tuple), BPF_F_CURRENT_NETNS, 0);
	else
		sk = bpf_sk_lookup_udp(ctx, find, sizeof(tuple), BPF_F_CURRENT_NETNS, 0);
	if (!sk)
		return false;
	bpf_sk_release(sk);
	return true;
}

/* Whether SNAT may use a port of this node's. */
static __always_inline bool nat_port_fits(port_t port, __u8 protocol)
{
	return bpf_ntohs(port) >= nat_port_min || ports_stay(protocol);
}

/* The port of a try: the client's own first, if SNAT may use it; 0: none. */
static __always_inline port_t nat_candidate(const struct packet *packet, __u32 try)
{
	__u32 ports = 65536 - nat_port_min;

	if (!try)
		return nat_port_fits(packet->source_port, packet->protocol) ? packet->source_port
									    : 0;
	return bpf_htons(nat_port_min +
			 (((packet->hash + (try - 1) * 4099) & 0xffff) * ports >> 16));
}

/* Gives the flow a port of this node, and makes its REPLY entry. */
static __always_inline enum verdict nat_choose(void *ctx, struct scratch *held,
					       const struct packet *packet)
{
	flow_t *flow = &held->flow;

	for (__u32 try = 0; try <= NAT_TRIES; try++) {
		int failed;

		if (try && ports_stay(packet->protocol))
			break;
		flow->alias_port = nat_candidate(packet, try);
		if (!flow->alias_port || nat_port_used(ctx, flow, packet->protocol))
			continue;
		failed = FAMILY(reply_key_take)(packet->protocol);
		if (!failed)
			return SENT_NAT;
		if (failed != -EEXIST)
			return DROP_CONNTRACK_FULL;
	}
	return DROP_NAT_EXHAUSTED;
}

/* Makes the other entry of the row's flow, and counts it; false: it has none. */
static __always_inline bool nat_request_made(struct scratch *held, __u8 protocol)
{
	struct traffic *traffic;

	if (!request_made(held, protocol))
		return false;
	if (protocol != IPPROTO_UDP)
		return true;
	traffic = traffic_of(held->flow.counter);
	if (traffic)
		traffic->connections++;
	return true;
}

/*
 * Makes both entries of a flow to a pod of another node, without a packet yet; SENT_NAT or why not.
 * The packet has its hash.
 */
static __always_inline enum verdict nat_open(void *ctx, const struct packet *packet,
					     const backend_t *backend)
{
	__u32 row = backend->nexthop;
	nexthop_t *nexthop = bpf_map_lookup_elem(&FAMILY(nexthops), &row);
	struct scratch *held = scratch_row();
	enum verdict verdict;
	flow_t *flow;

	if (packet_makes_none(packet))
		return DROP_UNKNOWN_FLOW;
	if (!source_is_client(packet))
		return DROP_SOURCE;
	if (!nexthop || !held)
		return DROP_TABLE;
	flow = &held->flow;
	__builtin_memset(flow, 0, sizeof(*flow));
	flow->client = packet->source;
	flow->service_address = packet->destination;
	flow->pod = backend->address;
	flow->alias_address = own_address();
	flow->client_port = packet->source_port;
	flow->service_port = packet->destination_port;
	flow->pod_port = backend->port;
	flow->service = packet->service;
	flow->nexthop = backend->nexthop;
	flow->counter = backend->counter;
	flow->flags = FLOW_SNAT;
	flow->nexthop_generation = nexthop->flags / NEXTHOP_GENERATION;
	flow->created = flow->seen = jiffies_now();
	verdict = nat_choose(ctx, held, packet);
	if (verdict != SENT_NAT)
		return verdict;
	return nat_request_made(held, packet->protocol) ? SENT_NAT : DROP_CONNTRACK_FULL;
}

/* The entry of a request's flow, which may be one of a pod of this node; NULL: it is none yet. */
static __always_inline flow_t *nat_known(const struct packet *packet)
{
	flow_key_t key = flow_key_of(packet, FLOW_REQUEST);
	flow_t *flow = bpf_map_lookup_elem(&FAMILY(conntrack), &key);

	if (!flow || flow->flags & FLOW_REMOTE)
		return NULL;
	if (!flow_is_past(flow, packet))
		return flow;
	flow_delete(flow, packet->protocol);
	return NULL;
}

/*
 * Of a packet of no flow of SNAT: whether it goes by DSR, as it did before its service's change.
 * Datagrams don't say which of them is a flow's first: those that came in the time in which an old
 * flow says something have an entry by now.
 */
static __always_inline bool nat_goes_on(const struct service *service, const struct packet *packet)
{
	flow_key_t key;
	flow_t *flow;

	if (travels_as_before(service, packet))
		return true;
	if (is_connected(packet) || !(service->flags & SERVICE_WAS_DSR))
		return false;
	key = flow_key_of(packet, FLOW_REQUEST);
	flow = bpf_map_lookup_elem(&FAMILY(conntrack), &key);
	if (flow)
		flow->seen = jiffies_now();
	return flow || service->flags & SERVICE_LATELY;
}

/* What the pod sees: this node as its client. */
static __always_inline struct translation nat_to_pod(const struct packet *packet,
						     const flow_t *flow)
{
	return (struct translation){
	    .source = flow->alias_address,
	    .destination = flow->pod,
	    .source_port = flow->alias_port,
	    .destination_port = flow->pod_port,
	    .tos = packet->tos,
	    .ttl = packet->ttl - 1,
	};
}

/* Whether a packet is one of those among which replies of pods elsewhere are. */
static __always_inline bool nat_may_be_reply(const struct packet *packet)
{
	return same_address(packet->destination, own_address()) &&
	       nat_port_fits(packet->destination_port, packet->protocol);
}

/* The flow of a pod's reply to this node's address. */
static __always_inline flow_t *nat_reply(const struct packet *packet)
{
	flow_key_t key = flow_key_of(packet, FLOW_REPLY);
	flow_t *flow = bpf_map_lookup_elem(&FAMILY(conntrack), &key);

	return flow && flow->flags & FLOW_SNAT ? flow : NULL;
}

/* What the client sees: the service. */
static __always_inline struct translation nat_to_client(const struct packet *packet,
							const flow_t *flow)
{
	return (struct translation){
	    .source = flow->service_address,
	    .destination = flow->client,
	    .source_port = flow->service_port,
	    .destination_port = flow->client_port,
	    .tos = packet->tos,
	    .ttl = packet->ttl - 1,
	};
}

/* The row by which a flow's packets leave, if it is still the one that the flow was made with. */
static __always_inline nexthop_t *nat_nexthop(const flow_t *flow, __u32 needed)
{
	__u32 row = flow->nexthop;
	nexthop_t *nexthop = bpf_map_lookup_elem(&FAMILY(nexthops), &row);
	__u16 flags;

	if (!nexthop)
		return NULL;
	flags = *(volatile __u16 *)&nexthop->flags;
	if (!(flags & needed) || flags / NEXTHOP_GENERATION != flow->nexthop_generation)
		return NULL;
	return nexthop;
}

#endif
