/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only) */
#ifndef CILIATE_STAGE_ENDPOINT_H
#define CILIATE_STAGE_ENDPOINT_H

#include "packet.h"

/*
 * Pods of this node, and their sockets. An address of the node itself is one of them for as long as
 * services have it as a backend.
 */

/* States of sockets, as linux/tcp_states.h has them. */
#define TCP_ESTABLISHED_STATE 1
#define TCP_LISTEN_STATE 10

static __always_inline struct endpoint *endpoint_find(address_t address)
{
	endpoint_key_t key = {.address = address};

	return bpf_map_lookup_elem(&FAMILY(endpoints), &key);
}

/* The node itself has no device of a pod. */
static __always_inline bool endpoint_is_node(const struct endpoint *endpoint)
{
	return !endpoint->ifindex;
}

/* The same, but for the node itself. */
static __always_inline struct endpoint *pod_find(address_t address)
{
	struct endpoint *endpoint = endpoint_find(address);

	return endpoint && !endpoint_is_node(endpoint) ? endpoint : NULL;
}

/* The pod that has an address, if the packet comes from its device. */
static __always_inline struct endpoint *sender_find(const struct __sk_buff *skb, address_t address)
{
	struct endpoint *endpoint = endpoint_find(address);

	return endpoint && endpoint->ifindex == skb->ifindex ? endpoint : NULL;
}

#endif
