/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only) */
/*
 * tc on the node's uplinks, towards the node: the balancer for whatever XDP left, and the receiver
 * of what other nodes encapsulated.
 */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <bpf/bpf_helpers.h>
#include "stage/affinity.h"
#include "stage/answer-skb.h"
#include "stage/nat-skb.h"
#include "stage/owners.h"
#include "stage/parse.h"
#include "stage/relay.h"
#include "stage/skb.h"
#include "stage/source.h"

/* Ethernet, outer and inner IP header at their longest, and a TCP header. */
#define HEADER_BYTES (ETH_HLEN + 2 * IP_HEADER_MAX + 20)

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
	if (!translate_l4_checksum(skb, packet, packet->l3, &to))
		return DROP_REWRITE;
	if (has_outer(packet) && bpf_skb_adjust_room(skb, -(packet->l3 - ETH_HLEN),
						     BPF_ADJ_ROOM_MAC, BPF_F_ADJ_ROOM_FIXED_GSO))
		return DROP_REWRITE;
	if (!translate_headers(skb, packet, ETH_HLEN, &to) ||
	    !skb_ethernet(skb, endpoint->pod_mac, endpoint->node_mac))
		return DROP_REWRITE;
	*action = bpf_redirect_peer(endpoint->ifindex, 0);
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
	if (!way_find(skb, FAMILY(node_address), passer, 0, &way) || !way.neighbour ||
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
	struct way way = {};
	__u32 bytes = segment_bytes(skb, packet) + OUTER_BYTES;

	if (!way_find(skb, FAMILY(node_address), decision->next, bytes, &way))
		return DROP_NO_ROUTE;
	packet->backend = decision->next;
	if (bytes > way.mtu)
		return has_outer(packet) ? DROP_TOO_BIG : too_big(packet, &way, OUTER_BYTES);
	if (!skb_send_outer(skb, packet, ttl, &way))
		return DROP_REWRITE;
	*action = way_take(&way);
	return decision->hop == HOP_FINAL ? SENT_FINAL : SENT_PASSED;
}

/* A request for `pod` of this node, with or without an outer header. */
static __always_inline enum verdict deliver(struct __sk_buff *skb, struct packet *packet,
					    address_t pod, __u32 hop, int *action)
{
	struct decision decision = {.hop = hop};
	__u8 tos;

	if (!ecn_decapsulate(packet, &tos))
		return DROP_ECN;
	decide(skb, packet, pod, &decision);
	if (decision.known && hop && hop != HOP_KNOWN && !skb->gso_size)
		note_owner(skb, packet,
			   decision.kind == DECIDE_POD ? decision.flow.pod : decision.next);
	if (decision.kind == DECIDE_POD)
		return into_pod(skb, packet, &decision.flow, tos, action);
	if (decision.kind == DECIDE_PASS)
		return pass_on(skb, packet, &decision, action);
	return decision.verdict;
}

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

/* A packet of a known flow of a service with SERVICE_SNAT. */
static __always_inline enum verdict nat(struct __sk_buff *skb, struct packet *packet, flow_t *flow,
					int *action)
{
	packet->backend = flow->pod;
	if (flow->flags & FLOW_SNAT)
		return nat_send(skb, packet, flow, action);
	traffic_count(flow->counter, packet);
	return deliver(skb, packet, flow->pod, 0, action);
}

/* To a pod of another node. */
static __always_inline enum verdict forward(struct __sk_buff *skb, struct packet *packet,
					    const struct service *service, const backend_t *backend,
					    int *action)
{
	enum verdict verdict;
	flow_t *flow;

	if (service->flags & SERVICE_SNAT) {
		flow = nat_flow_new(skb, packet, backend, &verdict);
		return flow ? nat_send(skb, packet, flow, action) : verdict;
	}
	verdict = to_node(skb, packet, service, backend, action);
	if (verdict == SENT_ENCAPSULATED || verdict == SENT_PLAIN)
		traffic_count(backend->counter, packet);
	return verdict;
}

static __always_inline enum verdict balance(struct __sk_buff *skb, struct packet *packet,
					    const struct service *service, int *action)
{
	backend_t *backend;
	flow_t *flow;

	packet->service = service->id;
	flow = service->flags & SERVICE_SNAT ? nat_flow(packet) : NULL;
	if (flow)
		return nat(skb, packet, flow, action);
	if (source_refused(service, packet->source))
		return DROP_SOURCE_RANGE;
	if (!service->backend_count)
		return reject_verdict(service, packet);
	backend = backend_choose(service, packet);
	if (!backend)
		return DROP_TABLE;
	packet->backend = backend->address;
	if (!(backend->flags & BACKEND_LOCAL))
		return forward(skb, packet, service, backend, action);
	traffic_count(backend->counter, packet);
	return deliver(skb, packet, backend->address, 0, action);
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
		return PASS_NOT_OURS;
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

static __always_inline enum verdict host(struct __sk_buff *skb, struct packet *packet, int *action)
{
	struct service *service;
	struct ethhdr *eth;
	flow_t *flow;

	/* Frames for others get here while somebody listens to all of them. */
	if (skb->protocol != ETHERTYPE || skb->vlan_present || skb->pkt_type != PACKET_HOST ||
	    !skb_readable(skb, HEADER_BYTES))
		return PASS_NOT_OURS;
	eth = skb_start(skb);
	if ((void *)(eth + 1) > skb_end(skb) || eth->h_proto != ETHERTYPE)
		return PASS_NOT_OURS;
	switch (parse_ip(packet, (void *)(eth + 1), skb_end(skb), skb->len - ETH_HLEN)) {
	case PARSED_WHOLE:
		service = service_find(packet);
		if (service)
			return balance(skb, packet, service, action);
		flow = nat_may_be_reply(packet) ? nat_reply(packet) : NULL;
		if (flow)
			return nat_answer(skb, packet, flow, action);
		if (service_has_address(packet->destination))
			return DROP_UNKNOWN_PORT;
		return plain(skb, packet, action);
	case PARSED_FRAGMENT:
		if (!service_has_address(packet->destination))
			return PASS_NOT_OURS;
		return fragments_pass ? PASS_FRAGMENT : DROP_FRAGMENT;
	case PARSED_PROTOCOL:
		if (packet->protocol == IPPROTO_ICMP) {
			enum verdict verdict = skb_echo(skb, packet, action);

			return verdict == PASS_NOT_OURS ? relay(skb, packet, 0, action) : verdict;
		}
		return packet->protocol == IPPROTO_OUTER ? received(skb, packet, action)
							 : PASS_NOT_OURS;
	default:
		return PASS_NOT_OURS;
	}
}

SEC("tc")
int from_network(struct __sk_buff *skb)
{
	struct packet packet = {.frame_bytes = skb->len, .l3 = ETH_HLEN};
	int action = TC_ACT_UNSPEC;
	enum verdict verdict = host(skb, &packet, &action);

	if (verdict == SENT_FRAG_NEEDED || verdict == SENT_REJECTED)
		verdict = skb_answer(skb, &packet, verdict, &action);
	if (verdict >= DROP_NO_BACKEND)
		action = TC_ACT_SHOT;
	conclude(&packet, PLACE_HOST, verdict, skb->ifindex);
	return action;
}

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

char LICENSE[] SEC("license") = "Dual BSD/GPL";
