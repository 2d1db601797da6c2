/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only) */
#ifndef CILIATE_STAGE_TO_NODE_H
#define CILIATE_STAGE_TO_NODE_H

#include "deliver.h"
#include "dispatch-skb.h"
#include "service.h"
#include "skb.h"

/* To a backend of another node, from tc. */

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
	option_refuse(skb_start(skb) + ETH_HLEN, skb_end(skb), packet);
	if (!translate_l4_checksum(skb, packet, ETH_HLEN, &to) ||
	    !translate_headers(skb, packet, ETH_HLEN, &to) ||
	    !skb_ethernet(skb, way->destination, way->source))
		return DROP_REWRITE;
	*action = way_take(way);
	return SENT_PLAIN;
}

static __always_inline enum verdict to_node_in(enum dispatch how, struct __sk_buff *skb,
					       struct packet *packet, const backend_t *backend,
					       const struct outer_ends *ends, const struct way *way)
{
	if (how == DISPATCH_GENEVE)
		return skb_geneve(skb, packet, backend, ends, way);
	if (how == DISPATCH_OPTION)
		return skb_option(skb, packet, backend, way);
	return skb_encapsulate(skb, packet, ends->source, IP_DEFAULT_TTL, ends->sum, way)
		   ? SENT_ENCAPSULATED
		   : DROP_REWRITE;
}

static __noinline enum verdict to_node(struct __sk_buff *skb, struct packet *packet,
				       const struct service *service, const backend_t *backend,
				       int *action)
{
	__u32 row = backend->nexthop;
	nexthop_t *nexthop = bpf_map_lookup_elem(&FAMILY(nexthops), &row);
	/* Pieces have no ports to tell a service by: IPIP takes them as they are, twice if it has
	 * to go by the pod's node (host_fragment). */
	const enum dispatch how = packet->fragment ? DISPATCH_IPIP : dispatch;
	struct outer_ends ends;
	struct way way = {};
	enum verdict verdict;
	__u32 bytes, extra;

	if (!nexthop)
		return DROP_TABLE;
	ends.source = outer_source_of(packet, nexthop, &ends.sum);
	if (!(nexthop->flags & NEXTHOP_RESOLVED) && !outer_source_hashed()) {
		ends.source = own_address();
		ends.sum = outer_sum(ends.source, IP_DEFAULT_TTL);
	}
	ends.destination =
	    dispatch == DISPATCH_GENEVE ? geneve_target(nexthop, backend) : backend->address;
	extra = travels_plain(service, packet) ? 0 : dispatch_bytes_of(how);
	if (extra && dispatch == DISPATCH_GENEVE && packet->fragment)
		extra += OUTER_BYTES;
	bytes = segment_bytes(skb, packet) + extra;
	if (!way_of(skb, nexthop, ends.source, ends.destination, bytes, &way))
		return DROP_NO_ROUTE;
	if (bytes > way.mtu)
		return too_big(packet, &way, extra);
	if (!extra)
		return send_plain(skb, packet, backend, &way, action);
	verdict = to_node_in(how, skb, packet, backend, &ends, &way);
	if (verdict == SENT_ENCAPSULATED)
		*action = way_take(&way);
	return verdict;
}

#endif
