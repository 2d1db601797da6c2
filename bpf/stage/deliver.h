/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only) */
#ifndef CILIATE_STAGE_DELIVER_H
#define CILIATE_STAGE_DELIVER_H

#include "fragment.h"
#include "give.h"
#include "owners.h"
#include "parse.h"
#include "peer.h"
#include "relay.h"
#include "skb.h"

/* Requests for pods of this node, with or without an outer header. */

#define ECN_MASK 3
#define ECN_ECT1 1
#define ECN_ECT0 2
#define ECN_CE 3

/* The TOS of an inner packet after its outer header is gone (RFC 6040, 4.2); false: drop it. */
static __always_inline bool ecn_decapsulate(struct packet *packet, __u8 *tos)
{
	__u8 outer = packet->outer_tos & ECN_MASK, inner = packet->tos & ECN_MASK;

	*tos = packet->tos;
	if (!has_outer(packet))
		return true;
	if (outer == ECN_CE) {
		*tos |= ECN_CE;
		return inner;
	}
	if (outer == ECN_ECT1 && inner == ECN_ECT0)
		*tos = (packet->tos & ~ECN_MASK) | ECN_ECT1;
	return true;
}

/*
 * Functions that aren't inlined keep the depth of the stack below what the verifier allows: 512
 * bytes for a chain of calls, each rounded up to 32 before Linux 6.8.
 */

/* Strips, translates and puts the packet into the flow's pod. */
static __noinline enum verdict into_pod(struct __sk_buff *skb, struct packet *packet,
					const flow_t *flow, __u8 tos, int *action)
{
	struct endpoint *endpoint = endpoint_find(flow->pod);
	struct translation to = {
	    .source = flow->alias_address,
	    .destination = flow->pod,
	    .source_port = flow->alias_port,
	    .destination_port = flow->pod_port,
	    .tos = tos,
	    .ttl = packet->ttl,
	};

	packet->backend = flow->pod;
	if (!endpoint)
		return DROP_ENDPOINT_GONE;
	sum_follow(skb, packet, &to);
	if (!translate_l4_checksum(skb, packet, packet->l3, &to))
		return DROP_REWRITE;
	if (has_outer(packet) && bpf_skb_adjust_room(skb, -(packet->l3 - ETH_HLEN),
						     BPF_ADJ_ROOM_MAC, BPF_F_ADJ_ROOM_FIXED_GSO))
		return DROP_REWRITE;
	if (!translate_headers(skb, packet, ETH_HLEN, &to) || !endpoint_give(skb, endpoint, action))
		return DROP_REWRITE;
	return SENT_POD;
}

/* Where a note carries the owner: the bytes behind the ports, which TCP and UDP both have. */
#define NOTE_OFFSET 4

/*
 * Tells the node that passed a packet on which pod has its flow: a copy of the packet, sent back
 * with the owner's address in it. Not inlined: it has a stack of its own.
 */
static __noinline int note_owner(struct __sk_buff *skb, struct packet *packet, address_t owner)
{
	struct {
		struct ethhdr eth;
		ip_t outer;
	} __attribute__((packed)) headers;
	struct way way = {};
	address_t passer, held;
	__u32 at;

	if (!packet)
		return 0;
	passer = packet->outer_source;
	at = packet->l3 + packet->header_bytes + NOTE_OFFSET;
	if (!way_find(skb, own_address(), passer, 0, &way) || !way.neighbour ||
	    bpf_skb_load_bytes(skb, 0, &headers, sizeof(headers)) ||
	    bpf_skb_load_bytes(skb, at, &held, sizeof(held)) ||
	    bpf_skb_store_bytes(skb, at, &owner, sizeof(owner), 0))
		return 0;
	{
		__u8 ttl = hop_ttl(HOP_NOTE);
		ip_t *outer = skb_start(skb) + ETH_HLEN;

		if ((void *)(outer + 1) <= skb_end(skb)) {
			skb_ethernet(skb, way.destination, way.source);
			outer_redirect(outer, packet, passer, ttl);
			bpf_clone_redirect(skb, way.ifindex, 0);
		}
	}
	bpf_skb_store_bytes(skb, at, &held, sizeof(held), 0);
	bpf_skb_store_bytes(skb, 0, &headers, sizeof(headers), 0);
	return 0;
}

/* Another node's word on who has a flow. */
static __always_inline enum verdict take_note(struct __sk_buff *skb, struct packet *packet,
					      int *action)
{
	struct service *service = service_find(packet);
	address_t owner;

	if (!service)
		return DROP_NO_SERVICE;
	if (bpf_skb_load_bytes(skb, packet->l3 + packet->header_bytes + NOTE_OFFSET, &owner,
			       sizeof(owner)))
		return DROP_INNER_INVALID;
	packet->service = service->id;
	packet->backend = owner;
	remember_owner(packet, owner);
	*action = TC_ACT_SHOT;
	return SENT_NOTED;
}

/* The answer is made where the stack has room for it. `extra`: what the way adds to the packet. */
static __always_inline enum verdict too_big(struct packet *packet, const struct way *way,
					    __u32 extra)
{
	packet->mtu = way->mtu - extra;
	return SENT_FRAG_NEEDED;
}

/* Points the outer header to the next owner; what came without one gets one. */
static __noinline enum verdict pass_on(struct __sk_buff *skb, struct packet *packet,
				       struct decision *decision, int *action)
{
	__u8 ttl = hop_ttl(decision->hop);
	struct passage passage = {};
	__u32 bytes = segment_bytes(skb, packet);

	packet->backend = decision->next;
	if (!passage_find(skb, packet, bytes, &passage))
		return DROP_NO_ROUTE;
	if (bytes + passage.extra > passage.way.mtu)
		return has_outer(packet) ? DROP_TOO_BIG
					 : too_big(packet, &passage.way, passage.extra);
	if (!passage_take(skb, packet, ttl, &passage, action))
		return DROP_REWRITE;
	return decision->hop == HOP_FINAL ? SENT_FINAL : SENT_PASSED;
}

/* A request for `pod` of this node, with or without an outer header. */
static __always_inline enum verdict deliver(struct __sk_buff *skb, struct packet *packet,
					    address_t pod, __u32 hop, int *action)
{
	struct decision decision = {.hop = hop};
	bool is_pod;
	__u8 tos;

	if (!ecn_decapsulate(packet, &tos))
		return DROP_ECN;
	decide(skb, packet, pod, &decision);
	/* The verifier of Linux 6.1 doesn't know that the one comes with the other. */
	is_pod = decision.kind == DECIDE_POD && decision.flow;
	if (decision.known && hop && hop != HOP_KNOWN && !skb->gso_size && !packet->fragment)
		note_owner(skb, packet, is_pod ? decision.flow->pod : decision.next);
	if (is_pod)
		return into_pod(skb, packet, decision.flow, tos, action);
	if (decision.kind == DECIDE_PASS)
		return pass_on(skb, packet, &decision, action);
	return decision.verdict;
}

/* What is known of who sent a packet; NULL: nothing. Whoever has no address is nobody, whatever is
 * trusted: "no outer header" is said by that. */
static __always_inline struct trusted *sender_of(const struct packet *packet)
{
	trusted_key_t key = {.prefix_length = 8 * sizeof(address_t), .address = packet->source};

	if (!is_address(packet->source))
		return NULL;
	return bpf_map_lookup_elem(&FAMILY(trusted), &key);
}

/* What a balancer that is no node of ours may address in place of a pod. */
static __always_inline bool foreign_target(address_t address)
{
	return same_address(address, own_address()) ||
	       node_address_kind(address) == NODE_ADDRESS_OWN || service_has_address(address);
}

/* What may have an outer header to no pod: what a node sends by another node's address, and IPIP of
 * foreign balancers. Not inlined: callers have no stack left. */
static __noinline bool unwrap_aside(__u32 kind, address_t destination)
{
	if (kind == TRUST_NODE)
		return same_address(destination, own_address());
	return kind == TRUST_LOAD_BALANCER && foreign_target(destination);
}

/* What is known of the outer header, before the packet speaks of the inner one. */
static __always_inline void outer_note(struct packet *packet)
{
	packet->outer_source = packet->source;
	packet->outer_destination = packet->destination;
	packet->outer_tos = packet->tos;
	packet->outer_ttl = packet->ttl;
}

/* Reads the packet behind an outer header; PARSED_INVALID: it is no whole one. */
static __always_inline enum parsed outer_parse(struct __sk_buff *skb, struct packet *packet)
{
	__u16 inner_bytes = packet->total_bytes - packet->header_bytes;

	outer_note(packet);
	packet->l3 = ETH_HLEN + (packet->header_bytes & IP_HEADER_MASK);
	return parse_ip(packet, skb_start(skb) + packet->l3, skb_end(skb), inner_bytes);
}

/* What becomes of an inner packet of which only a whole one is of use; PASS_LOCAL: it is one. */
static __always_inline enum verdict inner_verdict(enum parsed parsed)
{
	switch (parsed) {
	case PARSED_INVALID:
		return DROP_INNER_INVALID;
	case PARSED_FRAGMENT:
		return DROP_FRAGMENT;
	case PARSED_PROTOCOL:
		return DROP_INNER_PROTOCOL;
	default:
		return PASS_LOCAL;
	}
}

/* Whether a packet is for a service, or of a flow of one. Not inlined: few are asked about. */
static __noinline bool is_balanced(const struct packet *packet)
{
	flow_key_t key;

	if (!packet)
		return false;
	key = flow_key_of(packet, FLOW_REQUEST);
	return service_find(packet) || bpf_map_lookup_elem(&FAMILY(conntrack), &key);
}

/* Reads the inner packet, in pieces or not; PASS_LOCAL: it can be delivered. */
static __always_inline enum verdict inner_read(struct __sk_buff *skb, struct packet *packet,
					       bool note, enum parsed *parsed)
{
	*parsed = outer_parse(skb, packet);
	if (*parsed == PARSED_FRAGMENT && fragments_track && !note) {
		*parsed = fragment_parse(packet, skb_start(skb) + packet->l3, skb_end(skb));
		return *parsed == PARSED_WHOLE ? PASS_LOCAL : DROP_FRAGMENT;
	}
	if (*parsed == PARSED_PROTOCOL && !note && packet->protocol == IPPROTO_ICMP)
		return PASS_LOCAL;
	return inner_verdict(*parsed);
}

/*
 * Reads what stands behind the outer header of a packet for a pod of this node, or of a note;
 * `hop`: how far it is on its way. PASS_LOCAL: the packet speaks of the inner one, which is as
 * `parsed` says; PASS_UNRESOLVED: a foreign balancer's, which leaves the choice of a pod to us, or
 * what a node of ours may have sent by this node's address. What other nodes send to the node
 * itself may be of a tunnel that is none of ours.
 */
static __always_inline enum verdict unwrap(struct __sk_buff *skb, struct packet *packet, __u32 *hop,
					   enum parsed *parsed)
{
	struct endpoint *endpoint = endpoint_find(packet->destination);
	const bool own = endpoint && endpoint_is_node(endpoint);
	struct trusted *sender = sender_of(packet);
	const bool node = sender && sender->kind == TRUST_NODE;
	enum verdict verdict;

	*hop = node ? hop_of(packet->ttl) : 0;
	if (*hop == HOP_NOTE && !same_address(packet->destination, own_address()))
		*hop = 0;
	if (*hop != HOP_NOTE && (!endpoint || (own && !node)))
		return sender && unwrap_aside(sender->kind, packet->destination) ? PASS_UNRESOLVED
										 : PASS_NOT_OURS;
	/* A drop tells it, too. */
	outer_note(packet);
	if (packet->fragment)
		return own && *hop != HOP_NOTE ? PASS_NOT_OURS : DROP_OUTER_FRAGMENT;
	if (!sender)
		return DROP_UNTRUSTED;
	verdict = inner_read(skb, packet, *hop == HOP_NOTE, parsed);
	if (own && *hop != HOP_NOTE &&
	    (verdict != PASS_LOCAL || (*parsed == PARSED_WHOLE && !is_balanced(packet))))
		return PASS_NOT_OURS;
	if (verdict == PASS_LOCAL && *parsed == PARSED_WHOLE && fragment_is_first(packet))
		fragment_learn(packet);
	return verdict;
}

/* Of what isn't for the node itself as a backend: IPIP that another node may have sent by it. */
static __always_inline bool is_again(const struct packet *packet, enum parsed parsed)
{
	return parsed == PARSED_PROTOCOL && packet->protocol == IPPROTO_OUTER;
}

#endif
