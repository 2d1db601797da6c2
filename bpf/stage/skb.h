/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only) */
#ifndef CILIATE_STAGE_SKB_H
#define CILIATE_STAGE_SKB_H

#include <linux/errno.h>
#include <linux/pkt_cls.h>
#include "encap.h"
#include "packet.h"
#include "translation.h"

/*
 * Packets changed at tc. Checksums of TCP and UDP may still be partial there (the sender left them
 * to a device), so they change through the kernel's helpers; those of IPv4 headers are always
 * whole.
 */

static __always_inline void *skb_start(struct __sk_buff *skb)
{
	return (void *)(long)skb->data;
}

static __always_inline void *skb_end(struct __sk_buff *skb)
{
	return (void *)(long)skb->data_end;
}

/*
 * How a packet from `source` gets to `destination`, by this node's FIB. With `bytes`, the MTU is
 * the route's, and a way for which they are too many has nothing else; with 0, it is the device's.
 */
static __always_inline bool way_find(struct __sk_buff *skb, address_t source, address_t destination,
				     __u32 bytes, struct way *way)
{
	struct bpf_fib_lookup fib = {.tot_len = bytes, .ifindex = skb->ifindex};
	long found;

	fib_between(&fib, source, destination);
	found = bpf_fib_lookup(skb, &fib, sizeof(fib), 0);
	if (found != BPF_FIB_LKUP_RET_SUCCESS && found != BPF_FIB_LKUP_RET_NO_NEIGH &&
	    found != BPF_FIB_LKUP_RET_FRAG_NEEDED)
		return false;
	way->ifindex = fib.ifindex;
	way->mtu = found == BPF_FIB_LKUP_RET_NO_NEIGH ? 0xffff : fib.mtu_result;
	way->neighbour = found == BPF_FIB_LKUP_RET_SUCCESS;
	way->gateway = fib_gateway(&fib);
	__builtin_memcpy(way->destination, fib.dmac, ETH_ALEN);
	__builtin_memcpy(way->source, fib.smac, ETH_ALEN);
	return true;
}

/*
 * To this node's own sockets, as if it had come by the device that leads to its source: by a pod's
 * one, the kernel's filter of reverse paths would not let it in. false: there is no such device.
 */
static __always_inline bool way_home(struct __sk_buff *skb, address_t source, address_t own,
				     int *action)
{
	struct ethhdr *eth;
	struct way way = {};

	if (!way_find(skb, own, source, 0, &way) || !way.neighbour)
		return false;
	eth = skb_start(skb);
	if ((void *)(eth + 1) > skb_end(skb))
		return false;
	ethernet_write(eth, way.source, way.source);
	*action = bpf_redirect(way.ifindex, BPF_F_INGRESS);
	return true;
}

static __always_inline void way_by(const nexthop_t *nexthop, struct way *way)
{
	way->ifindex = nexthop->ifindex;
	way->mtu = nexthop->mtu;
	way->neighbour = true;
	__builtin_memcpy(way->destination, nexthop->destination, ETH_ALEN);
	__builtin_memcpy(way->source, nexthop->source, ETH_ALEN);
}

static __always_inline bool way_of(struct __sk_buff *skb, const nexthop_t *nexthop,
				   address_t source, address_t destination, __u32 bytes,
				   struct way *way)
{
	if (!(nexthop->flags & NEXTHOP_RESOLVED))
		return way_find(skb, source, destination, bytes, way);
	way_by(nexthop, way);
	return true;
}

/* Sends a packet whose MACs are written already if they are known. */
static __always_inline int way_take(const struct way *way)
{
	struct bpf_redir_neigh neighbour = {};

	neighbour_of(&neighbour, way->gateway);
	if (way->neighbour)
		return bpf_redirect(way->ifindex, 0);
	if (!is_address(way->gateway))
		return bpf_redirect_neigh(way->ifindex, NULL, 0, 0);
	return bpf_redirect_neigh(way->ifindex, &neighbour, sizeof(neighbour), 0);
}

#define GSO_BY_FRAGMENTS 0xffff

/* Bytes of IP that one packet on the wire will have: of a GSO packet, one segment's. */
static __always_inline __u32 segment_bytes(struct __sk_buff *skb, const struct packet *packet)
{
	__u32 segment = skb->gso_size;

	/* Packets of SCTP that their sender has cut already, each as long as it is. */
	if (segment == GSO_BY_FRAGMENTS)
		return packet->header_bytes;
	return segment ? packet->header_bytes + packet->l4_bytes + segment : packet->total_bytes;
}

/*
 * Makes room for an outer header, with `marks` that tell devices about it. What was stripped here
 * may still be marked by whoever encapsulated it on a veth, and the kernel marks nothing twice.
 */
static __always_inline bool skb_outer_room(struct __sk_buff *skb, __u32 bytes, __u64 marks)
{
	const __u64 flags = BPF_F_ADJ_ROOM_FIXED_GSO | BPF_F_ADJ_ROOM_NO_CSUM_RESET;
	long failed = bpf_skb_adjust_room(skb, bytes, BPF_ADJ_ROOM_MAC, flags | marks);

	if (failed == -EALREADY)
		failed = bpf_skb_adjust_room(skb, bytes, BPF_ADJ_ROOM_MAC, flags);
	return !failed;
}

static __always_inline bool skb_encapsulate(struct __sk_buff *skb, const struct packet *packet,
					    address_t source, __u8 ttl, __u32 sum,
					    const struct way *way)
{
	struct ethhdr *eth;
	ip_t *outer;

	if (!skb_outer_room(skb, OUTER_BYTES, OUTER_ROOM))
		return false;
	eth = skb_start(skb);
	outer = (void *)(eth + 1);
	if ((void *)(outer + 1) > skb_end(skb))
		return false;
	ethernet_write(eth, way->destination, way->source);
	outer_write(outer, packet, source, packet->backend, ttl, sum);
	return true;
}

/*
 * A device may have summed up the whole packet (CHECKSUM_COMPLETE). The kernel takes it that what
 * addresses change in it is undone by a checksum of the header, which IPv6 hasn't got. For what
 * came by a device of a network and stays here: who sends a packet on looks at no sum.
 */
static __always_inline void sum_follow(struct __sk_buff *skb, const struct packet *packet,
				       const struct translation *to)
{
	if (!HEADER_SUMMED)
		bpf_csum_update(skb, translation_addresses(packet, to) +
					 header_change(packet, to->tos, to->ttl));
}

/* The checksum of TCP or UDP, before the headers themselves change. `l3`: where IP begins. */
static __always_inline bool translate_l4_checksum(struct __sk_buff *skb,
						  const struct packet *packet, __u32 l3,
						  const struct translation *to)
{
	bool udp = packet->protocol == IPPROTO_UDP;
	__u64 flags = udp ? BPF_F_MARK_MANGLED_0 : 0;
	__u32 at = l3 + packet->header_bytes +
		   (udp ? offsetof(struct udphdr, check) : offsetof(struct tcphdr, check));

	if (packet_is_later(packet) || packet->protocol == IPPROTO_SCTP)
		return true;
	if (bpf_l4_csum_replace(skb, at, 0, translation_addresses(packet, to),
				BPF_F_PSEUDO_HDR | flags))
		return false;
	if (packet->source_port == to->source_port &&
	    packet->destination_port == to->destination_port)
		return true;
	return !bpf_l4_csum_replace(skb, at, 0, translation_ports(packet, to), flags);
}

static __always_inline bool translate_headers(struct __sk_buff *skb, const struct packet *packet,
					      __u32 l3, const struct translation *to)
{
	return translate_header(skb_start(skb) + l3, skb_end(skb), packet, to);
}

static __always_inline bool skb_ethernet(struct __sk_buff *skb, const __u8 *destination,
					 const __u8 *source)
{
	struct ethhdr *eth = skb_start(skb);

	if ((void *)(eth + 1) > skb_end(skb))
		return false;
	ethernet_write(eth, destination, source);
	return true;
}

/*
 * Points the outer header to the pod in packet->backend, with this node as its source; what came
 * without one gets one.
 */
static __always_inline bool skb_send_outer(struct __sk_buff *skb, const struct packet *packet,
					   __u8 ttl, const struct way *way)
{
	ip_t *outer;

	if (!has_outer(packet))
		return skb_encapsulate(skb, packet, own_address(), ttl,
				       outer_sum(own_address(), ttl), way);
	outer = skb_start(skb) + ETH_HLEN;
	if ((void *)(outer + 1) > skb_end(skb))
		return false;
	outer_redirect(outer, packet, packet->backend, ttl);
	return skb_ethernet(skb, way->destination, way->source);
}

/* Parses the packet behind its MACs, pulling headers into linear memory where they aren't. */
static __always_inline bool skb_readable(struct __sk_buff *skb, __u32 bytes)
{
	__u32 want = bytes < skb->len ? bytes : skb->len;

	if (skb_start(skb) + want <= skb_end(skb))
		return true;
	return !bpf_skb_pull_data(skb, want);
}

#endif
