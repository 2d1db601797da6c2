/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only) */
/*
 * tc on the way out of the node's devices: what the node answers as the backend of a service and,
 * where its sockets aren't translated, what it sends to services itself.
 */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <bpf/bpf_helpers.h>
#include "abi/programs.h"
#include "stage/answer-skb.h"
#include "stage/capture-skb.h"
#include "stage/fragment.h"
#include "stage/mss.h"
#include "stage/outbound.h"
#include "stage/parse.h"
#include "stage/quote.h"

#define HEADER_BYTES (ETH_HLEN + IP_HEADER_MAX + 60)

PROGRAM_TABLE(FAMILY(node_programs));

/* What is aside from the straight way; DROP_PROGRAM: it isn't there. */
static __always_inline enum verdict go_on(struct __sk_buff *skb, enum node_program program)
{
	bpf_tail_call(skb, &FAMILY(node_programs), program);
	return DROP_PROGRAM;
}

/* Reads the packet's headers; PARSED_INVALID for whatever is none of ours. */
static __always_inline enum parsed node_parse(struct __sk_buff *skb, struct packet *packet)
{
	struct ethhdr *eth;

	if (skb->protocol != ETHERTYPE || skb->vlan_present || !skb_readable(skb, HEADER_BYTES))
		return PARSED_INVALID;
	eth = skb_start(skb);
	if ((void *)(eth + 1) > skb_end(skb) || eth->h_proto != ETHERTYPE)
		return PARSED_INVALID;
	return parse_ip(packet, (void *)(eth + 1), skb_end(skb), skb->len - ETH_HLEN);
}

/* To the node's own sockets, as if the packet had come by this device. */
static __always_inline bool to_itself(struct __sk_buff *skb, int *action)
{
	struct ethhdr *eth = skb_start(skb);
	mac_t own;

	if ((void *)(eth + 1) > skb_end(skb))
		return false;
	__builtin_memcpy(own, eth->h_source, ETH_ALEN);
	ethernet_write(eth, own, own);
	*action = bpf_redirect(skb->ifindex, BPF_F_INGRESS);
	return true;
}

/* To the flow's pod, wherever it is. */
static __always_inline enum verdict node_send(struct __sk_buff *skb, struct packet *packet,
					      flow_t *flow, int *action)
{
	const bool itself = same_address(flow->pod, flow->client);
	struct endpoint *endpoint = pod_find(flow->pod);
	__u32 bytes = segment_bytes(skb, packet);
	struct translation to;
	struct way way = {};

	packet->service = flow->service;
	packet->backend = flow->pod;
	if (!endpoint && !itself) {
		if (!way_find(skb, flow->alias_address, flow->pod, bytes, &way))
			return DROP_NO_ROUTE;
		if (bytes > way.mtu) {
			packet->mtu = way.mtu;
			return SENT_FRAG_NEEDED;
		}
	}
	flow_update(flow, packet, false, false);
	traffic_count(flow->counter, packet);
	to = nat_to_pod(packet, flow);
	/* Nobody has forwarded it yet. */
	to.ttl = packet->ttl;
	if (!outbound_translate(skb, packet, &to))
		return DROP_REWRITE;
	if (itself)
		return to_itself(skb, action) ? SENT_OUTBOUND : DROP_REWRITE;
	if (endpoint) {
		if (!skb_ethernet(skb, endpoint->pod_mac, endpoint->node_mac))
			return DROP_REWRITE;
		*action = bpf_redirect(endpoint->ifindex, 0);
		return SENT_OUTBOUND;
	}
	if (!skb_ethernet(skb, way.destination, way.source))
		return DROP_REWRITE;
	*action = way_take(&way);
	return SENT_OUTBOUND;
}

/* What the node answers as a backend, to a client outside, to a pod by its device or to itself. */
static __always_inline enum verdict node_reply(struct __sk_buff *skb, struct packet *packet,
					       flow_t *flow, int *action)
{
	const bool own = flow->flags & FLOW_NODE, outside = !(flow->flags & FLOW_OUTBOUND);
	struct translation to;

	if (outside ? flow->flags & FLOW_SNAT : !own && !sender_find(skb, flow->client))
		return PASS_NOT_OURS;
	to = outbound_answer(packet, flow, packet->ttl);
	if (outside)
		clamp(skb, packet);
	if (!outbound_translate(skb, packet, &to) || (own && !to_itself(skb, action)))
		return DROP_REWRITE;
	return SENT_REPLY;
}

/* The flow that a packet of the node answers; NULL: it answers none. */
static __always_inline flow_t *answered_flow(const struct packet *packet)
{
	flow_key_t key = flow_key_of(packet, FLOW_REPLY);

	return bpf_map_lookup_elem(&FAMILY(conntrack), &key);
}

/* What has no ports of its own. */
static __always_inline enum verdict node_aside(struct __sk_buff *skb, const struct packet *packet,
					       enum parsed parsed)
{
	if (parsed == PARSED_PROTOCOL && packet->protocol == IPPROTO_ICMP)
		return go_on(skb, NODE_PROGRAM_ICMP);
	if (parsed == PARSED_FRAGMENT && fragments_track)
		return go_on(skb, NODE_PROGRAM_FRAGMENT);
	return PASS_NOT_OURS;
}

static __always_inline enum verdict node(struct __sk_buff *skb, struct packet *packet, int *action)
{
	enum parsed parsed;
	flow_t *flow;

#ifndef FAMILY_IPV6
	if (skb->protocol == bpf_htons(ETH_P_IPV6))
		bpf_tail_call(skb, &node_programs, NODE_PROGRAM_IPV6);
#endif
	/* What came by a device before is forwarded, or was sent on by a program. */
	if (skb->ingress_ifindex)
		return PASS_NOT_OURS;
	parsed = node_parse(skb, packet);
	if (unlikely(parsed != PARSED_WHOLE))
		return node_aside(skb, packet, parsed);
	flow = answered_flow(packet);
	if (flow)
		return node_reply(skb, packet, flow, action);
	if (!node_clients ||
	    !inside_find(packet->destination, packet->destination_port, packet->protocol))
		return PASS_NOT_OURS;
	flow = outbound_flow(packet);
	return flow ? node_send(skb, packet, flow, action) : go_on(skb, NODE_PROGRAM_OUTBOUND_NEW);
}

/* The one end of all programs here. */
static __always_inline int finish(struct __sk_buff *skb, const struct packet *packet,
				  enum verdict verdict, int action)
{
	/* The answer is made where the stack has room for it. */
	if (verdict == SENT_FRAG_NEEDED || verdict == SENT_REJECTED)
		verdict =
		    answer_asked(packet, verdict) ? go_on(skb, NODE_PROGRAM_ANSWER) : DROP_TABLE;
	if (verdict >= DROP_NO_BACKEND)
		action = TC_ACT_SHOT;
	skb_conclude(skb, packet, PLACE_NODE, verdict);
	return action;
}

SEC("tc")
int FAMILY(from_node)(struct __sk_buff *skb)
{
	struct scratch *held = scratch_row();
	int action = TC_ACT_UNSPEC;
	struct packet *packet;
	enum verdict verdict;

	if (!held)
		return TC_ACT_UNSPEC;
	packet = scratch_packet(held, skb->len);
	skb_begin(skb, packet->events);
	verdict = node(skb, packet, &action);
	return finish(skb, packet, verdict, action);
}

/* SENT_OUTBOUND: there is a flow for the packet now. */
static __always_inline enum verdict node_begin(struct __sk_buff *skb, struct scratch *held,
					       struct packet *packet)
{
	struct service *service = service_of(
	    inside_find(packet->destination, packet->destination_port, packet->protocol));
	struct asker asker = {
	    .netns = BPF_F_CURRENT_NETNS,
	    .sockets = true,
	    .flags = FLOW_OUTBOUND | FLOW_NODE,
	};

	if (!service)
		return PASS_NOT_OURS;
	packet->service = service->id;
	outbound_clear(packet);
	return outbound_open(skb, held, packet, service, &asker);
}

/* What from_node knows no flow of. */
SEC("tc")
int FAMILY(node_new)(struct __sk_buff *skb)
{
	struct scratch *held = scratch_row();
	enum verdict verdict = PASS_NOT_OURS;
	struct packet *packet;

	if (!held)
		return TC_ACT_UNSPEC;
	packet = scratch_packet(held, skb->len);
	if (node_parse(skb, packet) == PARSED_WHOLE)
		verdict = node_begin(skb, held, packet);
	if (verdict == SENT_OUTBOUND)
		verdict = go_on(skb, NODE_PROGRAM_OUTBOUND);
	return finish(skb, packet, verdict, TC_ACT_UNSPEC);
}

/*
 * What the node says of a packet that it can't take, to a client outside: in the service's name, of
 * what the client sent. It goes its way.
 */
static __always_inline enum verdict node_error(struct __sk_buff *skb, struct scratch *held,
					       struct packet *packet)
{
	struct quote *quote = &held->quote;
	struct errand *to = &held->errand;
	struct endpoint *itself;
	flow_t *flow;

	if (!quote_read(skb, packet, quote))
		return PASS_NOT_OURS;
	flow = answered_flow(packet);
	if (!flow || flow->flags & (FLOW_SNAT | FLOW_OUTBOUND) ||
	    !same_address(quote->sender, flow->pod))
		return PASS_NOT_OURS;
	itself = endpoint_find(flow->pod);
	if (!itself || !endpoint_is_node(itself))
		return PASS_NOT_OURS;
	quoted_request(&to->quoted, flow);
	to->source = flow->service_address;
	to->destination = flow->client;
	/* Nobody has forwarded it yet. */
	to->ttl = packet->ttl;
	packet->service = flow->service;
	packet->backend = flow->pod;
	if (!answer_allowed(packet->service))
		return DROP_ANSWER_LIMIT;
	return error_translate(skb, packet, quote, to) ? SENT_RELAYED : DROP_REWRITE;
}

SEC("tc")
int FAMILY(node_icmp)(struct __sk_buff *skb)
{
	struct scratch *held = scratch_row();
	enum verdict verdict = PASS_NOT_OURS;
	struct packet *packet;

	if (!held)
		return TC_ACT_UNSPEC;
	packet = scratch_packet(held, skb->len);
	if (node_parse(skb, packet) == PARSED_PROTOCOL)
		verdict = node_error(skb, held, packet);
	return finish(skb, packet, verdict, TC_ACT_UNSPEC);
}

/* A piece of what the node answers: the first one teaches, the others follow. */
static __always_inline enum verdict node_piece(struct __sk_buff *skb, struct packet *packet,
					       int *action)
{
	enum verdict verdict;
	flow_t *flow;

	if (node_parse(skb, packet) != PARSED_FRAGMENT ||
	    fragment_parse(packet, skb_start(skb) + ETH_HLEN, skb_end(skb)) != PARSED_WHOLE)
		return PASS_NOT_OURS;
	flow = answered_flow(packet);
	if (!flow)
		return PASS_NOT_OURS;
	verdict = node_reply(skb, packet, flow, action);
	if (verdict == SENT_REPLY && fragment_is_first(packet))
		fragment_learn(packet);
	return verdict;
}

/* With `fragments: track`. */
SEC("tc")
int FAMILY(node_fragment)(struct __sk_buff *skb)
{
	struct scratch *held = scratch_row();
	int action = TC_ACT_UNSPEC;
	struct packet *packet;
	enum verdict verdict;

	if (!held)
		return TC_ACT_UNSPEC;
	packet = scratch_packet(held, skb->len);
	verdict = node_piece(skb, packet, &action);
	return finish(skb, packet, verdict, action);
}

/* ICMP or RST to the node itself, about what another program has seen. */
SEC("tc")
int FAMILY(node_answer)(struct __sk_buff *skb)
{
	struct packet packet = {.frame_bytes = skb->len, .l3 = ETH_HLEN, .events = events_now()};
	enum verdict verdict = DROP_REWRITE;
	int action = TC_ACT_UNSPEC;

	if (node_parse(skb, &packet) == PARSED_WHOLE)
		verdict = answer_make(skb, &packet, &action);
	action =
	    verdict >= DROP_NO_BACKEND ? TC_ACT_SHOT : bpf_redirect(skb->ifindex, BPF_F_INGRESS);
	skb_conclude(skb, &packet, PLACE_NODE, verdict);
	return action;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
