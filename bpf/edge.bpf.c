/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only) */
/* XDP on the node's uplinks: services balanced before the kernel's stack sees the packet. */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <bpf/bpf_helpers.h>
#include "abi/programs.h"
#include "stage/affinity.h"
#include "stage/aside.h"
#include "stage/capture-xdp.h"
#include "stage/dispatch-xdp.h"
#include "stage/encap.h"
#include "stage/limits.h"
#include "stage/nat-xdp.h"
#include "stage/parse.h"
#include "stage/remember.h"
#include "stage/scratch.h"
#include "stage/service.h"
#include "stage/source.h"

PROGRAM_TABLE(FAMILY(edge_programs));

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

/* Geneve, or an option. */
static __always_inline enum verdict send_told(struct xdp_md *ctx, const struct packet *packet,
					      const backend_t *backend, const nexthop_t *nexthop,
					      int *action)
{
	__u32 handed = told_hand(packet);
	enum verdict verdict = dispatch == DISPATCH_GENEVE
				   ? xdp_geneve(ctx, backend, nexthop, handed, packet->spread)
				   : xdp_option(ctx, backend, nexthop, handed);

	if (verdict == SENT_ENCAPSULATED)
		*action = transmit(ctx, nexthop->ifindex);
	return verdict;
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
	option_refuse(ip, end_of(ctx), packet);
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
	enum verdict refused;

	refused = answer_refused(packet, packet->service);
	if (refused)
		return refused;
	*action = XDP_TX;
	return aside_unreachable(ctx, mtu) ? SENT_FRAG_NEEDED : DROP_REWRITE;
}

/* A packet to a service without backends. */
static __always_inline enum verdict reject(struct xdp_md *ctx, const struct packet *packet,
					   const struct service *service, int *action)
{
	enum verdict verdict = reject_verdict(service, packet);
	enum verdict refused;
	bool written;

	if (verdict != SENT_REJECTED)
		return verdict;
	refused = answer_refused(packet, packet->service);
	if (refused)
		return refused;
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

/* On in another program, which begins anew with the packet; without it, the host's goes on. */
static __always_inline enum verdict go_on(struct xdp_md *ctx, enum edge_program program)
{
	bpf_tail_call(ctx, &FAMILY(edge_programs), program);
	return PASS_UNRESOLVED;
}

/* By DSR. */
static __always_inline enum verdict send_direct(struct xdp_md *ctx, struct packet *packet,
						struct service *service, int *action)
{
	backend_t *backend;
	nexthop_t *nexthop;
	enum verdict verdict;
	__u32 row, extra;

	if (unlikely(!service->backend_count))
		return reject(ctx, packet, service, action);
	backend = backend_choose(service, packet);
	if (unlikely(!backend))
		return DROP_TABLE;
	if (backend->flags & BACKEND_LOCAL)
		return PASS_LOCAL;
	row = backend->nexthop;
	nexthop = bpf_map_lookup_elem(&FAMILY(nexthops), &row);
	if (unlikely(!nexthop))
		return DROP_TABLE;
	if (unlikely(!(nexthop->flags & NEXTHOP_EDGE)))
		return PASS_UNRESOLVED;
	packet->backend = backend->address;
	extra = travels_plain(service, packet) ? 0 : dispatch_bytes();
	if (unlikely(packet->total_bytes + extra > nexthop->mtu))
		return too_big(ctx, packet, nexthop->mtu - extra, action);
	if (extra && unlikely(dispatch != DISPATCH_IPIP))
		verdict = send_told(ctx, packet, backend, nexthop, action);
	else if (extra)
		verdict = send_encapsulated(ctx, packet, nexthop, action);
	else
		verdict = send_plain(ctx, packet, backend, nexthop, action);
	if (likely(verdict == SENT_ENCAPSULATED || verdict == SENT_PLAIN))
		traffic_count(backend->counter, packet);
	return verdict;
}

static __always_inline enum verdict balance(struct xdp_md *ctx, struct packet *packet, int *action)
{
	struct service *service = service_find(packet);

	if (!service)
		return nat_may_be_reply(packet) ? go_on(ctx, EDGE_PROGRAM_NAT_BACK)
						: unknown(packet);
	packet->service = service->id;
	if (unlikely(service->flags & (SERVICE_SNAT | SERVICE_WAS_SNAT | SERVICE_SOURCE_RANGES))) {
		if (has_nat_flows(service))
			return go_on(ctx, EDGE_PROGRAM_NAT);
		if (source_refused(service, packet->source))
			return DROP_SOURCE_RANGE;
	}
	return send_direct(ctx, packet, service, action);
}

/* Frames of IPv6 come by here too: the programs of a device are IPv4's. */
static __always_inline void other_family(struct xdp_md *ctx)
{
#ifndef FAMILY_IPV6
	const ethertype_t *type = start_of(ctx) + offsetof(struct ethhdr, h_proto);

	if ((void *)(type + 1) <= end_of(ctx) && *type == bpf_htons(ETH_P_IPV6))
		bpf_tail_call(ctx, &edge_programs, EDGE_PROGRAM_IPV6);
#endif
}

static __always_inline enum parsed edge_parse(struct xdp_md *ctx, struct packet *packet)
{
	struct ethhdr *eth = start_of(ctx);

	if ((void *)(eth + 1) > end_of(ctx) || !ethernet_is_ours(eth) || ethernet_is_group(eth))
		return PARSED_INVALID;
	return parse_ip(packet, (void *)(eth + 1), end_of(ctx), packet->frame_bytes - ETH_HLEN);
}

static __always_inline enum verdict edge(struct xdp_md *ctx, struct packet *packet, int *action)
{
	switch (edge_parse(ctx, packet)) {
	case PARSED_WHOLE:
		return balance(ctx, packet, action);
	case PARSED_FRAGMENT:
		if (!service_has_address(packet->destination))
			return PASS_NOT_OURS;
		return fragments_track || fragments_pass ? PASS_FRAGMENT : DROP_FRAGMENT;
	case PARSED_PROTOCOL:
		return packet->protocol == IPPROTO_ICMP ? echo(ctx, action) : PASS_NOT_OURS;
	default:
		other_family(ctx);
		return PASS_NOT_OURS;
	}
}

/* The one end of all programs here. */
static __always_inline int finish(struct xdp_md *ctx, const struct packet *packet,
				  enum verdict verdict, int action)
{
	xdp_conclude(ctx, packet, verdict);
	return verdict >= DROP_NO_BACKEND ? XDP_DROP : action;
}

SEC("xdp")
int FAMILY(edge_ingress)(struct xdp_md *ctx)
{
	struct packet packet = {.frame_bytes = ctx->data_end - ctx->data, .l3 = ETH_HLEN};
	struct runtime *state = runtime_row();
	int action = XDP_PASS;
	enum verdict verdict;

	if (!state)
		return XDP_PASS;
	packet.events = xdp_begin(ctx, state->events);
	verdict = edge(ctx, &packet, &action);
	return finish(ctx, &packet, verdict, action);
}

/* Of no known flow: edge_nat_new has the room for one. */
static __always_inline enum verdict nat_unknown(struct xdp_md *ctx, struct packet *packet,
						int *action)
{
	struct service *service = service_find(packet);

	if (!service)
		return unknown(packet);
	packet->service = service->id;
	if (source_refused(service, packet->source))
		return DROP_SOURCE_RANGE;
	if (nat_goes_on(service, packet))
		return go_on(ctx, EDGE_PROGRAM_BALANCE);
	if (!service->backend_count)
		return reject(ctx, packet, service, action);
	return go_on(ctx, EDGE_PROGRAM_NAT_NEW);
}

static __always_inline enum verdict nat(struct xdp_md *ctx, struct packet *packet, int *action)
{
	flow_t *flow;

	if (edge_parse(ctx, packet) != PARSED_WHOLE)
		return PASS_NOT_OURS;
	flow = nat_known(packet);
	if (!flow)
		return nat_unknown(ctx, packet, action);
	packet->service = flow->service;
	packet->backend = flow->pod;
	return flow->flags & FLOW_SNAT ? nat_send(ctx, packet, flow, action) : PASS_LOCAL;
}

/* Packets to services that have flows of SNAT, or had some. */
SEC("xdp")
int FAMILY(edge_nat)(struct xdp_md *ctx)
{
	struct packet packet = {
	    .frame_bytes = ctx->data_end - ctx->data, .l3 = ETH_HLEN, .events = events_now()};
	int action = XDP_PASS;
	enum verdict verdict = nat(ctx, &packet, &action);

	if (verdict == SENT_FRAG_NEEDED)
		verdict = too_big(ctx, &packet, packet.mtu, &action);
	return finish(ctx, &packet, verdict, action);
}

/* SENT_NAT: the flow has its entries, and edge_nat may go on with it. It has looked at ranges and
 * backends: that there are none any more is a matter of a moment. */
static __always_inline enum verdict nat_begin(struct xdp_md *ctx, struct packet *packet)
{
	struct service *service;
	backend_t *backend;

	if (edge_parse(ctx, packet) != PARSED_WHOLE)
		return PASS_NOT_OURS;
	service = service_find(packet);
	if (!service)
		return unknown(packet);
	packet->service = service->id;
	if (!service->backend_count)
		return DROP_NO_BACKEND;
	/* Who draws here and leaves pods of this node to the host, which draws again, is unfair. */
	if (service->flags & SERVICE_RANDOM)
		return PASS_UNRESOLVED;
	backend = backend_choose(service, packet);
	if (!backend)
		return DROP_TABLE;
	if (backend->flags & BACKEND_LOCAL)
		return PASS_LOCAL;
	packet->backend = backend->address;
	return nat_open(ctx, packet, backend);
}

/* What edge_nat knows no flow of. */
SEC("xdp")
int FAMILY(edge_nat_new)(struct xdp_md *ctx)
{
	struct scratch *held = scratch_row();
	struct packet *packet;
	enum verdict verdict;

	if (!held)
		return XDP_PASS;
	packet = scratch_packet(held, ctx->data_end - ctx->data);
	verdict = nat_begin(ctx, packet);
	if (verdict == SENT_NAT)
		verdict = go_on(ctx, EDGE_PROGRAM_NAT);
	return finish(ctx, packet, verdict, XDP_PASS);
}

/* What edge_nat leaves to DSR. It has looked at the client. */
SEC("xdp")
int FAMILY(edge_balance)(struct xdp_md *ctx)
{
	struct packet packet = {
	    .frame_bytes = ctx->data_end - ctx->data, .l3 = ETH_HLEN, .events = events_now()};
	enum verdict verdict = PASS_NOT_OURS;
	int action = XDP_PASS;

	if (edge_parse(ctx, &packet) == PARSED_WHOLE) {
		struct service *service = service_find(&packet);

		packet.service = service ? service->id : 0;
		verdict = service ? send_direct(ctx, &packet, service, &action) : unknown(&packet);
		if (service && nat_remembers(service, &packet, verdict))
			nat_remember(&packet);
	}
	return finish(ctx, &packet, verdict, action);
}

static __always_inline enum verdict nat_back(struct xdp_md *ctx, struct packet *packet, int *action)
{
	flow_t *flow;

	if (edge_parse(ctx, packet) != PARSED_WHOLE)
		return PASS_NOT_OURS;
	flow = nat_reply(packet);
	if (!flow)
		return unknown(packet);
	packet->service = flow->service;
	packet->backend = flow->pod;
	return nat_answer(ctx, packet, flow, action);
}

/* Packets to this node that may be replies to SNAT. */
SEC("xdp")
int FAMILY(edge_nat_back)(struct xdp_md *ctx)
{
	struct packet packet = {
	    .frame_bytes = ctx->data_end - ctx->data, .l3 = ETH_HLEN, .events = events_now()};
	int action = XDP_PASS;
	enum verdict verdict = nat_back(ctx, &packet, &action);

	if (verdict == SENT_FRAG_NEEDED)
		verdict = too_big(ctx, &packet, packet.mtu, &action);
	return finish(ctx, &packet, verdict, action);
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
