/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only) */
/*
 * tc on a pod's device on the node's side: replies of balanced flows go straight to the client, and
 * what pods send to services straight to a backend.
 */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <bpf/bpf_helpers.h>
#include "abi/programs.h"
#include "stage/answer-skb.h"
#include "stage/capture-skb.h"
#include "stage/conntrack.h"
#include "stage/fragment.h"
#include "stage/mss.h"
#include "stage/outbound-icmp.h"
#include "stage/parse.h"
#include "stage/skb.h"

#define HEADER_BYTES (ETH_HLEN + IP_HEADER_MAX + 60)

PROGRAM_TABLE(FAMILY(pod_programs));

static __always_inline enum verdict reply(struct __sk_buff *skb, struct packet *packet,
					  flow_t *flow, int *action)
{
	struct translation to = {
	    .source = flow->service_address,
	    .destination = flow->client,
	    .source_port = flow->service_port,
	    .destination_port = flow->client_port,
	    .tos = packet->tos,
	    .ttl = packet->ttl,
	};
	__u32 bytes = segment_bytes(skb, packet);
	ip_t *ip = skb_start(skb) + ETH_HLEN;
	struct way way = {};
	bool routed, fits;

	packet->service = flow->service;
	packet->backend = flow->pod;
	if (packet->ttl <= 1)
		return PASS_TTL;
	if ((void *)(ip + 1) > skb_end(skb))
		return DROP_REWRITE;
	routed = way_find(skb, to.source, to.destination, bytes, &way);
	fits = !routed || bytes <= way.mtu;
	/* The kernel tells the pod, whose own packet it has to quote. */
	if (!fits && ip_dont_fragment(ip))
		return PASS_TOO_BIG;
	flow_update(flow, packet, true, true);
	clamp(skb, packet);
	to.ttl -= routed && fits;
	if (!translate_l4_checksum(skb, packet, ETH_HLEN, &to) ||
	    !translate_headers(skb, packet, ETH_HLEN, &to))
		return DROP_REWRITE;
	if (!routed)
		return PASS_STACK;
	if (!fits)
		return PASS_TOO_BIG;
	if (!skb_ethernet(skb, way.destination, way.source))
		return DROP_REWRITE;
	*action = way_take(&way);
	return SENT_REPLY;
}

/* What is aside from the straight way; DROP_PROGRAM: it isn't there. */
static __always_inline enum verdict go_on(struct __sk_buff *skb, enum pod_program program)
{
	bpf_tail_call(skb, &FAMILY(pod_programs), program);
	return DROP_PROGRAM;
}

/* Reads the packet's headers; PARSED_INVALID for whatever is none of ours. */
static __always_inline enum parsed pod_parse(struct __sk_buff *skb, struct packet *packet)
{
	struct ethhdr *eth;

	if (skb->protocol != ETHERTYPE || skb->vlan_present || !skb_readable(skb, HEADER_BYTES))
		return PARSED_INVALID;
	eth = skb_start(skb);
	if ((void *)(eth + 1) > skb_end(skb) || eth->h_proto != ETHERTYPE)
		return PARSED_INVALID;
	return parse_ip(packet, (void *)(eth + 1), skb_end(skb), skb->len - ETH_HLEN);
}

/* The flow to which a packet of a pod is a reply; NULL: it is none. */
static __always_inline flow_t *reply_flow(const struct packet *packet)
{
	flow_key_t key = flow_key_of(packet, FLOW_REPLY);

	return bpf_map_lookup_elem(&FAMILY(conntrack), &key);
}

/* A packet with ports. */
static __always_inline enum verdict whole(struct __sk_buff *skb, struct packet *packet, bool piece,
					  int *action)
{
	flow_t *flow = reply_flow(packet);

	/* Replies of pods elsewhere don't come by here. */
	if (flow ? flow->flags & FLOW_SNAT
		 : !inside_find(packet->destination, packet->destination_port, packet->protocol))
		return PASS_NOT_OURS;
	if (piece && fragment_is_first(packet))
		fragment_learn(packet);
	if (flow && !(flow->flags & FLOW_OUTBOUND))
		return reply(skb, packet, flow, action);
	return go_on(skb, POD_PROGRAM_OUTBOUND);
}

static __always_inline enum verdict pod(struct __sk_buff *skb, struct packet *packet, int *action)
{
	enum parsed parsed;

#ifndef FAMILY_IPV6
	if (skb->protocol == bpf_htons(ETH_P_IPV6))
		bpf_tail_call(skb, &pod_programs, POD_PROGRAM_IPV6);
#endif
	parsed = pod_parse(skb, packet);
	if (parsed == PARSED_PROTOCOL && packet->protocol == IPPROTO_ICMP)
		return go_on(skb, POD_PROGRAM_ICMP);
	if (parsed == PARSED_FRAGMENT && fragments_track)
		return go_on(skb, POD_PROGRAM_FRAGMENT);
	return parsed == PARSED_WHOLE ? whole(skb, packet, false, action) : PASS_NOT_OURS;
}

/* The same for programs that others go on in: pieces have the ports of the first one. */
static __always_inline enum parsed pod_read(struct __sk_buff *skb, struct packet *packet)
{
	enum parsed parsed = pod_parse(skb, packet);

	if (parsed != PARSED_FRAGMENT || !fragments_track)
		return parsed;
	return fragment_parse(packet, skb_start(skb) + ETH_HLEN, skb_end(skb));
}

/* The one end of all programs here. */
static __always_inline int finish(struct __sk_buff *skb, const struct packet *packet,
				  enum verdict verdict, int action)
{
	/* The answer is made where the stack has room for it. */
	if (verdict == SENT_FRAG_NEEDED || verdict == SENT_REJECTED)
		verdict =
		    answer_asked(packet, verdict) ? go_on(skb, POD_PROGRAM_ANSWER) : DROP_TABLE;
	if (verdict >= DROP_NO_BACKEND)
		action = TC_ACT_SHOT;
	skb_conclude(skb, packet, PLACE_POD, verdict);
	return action;
}

SEC("tc")
int FAMILY(from_pod)(struct __sk_buff *skb)
{
	struct packet packet = {.frame_bytes = skb->len, .l3 = ETH_HLEN};
	struct runtime *state = runtime_row();
	int action = TC_ACT_UNSPEC;
	enum verdict verdict;

	if (!state)
		return TC_ACT_UNSPEC;
	packet.events = skb_begin(skb, state->events);
	verdict = pod(skb, &packet, &action);
	return finish(skb, &packet, verdict, action);
}

/* Pieces of packets, with `fragments: track`. */
SEC("tc")
int FAMILY(pod_fragment)(struct __sk_buff *skb)
{
	struct scratch *held = scratch_row();
	enum verdict verdict = PASS_NOT_OURS;
	int action = TC_ACT_UNSPEC;
	struct packet *packet;

	if (!held)
		return TC_ACT_UNSPEC;
	packet = scratch_packet(held, skb->len);
	if (pod_read(skb, packet) == PARSED_WHOLE)
		verdict = whole(skb, packet, true, &action);
	return finish(skb, packet, verdict, action);
}

/* Pods as clients: what they send to services, and what pods of this node answer to them. */
SEC("tc")
int FAMILY(pod_outbound)(struct __sk_buff *skb)
{
	struct scratch *held = scratch_row();
	enum verdict verdict = PASS_NOT_OURS;
	int action = TC_ACT_UNSPEC;
	struct packet *packet;

	if (!held)
		return TC_ACT_UNSPEC;
	packet = scratch_packet(held, skb->len);
	if (pod_read(skb, packet) == PARSED_WHOLE) {
		flow_t *flow = reply_flow(packet);

		if (!flow)
			verdict = outbound_request(skb, packet, &action);
		else if (flow->flags & FLOW_OUTBOUND)
			verdict = outbound_reply(skb, packet, flow, &action);
	}
	if (verdict == DROP_PROGRAM)
		verdict = go_on(skb, POD_PROGRAM_OUTBOUND_NEW);
	return finish(skb, packet, verdict, action);
}

/* What pod_outbound knows no flow of. */
SEC("tc")
int FAMILY(pod_new)(struct __sk_buff *skb)
{
	struct scratch *held = scratch_row();
	enum verdict verdict = PASS_NOT_OURS;
	struct packet *packet;

	if (!held)
		return TC_ACT_UNSPEC;
	packet = scratch_packet(held, skb->len);
	if (pod_read(skb, packet) == PARSED_WHOLE)
		verdict = outbound_begin(skb, held, packet);
	if (verdict == SENT_OUTBOUND)
		verdict = go_on(skb, POD_PROGRAM_OUTBOUND);
	return finish(skb, packet, verdict, TC_ACT_UNSPEC);
}

/* Pings of services, and errors about packets of flows that are known here. */
SEC("tc")
int FAMILY(pod_icmp)(struct __sk_buff *skb)
{
	struct scratch *held = scratch_row();
	enum verdict verdict = PASS_NOT_OURS;
	int action = TC_ACT_UNSPEC;
	struct packet *packet;

	if (!held)
		return TC_ACT_UNSPEC;
	packet = scratch_packet(held, skb->len);
	if (pod_parse(skb, packet) == PARSED_PROTOCOL)
		verdict = outbound_icmp(skb, held, packet, &action);
	return finish(skb, packet, verdict, action);
}

/* ICMP or RST to the pod that has sent what another program has seen. */
SEC("tc")
int FAMILY(pod_answer)(struct __sk_buff *skb)
{
	struct packet packet = {.frame_bytes = skb->len, .l3 = ETH_HLEN, .events = events_now()};
	enum verdict verdict = DROP_REWRITE;
	int action = TC_ACT_UNSPEC;

	if (pod_read(skb, &packet) == PARSED_WHOLE)
		verdict = answer_make(skb, &packet, &action);
	if (verdict >= DROP_NO_BACKEND)
		action = TC_ACT_SHOT;
	skb_conclude(skb, &packet, PLACE_POD, verdict);
	return action;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
