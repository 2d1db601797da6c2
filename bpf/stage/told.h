/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only) */
#ifndef CILIATE_STAGE_TOLD_H
#define CILIATE_STAGE_TOLD_H

#include "deliver.h"
#include "geneve.h"
#include "option.h"
#include "scratch.h"
#include "source.h"

/*
 * Packets that a balancer has translated already, and whose service it tells. They become what the
 * client sent, for a pod that is known; from there on all ways of dispatch are one.
 * PASS_LOCAL: this has been done, and scratch says for which pod.
 */

/* What may be Geneve for this node. */
static __always_inline bool told_by_geneve(const struct packet *packet)
{
	return packet->protocol == IPPROTO_UDP && packet->destination_port == GENEVE_PORT &&
	       (same_address(packet->destination, own_address()) ||
		endpoint_find(packet->destination));
}

/* What has an option of its own for a pod of this node. */
static __always_inline bool told_by_option(struct __sk_buff *skb, const struct packet *packet)
{
	return accept_option && packet->header_bytes > sizeof(ip_t) &&
	       endpoint_find(packet->destination) &&
	       option_find(skb_start(skb) + ETH_HLEN, skb_end(skb), packet);
}

/* Puts the service back in the pod's place; the packet speaks of the one at packet->l3. */
static __always_inline bool told_undo(struct __sk_buff *skb, struct packet *packet,
				      struct scratch *held, const struct translation *to,
				      __u32 bytes, __u32 mode)
{
	held->pod = packet->destination;
	sum_follow(skb, packet, to);
	return translate_l4_checksum(skb, packet, packet->l3, to) &&
	       !bpf_skb_adjust_room(skb, -(int)bytes, mode, BPF_F_ADJ_ROOM_FIXED_GSO) &&
	       translate_headers(skb, packet, ETH_HLEN, to);
}

/* Where the inner Ethernet header is when there is no option. */
#define TOLD_BARE (sizeof(ip_t) + sizeof(struct geneve) - 4 * (1 + GENEVE_OPTION_WORDS) + ETH_HLEN)

/*
 * Geneve without an option is a later packet of a flow, from a balancer that tells the service
 * once; or somebody else's.
 */
static __always_inline enum verdict told_before(struct __sk_buff *skb, struct packet *packet,
						int *action)
{
	struct ethhdr *eth = skb_start(skb) + TOLD_BARE;
	struct packet inner = {.frame_bytes = skb->len, .l3 = TOLD_BARE + ETH_HLEN};
	struct translation to;
	struct endpoint *endpoint;
	flow_key_t key;
	flow_t *flow;
	__u8 tos;

	if (!sender_of(packet) || (void *)(eth + 1) > skb_end(skb) || eth->h_proto != ETHERTYPE ||
	    packet->total_bytes < TOLD_BARE ||
	    parse_ip(&inner, (void *)(eth + 1), skb_end(skb), packet->total_bytes - TOLD_BARE) !=
		PARSED_WHOLE)
		return PASS_NOT_OURS;
	key = (flow_key_t){
	    .source = inner.destination,
	    .destination = inner.source,
	    .source_port = inner.destination_port,
	    .destination_port = inner.source_port,
	    .protocol = inner.protocol,
	    .direction = FLOW_REPLY,
	};
	flow = bpf_map_lookup_elem(&FAMILY(conntrack), &key);
	endpoint = endpoint_find(inner.destination);
	if (!flow || !endpoint)
		return PASS_NOT_OURS;
	inner.outer_source = packet->source;
	inner.outer_destination = packet->destination;
	inner.outer_tos = packet->tos;
	inner.outer_ttl = packet->ttl;
	inner.service = flow->service;
	inner.backend = flow->pod;
	*packet = inner;
	if (!ecn_decapsulate(packet, &tos))
		return DROP_ECN;
	flow_update(flow, packet, false, true);
	to = (struct translation){
	    .source = packet->source,
	    .destination = packet->destination,
	    .source_port = packet->source_port,
	    .destination_port = packet->destination_port,
	    .tos = tos,
	    .ttl = packet->ttl,
	};
	sum_follow(skb, packet, &to);
	if (bpf_skb_adjust_room(skb, -(int)TOLD_BARE, BPF_ADJ_ROOM_MAC, BPF_F_ADJ_ROOM_FIXED_GSO) ||
	    !translate_headers(skb, packet, ETH_HLEN, &to) || !endpoint_give(skb, endpoint, action))
		return DROP_REWRITE;
	return SENT_POD;
}

static __always_inline enum verdict told_geneve(struct __sk_buff *skb, struct packet *packet,
						struct scratch *held, int *action)
{
	struct geneve *geneve = skb_start(skb) + ETH_HLEN + sizeof(ip_t);
	struct ethhdr *eth = (void *)(geneve + 1);
	struct translation to = {};
	enum verdict verdict;
	__u8 tos;

	if (packet->header_bytes != sizeof(ip_t) || (void *)(geneve + 1) > skb_end(skb) ||
	    !geneve_is_ethernet(geneve))
		return PASS_NOT_OURS;
	if (!geneve_has_service(geneve))
		return geneve->words ? PASS_NOT_OURS : told_before(skb, packet, action);
	packet->outer_source = packet->source;
	packet->outer_destination = packet->destination;
	packet->outer_tos = packet->tos;
	packet->outer_ttl = packet->ttl;
	if (!sender_of(packet))
		return DROP_UNTRUSTED;
	if ((void *)(eth + 1) > skb_end(skb) || eth->h_proto != ETHERTYPE ||
	    packet->total_bytes < GENEVE_BYTES)
		return DROP_INNER_INVALID;
	to.destination = geneve->address;
	to.destination_port = geneve->port;
	packet->l3 = ETH_HLEN + GENEVE_BYTES;
	verdict = inner_verdict(
	    parse_ip(packet, (void *)(eth + 1), skb_end(skb), packet->total_bytes - GENEVE_BYTES));
	if (verdict != PASS_LOCAL)
		return verdict;
	if (!ecn_decapsulate(packet, &tos))
		return DROP_ECN;
	to.source = packet->source;
	to.source_port = packet->source_port;
	to.tos = tos;
	to.ttl = packet->ttl;
	return told_undo(skb, packet, held, &to, GENEVE_BYTES, BPF_ADJ_ROOM_MAC) ? PASS_LOCAL
										 : DROP_REWRITE;
}

/*
 * The sender is the client, so nobody vouches for the option: it leads where the client's own
 * packet to the service could have led, and no further.
 */
static __always_inline enum verdict told_option(struct __sk_buff *skb, struct packet *packet,
						struct scratch *held)
{
	ip_t *ip = skb_start(skb) + ETH_HLEN;
	struct packet asked = *packet;
	struct service *service;
	struct option *found, option;
	struct translation to;

	if ((void *)(ip + 1) > skb_end(skb))
		return PASS_NOT_OURS;
	found = option_find(ip, skb_end(skb), packet);
	if (!found)
		return PASS_NOT_OURS;
	option = *found;
	to = (struct translation){
	    .source = packet->source,
	    .destination = option_address(&option),
	    .source_port = packet->source_port,
	    .destination_port = option_port(&option),
	    .tos = packet->tos,
	    .ttl = packet->ttl,
	};
	asked.destination = to.destination;
	asked.destination_port = to.destination_port;
	asked.told = true;
	service = service_find(&asked);
	if (!service)
		return pod_find(packet->destination) ? DROP_NO_SERVICE : PASS_NOT_OURS;
	packet->service = service->id;
	if (source_refused(service, packet->source))
		return DROP_SOURCE_RANGE;
	if (!translate_l4_checksum(skb, packet, ETH_HLEN, &to))
		return DROP_REWRITE;
	held->pod = packet->destination;
	ip = skb_start(skb) + ETH_HLEN;
	if ((void *)(ip + 1) > skb_end(skb))
		return DROP_REWRITE;
	/* See sum_follow. */
	sum_follow(skb, packet, &to);
	bpf_csum_update(skb, option_change(ip, &option));
	option_remove(ip, &option);
	if (bpf_skb_adjust_room(skb, -(int)sizeof(option), BPF_ADJ_ROOM_NET,
				BPF_F_ADJ_ROOM_FIXED_GSO))
		return DROP_REWRITE;
	packet->header_bytes -= sizeof(option);
	return translate_headers(skb, packet, ETH_HLEN, &to) ? PASS_LOCAL : DROP_REWRITE;
}

#endif
