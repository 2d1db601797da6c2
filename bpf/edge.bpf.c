/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only) */
/* XDP on the node's uplinks: services balanced before the kernel's stack sees the packet. */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <bpf/bpf_helpers.h>
#include "stage/affinity.h"
#include "stage/encap.h"
#include "stage/limits.h"
#include "stage/metrics.h"
#include "stage/nat-xdp.h"
#include "stage/parse.h"
#include "stage/service.h"
#include "stage/source.h"

static __always_inline enum verdict send_encapsulated(struct xdp_md *ctx, struct packet *packet,
						      const nexthop_t *nexthop, int *action)
{
	__u32 sum;
	address_t source = outer_source_of(packet, nexthop, &sum);
	ip_t *outer;
	void *data;

	if (bpf_xdp_adjust_head(ctx, -OUTER_BYTES))
		return DROP_REWRITE;
	data = start_of(ctx);
	outer = data + ETH_HLEN;
	if ((void *)(outer + 1) > end_of(ctx))
		return DROP_REWRITE;
	ethernet_to(data, nexthop);
	outer_write(outer, packet, source, packet->backend, IP_DEFAULT_TTL, sum);
	*action = transmit(ctx, nexthop->ifindex);
	return SENT_ENCAPSULATED;
}

/* TCP alone travels plain. */
static __always_inline enum verdict send_plain(struct xdp_md *ctx, struct packet *packet,
					       const backend_t *backend, const nexthop_t *nexthop,
					       int *action)
{
	void *data = start_of(ctx);
	ip_t *ip = data + ETH_HLEN;
	__u32 change = address_change(packet->destination, backend->address);
	struct tcphdr *tcp;

	if (packet->ttl <= 1)
		return PASS_TTL;
	if ((void *)(ip + 1) > end_of(ctx))
		return DROP_REWRITE;
	tcp = (void *)ip + (packet->header_bytes & IP_HEADER_MASK);
	if ((void *)(tcp + 1) > end_of(ctx))
		return DROP_REWRITE;
	ethernet_to(data, nexthop);
	header_forward(ip, backend->address, change);
	tcp->dest = backend->port;
	tcp->check =
	    checksum_apply(tcp->check, change + (__u16)~packet->destination_port + backend->port);
	*action = transmit(ctx, nexthop->ifindex);
	return SENT_PLAIN;
}

static __always_inline enum verdict too_big(struct xdp_md *ctx, const struct packet *packet,
					    __u32 mtu, int *action)
{
	if (!answer_allowed(packet->service))
		return DROP_ANSWER_LIMIT;
	*action = XDP_TX;
	return aside_unreachable(ctx, mtu) ? SENT_FRAG_NEEDED : DROP_REWRITE;
}

/* A packet to a service without backends. */
static __always_inline enum verdict reject(struct xdp_md *ctx, const struct packet *packet,
					   const struct service *service, int *action)
{
	enum verdict verdict = reject_verdict(service, packet);
	bool written;

	if (verdict != SENT_REJECTED)
		return verdict;
	if (!answer_allowed(packet->service))
		return DROP_ANSWER_LIMIT;
	written = packet->protocol == IPPROTO_TCP ? aside_reset(ctx) : aside_unreachable(ctx, 0);
	*action = XDP_TX;
	return written ? SENT_REJECTED : DROP_REWRITE;
}

/* What is for a service's own address, and for no port of it. */
static __always_inline enum verdict unknown(const struct packet *packet)
{
	return service_has_address(packet->destination) ? DROP_UNKNOWN_PORT : PASS_NOT_OURS;
}

static __always_inline enum verdict echo(struct xdp_md *ctx, int *action)
{
	enum verdict verdict = aside_echo(ctx);

	if (verdict == SENT_ECHO)
		*action = XDP_TX;
	return verdict;
}

enum nat_step { NAT_KNOWN, NAT_NEW, NAT_BACK };

/* SNAT, aside; `backend` is of NAT_NEW. What is too big for its way is answered here. */
static __always_inline enum verdict nat(struct xdp_md *ctx, struct packet *packet,
					enum nat_step step, const backend_t *backend, int *action)
{
	struct aside aside = {.action = XDP_PASS, .service = packet->service};
	enum verdict verdict;

	if (step == NAT_KNOWN)
		verdict = aside_nat_known(ctx, &aside);
	else if (step == NAT_NEW)
		verdict = aside_nat_new(ctx, backend, &aside);
	else
		verdict = aside_nat_back(ctx, &aside);
	packet->service = aside.service;
	packet->backend = aside.backend;
	*action = aside.action;
	return verdict == SENT_FRAG_NEEDED ? too_big(ctx, packet, aside.mtu, action) : verdict;
}

static __always_inline enum verdict balance(struct xdp_md *ctx, struct packet *packet, int *action)
{
	struct service *service = service_find(packet);
	backend_t *backend;
	nexthop_t *nexthop;
	enum verdict verdict = PASS_NOT_OURS;
	__u32 row, extra;

	if (!service)
		return nat_may_be_reply(packet) ? nat(ctx, packet, NAT_BACK, NULL, action)
						: unknown(packet);
	packet->service = service->id;
	if (unlikely(service->flags & (SERVICE_SNAT | SERVICE_SOURCE_RANGES))) {
		if (service->flags & SERVICE_SNAT)
			verdict = nat(ctx, packet, NAT_KNOWN, NULL, action);
		/* Else the flow isn't known. */
		if (verdict != PASS_NOT_OURS)
			return verdict;
		if (source_refused(service, packet->source))
			return DROP_SOURCE_RANGE;
	}
	if (unlikely(!service->backend_count))
		return reject(ctx, packet, service, action);
	backend = backend_choose(service, packet);
	if (unlikely(!backend))
		return DROP_TABLE;
	if (backend->flags & BACKEND_LOCAL)
		return PASS_LOCAL;
	if (unlikely(service->flags & SERVICE_SNAT))
		return nat(ctx, packet, NAT_NEW, backend, action);
	row = backend->nexthop;
	nexthop = bpf_map_lookup_elem(&FAMILY(nexthops), &row);
	if (unlikely(!nexthop))
		return DROP_TABLE;
	if (unlikely(!(nexthop->flags & NEXTHOP_EDGE)))
		return PASS_UNRESOLVED;
	packet->backend = backend->address;
	extra = travels_plain(service, packet) ? 0 : OUTER_BYTES;
	if (unlikely(packet->total_bytes + extra > nexthop->mtu))
		return too_big(ctx, packet, nexthop->mtu - extra, action);
	if (extra)
		verdict = send_encapsulated(ctx, packet, nexthop, action);
	else
		verdict = send_plain(ctx, packet, backend, nexthop, action);
	if (likely(verdict == SENT_ENCAPSULATED || verdict == SENT_PLAIN))
		traffic_count(backend->counter, packet);
	return verdict;
}

static __always_inline enum verdict edge(struct xdp_md *ctx, struct packet *packet, int *action)
{
	struct ethhdr *eth = start_of(ctx);

	if ((void *)(eth + 1) > end_of(ctx) || !ethernet_is_ours(eth) || ethernet_is_group(eth))
		return PASS_NOT_OURS;
	switch (parse_ip(packet, (void *)(eth + 1), end_of(ctx), packet->frame_bytes - ETH_HLEN)) {
	case PARSED_WHOLE:
		return balance(ctx, packet, action);
	case PARSED_FRAGMENT:
		if (!service_has_address(packet->destination))
			return PASS_NOT_OURS;
		return fragments_pass ? PASS_FRAGMENT : DROP_FRAGMENT;
	case PARSED_PROTOCOL:
		return packet->protocol == IPPROTO_ICMP ? echo(ctx, action) : PASS_NOT_OURS;
	default:
		return PASS_NOT_OURS;
	}
}

SEC("xdp")
int edge_ingress(struct xdp_md *ctx)
{
	struct packet packet = {.frame_bytes = ctx->data_end - ctx->data, .l3 = ETH_HLEN};
	int action = XDP_PASS;
	enum verdict verdict = edge(ctx, &packet, &action);

	conclude(&packet, PLACE_EDGE, verdict, ctx->ingress_ifindex);
	return verdict >= DROP_NO_BACKEND ? XDP_DROP : action;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
