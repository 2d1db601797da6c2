/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only) */
#ifndef CILIATE_STAGE_RELAY_H
#define CILIATE_STAGE_RELAY_H

#include "icmp.h"
#include "owners.h"
#include "parse.h"
#include "skb.h"

/*
 * ICMP errors about replies. A reply leaves its pod's node with the service's address, so what a
 * router says of it comes to any balancer: it goes to the pod the way the flow's packets do.
 */

#define ICMP_TIME_EXCEEDED 11
#define ICMP_PARAMETER_PROBLEM 12
#define ICMP_HEADER_BYTES 8
#define ICMP_CHECKSUM_OFFSET 2

/* RFC 792: an error quotes an IPv4 header and eight bytes more, or (RFC 1812) more than eight. */
#define QUOTED_L4_BYTES 8

/* Of what an ICMP error quotes: offsets in the frame. */
struct quote {
	__u32 ip;
	__u32 l4;
	__u32 end; /* of what is quoted */
};

static __always_inline bool icmp_is_error(__u8 type)
{
	return type == ICMP_DEST_UNREACH || type == ICMP_TIME_EXCEEDED ||
	       type == ICMP_PARAMETER_PROBLEM;
}

/*
 * Whether the ICMP packet is an error about TCP or UDP that the packet's destination sent. Then
 * `packet` speaks of that flow, as its client sends it.
 */
static __always_inline bool quote_read(struct __sk_buff *skb, struct packet *packet,
				       struct quote *quote)
{
	__u32 icmp = packet->l3 + packet->header_bytes, quoted, header;
	struct {
		struct icmp_frag_needed icmp;
		struct iphdr ip;
	} message;
	port_t ports[2];

	quote->ip = icmp + ICMP_HEADER_BYTES;
	quote->end = packet->l3 + packet->total_bytes;
	if (packet->fragment || quote->ip + sizeof(message.ip) > quote->end ||
	    bpf_skb_load_bytes(skb, icmp, &message, sizeof(message)))
		return false;
	header = message.ip.ihl * 4;
	quoted = bpf_ntohs(message.ip.tot_len);
	quote->l4 = quote->ip + header;
	if (!icmp_is_error(message.icmp.type) || message.ip.version != 4 ||
	    header < sizeof(message.ip) || quoted < header + QUOTED_L4_BYTES ||
	    quote->l4 + QUOTED_L4_BYTES > quote->end || message.ip.frag_off & IP_FRAGMENT_OFFSET ||
	    message.ip.saddr != packet->destination ||
	    (message.ip.protocol != IPPROTO_TCP && message.ip.protocol != IPPROTO_UDP) ||
	    bpf_skb_load_bytes(skb, quote->l4, ports, sizeof(ports)))
		return false;
	packet->source = message.ip.daddr;
	packet->source_port = ports[1];
	packet->destination_port = ports[0];
	packet->protocol = message.ip.protocol;
	return true;
}

/*
 * The checksum of TCP or UDP, if it is quoted, after a `change` of what it covers. `sum` is how
 * the sum of all that is quoted changes, but for the IPv4 header, whose own stays what it is.
 */
static __always_inline bool quote_checksum(struct __sk_buff *skb, bool udp,
					   const struct quote *quote, __u32 change, __u32 *sum)
{
	__u32 at =
	    quote->l4 + (udp ? offsetof(struct udphdr, check) : offsetof(struct tcphdr, check));
	__u16 before, after;

	if (at + sizeof(before) > quote->end)
		return true;
	if (bpf_skb_load_bytes(skb, at, &before, sizeof(before)))
		return false;
	if (udp && !before)
		return true;
	after = checksum_apply(before, change);
	if (udp && !after)
		after = 0xffff;
	*sum += (__u16)~before + after;
	return !bpf_skb_store_bytes(skb, at, &after, sizeof(after), 0);
}

/* Makes of the quoted reply what the pod has sent. */
static __always_inline bool quote_translate(struct __sk_buff *skb, const struct packet *packet,
					    const struct quote *quote, const struct flow *flow)
{
	const __u32 at = quote->ip + offsetof(struct iphdr, check);
	port_t ports[2] = {flow->pod_port, flow->alias_port};
	ipv4_t addresses[2] = {flow->pod, flow->alias_address};
	__u32 sum = (__u16)~packet->destination_port + flow->pod_port +
		    (__u16)~packet->source_port + flow->alias_port;
	__u32 change = sum + checksum_change(packet->destination, flow->pod) +
		       checksum_change(packet->source, flow->alias_address);

	return quote_checksum(skb, packet->protocol == IPPROTO_UDP, quote, change, &sum) &&
	       !bpf_l3_csum_replace(skb, at, packet->destination, flow->pod, sizeof(ipv4_t)) &&
	       !bpf_l3_csum_replace(skb, at, packet->source, flow->alias_address, sizeof(ipv4_t)) &&
	       !bpf_skb_store_bytes(skb, quote->ip + offsetof(struct iphdr, saddr), addresses,
				    sizeof(addresses), 0) &&
	       !bpf_skb_store_bytes(skb, quote->l4, ports, sizeof(ports), 0) &&
	       !bpf_l4_csum_replace(skb, quote->ip - ICMP_HEADER_BYTES + ICMP_CHECKSUM_OFFSET, 0,
				    sum, 0);
}

/* Into the pod of a flow that is known here. */
static __noinline enum verdict relay_into_pod(struct __sk_buff *skb, struct packet *packet,
					      const struct quote *quote, const struct flow *flow,
					      int *action)
{
	struct endpoint *endpoint = endpoint_find(flow->pod);
	ipv4_t pod = flow->pod;

	packet->service = flow->service;
	packet->backend = pod;
	if (!endpoint)
		return DROP_ENDPOINT_GONE;
	if (!answer_allowed(packet->service))
		return DROP_ANSWER_LIMIT;
	if (!quote_translate(skb, packet, quote, flow) ||
	    bpf_l3_csum_replace(skb, packet->l3 + offsetof(struct iphdr, check),
				packet->destination, pod, sizeof(pod)) ||
	    bpf_skb_store_bytes(skb, packet->l3 + offsetof(struct iphdr, daddr), &pod, sizeof(pod),
				0))
		return DROP_REWRITE;
	if (packet->outer_source && bpf_skb_adjust_room(skb, -(packet->l3 - ETH_HLEN),
							BPF_ADJ_ROOM_MAC, BPF_F_ADJ_ROOM_FIXED_GSO))
		return DROP_REWRITE;
	if (!skb_ethernet(skb, endpoint->pod_mac, endpoint->node_mac))
		return DROP_REWRITE;
	*action = bpf_redirect_peer(endpoint->ifindex, 0);
	return SENT_RELAYED;
}

/* The first of a slot's owners that are no pods of this node, and the first behind a pod. */
struct elsewhere {
	ipv4_t first;
	ipv4_t behind;
	bool met; /* the pod, so far */
};

static __always_inline void elsewhere_offer(struct elsewhere *elsewhere, ipv4_t pod, ipv4_t owner)
{
	if (owner == pod) {
		elsewhere->met = true;
		return;
	}
	if (endpoint_find(owner))
		return;
	if (!elsewhere->first)
		elsewhere->first = owner;
	if (elsewhere->met && !elsewhere->behind)
		elsewhere->behind = owner;
}

/*
 * Who is asked after `pod`: the next of the slot's owners, or the first if it is none, that is no
 * pod of this node; 0: nobody.
 */
static __always_inline ipv4_t owner_elsewhere(ipv4_t pod, ipv4_t present,
					      const struct former_owners *former)
{
	struct elsewhere elsewhere = {};

	elsewhere_offer(&elsewhere, pod, present);
	if (former) {
#pragma clang loop unroll(full)
		for (__u32 i = 0; i < FORMER_OWNERS && former->owner[i]; i++)
			elsewhere_offer(&elsewhere, pod, former->owner[i]);
	}
	return elsewhere.met ? elsewhere.behind : elsewhere.first;
}

/* Chooses who is asked next about a flow that is not known here: packet->backend, at `*hop`. */
static __noinline enum verdict relay_choose(struct packet *packet, __u32 *hop)
{
	struct service *service;
	struct backend *present;

	if (!packet || !hop)
		return DROP_TABLE;
	service = service_find(packet);
	if (!service)
		return packet->outer_source ? DROP_NO_SERVICE : PASS_NOT_OURS;
	packet->service = service->id;
	if (!service->backend_count)
		return DROP_NO_BACKEND;
	present = backend_select(service, packet);
	if (!present)
		return DROP_TABLE;
	packet->backend = present->address;
	if (!packet->outer_source && !endpoint_find(present->address))
		return SENT_RELAYED;
	if (*hop >= HOP_LAST)
		return DROP_UNKNOWN_FLOW;
	*hop += 1;
	packet->backend =
	    owner_elsewhere(packet->outer_source ? packet->outer_destination : present->address,
			    present->address, former_owners_of(service, packet->slot));
	return packet->backend ? SENT_RELAYED : DROP_UNKNOWN_FLOW;
}

/* To packet->backend, by the FIB. */
static __noinline enum verdict relay_pass(struct __sk_buff *skb, struct packet *packet, __u32 hop,
					  int *action)
{
	__u32 bytes = packet->total_bytes + OUTER_BYTES;
	struct way way = {};

	if (!answer_allowed(packet->service))
		return DROP_ANSWER_LIMIT;
	if (!way_find(skb, node_address, packet->backend, bytes, &way))
		return DROP_NO_ROUTE;
	if (bytes > way.mtu)
		return DROP_TOO_BIG;
	if (!skb_send_outer(skb, packet, hop_ttl(hop), &way))
		return DROP_REWRITE;
	*action = way_take(&way);
	return SENT_RELAYED;
}

/* What becomes of an ICMP packet, with or without an outer header. */
static __noinline enum verdict relay(struct __sk_buff *skb, struct packet *packet, __u32 hop,
				     int *action)
{
	enum verdict verdict;
	struct flow_key key;
	struct quote quote;
	struct flow *flow;

	if (!packet || !action)
		return DROP_REWRITE;
	if (!quote_read(skb, packet, &quote))
		return packet->outer_source ? DROP_INNER_PROTOCOL : PASS_NOT_OURS;
	key = flow_key_of(packet, FLOW_REQUEST);
	flow = bpf_map_lookup_elem(&conntrack, &key);
	if (flow && flow->flags & FLOW_SNAT)
		return packet->outer_source ? DROP_UNKNOWN_FLOW : PASS_NOT_OURS;
	/* After a reset the client's port may be in use again, for a flow of another node. */
	if (flow && !(flow->flags & (FLOW_REMOTE | FLOW_RESET)))
		return relay_into_pod(skb, packet, &quote, flow, action);
	if (flow && flow->flags & FLOW_REMOTE) {
		if (hop > HOP_LAST)
			return DROP_UNKNOWN_FLOW;
		packet->service = flow->service;
		packet->backend = flow->pod;
		return relay_pass(skb, packet, HOP_KNOWN, action);
	}
	verdict = relay_choose(packet, &hop);
	return verdict == SENT_RELAYED ? relay_pass(skb, packet, hop, action) : verdict;
}

#endif
