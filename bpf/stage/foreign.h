/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only) */
#ifndef CILIATE_STAGE_FOREIGN_H
#define CILIATE_STAGE_FOREIGN_H

#include "affinity.h"
#include "deliver.h"
#include "host-read.h"
#include "skb.h"
#include "source.h"
#include "told.h"

/*
 * IPIP of load balancers that are no nodes of ours. One that addresses this node, or the service
 * itself, leaves the choice of the pod to us.
 */

/* PASS_LOCAL: the outer header leads to the pod of this node that was chosen for the packet. */
static __always_inline enum verdict foreign_here(struct __sk_buff *skb, const struct packet *packet)
{
	ip_t *outer = skb_start(skb) + ETH_HLEN;

	if ((void *)(outer + 1) > skb_end(skb))
		return DROP_REWRITE;
	outer_lead(outer, packet, packet->backend);
	/* See sum_follow. */
	if (!HEADER_SUMMED)
		bpf_csum_update(skb, address_change(packet->outer_destination, packet->backend));
	return PASS_LOCAL;
}

/* To the node itself, whose address an outer header would not say more of. */
static __always_inline enum verdict foreign_itself(struct __sk_buff *skb, struct packet *packet,
						   struct scratch *held)
{
	struct translation to = {
	    .source = packet->source,
	    .destination = packet->destination,
	    .source_port = packet->source_port,
	    .destination_port = packet->destination_port,
	    .ttl = packet->ttl,
	};

	if (!ecn_decapsulate(packet, &to.tos))
		return DROP_ECN;
	if (!told_undo(skb, packet, held, &to, packet->l3 - ETH_HLEN, BPF_ADJ_ROOM_MAC))
		return DROP_REWRITE;
	held->pod = packet->backend;
	return PASS_LOCAL;
}

/* To the pod of another node. */
static __always_inline enum verdict foreign_on(struct __sk_buff *skb, struct packet *packet,
					       int *action)
{
	__u32 bytes = segment_bytes(skb, packet);
	struct passage passage = {};

	if (!passage_find(skb, packet, bytes, &passage))
		return DROP_NO_ROUTE;
	if (bytes + passage.extra > passage.way.mtu)
		return DROP_TOO_BIG;
	if (!passage_take(skb, packet, IP_DEFAULT_TTL, &passage, action))
		return DROP_REWRITE;
	return SENT_ENCAPSULATED;
}

/*
 * What a node of ours has sent by this node's address, for a pod whose own the fabric may not route
 * (peer.h); PASS_LOCAL: it is now what it would be without that. Else it is an operator's tunnel.
 */
static __always_inline enum verdict by_node_undo(struct __sk_buff *skb, struct packet *packet)
{
	struct translation to = {};
	__u8 tos;
	ip_t *ip;

	if (packet->fragment || outer_parse(skb, packet) != PARSED_PROTOCOL ||
	    packet->protocol != IPPROTO_OUTER || !endpoint_find(packet->destination))
		return PASS_NOT_OURS;
	if (!ecn_decapsulate(packet, &tos))
		return DROP_ECN;
	to.source = packet->source;
	to.destination = packet->destination;
	to.tos = tos;
	to.ttl = packet->ttl;
	sum_follow(skb, packet, &to);
	if (bpf_skb_adjust_room(skb, -(packet->l3 - ETH_HLEN), BPF_ADJ_ROOM_MAC,
				BPF_F_ADJ_ROOM_FIXED_GSO))
		return DROP_REWRITE;
	ip = skb_start(skb) + ETH_HLEN;
	if ((void *)(ip + 1) > skb_end(skb))
		return DROP_REWRITE;
	header_translate(ip, packet, to.source, to.destination, tos, to.ttl);
	return PASS_LOCAL;
}

/*
 * Chooses a pod for the packet; PASS_LOCAL: it is one of this node, and the outer header says so,
 * or it is the node itself, and there is none any more.
 */
static __always_inline enum verdict foreign(struct __sk_buff *skb, struct packet *packet,
					    struct scratch *held, int *action)
{
	struct endpoint *endpoint = NULL;
	struct service *service;
	enum verdict verdict;
	backend_t *backend;

	if (packet->fragment)
		return DROP_OUTER_FRAGMENT;
	verdict = inner_verdict(outer_parse(skb, packet));
	if (verdict != PASS_LOCAL)
		return verdict;
	service = service_find(packet);
	if (!service)
		return DROP_NO_SERVICE;
	packet->service = service->id;
	if (source_refused(service, packet->source))
		return DROP_SOURCE_RANGE;
	if (!service->backend_count)
		return DROP_NO_BACKEND;
	backend = backend_choose(service, packet);
	if (!backend)
		return DROP_TABLE;
	packet->backend = backend->address;
	if (backend->flags & BACKEND_LOCAL) {
		endpoint = endpoint_find(backend->address);
		if (!endpoint)
			return DROP_ENDPOINT_GONE;
	} else {
		verdict = foreign_on(skb, packet, action);
	}
	if (verdict < DROP_NO_BACKEND)
		traffic_count(backend->counter, packet);
	if (!endpoint)
		return verdict;
	return endpoint_is_node(endpoint) ? foreign_itself(skb, packet, held)
					  : foreign_here(skb, packet);
}

/* IPIP to no pod, of a node of ours or of a foreign balancer; PASS_LOCAL: to one of this node now.
 */
static __always_inline enum verdict to_no_pod(struct __sk_buff *skb, struct packet *packet,
					      struct scratch *held, int *action)
{
	struct trusted *sender;

	if (host_parse(skb, packet) != PARSED_PROTOCOL)
		return PASS_NOT_OURS;
	sender = sender_of(packet);
	if (!sender)
		return PASS_NOT_OURS;
	return sender->kind == TRUST_NODE ? by_node_undo(skb, packet)
					  : foreign(skb, packet, held, action);
}

#endif
