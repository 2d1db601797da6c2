/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only) */
/*
 * tc on the node's uplinks, towards the node: the balancer for whatever XDP left, and the receiver
 * of what other nodes encapsulated.
 */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <bpf/bpf_helpers.h>
#include "abi/programs.h"
#include "stage/affinity.h"
#include "stage/answer-skb.h"
#include "stage/capture-skb.h"
#include "stage/clock.h"
#include "stage/deliver.h"
#include "stage/echo-skb.h"
#include "stage/errand.h"
#include "stage/fragment.h"
#include "stage/foreign.h"
#include "stage/go-on.h"
#include "stage/host-read.h"
#include "stage/nat-skb.h"
#include "stage/plain.h"
#include "stage/remember.h"
#include "stage/skb.h"
#include "stage/source.h"
#include "stage/to-node.h"
#include "stage/told.h"

/* The same with Geneve between. */
#define TOLD_BYTES (ETH_HLEN + GENEVE_BYTES + IP_HEADER_MAX + 20)

/* By DSR. */
static __always_inline enum verdict send_direct(struct __sk_buff *skb, struct packet *packet,
						const struct service *service, int *action)
{
	enum verdict verdict;
	backend_t *backend;

	packet->service = service->id;
	if (source_refused(service, packet->source))
		return DROP_SOURCE_RANGE;
	if (!service->backend_count)
		return reject_verdict(service, packet);
	backend = backend_choose(service, packet);
	if (!backend)
		return DROP_TABLE;
	packet->backend = backend->address;
	if (backend->flags & BACKEND_LOCAL) {
		traffic_count(backend->counter, packet);
		return hand_over(skb, &backend->address);
	}
	verdict = to_node(skb, packet, service, backend, action);
	if (verdict == SENT_ENCAPSULATED || verdict == SENT_PLAIN)
		traffic_count(backend->counter, packet);
	return verdict;
}

static __always_inline enum verdict balance(struct __sk_buff *skb, struct packet *packet,
					    const struct service *service, int *action)
{
	packet->service = service->id;
	if (has_nat_flows(service))
		return go_on(skb, HOST_PROGRAM_NAT);
	return send_direct(skb, packet, service, action);
}

static __always_inline enum verdict received(struct __sk_buff *skb, struct scratch *held,
					     struct packet *packet, int *action)
{
	enum parsed parsed = PARSED_INVALID;
	enum verdict verdict;
	__u32 hop;

	verdict = unwrap(skb, packet, &hop, &parsed);
	if (verdict == PASS_UNRESOLVED || (verdict == PASS_NOT_OURS && is_again(packet, parsed)))
		return go_on_with(skb, packet, held, HOST_PROGRAM_FOREIGN);
	if (verdict != PASS_LOCAL)
		return verdict;
	if (parsed == PARSED_PROTOCOL)
		return go_on_with(skb, packet, held, HOST_PROGRAM_ICMP);
	if (hop == HOP_NOTE)
		return take_note(skb, packet, action);
	return deliver(skb, packet, packet->outer_destination, hop, action);
}

/* What is for no service, and no reply of SNAT. */
static __always_inline enum verdict unbalanced(struct __sk_buff *skb, const struct packet *packet)
{
	if (service_has_address(packet->destination))
		return DROP_UNKNOWN_PORT;
	if (told_by_geneve(packet) || told_by_option(skb, packet))
		return go_on(skb, HOST_PROGRAM_TOLD);
	if (!node_clients && !endpoint_find(packet->destination))
		return PASS_NOT_OURS;
	return go_on(skb, HOST_PROGRAM_PLAIN);
}

/* A packet with ports. */
static __always_inline enum verdict whole(struct __sk_buff *skb, struct packet *packet,
					  struct service *service, int *action)
{
	if (service)
		return balance(skb, packet, service, action);
	if (nat_may_be_reply(packet))
		return go_on(skb, HOST_PROGRAM_NAT_BACK);
	return unbalanced(skb, packet);
}

static __always_inline enum verdict host(struct __sk_buff *skb, struct packet *packet, int *action)
{
#ifndef FAMILY_IPV6
	if (skb->protocol == bpf_htons(ETH_P_IPV6))
		bpf_tail_call(skb, &host_programs, HOST_PROGRAM_IPV6);
#endif
	switch (host_parse(skb, packet)) {
	case PARSED_WHOLE:
		return whole(skb, packet, service_find(packet), action);
	case PARSED_FRAGMENT:
		if (fragments_track)
			return go_on(skb, HOST_PROGRAM_FRAGMENT);
		if (!service_has_address(packet->destination))
			return PASS_NOT_OURS;
		return fragments_pass ? PASS_FRAGMENT : DROP_FRAGMENT;
	case PARSED_PROTOCOL:
		if (packet->protocol == IPPROTO_ICMP)
			return go_on(skb, HOST_PROGRAM_ICMP);
		if (packet->protocol == IPPROTO_OUTER)
			return go_on(skb, HOST_PROGRAM_DELIVER);
		return PASS_NOT_OURS;
	default:
		return PASS_NOT_OURS;
	}
}

/* A piece of a packet, with `fragments: track`. */
static __always_inline enum verdict piece(struct __sk_buff *skb, struct packet *packet, int *action)
{
	struct service *service;

	if (host_read(skb, packet) != PARSED_WHOLE)
		return service_has_address(packet->destination) ? DROP_FRAGMENT : PASS_NOT_OURS;
	service = service_find(packet);
	if (fragment_is_first(packet) &&
	    (service || nat_may_be_reply(packet) || endpoint_find(packet->destination)))
		fragment_learn(packet);
	return whole(skb, packet, service, action);
}

/* The one end of all programs here. */
static __always_inline int finish(struct __sk_buff *skb, struct packet *packet,
				  enum verdict verdict, int action)
{
	/* The answer is made where the stack has room for it. */
	if (verdict == SENT_FRAG_NEEDED || verdict == SENT_REJECTED)
		verdict =
		    answer_asked(packet, verdict) ? go_on(skb, HOST_PROGRAM_ANSWER) : DROP_TABLE;
	if (verdict >= DROP_NO_BACKEND)
		action = TC_ACT_SHOT;
	skb_conclude(skb, packet, PLACE_HOST, verdict);
	return action;
}

SEC("tc")
int FAMILY(from_network)(struct __sk_buff *skb)
{
	struct packet packet = {.frame_bytes = skb->len, .l3 = ETH_HLEN};
	struct runtime *state = runtime_row();
	int action = TC_ACT_UNSPEC;
	enum verdict verdict;

	if (!state)
		return TC_ACT_UNSPEC;
	packet.events = skb_begin(skb, state->events);
	verdict = host(skb, &packet, &action);
	return finish(skb, &packet, verdict, action);
}

static __always_inline enum verdict nat(struct __sk_buff *skb, struct packet *packet, int *action)
{
	flow_t *flow;

	if (host_read(skb, packet) != PARSED_WHOLE)
		return PASS_NOT_OURS;
	flow = nat_known(packet);
	if (!flow)
		return go_on(skb, HOST_PROGRAM_NAT_NEW);
	packet->service = flow->service;
	packet->backend = flow->pod;
	if (flow->flags & FLOW_SNAT)
		return nat_send(skb, packet, flow, action);
	traffic_count(flow->counter, packet);
	return hand_over(skb, &flow->pod);
}

SEC("tc")
int FAMILY(host_fragment)(struct __sk_buff *skb)
{
	struct scratch *held = scratch_row();
	int action = TC_ACT_UNSPEC;
	struct packet *packet;
	enum verdict verdict;

	if (!held)
		return TC_ACT_UNSPEC;
	packet = scratch_packet(held, skb->len);
	verdict = piece_by_node(skb, packet, piece(skb, packet, &action));
	return finish(skb, packet, verdict, action);
}

/* Packets to services that have flows of SNAT, or had some. */
SEC("tc")
int FAMILY(host_nat)(struct __sk_buff *skb)
{
	struct scratch *held = scratch_row();
	int action = TC_ACT_UNSPEC;
	struct packet *packet;
	enum verdict verdict;

	if (!held)
		return TC_ACT_UNSPEC;
	packet = scratch_packet(held, skb->len);
	verdict = nat(skb, packet, &action);
	return finish(skb, packet, verdict, action);
}

static __always_inline enum verdict nat_begin(struct __sk_buff *skb, struct packet *packet,
					      int *action)
{
	struct service *service;
	enum verdict verdict;
	backend_t *backend;

	if (host_read(skb, packet) != PARSED_WHOLE)
		return PASS_NOT_OURS;
	service = service_find(packet);
	if (!service)
		return unbalanced(skb, packet);
	packet->service = service->id;
	if (source_refused(service, packet->source))
		return DROP_SOURCE_RANGE;
	if (nat_goes_on(service, packet))
		return go_on(skb, HOST_PROGRAM_BALANCE);
	if (!service->backend_count)
		return reject_verdict(service, packet);
	backend = backend_draw(service, packet);
	if (!backend)
		return DROP_TABLE;
	packet->backend = backend->address;
	if (backend->flags & BACKEND_LOCAL) {
		traffic_count(backend->counter, packet);
		return hand_over(skb, &backend->address);
	}
	verdict = nat_open(skb, packet, backend);
	return verdict == SENT_NAT ? go_on(skb, HOST_PROGRAM_NAT) : verdict;
}

/* What host_nat knows no flow of. */
SEC("tc")
int FAMILY(host_nat_new)(struct __sk_buff *skb)
{
	struct packet packet = {.frame_bytes = skb->len, .l3 = ETH_HLEN, .events = events_now()};
	int action = TC_ACT_UNSPEC;
	enum verdict verdict = nat_begin(skb, &packet, &action);

	return finish(skb, &packet, verdict, action);
}

/* What host_nat_new leaves to DSR. */
SEC("tc")
int FAMILY(host_balance)(struct __sk_buff *skb)
{
	struct packet packet = {.frame_bytes = skb->len, .l3 = ETH_HLEN, .events = events_now()};
	enum verdict verdict = PASS_NOT_OURS;
	int action = TC_ACT_UNSPEC;

	if (host_read(skb, &packet) == PARSED_WHOLE) {
		struct service *service = service_find(&packet);

		verdict = service ? send_direct(skb, &packet, service, &action)
				  : unbalanced(skb, &packet);
		if (service && nat_remembers(service, &packet, verdict))
			nat_remember(&packet);
		verdict = piece_by_node(skb, &packet, verdict);
	}
	return finish(skb, &packet, verdict, action);
}

/* Packets to this node that may be replies to SNAT. */
SEC("tc")
int FAMILY(host_nat_back)(struct __sk_buff *skb)
{
	struct packet packet = {.frame_bytes = skb->len, .l3 = ETH_HLEN, .events = events_now()};
	enum verdict verdict = PASS_NOT_OURS;
	int action = TC_ACT_UNSPEC;
	flow_t *flow;

	if (host_read(skb, &packet) == PARSED_WHOLE) {
		flow = nat_reply(&packet);
		verdict = flow ? nat_answer(skb, &packet, flow, &action) : unbalanced(skb, &packet);
	}
	return finish(skb, &packet, verdict, action);
}

/* What is for a pod of this node and for no service. */
SEC("tc")
int FAMILY(host_plain)(struct __sk_buff *skb)
{
	struct packet packet = {.frame_bytes = skb->len, .l3 = ETH_HLEN, .events = events_now()};
	enum verdict verdict = PASS_NOT_OURS;
	int action = TC_ACT_UNSPEC;

	if (host_read(skb, &packet) == PARSED_WHOLE)
		verdict = plain(skb, &packet, &action);
	return finish(skb, &packet, verdict, action);
}

/* What came with an outer header, and what the balancer gives to a pod of this node. */
SEC("tc")
int FAMILY(host_deliver)(struct __sk_buff *skb)
{
	struct scratch *held = scratch_row();
	enum verdict verdict = PASS_NOT_OURS;
	int action = TC_ACT_UNSPEC;
	struct packet *packet;
	__u32 taken;

	if (!held)
		return TC_ACT_UNSPEC;
	/* The chain of calls from here is the deepest. */
	taken = scratch_taken(held);
	packet = scratch_packet(held, skb->len + taken);
	switch (host_read(skb, packet)) {
	case PARSED_WHOLE:
		packet->told = taken;
		verdict = deliver(skb, packet, held->pod, 0, &action);
		break;
	case PARSED_PROTOCOL:
		verdict = received(skb, held, packet, &action);
		break;
	default:
		break;
	}
	return finish(skb, packet, verdict, action);
}

/* On with what is for a pod of this node now. */
static __always_inline enum verdict delivered_if_local(struct __sk_buff *skb,
						       const struct packet *packet,
						       struct scratch *held, enum verdict verdict)
{
	return verdict == PASS_LOCAL ? go_on_with(skb, packet, held, HOST_PROGRAM_DELIVER)
				     : verdict;
}

static __always_inline enum verdict told(struct __sk_buff *skb, struct packet *packet,
					 struct scratch *held, int *action)
{
	enum verdict verdict;

	if (host_parse(skb, packet) != PARSED_WHOLE || !skb_readable(skb, TOLD_BYTES))
		return PASS_NOT_OURS;
	verdict = told_by_geneve(packet) ? told_geneve(skb, packet, held, action)
					 : told_option(skb, packet, held);
	return delivered_if_local(skb, packet, held, verdict);
}

/* What a balancer sent translated, together with its service: Geneve, or an option. */
SEC("tc")
int FAMILY(host_told)(struct __sk_buff *skb)
{
	struct packet packet = {.frame_bytes = skb->len, .l3 = ETH_HLEN, .events = events_now()};
	struct scratch *held = scratch_row();
	int action = TC_ACT_UNSPEC;
	enum verdict verdict = held ? told(skb, &packet, held, &action) : DROP_TABLE;

	return finish(skb, &packet, verdict, action);
}

/*
 * IPIP of a load balancer that addresses this node, or the service, and leaves the choice to us;
 * and IPIP that is in IPIP to this node.
 */
SEC("tc")
int FAMILY(host_foreign)(struct __sk_buff *skb)
{
	struct scratch *held = scratch_row();
	enum verdict verdict;
	int action = TC_ACT_UNSPEC;
	struct packet *packet;

	if (!held)
		return TC_ACT_UNSPEC;
	packet = scratch_packet(held, skb->len + scratch_taken(held));
	verdict = to_no_pod(skb, packet, held, &action);
	verdict = delivered_if_local(skb, packet, held, verdict);
	return finish(skb, packet, verdict, action);
}

static __always_inline enum verdict icmp(struct __sk_buff *skb, struct scratch *held,
					 struct packet *packet, int *action)
{
	enum parsed parsed = PARSED_INVALID;
	enum verdict verdict;
	__u32 hop = 0;

	if (host_parse(skb, packet) != PARSED_PROTOCOL)
		return PASS_NOT_OURS;
	if (packet->protocol == IPPROTO_OUTER) {
		verdict = unwrap(skb, packet, &hop, &parsed);
		if (verdict != PASS_LOCAL)
			return verdict;
	} else {
		verdict = skb_echo(skb, packet, action);
		if (verdict != PASS_NOT_OURS)
			return verdict;
	}
	verdict = relay(skb, held, packet, hop, action);
	return verdict == PASS_LOCAL ? go_on(skb, HOST_PROGRAM_ICMP_NAT) : verdict;
}

/* Pings of services' addresses, and errors about replies, with or without an outer header. */
SEC("tc")
int FAMILY(host_icmp)(struct __sk_buff *skb)
{
	struct scratch *held = scratch_row();
	int action = TC_ACT_UNSPEC;
	struct packet *packet;
	enum verdict verdict;

	if (!held)
		return TC_ACT_UNSPEC;
	packet = scratch_packet(held, skb->len + scratch_taken(held));
	verdict = icmp(skb, held, packet, &action);
	return finish(skb, packet, verdict, action);
}

/* Errors about flows of SNAT. */
SEC("tc")
int FAMILY(host_icmp_nat)(struct __sk_buff *skb)
{
	struct scratch *held = scratch_row();
	enum verdict verdict = PASS_NOT_OURS;
	int action = TC_ACT_UNSPEC;
	struct packet *packet;

	if (!held)
		return TC_ACT_UNSPEC;
	packet = scratch_packet(held, skb->len);
	if (host_parse(skb, packet) == PARSED_PROTOCOL)
		verdict = nat_icmp(skb, held, packet, &action);
	return finish(skb, packet, verdict, action);
}

/* ICMP or RST to the sender of a packet that another program has seen. */
SEC("tc")
int FAMILY(host_answer)(struct __sk_buff *skb)
{
	struct packet packet = {.frame_bytes = skb->len, .l3 = ETH_HLEN, .events = events_now()};
	enum verdict verdict = DROP_REWRITE;
	int action = TC_ACT_UNSPEC;

	if (host_read(skb, &packet) == PARSED_WHOLE)
		verdict = answer_make(skb, &packet, &action);
	if (verdict >= DROP_NO_BACKEND)
		action = TC_ACT_SHOT;
	skb_conclude(skb, &packet, PLACE_HOST, verdict);
	return action;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
