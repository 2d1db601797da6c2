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
#include "stage/deliver.h"
#include "stage/nat-skb.h"
#include "stage/outbound.h"
#include "stage/skb.h"
#include "stage/source.h"

/* Ethernet, outer and inner IP header at their longest, and a TCP header. */
#define HEADER_BYTES (ETH_HLEN + 2 * IP_HEADER_MAX + 20)

PROGRAM_TABLE(FAMILY(host_programs));

static __always_inline enum verdict send_plain(struct __sk_buff *skb, struct packet *packet,
					       const backend_t *backend, const struct way *way,
					       int *action)
{
	struct translation to = {
	    .source = packet->source,
	    .destination = backend->address,
	    .source_port = packet->source_port,
	    .destination_port = backend->port,
	    .tos = packet->tos,
	    .ttl = packet->ttl - 1,
	};

	if (packet->ttl <= 1)
		return PASS_TTL;
	if (!translate_l4_checksum(skb, packet, ETH_HLEN, &to) ||
	    !translate_headers(skb, packet, ETH_HLEN, &to) ||
	    !skb_ethernet(skb, way->destination, way->source))
		return DROP_REWRITE;
	*action = way_take(way);
	return SENT_PLAIN;
}

static __noinline enum verdict to_node(struct __sk_buff *skb, struct packet *packet,
				       const struct service *service, const backend_t *backend,
				       int *action)
{
	__u32 row = backend->nexthop;
	nexthop_t *nexthop = bpf_map_lookup_elem(&FAMILY(nexthops), &row);
	struct way way = {};
	__u32 sum, bytes, extra;
	address_t source;

	if (!nexthop)
		return DROP_TABLE;
	source = outer_source_of(packet, nexthop, &sum);
	if (!(nexthop->flags & NEXTHOP_RESOLVED) && !outer_source_hashed()) {
		source = FAMILY(node_address);
		sum = outer_sum(source, IP_DEFAULT_TTL);
	}
	extra = travels_plain(service, packet) ? 0 : OUTER_BYTES;
	bytes = segment_bytes(skb, packet) + extra;
	if (!way_of(skb, nexthop, source, backend->address, bytes, &way))
		return DROP_NO_ROUTE;
	if (bytes > way.mtu)
		return too_big(packet, &way, extra);
	if (!extra)
		return send_plain(skb, packet, backend, &way, action);
	if (!skb_encapsulate(skb, packet, source, IP_DEFAULT_TTL, sum, &way))
		return DROP_REWRITE;
	*action = way_take(&way);
	return SENT_ENCAPSULATED;
}

/*
 * On in another program, which begins anew with the packet. Comes back only if the agent has not
 * loaded it.
 */
static __always_inline enum verdict go_on(struct __sk_buff *skb, enum host_program program)
{
	bpf_tail_call(skb, &FAMILY(host_programs), program);
	return DROP_PROGRAM;
}

/* To a pod of this node. */
static __always_inline enum verdict hand_over(struct __sk_buff *skb, address_t pod)
{
	hand_write(skb, pod);
	return go_on(skb, HOST_PROGRAM_DELIVER);
}

static __always_inline enum verdict balance(struct __sk_buff *skb, struct packet *packet,
					    const struct service *service, int *action)
{
	enum verdict verdict;
	backend_t *backend;

	packet->service = service->id;
	if (service->flags & SERVICE_SNAT)
		return go_on(skb, HOST_PROGRAM_NAT);
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
		return hand_over(skb, backend->address);
	}
	verdict = to_node(skb, packet, service, backend, action);
	if (verdict == SENT_ENCAPSULATED || verdict == SENT_PLAIN)
		traffic_count(backend->counter, packet);
	return verdict;
}

/* What a backend elsewhere answers to a pod of this node. Not inlined: it has a stack of its own.
 */
static __noinline enum verdict answered(struct __sk_buff *skb, struct packet *packet,
					const struct endpoint *client, int *action)
{
	flow_key_t key;
	flow_t *flow;

	if (!packet || !client || !action)
		return DROP_REWRITE;
	key = flow_key_of(packet, FLOW_REPLY);
	flow = bpf_map_lookup_elem(&FAMILY(conntrack), &key);
	if (!flow || !(flow->flags & FLOW_OUTBOUND))
		return PASS_NOT_OURS;
	return outbound_answer(skb, packet, flow, client, packet->ttl, action) ? SENT_POD
									       : DROP_REWRITE;
}

/* `encapsulate: first`: later packets of a flow come to the pod's own address. */
static __always_inline enum verdict plain(struct __sk_buff *skb, struct packet *packet, int *action)
{
	struct endpoint *endpoint = endpoint_find(packet->destination);
	flow_key_t key;
	flow_t *flow;

	if (!endpoint)
		return PASS_NOT_OURS;
	key = (flow_key_t){
	    .source = packet->destination,
	    .destination = packet->source,
	    .source_port = packet->destination_port,
	    .destination_port = packet->source_port,
	    .protocol = packet->protocol,
	    .direction = FLOW_REPLY,
	};
	flow = bpf_map_lookup_elem(&FAMILY(conntrack), &key);
	if (!flow)
		return answered(skb, packet, endpoint, action);
	flow_update(flow, packet, false, true);
	packet->service = flow->service;
	packet->backend = flow->pod;
	if (!skb_ethernet(skb, endpoint->pod_mac, endpoint->node_mac))
		return DROP_REWRITE;
	*action = bpf_redirect_peer(endpoint->ifindex, 0);
	return SENT_POD;
}

static __always_inline enum verdict received(struct __sk_buff *skb, struct packet *packet,
					     int *action)
{
	trusted_key_t key = {.prefix_length = 8 * sizeof(address_t), .address = packet->source};
	struct trusted *sender = bpf_map_lookup_elem(&FAMILY(trusted), &key);
	bool from_node = sender && sender->kind == TRUST_NODE;
	__u32 hop = from_node ? hop_of(packet->ttl) : 0;
	bool note = hop == HOP_NOTE && same_address(packet->destination, FAMILY(node_address));
	__u16 inner_bytes = packet->total_bytes - packet->header_bytes;

	if (!note && !endpoint_find(packet->destination))
		return PASS_NOT_OURS;
	packet->outer_source = packet->source;
	packet->outer_destination = packet->destination;
	packet->outer_tos = packet->tos;
	packet->outer_ttl = packet->ttl;
	if (packet->fragment)
		return DROP_OUTER_FRAGMENT;
	if (!sender)
		return DROP_UNTRUSTED;
	packet->l3 = ETH_HLEN + (packet->header_bytes & IP_HEADER_MASK);
	switch (parse_ip(packet, skb_start(skb) + packet->l3, skb_end(skb), inner_bytes)) {
	case PARSED_INVALID:
		return DROP_INNER_INVALID;
	case PARSED_PROTOCOL:
		if (note || packet->protocol != IPPROTO_ICMP)
			return DROP_INNER_PROTOCOL;
		return relay(skb, packet, hop == HOP_NOTE ? 0 : hop, action);
	case PARSED_FRAGMENT:
		return DROP_FRAGMENT;
	default:
		if (note)
			return take_note(skb, packet, action);
		return deliver(skb, packet, packet->outer_destination, hop == HOP_NOTE ? 0 : hop,
			       action);
	}
}

/* What is for no service, and no reply of SNAT. */
static __always_inline enum verdict unbalanced(struct __sk_buff *skb, struct packet *packet,
					       int *action)
{
	if (service_has_address(packet->destination))
		return DROP_UNKNOWN_PORT;
	return plain(skb, packet, action);
}

/* Reads the packet's headers; PARSED_INVALID for whatever is none of ours. */
static __always_inline enum parsed host_parse(struct __sk_buff *skb, struct packet *packet)
{
	struct ethhdr *eth;

	/* Frames for others get here while somebody listens to all of them. */
	if (skb->protocol != ETHERTYPE || skb->vlan_present || skb->pkt_type != PACKET_HOST ||
	    !skb_readable(skb, HEADER_BYTES))
		return PARSED_INVALID;
	eth = skb_start(skb);
	if ((void *)(eth + 1) > skb_end(skb) || eth->h_proto != ETHERTYPE)
		return PARSED_INVALID;
	return parse_ip(packet, (void *)(eth + 1), skb_end(skb), skb->len - ETH_HLEN);
}

static __always_inline enum verdict host(struct __sk_buff *skb, struct packet *packet, int *action)
{
	struct service *service;

#ifndef FAMILY_IPV6
	if (skb->protocol == bpf_htons(ETH_P_IPV6))
		bpf_tail_call(skb, &host_programs, HOST_PROGRAM_IPV6);
#endif
	switch (host_parse(skb, packet)) {
	case PARSED_WHOLE:
		service = service_find(packet);
		if (service)
			return balance(skb, packet, service, action);
		if (nat_may_be_reply(packet))
			return go_on(skb, HOST_PROGRAM_NAT);
		return unbalanced(skb, packet, action);
	case PARSED_FRAGMENT:
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

/* The one end of all programs here. */
static __always_inline int finish(struct __sk_buff *skb, struct packet *packet,
				  enum verdict verdict, int action)
{
	if (verdict == SENT_FRAG_NEEDED || verdict == SENT_REJECTED)
		verdict = skb_answer(skb, packet, verdict, &action);
	if (verdict >= DROP_NO_BACKEND)
		action = TC_ACT_SHOT;
	conclude(packet, PLACE_HOST, verdict, skb->ifindex);
	return action;
}

SEC("tc")
int FAMILY(from_network)(struct __sk_buff *skb)
{
	struct packet packet = {.frame_bytes = skb->len, .l3 = ETH_HLEN};
	int action = TC_ACT_UNSPEC;
	enum verdict verdict = host(skb, &packet, &action);

	return finish(skb, &packet, verdict, action);
}

/* Packets to services with SERVICE_SNAT, and what may be replies to them. */
static __always_inline enum verdict nat(struct __sk_buff *skb, struct packet *packet, int *action)
{
	struct service *service;
	enum verdict verdict;
	backend_t *backend;
	flow_t *flow;

	if (host_parse(skb, packet) != PARSED_WHOLE)
		return PASS_NOT_OURS;
	service = service_find(packet);
	if (!service) {
		flow = nat_reply(packet);
		return flow ? nat_answer(skb, packet, flow, action)
			    : unbalanced(skb, packet, action);
	}
	packet->service = service->id;
	flow = nat_flow(packet);
	if (flow) {
		packet->backend = flow->pod;
		if (flow->flags & FLOW_SNAT)
			return nat_send(skb, packet, flow, action);
		traffic_count(flow->counter, packet);
		return hand_over(skb, flow->pod);
	}
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
		return hand_over(skb, backend->address);
	}
	flow = nat_flow_new(skb, packet, backend, &verdict);
	return flow ? nat_send(skb, packet, flow, action) : verdict;
}

SEC("tc")
int FAMILY(host_nat)(struct __sk_buff *skb)
{
	struct packet packet = {.frame_bytes = skb->len, .l3 = ETH_HLEN};
	int action = TC_ACT_UNSPEC;
	enum verdict verdict = nat(skb, &packet, &action);

	return finish(skb, &packet, verdict, action);
}

/* What came with an outer header, and what the balancer gives to a pod of this node. */
SEC("tc")
int FAMILY(host_deliver)(struct __sk_buff *skb)
{
	struct packet packet = {.frame_bytes = skb->len, .l3 = ETH_HLEN};
	enum verdict verdict = PASS_NOT_OURS;
	int action = TC_ACT_UNSPEC;

	switch (host_parse(skb, &packet)) {
	case PARSED_WHOLE:
		verdict = deliver(skb, &packet, hand_read(skb), 0, &action);
		break;
	case PARSED_PROTOCOL:
		verdict = received(skb, &packet, &action);
		break;
	default:
		break;
	}
	return finish(skb, &packet, verdict, action);
}

/* Pings of services' addresses, and errors about replies. */
SEC("tc")
int FAMILY(host_icmp)(struct __sk_buff *skb)
{
	struct packet packet = {.frame_bytes = skb->len, .l3 = ETH_HLEN};
	enum verdict verdict = PASS_NOT_OURS;
	int action = TC_ACT_UNSPEC;

	if (host_parse(skb, &packet) == PARSED_PROTOCOL) {
		verdict = skb_echo(skb, &packet, &action);
		if (verdict == PASS_NOT_OURS)
			verdict = relay(skb, &packet, 0, &action);
	}
	return finish(skb, &packet, verdict, action);
}

#ifndef FAMILY_IPV6
/* What the kernel's clocks say, for user space to tell jiffies from time. */
struct clock_reading {
	time_ns_t monotonic;
	__u64 jiffies;
};

EXPORT(struct clock_reading);

SEC("syscall")
int clock(struct clock_reading *reading)
{
	reading->monotonic = bpf_ktime_get_ns();
	reading->jiffies = bpf_jiffies64();
	return 0;
}
#endif

char LICENSE[] SEC("license") = "Dual BSD/GPL";
