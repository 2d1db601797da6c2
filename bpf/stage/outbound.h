/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only) */
#ifndef CILIATE_STAGE_OUTBOUND_H
#define CILIATE_STAGE_OUTBOUND_H

#include "affinity.h"
#include "give.h"
#include "nat.h"
#include "skb.h"

/*
 * Pods of this node and the node itself as clients of services, where their sockets aren't
 * translated. The backend sees the client, and what it answers comes by this node again.
 */

/* Whom a client inside means by an address and port; NULL: no service. */
static __noinline frontend_t *inside_find(address_t address, port_t port, __u8 protocol)
{
	__u16 number = bpf_ntohs(port);
	frontend_t *found;

	found = frontend_find(frontend_key(address, port, protocol, FRONTEND_INTERNAL));
	if (!found)
		found = frontend_find(frontend_key(address, port, protocol, FRONTEND_SERVICE));
	if (found || number < node_port_min || number > node_port_max)
		return found;
	found = frontend_find(frontend_key(no_address(), port, protocol, FRONTEND_INTERNAL));
	if (!found)
		found =
		    frontend_find(frontend_key(no_address(), port, protocol, FRONTEND_NODE_PORT));
	return found && node_address_kind(address) ? found : NULL;
}

/* Who sends a packet to a service. */
struct asker {
	__u64 netns;  /* where its sockets are, as helpers want it */
	bool sockets; /* that is known */
	__u32 flags;  /* enum flow_flag of its flows */
};

/* Whether the client has a socket of its own that talks to the flow's pod by the flow's port. */
static __always_inline bool outbound_port_used(struct __sk_buff *skb, const flow_t *flow,
					       __u8 protocol, const struct asker *asker)
{
	struct socket_tuple tuple = {
	    .source = flow->pod,
	    .destination = flow->alias_address,
	    .source_port = flow->pod_port,
	    .destination_port = flow->alias_port,
	};
	struct bpf_sock_tuple *find = (void *)&tuple;
	struct bpf_sock *sk;
	bool used;

	if (!socket_lookup || !asker->sockets || protocol == IPPROTO_SCTP ||
	    same_address(flow->pod, flow->client))
		return false;
	if (protocol == IPPROTO_TCP) {
		sk = bpf_skc_lookup_tcp(skb, find, sizeof(tuple), asker->netns, 0);
		if (!sk)
			return false;
		used = sk->state != TCP_LISTEN_STATE;
		bpf_sk_release(sk);
		return used;
	}
	sk = bpf_sk_lookup_udp(skb, find, sizeof(tuple), asker->netns, 0);
	if (!sk)
		return false;
	used = sk->state == TCP_ESTABLISHED_STATE;
	bpf_sk_release(sk);
	return used;
}

/* Gives the flow a port of its client's, and makes its REPLY entry. */
static __always_inline enum verdict outbound_choose(struct __sk_buff *skb, struct scratch *held,
						    const struct packet *packet,
						    const struct asker *asker)
{
	flow_t *flow = &held->flow;

	for (__u32 try = 0; try <= ALIAS_TRIES; try++) {
		int failed;

		if (try && ports_stay(packet->protocol))
			break;
		flow->alias_port = alias_candidate(packet, try);
		if (outbound_port_used(skb, flow, packet->protocol, asker))
			continue;
		failed = FAMILY(reply_key_take)(packet->protocol);
		if (!failed)
			return SENT_OUTBOUND;
		if (failed != -EEXIST)
			return DROP_CONNTRACK_FULL;
	}
	return DROP_PORT_COLLISION;
}

/* Makes both entries of a flow to a service, without a packet yet. */
static __always_inline enum verdict outbound_open(struct __sk_buff *skb, struct scratch *held,
						  struct packet *packet,
						  const struct service *service,
						  const struct asker *asker)
{
	flow_t *flow = &held->flow;
	enum verdict verdict;
	backend_t *backend;

	/* See reject_verdict. */
	if (!service->backend_count)
		return packet->tcp_flags & TCP_RST || packet_is_later(packet) ? DROP_NO_BACKEND
									      : SENT_REJECTED;
	if (packet_makes_none(packet))
		return DROP_UNKNOWN_FLOW;
	backend = backend_draw(service, packet);
	if (!backend)
		return DROP_TABLE;
	__builtin_memset(flow, 0, sizeof(*flow));
	flow->client = packet->source;
	flow->service_address = packet->destination;
	flow->pod = backend->address;
	/* Who asks itself would answer its own address without a packet. */
	flow->alias_address = same_address(flow->pod, flow->client) ? itself() : flow->client;
	flow->client_port = packet->source_port;
	flow->service_port = packet->destination_port;
	flow->pod_port = backend->port;
	flow->service = packet->service;
	flow->counter = backend->counter;
	flow->flags = asker->flags;
	flow->created = flow->seen = jiffies_now();
	verdict = outbound_choose(skb, held, packet, asker);
	if (verdict != SENT_OUTBOUND)
		return verdict;
	return nat_request_made(held, packet->protocol) ? SENT_OUTBOUND : DROP_CONNTRACK_FULL;
}

/* The packet after its translation; its MACs are the caller's. */
static __always_inline bool outbound_translate(struct __sk_buff *skb, const struct packet *packet,
					       const struct translation *to)
{
	return translate_l4_checksum(skb, packet, ETH_HLEN, to) &&
	       translate_headers(skb, packet, ETH_HLEN, to);
}

/* Into a pod of this node, with whatever is translated. */
static __always_inline bool outbound_deliver(struct __sk_buff *skb, const struct packet *packet,
					     const struct translation *to,
					     const struct endpoint *endpoint, int *action)
{
	return outbound_translate(skb, packet, to) && endpoint_give(skb, endpoint, action);
}

/* To the flow's pod, wherever it is. */
static __always_inline enum verdict outbound_send(struct __sk_buff *skb, struct packet *packet,
						  flow_t *flow, int *action)
{
	ip_t *ip = skb_start(skb) + ETH_HLEN;
	bool routed = true, fits = true;
	struct translation to;
	struct endpoint *endpoint;
	struct way way = {};
	__u32 bytes;

	if ((void *)(ip + 1) > skb_end(skb))
		return DROP_REWRITE;
	packet->backend = flow->pod;
	endpoint = pod_find(flow->pod);
	if (!endpoint) {
		bytes = segment_bytes(skb, packet);
		routed = way_find(skb, flow->alias_address, flow->pod, bytes, &way);
		fits = !routed || bytes <= way.mtu;
		if (!fits && ip_dont_fragment(ip)) {
			packet->mtu = way.mtu;
			return SENT_FRAG_NEEDED;
		}
	}
	flow_update(flow, packet, false, false);
	traffic_count(flow->counter, packet);
	/* The kernel forwards what has no way, or is to be cut. */
	to = nat_to_pod(packet, flow);
	if (endpoint)
		return outbound_deliver(skb, packet, &to, endpoint, action) ? SENT_OUTBOUND
									    : DROP_REWRITE;
	if (!routed || !fits)
		to.ttl = packet->ttl;
	if (!outbound_translate(skb, packet, &to))
		return DROP_REWRITE;
	if (!routed)
		return PASS_STACK;
	if (!fits)
		return PASS_TOO_BIG;
	if (!skb_ethernet(skb, way.destination, way.source))
		return DROP_REWRITE;
	*action = way_take(&way);
	return SENT_OUTBOUND;
}

/* The flow of a packet to a service, if it is known and not over. */
static __always_inline flow_t *outbound_flow(const struct packet *packet)
{
	flow_key_t key = flow_key_of(packet, FLOW_REQUEST);
	flow_t *flow = bpf_map_lookup_elem(&FAMILY(conntrack), &key);

	if (!flow || !(flow->flags & FLOW_OUTBOUND) || flow_is_past(flow, packet))
		return NULL;
	return flow;
}

/* Makes way for a new flow: what has its REQUEST key is over, or of another kind. */
static __always_inline void outbound_clear(const struct packet *packet)
{
	flow_key_t key = flow_key_of(packet, FLOW_REQUEST);
	flow_t *flow = bpf_map_lookup_elem(&FAMILY(conntrack), &key);

	if (flow)
		flow_delete(flow, packet->protocol);
}

/*
 * What a pod sends to somebody of whom it awaits no answer, if that is a service. DROP_PROGRAM: of
 * no known flow.
 */
static __always_inline enum verdict outbound_request(struct __sk_buff *skb, struct packet *packet,
						     int *action)
{
	flow_t *flow;

	if (!sender_find(skb, packet->source))
		return PASS_NOT_OURS;
	flow = outbound_flow(packet);
	if (!flow)
		return DROP_PROGRAM;
	packet->service = flow->service;
	if (packet->ttl <= 1)
		return PASS_TTL;
	return outbound_send(skb, packet, flow, action);
}

/* SENT_OUTBOUND: there is a flow for the packet now. */
static __always_inline enum verdict outbound_begin(struct __sk_buff *skb, struct scratch *held,
						   struct packet *packet)
{
	struct service *service = service_of(
	    inside_find(packet->destination, packet->destination_port, packet->protocol));
	struct endpoint *sender = sender_find(skb, packet->source);
	struct asker asker = {.flags = FLOW_OUTBOUND};

	if (!service || !sender)
		return PASS_NOT_OURS;
	packet->service = service->id;
	if (packet->ttl <= 1)
		return PASS_TTL;
	outbound_clear(packet);
	asker.sockets = sender->netns >= 0;
	asker.netns = (__u32)sender->netns;
	return outbound_open(skb, held, packet, service, &asker);
}

/* Counts the answer of a flow's pod, wherever it is, and says what its client sees of it. */
static __always_inline struct translation outbound_answer(struct packet *packet, flow_t *flow,
							  __u8 ttl)
{
	struct translation to = nat_to_client(packet, flow);

	to.ttl = ttl;
	packet->service = flow->service;
	packet->backend = flow->pod;
	flow_update(flow, packet, true, true);
	return to;
}

/* What a pod of this node answers to the node itself. */
static __always_inline enum verdict outbound_home(struct __sk_buff *skb, struct packet *packet,
						  flow_t *flow, int *action)
{
	struct translation to = outbound_answer(packet, flow, packet->ttl - 1);

	if (!outbound_translate(skb, packet, &to))
		return DROP_REWRITE;
	return way_home(skb, flow->service_address, flow->client, action) ? SENT_REPLY : PASS_STACK;
}

/* What a pod of this node answers to one, or to the node itself. */
static __always_inline enum verdict outbound_reply(struct __sk_buff *skb, struct packet *packet,
						   flow_t *flow, int *action)
{
	struct endpoint *client;
	struct translation to;

	if (!sender_find(skb, packet->source))
		return PASS_NOT_OURS;
	if (packet->ttl <= 1)
		return PASS_TTL;
	if (flow->flags & FLOW_NODE)
		return outbound_home(skb, packet, flow, action);
	client = pod_find(flow->client);
	if (!client)
		return DROP_ENDPOINT_GONE;
	to = outbound_answer(packet, flow, packet->ttl - 1);
	return outbound_deliver(skb, packet, &to, client, action) ? SENT_REPLY : DROP_REWRITE;
}

#endif
