/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only) */
#ifndef CILIATE_ABI_VERDICT_H
#define CILIATE_ABI_VERDICT_H

#include "abi.h"

/*
 * What happened to a packet, numbered once and for ever. Every packet that enters a program ends in
 * exactly one verdict, so at each place: packets in = passed (0..15) + sent (16..31) + dropped
 * (32..63).
 */
/* clang-format off */
#define VERDICTS(X) \
	X(PASS_NOT_OURS, 0, "nothing of ours: untouched") \
	X(PASS_LOCAL, 1, "edge: the backend is a pod of this node, the host program goes on") \
	X(PASS_UNRESOLVED, 2, \
	  "edge: the next hop is not known yet or not for XDP, the host program goes on") \
	X(PASS_FRAGMENT, 3, "a fragment for a service address, passed by configuration") \
	X(PASS_TTL, 4, \
	  "would have been forwarded, but its time to live ends here: the kernel answers") \
	X(PASS_STACK, 5, \
	  "a translated reply for which no direct route was found: the kernel routes it") \
	X(PASS_TOO_BIG, 6, \
	  "a reply too big for its way out: the kernel tells the pod, or cuts it") \
	X(SENT_ENCAPSULATED, 16, \
	  "to a backend on another node, in IPIP, Geneve or with an option, as `dispatch` says") \
	X(SENT_PLAIN, 17, "to a backend on another node, destination translated, no outer header") \
	X(SENT_POD, 18, "into a pod of this node, or to the node itself as a backend") \
	X(SENT_REPLY, 19, "a backend's reply, source translated, straight to the client") \
	X(SENT_PASSED, 20, "unknown flow: handed to a former owner of its slot") \
	X(SENT_FINAL, 21, "unknown flow: handed back to the present owner, who decides") \
	X(SENT_FRAG_NEEDED, 22, "too big for the outer header: ICMP to the client instead") \
	X(SENT_NOTED, 23, "another node told which pod has a flow: taken in") \
	X(SENT_NAT, 24, "to a backend on another node, with this node's address as the client's") \
	X(SENT_NAT_REPLY, 25, "a backend's reply to this node's address, back to the client") \
	X(SENT_OUTBOUND, 26, "from a pod to a backend of a service") \
	X(SENT_REJECTED, 27, "no backend: the client is told by RST or ICMP") \
	X(SENT_ECHO, 28, "a ping of a service address, answered") \
	X(SENT_RELAYED, 29, "an ICMP error for a service address, on its way to the pod") \
	X(SENT_SOCKET, 30, "a socket's peer, translated to a backend of a service") \
	X(DROP_NO_BACKEND, 32, "the service has no backend") \
	X(DROP_FRAGMENT, 33, "a fragment for a service address") \
	X(DROP_UNTRUSTED, 34, \
	  "IPIP or Geneve for a pod from a source that is no node and no load balancer") \
	X(DROP_INNER_INVALID, 35, \
	  "IPIP whose inner packet is not whole, up to the header of TCP, UDP or SCTP") \
	X(DROP_INNER_PROTOCOL, 36, \
	  "IPIP with none of TCP, UDP and SCTP inside, nor an ICMP error about a reply") \
	X(DROP_NO_SERVICE, 37, "IPIP whose inner destination is no service") \
	X(DROP_NOT_A_BACKEND, 38, "IPIP to a pod that is no backend of the inner service") \
	X(DROP_CONNTRACK_FULL, 39, "no room for a new flow") \
	X(DROP_PORT_COLLISION, 40, \
	  "no free client port for a second flow of the same client port to one pod") \
	X(DROP_UNKNOWN_FLOW, 41, \
	  "FIN, RST, TCP without SYN and ACK, or ICMP error of a flow that nobody knows") \
	X(DROP_UNKNOWN_FINAL, 42, "nobody knew the flow, and the ring changed moments ago") \
	X(DROP_PASS_LIMIT, 43, "too many packets of unknown flows for one service") \
	X(DROP_ECN, 44, \
	  "congestion mark on the outer header of a packet that can't carry it (RFC 6040)") \
	X(DROP_TABLE, 45, "a table's row points outside its table") \
	X(DROP_REWRITE, 46, "the kernel refused to change the packet") \
	X(DROP_NO_ROUTE, 47, "no route to the next owner of a flow") \
	X(DROP_ENDPOINT_GONE, 48, "the flow's pod is no longer on this node") \
	X(DROP_OUTER_FRAGMENT, 49, "a fragment of an IPIP packet for a pod") \
	X(DROP_ANSWER_LIMIT, 50, \
	  "had to be answered or relayed, and the service has answered enough") \
	X(DROP_TOO_BIG, 51, "too big for the way to an owner of the flow") \
	X(DROP_SOURCE_RANGE, 52, "the client is not in the service's source ranges") \
	X(DROP_UNKNOWN_PORT, 53, "no service has this port of a service address") \
	X(DROP_NAT_EXHAUSTED, 54, "no port of this node is free for another flow to the pod") \
	X(DROP_PROGRAM, 55, "a part of the packet path is not loaded: restart the agent") \
	X(DROP_OPTION_ROOM, 56, \
	  "the header has no room left for the option of `dispatch: option`") \
	X(DROP_BIND, 57, "a program of this node wanted a node port that a service has") \
	X(DROP_PORT_TAKEN, 58, \
	  "`encapsulate: first`: another connection has the client's port at the pod, and plain " \
	  "packets of both would be alike") \
	X(DROP_SOURCE, 59, "from an address that no client can have, or from a service itself")
/* clang-format on */

EXPORT_ENUM(verdict, VERDICTS);

/* A row of metrics has this many verdicts. */
#define VERDICT_SLOTS 64

/* Where a packet met us. */
#define PLACES(X)                                                                                  \
	X(PLACE_EDGE, 0, "XDP on an uplink")                                                       \
	X(PLACE_HOST, 1, "tc on an uplink, towards the node")                                      \
	X(PLACE_POD, 2, "tc on a pod's device, from the pod")                                      \
	X(PLACE_SOCKET, 3,                                                                         \
	  "a socket of a pod or of the node; a packet is a call that names a peer")                \
	X(PLACE_NODE, 4,                                                                           \
	  "tc on the way out of the node's devices, where its sockets are left alone")

EXPORT_ENUM(place, PLACES);

#define PLACE_SLOTS 8

#endif
