/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only) */
#ifndef CILIATE_STAGE_OWNERS_H
#define CILIATE_STAGE_OWNERS_H

#include "alias.h"
#include "encap.h"
#include "endpoint.h"
#include "service.h"

/*
 * Which pod a flow belongs to: docs/decisions/per-connection-consistency.md. A packet of a flow
 * that is not known here goes along the former owners of its slot; how far it is stands in the
 * outer TTL.
 */

#define HOP_LAST 3  /* after it, the packet goes back to the present owner */
#define HOP_KNOWN 4 /* sent by memory: the sender was told that the pod has the flow */
#define HOP_FINAL 5 /* asked everybody: the present owner decides */
#define HOP_NOTE 6  /* no packet for a pod: tells who has the flow */
#define HOP_TTL_STEP 32

/* Pods of this node that one packet may be offered to. */
#define OWNER_ROUNDS 5

enum decision_kind {
	DECIDE_VERDICT, /* it ends here */
	DECIDE_POD,	/* into the pod, by a flow's entry */
	DECIDE_PASS,	/* to another owner */
};

struct decision {
	enum decision_kind kind;
	enum verdict verdict;
	bool known; /* the flow's owner is known here, be it a pod of another node */
	__u32 hop;
	address_t next;
	flow_t *flow; /* of DECIDE_POD: a copy that stays as it is */
};

/* A fabric may take up to HOP_TTL_STEP - 1 off. */
static __always_inline __u32 hop_of(__u8 ttl)
{
	return ttl <= IP_DEFAULT_TTL ? 0 : (ttl - IP_DEFAULT_TTL - 1) / HOP_TTL_STEP + 1;
}

static __always_inline __u8 hop_ttl(__u32 hop)
{
	return hop >= HOP_NOTE ? 255 : IP_DEFAULT_TTL + HOP_TTL_STEP * hop;
}

/* The owner after `pod`: the ring's own first, then its former ones; 0 at the end. */
static __always_inline address_t owner_after(address_t pod, address_t present,
					     const former_owners_t *former)
{
	bool found = same_address(pod, present);

	if (!former)
		return found ? no_address() : present;
#pragma clang loop unroll(full)
	for (__u32 i = 0; i < FORMER_OWNERS && is_address(former->owner[i]); i++) {
		if (same_address(former->owner[i], present))
			continue;
		if (found)
			return former->owner[i];
		found = same_address(former->owner[i], pod);
	}
	return found ? no_address() : present;
}

/*
 * A ring's former owners are written before the ring is. In between the owner that it still names
 * is the first of them, and one who is to get the slot back is not among them.
 */
static __always_inline bool ring_is_changing(const backend_t *present,
					     const former_owners_t *former)
{
	return present && former && same_address(former->owner[0], present->address);
}

/* Whether the pod has a socket for this flow that does more than listen. */
static __always_inline bool socket_knows(struct __sk_buff *skb, const struct packet *packet,
					 address_t pod, port_t port)
{
	struct endpoint *endpoint = endpoint_find(pod);
	struct socket_tuple tuple = {
	    .source = packet->source,
	    .destination = pod,
	    .source_port = packet->source_port,
	    .destination_port = port,
	};
	struct bpf_sock_tuple *find = (void *)&tuple;
	struct bpf_sock *sk;
	bool known;

	if (!endpoint || (endpoint->netns < 0 && !endpoint_is_node(endpoint)))
		return false;
	/* The node's own -1 is BPF_F_CURRENT_NETNS. */
	sk = bpf_skc_lookup_tcp(skb, find, sizeof(tuple), (__s64)endpoint->netns, 0);
	if (!sk)
		return false;
	known = sk->state != TCP_LISTEN_STATE;
	bpf_sk_release(sk);
	return known;
}

/* A window's worth of packets that a service may pass on. */
static __always_inline bool pass_allowed(service_id_t service)
{
	struct limit_window *window = limit_window_of(service);

	return !window || window->passed++ < pass_limit;
}

static __always_inline void decide_verdict(struct decision *decision, enum verdict verdict)
{
	decision->kind = DECIDE_VERDICT;
	decision->verdict = verdict;
}

/* `remembered`: by the flow's own REMOTE entry, which no limit counts. */
static __always_inline void decide_pass(struct decision *decision, const struct packet *packet,
					address_t next, __u32 hop, bool remembered)
{
	if (!remembered && !pass_allowed(packet->service)) {
		decide_verdict(decision, DROP_PASS_LIMIT);
		return;
	}
	decision->kind = DECIDE_PASS;
	decision->next = next;
	decision->hop = hop;
}

/*
 * Makes both entries of the scratch row's flow, which this node takes up; SENT_POD or why not.
 * Global for the verifier's sake, as FAMILY(reply_key_take) is (alias.h).
 */
__noinline int FAMILY(flow_adopt)(const struct packet *packet, bool plain)
{
	struct scratch *held = scratch_row();
	enum verdict verdict;

	if (!packet || !held)
		return DROP_TABLE;
	verdict = alias_choose(held, packet, plain);
	if (verdict != SENT_POD)
		return verdict;
	held->flow.packets = 1;
	held->flow.bytes = packet->frame_bytes;
	return request_made(held, packet->protocol) ? SENT_POD : DROP_CONNTRACK_FULL;
}

static __always_inline void decide_adopt(struct decision *decision, struct packet *packet,
					 address_t pod, const struct target *target, __u32 flags,
					 bool plain)
{
	struct scratch *held = scratch_row();
	struct traffic *traffic;
	flow_t *flow;

	if (!held) {
		decide_verdict(decision, DROP_TABLE);
		return;
	}
	flow = decision->flow = &held->flow;
	__builtin_memset(flow, 0, sizeof(*flow));
	flow->client = flow->alias_address = packet->source;
	flow->service_address = packet->destination;
	flow->pod = pod;
	flow->client_port = packet->source_port;
	flow->service_port = packet->destination_port;
	flow->pod_port = target->port;
	flow->service = packet->service;
	flow->counter = target->counter;
	flow->created = flow->seen = jiffies_now();
	flow->flags = flags;
	decision->verdict = FAMILY(flow_adopt)(packet, plain);
	decision->kind = decision->verdict == SENT_POD ? DECIDE_POD : DECIDE_VERDICT;
	if (decision->kind != DECIDE_POD)
		return;
	traffic = traffic_of(target->counter);
	if (traffic) {
		traffic->adopted++;
		traffic->connections += packet->protocol == IPPROTO_UDP;
	}
}

/* Nobody else can be asked. */
static __always_inline void decide_last(struct decision *decision, struct packet *packet,
					address_t pod, const struct target *target, bool changing)
{
	if (packet_makes_none(packet))
		decide_verdict(decision, DROP_UNKNOWN_FLOW);
	else if (is_connected(packet) && changing)
		decide_verdict(decision, DROP_UNKNOWN_FINAL);
	else
		decide_adopt(decision, packet, pod, target, 0, false);
}

static __always_inline void decide_final(struct decision *decision, struct packet *packet,
					 address_t pod, const struct target *target,
					 const struct service *service, bool changing)
{
	if (is_connected(packet) && !packet_makes_none(packet) &&
	    jiffies_since(service->changed, jiffies_now()) < quiet_jiffies)
		decide_verdict(decision, DROP_UNKNOWN_FINAL);
	else
		decide_last(decision, packet, pod, target, changing);
}

/* One round: `pod` is of this node. Returns whether another pod of this node has to be asked. */
static __always_inline bool decide_round(struct __sk_buff *skb, struct packet *packet,
					 const struct service *service, address_t *pod,
					 struct decision *decision, __u32 round)
{
	target_key_t key = {.service = service->id, .pod = *pod};
	struct target *target = bpf_map_lookup_elem(&FAMILY(targets), &key);
	former_owners_t *former;
	backend_t *present;
	bool changing;
	address_t next;

	if (!target && (!decision->hop || decision->hop == HOP_FINAL)) {
		decide_verdict(decision, DROP_NOT_A_BACKEND);
		return false;
	}
	if (target && packet_is_syn(packet)) {
		decide_adopt(decision, packet, *pod, target, 0, opens_plain(service, packet));
		return false;
	}
	if (target && socket_lookup && packet->protocol == IPPROTO_TCP &&
	    socket_knows(skb, packet, *pod, target->port)) {
		decide_adopt(decision, packet, *pod, target, FLOW_CONFIRMED, false);
		return false;
	}
	present = service->backend_count ? backend_select(service, packet) : NULL;
	former = former_owners_of(service, packet->slot);
	changing = ring_is_changing(present, former);
	if (target && decision->hop == HOP_FINAL) {
		decide_final(decision, packet, *pod, target, service, changing);
		return false;
	}
	next = present && decision->hop < HOP_LAST ? owner_after(*pod, present->address, former)
						   : no_address();
	/* A balancer remembers the client, or has drawn: nobody else would get a flow of it. */
	if (target && round == 1 && !decision->hop && packet->protocol == IPPROTO_UDP &&
	    service->flags & (SERVICE_AFFINITY | SERVICE_RANDOM) && present &&
	    !same_address(present->address, *pod)) {
		decide_adopt(decision, packet, *pod, target, 0, false);
		return false;
	}
	if (!present || round == OWNER_ROUNDS ||
	    (!is_address(next) && same_address(present->address, *pod))) {
		if (target)
			decide_last(decision, packet, *pod, target, changing);
		else
			decide_verdict(decision, DROP_NOT_A_BACKEND);
		return false;
	}
	if (!is_address(next)) {
		decision->hop = HOP_FINAL;
		next = present->address;
	}
	if (endpoint_find(next)) {
		*pod = next;
		return true;
	}
	decide_pass(decision, packet, next,
		    decision->hop == HOP_FINAL ? HOP_FINAL : decision->hop + 1, false);
	return false;
}

static __always_inline void decide_unknown(struct __sk_buff *skb, struct packet *packet,
					   address_t pod, struct decision *decision)
{
	struct service *service = service_find(packet);

	if (!service) {
		decide_verdict(decision, DROP_NO_SERVICE);
		return;
	}
	packet->service = service->id;
	if (!source_is_client(packet)) {
		decide_verdict(decision, DROP_SOURCE);
		return;
	}
	flow_hash(packet);
	/* Linux 6.1 takes a call that falls through to the loop's head for an endless loop. */
#pragma clang loop unroll(full)
	for (__u32 round = 1; round <= OWNER_ROUNDS; round++)
		if (!decide_round(skb, packet, service, &pod, decision, round))
			return;
}

static __always_inline void decide_known(struct decision *decision, const flow_t *flow)
{
	struct scratch *held = scratch_row();

	if (!held) {
		decide_verdict(decision, DROP_TABLE);
		return;
	}
	held->flow = *flow;
	decision->kind = DECIDE_POD;
	decision->known = true;
	decision->flow = &held->flow;
}

/*
 * What becomes of a request for `pod` that came at `decision->hop`. Not inlined: the verifier
 * then walks it once for both kinds of arrival.
 */
static __noinline int decide(struct __sk_buff *skb, struct packet *packet, address_t pod,
			     struct decision *decision)
{
	flow_key_t key;
	flow_t *flow;

	if (!packet || !decision)
		return 0;
	key = flow_key_of(packet, FLOW_REQUEST);
	flow = bpf_map_lookup_elem(&FAMILY(conntrack), &key);
	if (flow && !(flow->flags & (FLOW_REMOTE | FLOW_SNAT)) && !flow_is_past(flow, packet)) {
		flow_update(flow, packet, false, false);
		packet->service = flow->service;
		decide_known(decision, flow);
		return 0;
	}
	if (flow && flow->flags & FLOW_REMOTE && !packet_is_syn(packet) &&
	    decision->hop <= HOP_LAST) {
		flow_update(flow, packet, false, false);
		packet->service = flow->service;
		decision->known = true;
		outer_hash(packet);
		decide_pass(decision, packet, flow->pod, HOP_KNOWN, true);
		return 0;
	}
	if (flow)
		flow_delete(flow, packet->protocol);
	decide_unknown(skb, packet, pod, decision);
	return 0;
}

/* Remembers who has a flow of other nodes; without room the owners are asked again next time. */
static __always_inline void remember_owner(const struct packet *packet, address_t owner)
{
	flow_key_t key = flow_key_of(packet, FLOW_REQUEST);
	flow_t *known = bpf_map_lookup_elem(&FAMILY(conntrack), &key);
	struct scratch *held = scratch_row();
	flow_t *flow;

	if (!held || endpoint_find(owner) || (known && !(known->flags & FLOW_REMOTE)))
		return;
	flow = &held->flow;
	__builtin_memset(flow, 0, sizeof(*flow));
	flow->client = flow->alias_address = packet->source;
	flow->service_address = packet->destination;
	flow->pod = owner;
	flow->client_port = packet->source_port;
	flow->service_port = packet->destination_port;
	flow->service = packet->service;
	flow->flags = FLOW_REMOTE;
	flow->created = flow->seen = jiffies_now();
	bpf_map_update_elem(&FAMILY(conntrack), &key, flow, BPF_ANY);
}

#endif
