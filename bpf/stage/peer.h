/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only) */
#ifndef CILIATE_STAGE_PEER_H
#define CILIATE_STAGE_PEER_H

#include "abi/peers.h"
#include "skb.h"

/*
 * IPIP to a pod of another node. With `dispatch: geneve`, a fabric may route nodes and no pods:
 * what has an outer header to a pod then gets another one, to the pod's node, which takes it off.
 * So all that the outer header says to the pod's node stays in it, and both together are less than
 * Geneve.
 */

struct passage {
	address_t node; /* the pod's, by whose address it goes; none: by the pod's own */
	__u32 extra;	/* bytes of outer headers that a packet without one gets */
	struct way way;
};

static __always_inline address_t peer_of(address_t pod)
{
	endpoint_key_t key = {.address = pod};
	peer_t *peer;

	if (dispatch != DISPATCH_GENEVE)
		return no_address();
	peer = bpf_map_lookup_elem(&FAMILY(peers), &key);
	return peer ? peer->node : no_address();
}

/*
 * The way to the pod in packet->backend by the FIB, for a packet of `bytes` without outer headers;
 * false: there is none.
 */
static __always_inline bool passage_find(struct __sk_buff *skb, const struct packet *packet,
					 __u32 bytes, struct passage *passage)
{
	bool by_node;

	passage->node = peer_of(packet->backend);
	by_node = is_address(passage->node);
	passage->extra = by_node ? 2 * OUTER_BYTES : OUTER_BYTES;
	return way_find(skb, own_address(), by_node ? passage->node : packet->backend,
			bytes + passage->extra, &passage->way);
}

/*
 * Another outer header in front of one. The kernel's marks of a tunnel have been set by the first
 * one, and twice it sets none.
 */
static __noinline bool skb_by_node(struct __sk_buff *skb, address_t node)
{
	const __u64 flags = BPF_F_ADJ_ROOM_FIXED_GSO | BPF_F_ADJ_ROOM_NO_CSUM_RESET;
	ip_t *outer;

	if (bpf_skb_adjust_room(skb, OUTER_BYTES, BPF_ADJ_ROOM_MAC, flags))
		return false;
	outer = skb_start(skb) + ETH_HLEN;
	if ((void *)(outer + 2) > skb_end(skb))
		return false;
	outer_write_again(outer, outer + 1, node);
	return true;
}

/* The same if the fabric needs it for what has been sent to a pod in IPIP. Not inlined: callers
 * have no stack left. */
static __noinline bool sent_by_node(struct __sk_buff *skb, address_t pod)
{
	address_t node = peer_of(pod);

	return !is_address(node) || skb_by_node(skb, node);
}

/* The same for a piece, which goes in IPIP whatever `dispatch` says. */
static __always_inline enum verdict piece_by_node(struct __sk_buff *skb,
						  const struct packet *packet, enum verdict verdict)
{
	if (!packet->fragment || verdict != SENT_ENCAPSULATED)
		return verdict;
	return sent_by_node(skb, packet->backend) ? verdict : DROP_REWRITE;
}

/* Sends by a way that was found; false: the packet can't be written. */
static __always_inline bool passage_take(struct __sk_buff *skb, const struct packet *packet,
					 __u8 ttl, const struct passage *passage, int *action)
{
	if (!skb_send_outer(skb, packet, ttl, &passage->way))
		return false;
	if (is_address(passage->node) && !skb_by_node(skb, passage->node))
		return false;
	*action = way_take(&passage->way);
	return true;
}

#endif
