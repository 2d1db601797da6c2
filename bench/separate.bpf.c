/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only) */
/*
 * What shared.bpf.c does, for IPv4 alone, made of the packet path's own stages: find the service
 * and the backend, count in a flow if there is one, encapsulate.
 */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <bpf/bpf_helpers.h>
#include "stage/conntrack.h"
#include "stage/metrics.h"
#include "stage/service.h"
#include "stage/xdp.h"

static __always_inline void update(struct flow *flow, const struct packet *packet)
{
	__u32 flags = 0;

	if (packet->protocol == IPPROTO_TCP) {
		if (!packet_is_syn(packet))
			flags |= FLOW_CONFIRMED;
		if (packet->tcp_flags & TCP_FIN)
			flags |= FLOW_FIN_CLIENT;
		if (packet->tcp_flags & TCP_RST)
			flags |= FLOW_RESET;
	}
	flow->seen = jiffies_now();
	flow->packets++;
	flow->bytes += packet->frame_bytes;
	if ((flow->flags | flags) != flow->flags)
		flow->flags |= flags;
}

static __always_inline bool encapsulate(struct xdp_md *ctx, struct packet *packet,
					const struct nexthop *nexthop)
{
	__u32 sum;
	ipv4_t source = outer_source_of(packet, nexthop, &sum);
	struct iphdr *outer;
	void *data;

	if (bpf_xdp_adjust_head(ctx, -OUTER_BYTES))
		return false;
	data = start_of(ctx);
	outer = data + ETH_HLEN;
	if ((void *)(outer + 1) > end_of(ctx))
		return false;
	ethernet_to(data, nexthop);
	outer_write(outer, packet, source, packet->backend, IP_DEFAULT_TTL, sum);
	return true;
}

static __always_inline enum verdict separate(struct xdp_md *ctx, struct packet *packet, int *action)
{
	void *ip = start_of(ctx) + ETH_HLEN;
	struct flow_key key;
	struct backend *backend;
	struct nexthop *nexthop;
	struct service *service;
	struct flow *flow;
	__u32 row;

	if (parse_ipv4(packet, ip, end_of(ctx), packet->frame_bytes - ETH_HLEN) != PARSED_WHOLE)
		return PASS_NOT_OURS;
	service = service_of(frontend_find(frontend_word(
	    packet->destination, packet->destination_port, packet->protocol, FRONTEND_SERVICE)));
	if (!service || !service->backend_count)
		return PASS_NOT_OURS;
	backend = backend_select(service, packet);
	if (unlikely(!backend))
		return DROP_TABLE;
	row = backend->nexthop;
	nexthop = bpf_map_lookup_elem(&nexthops, &row);
	if (unlikely(!nexthop))
		return DROP_TABLE;
	if (unlikely(!(nexthop->flags & NEXTHOP_EDGE)))
		return PASS_UNRESOLVED;
	packet->backend = backend->address;
	if (unlikely(packet->total_bytes + OUTER_BYTES > nexthop->mtu))
		return DROP_TOO_BIG;
	key = flow_key_of(packet, FLOW_REQUEST);
	flow = bpf_map_lookup_elem(&conntrack, &key);
	if (flow)
		update(flow, packet);
	if (!encapsulate(ctx, packet, nexthop))
		return DROP_REWRITE;
	*action = transmit(ctx, nexthop->ifindex);
	return SENT_ENCAPSULATED;
}

SEC("xdp")
int separate4(struct xdp_md *ctx)
{
	struct packet packet = {.frame_bytes = ctx->data_end - ctx->data, .l3 = ETH_HLEN};
	int action = XDP_PASS;
	enum verdict verdict = separate(ctx, &packet, &action);

	metrics_count(PLACE_EDGE, verdict, packet.frame_bytes);
	return verdict >= DROP_NO_BACKEND ? XDP_DROP : action;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
