/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only) */
#ifndef CILIATE_STAGE_GIVE_H
#define CILIATE_STAGE_GIVE_H

#include "endpoint.h"
#include "skb.h"

/* Into a pod of this node; what is for the node itself goes on to its own sockets. */
static __always_inline bool endpoint_give(struct __sk_buff *skb, const struct endpoint *endpoint,
					  int *action)
{
	if (endpoint_is_node(endpoint))
		return true;
	if (!skb_ethernet(skb, endpoint->pod_mac, endpoint->node_mac))
		return false;
	*action = bpf_redirect_peer(endpoint->ifindex, 0);
	return true;
}

#endif
