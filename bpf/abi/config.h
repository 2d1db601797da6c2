/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only) */
#ifndef CILIATE_ABI_CONFIG_H
#define CILIATE_ABI_CONFIG_H

#include "abi.h"
#include "family.h"
#include "types.h"

/* Constants of one node, set by the agent before load. */

CONFIG(address_t, FAMILY(node_address),
       "this node's address: the outer source of what it encapsulates and passes on");
CONFIG(__u32, FAMILY(frontend_mask),
       "number of frontend buckets minus one; buckets are a power of two") = 1023;
CONFIG(__u32, counter_stride, "rows of the counters table that one CPU owns");
CONFIG(__u16, nat_port_min,
       "lowest port of this node that SNAT gives to clients; the others up to 65535 follow") =
    32768;
CONFIG(__u16, node_port_min, "lowest port of node ports, 0 with node_port_max 0: there are none");
CONFIG(__u16, node_port_max, "highest port of node ports");
CONFIG(__u64, node_netns,
       "cookie of this node's own network namespace: its loopback addresses are the node's");
CONFIG(__u64, hash_seed, "seed of the flow hash, the same on every node of the cluster");
#ifndef FAMILY_IPV6
CONFIG(ipv4_t, outer_prefix,
       "prefix of outer sources made from a flow's hash; read when outer_host_mask is not 0");
CONFIG(__u32, outer_host_mask,
       "host bits of outer_prefix in host order, 0: the outer source is node_address");
#endif
/* How a balancer tells a backend's node which service a packet is for. */
enum dispatch {
	DISPATCH_IPIP = 0, /* the client's packet as it is, in an outer header to the pod */
	DISPATCH_GENEVE =
	    1, /* translated, in Geneve to the pod's node, with an option of Cilium's */
	DISPATCH_OPTION = 2, /* translated, with an option of Cilium's in its own header */
};

EXPORT(enum dispatch);

CONFIG(__u8, dispatch, "enum dispatch: how packets to pods of other nodes say their service");
CONFIG(__u8, accept_option,
       "1: a plain packet's own option is believed to say its service, and clients' are erased");
CONFIG(__u16, clamp_mss,
       "largest MSS a pod may offer to a client of IPv4 in bytes, to one of IPv6 less by what its "
       "headers have more; 0: leave it");
CONFIG(__u8, fragments_pass,
       "1: fragments for a service address pass to the kernel, 0: they are dropped");
CONFIG(__u8, fragments_track,
       "1: fragments follow the first of them, which has the ports; before fragments_pass");
CONFIG(__u8, node_clients,
       "1: packets of this node's own sockets to services are translated, as those of pods are");
CONFIG(__u8, socket_lookup, "1: a flow without an entry is known if its pod has a socket for it");
CONFIG(__u32, quiet_jiffies,
       "for so long after a ring changed, packets that nobody knows are dropped, not adopted");
CONFIG(__u32, pass_limit,
       "packets of unknown flows that one service may pass on in one limit_window");
CONFIG(__u32, answer_limit,
       "packets that one service may answer with ICMP or RST, and ICMP errors that it may "
       "relay, in one limit_window");
CONFIG(__u32, limit_window, "length of the window of both limits in jiffies");

#endif
