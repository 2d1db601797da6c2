/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only) */
#ifndef CILIATE_STAGE_CONNTRACK_H
#define CILIATE_STAGE_CONNTRACK_H

#include "abi/config.h"
#include "limits.h"
#include "metrics.h"
#include "packet.h"
#include "scratch.h"

/* The key of a packet from `from`, as it is written in the packet. */
static __always_inline flow_key_t flow_key_of(const struct packet *packet, __u8 direction)
{
	return (flow_key_t){
	    .source = packet->source,
	    .destination = packet->destination,
	    .source_port = packet->source_port,
	    .destination_port = packet->destination_port,
	    .protocol = packet->protocol,
	    .direction = direction,
	};
}

static __always_inline flow_key_t request_key(const flow_t *flow, __u8 protocol)
{
	return (flow_key_t){
	    .source = flow->client,
	    .destination = flow->service_address,
	    .source_port = flow->client_port,
	    .destination_port = flow->service_port,
	    .protocol = protocol,
	    .direction = FLOW_REQUEST,
	};
}

static __always_inline flow_key_t reply_key(const flow_t *flow, __u8 protocol)
{
	return (flow_key_t){
	    .source = flow->pod,
	    .destination = flow->alias_address,
	    .source_port = flow->pod_port,
	    .destination_port = flow->alias_port,
	    .protocol = protocol,
	    .direction = FLOW_REPLY,
	};
}

static __always_inline bool flow_is_over(const flow_t *flow)
{
	const __u32 both = FLOW_FIN_CLIENT | FLOW_FIN_POD;

	return flow->flags & FLOW_RESET || (flow->flags & both) == both;
}

/*
 * Whether a packet is none of this flow's any more. After a reset the client's port may be in use
 * again, for a flow of another node.
 */
static __always_inline bool flow_is_past(const flow_t *flow, const struct packet *packet)
{
	return flow->flags & FLOW_RESET || (packet_is_syn(packet) && flow_is_over(flow));
}

/* Whether two entries are of one flow. */
static __always_inline bool flow_is_same(const flow_t *flow, const flow_t *other)
{
	return same_address(other->client, flow->client) &&
	       same_address(other->service_address, flow->service_address) &&
	       other->service_port == flow->service_port && other->client_port == flow->client_port;
}

/* Another CPU may have a packet of the same flow: a flag that it sets meanwhile must stay. */
static __always_inline void flow_flag(flow_t *flow, __u32 flags)
{
	__sync_fetch_and_or(&flow->flags, flags);
}

/* Sets flags in both entries. Not inlined: few packets do. */
static __noinline int flow_mark(flow_t *flow, __u8 protocol, __u32 flags, bool reply_entry)
{
	flow_t *other;
	flow_key_t key;

	if (!flow)
		return 0;
	key = reply_entry ? request_key(flow, protocol) : reply_key(flow, protocol);
	other = bpf_map_lookup_elem(&FAMILY(conntrack), &key);
	flow_flag(flow, flags);
	if (other)
		flow_flag(other, flags);
	return 0;
}

/*
 * Whether a packet shows that both sides have the connection. What made the flow doesn't: anybody
 * can send a packet that is no SYN, and who listens may discard it without a word.
 */
static __always_inline bool flow_confirms(const flow_t *flow, const struct packet *packet,
					  bool from_pod)
{
	/* An INIT ACK says no more than a SYN and ACK does, and isn't told from others. */
	if (from_pod)
		return packet->protocol == IPPROTO_TCP &&
		       !(packet->tcp_flags & (TCP_SYN | TCP_RST));
	return flow->flags & FLOW_REPLIED && !packet_is_syn(packet);
}

/*
 * Counts a packet; flags that both entries must know are set in the other one too. What met the
 * REPLY entry confirms the REQUEST one as well, by which half-open flows are judged.
 */
static __always_inline void flow_update(flow_t *flow, const struct packet *packet, bool from_pod,
					bool reply_entry)
{
	__u32 both = 0;

	if (from_pod)
		both |= FLOW_REPLIED;
	if (is_connected(packet)) {
		if (!(flow->flags & FLOW_CONFIRMED) && flow_confirms(flow, packet, from_pod)) {
			if (reply_entry)
				both |= FLOW_CONFIRMED;
			else
				flow_flag(flow, FLOW_CONFIRMED);
		}
		if (packet->tcp_flags & TCP_FIN)
			both |= from_pod ? FLOW_FIN_POD : FLOW_FIN_CLIENT;
		if (packet->tcp_flags & TCP_RST)
			both |= FLOW_RESET;
	}
	flow->seen = jiffies_now();
	flow->packets++;
	flow->bytes += packet->frame_bytes;
	if ((flow->flags & both) != both)
		flow_mark(flow, packet->protocol, both, reply_entry);
}

#endif
