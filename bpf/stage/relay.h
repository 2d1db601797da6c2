/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only) */
#ifndef CILIATE_STAGE_RELAY_H
#define CILIATE_STAGE_RELAY_H

#include "give.h"
#include "owners.h"
#include "peer.h"
#include "quote.h"

/*
 * ICMP errors about replies. A reply leaves its pod's node with the service's address, so what a
 * router says of it comes to any balancer: it goes to the pod the way the flow's packets do.
 */

/* To the pod of this node, or to the node itself, that has sent what an error is about. */
static __noinline enum verdict relay_to_client(struct __sk_buff *skb, struct packet *packet,
					       const struct quote *quote, const flow_t *flow,
					       int *action)
{
	struct endpoint *endpoint = pod_find(flow->client);
	struct scratch *held = scratch_row();
	struct errand *to;

	if (!held)
		return DROP_TABLE;
	to = &held->errand;
	quoted_request(&to->quoted, flow);
	if (same_address(quote->sender, flow->pod))
		to->source = flow->service_address;
	else
		to->source = quote->sender;
	to->destination = flow->client;
	to->ttl = packet->ttl;
	packet->service = flow->service;
	packet->backend = flow->pod;
	if (!endpoint && !(flow->flags & FLOW_NODE))
		return DROP_ENDPOINT_GONE;
	if (!answer_allowed(packet->service))
		return DROP_ANSWER_LIMIT;
	if (!error_translate(skb, packet, quote, to))
		return DROP_REWRITE;
	if (!endpoint)
		return PASS_STACK;
	return endpoint_give(skb, endpoint, action) ? SENT_RELAYED : DROP_REWRITE;
}

/* The flow whose request is quoted; NULL: it is of none that begins here. */
static __always_inline flow_t *relay_request(const struct packet *packet)
{
	flow_key_t key = flow_key_of(packet, FLOW_REPLY);
	flow_t *flow = bpf_map_lookup_elem(&FAMILY(conntrack), &key);

	return flow && flow->flags & (FLOW_OUTBOUND | FLOW_SNAT) ? flow : NULL;
}

/* Into the pod of a flow that is known here. */
static __noinline enum verdict relay_into_pod(struct __sk_buff *skb, struct packet *packet,
					      const struct quote *quote, const flow_t *flow,
					      int *action)
{
	struct endpoint *endpoint = endpoint_find(flow->pod);
	struct scratch *held = scratch_row();
	address_t pod = flow->pod;
	struct quoted *to;

	if (!held)
		return DROP_TABLE;
	to = &held->errand.quoted;
	quoted_reply(to, flow);
	packet->service = flow->service;
	packet->backend = pod;
	if (!endpoint)
		return DROP_ENDPOINT_GONE;
	if (!answer_allowed(packet->service))
		return DROP_ANSWER_LIMIT;
	if (!quote_translate(skb, packet, quote, to, icmp_address_sum(packet->destination, pod)) ||
	    !icmp_destination(skb, packet, pod))
		return DROP_REWRITE;
	if (has_outer(packet) && bpf_skb_adjust_room(skb, -(packet->l3 - ETH_HLEN),
						     BPF_ADJ_ROOM_MAC, BPF_F_ADJ_ROOM_FIXED_GSO))
		return DROP_REWRITE;
	return endpoint_give(skb, endpoint, action) ? SENT_RELAYED : DROP_REWRITE;
}

/* The first of a slot's owners that are no pods of this node, and the first behind a pod. */
struct elsewhere {
	address_t first;
	address_t behind;
	bool met; /* the pod, so far */
};

static __always_inline void elsewhere_offer(struct elsewhere *elsewhere, address_t pod,
					    address_t owner)
{
	if (same_address(owner, pod)) {
		elsewhere->met = true;
		return;
	}
	if (endpoint_find(owner))
		return;
	if (!is_address(elsewhere->first))
		elsewhere->first = owner;
	if (elsewhere->met && !is_address(elsewhere->behind))
		elsewhere->behind = owner;
}

/*
 * Who is asked after `pod`: the next of the slot's owners, or the first if it is none, that is no
 * pod of this node; 0: nobody.
 */
static __always_inline address_t owner_elsewhere(address_t pod, address_t present,
						 const former_owners_t *former)
{
	struct elsewhere elsewhere = {};

	elsewhere_offer(&elsewhere, pod, present);
	if (former) {
#pragma clang loop unroll(full)
		for (__u32 i = 0; i < FORMER_OWNERS && is_address(former->owner[i]); i++)
			elsewhere_offer(&elsewhere, pod, former->owner[i]);
	}
	return elsewhere.met ? elsewhere.behind : elsewhere.first;
}

/* Chooses who is asked next about a flow that is not known here: packet->backend, at `*hop`. */
static __noinline enum verdict relay_choose(struct packet *packet, __u32 *hop)
{
	struct service *service;
	backend_t *present;

	if (!packet || !hop)
		return DROP_TABLE;
	service = service_find(packet);
	if (!service)
		return has_outer(packet) ? DROP_NO_SERVICE : PASS_NOT_OURS;
	packet->service = service->id;
	if (!service->backend_count)
		return DROP_NO_BACKEND;
	present = backend_select(service, packet);
	if (!present)
		return DROP_TABLE;
	packet->backend = present->address;
	if (!has_outer(packet) && !endpoint_find(present->address))
		return SENT_RELAYED;
	if (*hop >= HOP_LAST)
		return DROP_UNKNOWN_FLOW;
	*hop += 1;
	packet->backend =
	    owner_elsewhere(has_outer(packet) ? packet->outer_destination : present->address,
			    present->address, former_owners_of(service, packet->slot));
	return is_address(packet->backend) ? SENT_RELAYED : DROP_UNKNOWN_FLOW;
}

/* To packet->backend, by the FIB. */
static __noinline enum verdict relay_pass(struct __sk_buff *skb, struct packet *packet, __u32 hop,
					  int *action)
{
	__u32 bytes = packet->total_bytes;
	struct passage passage = {};

	if (!answer_allowed(packet->service))
		return DROP_ANSWER_LIMIT;
	if (!passage_find(skb, packet, bytes, &passage))
		return DROP_NO_ROUTE;
	if (bytes + passage.extra > passage.way.mtu)
		return DROP_TOO_BIG;
	if (!passage_take(skb, packet, hop_ttl(hop), &passage, action))
		return DROP_REWRITE;
	return SENT_RELAYED;
}

/* Of a tunnel between nodes that is none of ours, it drops what isn't for a service. */
static __always_inline enum verdict relay_ours(struct __sk_buff *skb, struct scratch *held,
					       struct packet *packet, __u32 hop, int *action)
{
	enum verdict verdict;
	flow_key_t key;
	struct quote *quote = &held->quote;
	flow_t *flow;

	if (!quote_read(skb, packet, quote))
		return has_outer(packet) ? DROP_INNER_PROTOCOL : PASS_NOT_OURS;
	key = flow_key_of(packet, FLOW_REQUEST);
	flow = bpf_map_lookup_elem(&FAMILY(conntrack), &key);
	if (flow && flow->flags & FLOW_SNAT)
		return has_outer(packet) ? DROP_UNKNOWN_FLOW : PASS_LOCAL;
	/* After a reset the client's port may be in use again, for a flow of another node. */
	if (flow && !(flow->flags & (FLOW_REMOTE | FLOW_RESET)))
		return relay_into_pod(skb, packet, quote, flow, action);
	if (flow && flow->flags & FLOW_REMOTE) {
		if (hop > HOP_LAST)
			return DROP_UNKNOWN_FLOW;
		packet->service = flow->service;
		packet->backend = flow->pod;
		outer_hash(packet);
		return relay_pass(skb, packet, HOP_KNOWN, action);
	}
	flow = !flow && !has_outer(packet) ? relay_request(packet) : NULL;
	if (flow && flow->flags & FLOW_SNAT)
		return PASS_LOCAL;
	if (flow)
		return relay_to_client(skb, packet, quote, flow, action);
	verdict = relay_choose(packet, &hop);
	return verdict == SENT_RELAYED ? relay_pass(skb, packet, hop, action) : verdict;
}

/* What becomes of an ICMP packet, with or without an outer header; PASS_LOCAL: it is about SNAT. */
static __always_inline enum verdict relay(struct __sk_buff *skb, struct scratch *held,
					  struct packet *packet, __u32 hop, int *action)
{
	enum verdict verdict = relay_ours(skb, held, packet, hop, action);

	if (verdict != DROP_INNER_PROTOCOL && verdict != DROP_NO_SERVICE)
		return verdict;
	return pod_find(packet->outer_destination) ? verdict : PASS_NOT_OURS;
}

#endif
