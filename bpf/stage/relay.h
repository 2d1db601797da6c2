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

/*
 * Whether the ICMP packet is an error about TCP or UDP that the packet's destination sent. Then
 * `packet` speaks of that flow, as its client sends it.
 */
static __always_inline bool quote_read(struct __sk_buff *skb, struct packet *packet,
				       struct quote *quote)
{
	__u32 icmp = packet->l3 + packet->header_bytes, quoted, header;
	struct {
		struct icmp_header icmp;
		ip_t ip;
	} message;
	port_t ports[2];

	quote->ip = icmp + ICMP_HEADER_BYTES;
	quote->end = packet->l3 + packet->total_bytes;
	if (packet->fragment || quote->ip + sizeof(message.ip) > quote->end ||
	    bpf_skb_load_bytes(skb, icmp, &message, sizeof(message)))
		return false;
	if (!icmp_is_error(message.icmp.type) ||
	    !quote_header(packet, &message.ip, &header, &quoted))
		return false;
	quote->l4 = quote->ip + header;
	if (quoted < header + QUOTED_L4_BYTES || quote->l4 + QUOTED_L4_BYTES > quote->end ||
	    bpf_skb_load_bytes(skb, quote->l4, ports, sizeof(ports)))
		return false;
	packet->source = quoted_destination(&message.ip);
	packet->protocol = quoted_protocol(&message.ip);
	packet->source_port = ports[1];
	packet->destination_port = ports[0];
	return true;
}

/*
 * The checksum of TCP or UDP, if it is quoted, after a `change` of what it covers. `sum` is how
 * the sum of all that is quoted changes, but for the IP header.
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
					    const struct quote *quote, const flow_t *flow)
{
	port_t ports[2] = {flow->pod_port, flow->alias_port};
	__u32 sum = (__u16)~packet->destination_port + flow->pod_port +
		    (__u16)~packet->source_port + flow->alias_port;
	__u32 change = sum + address_change(packet->destination, flow->pod) +
		       address_change(packet->source, flow->alias_address);

	sum += icmp_destination_sum(packet->destination, flow->pod);
	return quote_checksum(skb, packet->protocol == IPPROTO_UDP, quote, change, &sum) &&
	       quote_addresses(skb, quote->ip, packet, flow->pod, flow->alias_address, &sum) &&
	       !bpf_skb_store_bytes(skb, quote->l4, ports, sizeof(ports), 0) &&
	       !bpf_l4_csum_replace(skb, quote->ip - ICMP_HEADER_BYTES + ICMP_CHECKSUM_OFFSET, 0,
				    sum, 0);
}

/* Into the pod of a flow that is known here. */
static __noinline enum verdict relay_into_pod(struct __sk_buff *skb, struct packet *packet,
					      const struct quote *quote, const flow_t *flow,
					      int *action)
{
	struct endpoint *endpoint = endpoint_find(flow->pod);
	address_t pod = flow->pod;

	packet->service = flow->service;
	packet->backend = pod;
	if (!endpoint)
		return DROP_ENDPOINT_GONE;
	if (!answer_allowed(packet->service))
		return DROP_ANSWER_LIMIT;
	if (!quote_translate(skb, packet, quote, flow) || !icmp_destination(skb, packet, pod))
		return DROP_REWRITE;
	if (has_outer(packet) && bpf_skb_adjust_room(skb, -(packet->l3 - ETH_HLEN),
						     BPF_ADJ_ROOM_MAC, BPF_F_ADJ_ROOM_FIXED_GSO))
		return DROP_REWRITE;
	if (!skb_ethernet(skb, endpoint->pod_mac, endpoint->node_mac))
		return DROP_REWRITE;
	*action = bpf_redirect_peer(endpoint->ifindex, 0);
	return SENT_RELAYED;
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
	if (!elsewhere->first)
		elsewhere->first = owner;
	if (elsewhere->met && !elsewhere->behind)
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
	__u32 bytes = packet->total_bytes + OUTER_BYTES;
	struct way way = {};

	if (!answer_allowed(packet->service))
		return DROP_ANSWER_LIMIT;
	if (!way_find(skb, FAMILY(node_address), packet->backend, bytes, &way))
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
	flow_key_t key;
	struct quote quote;
	flow_t *flow;

	if (!packet || !action)
		return DROP_REWRITE;
	if (!quote_read(skb, packet, &quote))
		return has_outer(packet) ? DROP_INNER_PROTOCOL : PASS_NOT_OURS;
	key = flow_key_of(packet, FLOW_REQUEST);
	flow = bpf_map_lookup_elem(&FAMILY(conntrack), &key);
	if (flow && flow->flags & FLOW_SNAT)
		return has_outer(packet) ? DROP_UNKNOWN_FLOW : PASS_NOT_OURS;
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
