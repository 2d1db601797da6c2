/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only) */
#ifndef CILIATE_STAGE_PLAIN_H
#define CILIATE_STAGE_PLAIN_H

#include "outbound.h"
#include "skb.h"

/* Packets without an outer header to pods of this node. */

/* What a backend elsewhere answers to a pod of this node. */
static __always_inline enum verdict answered(struct __sk_buff *skb, struct packet *packet,
					     const struct endpoint *client, int *action)
{
	flow_key_t key = flow_key_of(packet, FLOW_REPLY);
	flow_t *flow = bpf_map_lookup_elem(&FAMILY(conntrack), &key);

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

#endif
