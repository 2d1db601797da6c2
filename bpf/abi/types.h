/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only) */
#ifndef CILIATE_ABI_TYPES_H
#define CILIATE_ABI_TYPES_H

#include <linux/types.h>

/* The vocabulary: a typedef is a promise that user space sees as a branded type. */

typedef __be32 ipv4_t;	       /* an IPv4 address, network order */
typedef __be16 port_t;	       /* a port of TCP, UDP or SCTP, network order */
typedef __u32 ifindex_t;       /* a device of this node's namespace; 0 is none */
typedef __u32 identity_t;      /* a security identity; 0 is unknown */
typedef __u32 jiffies_t;       /* the low half of the kernel's jiffies: compare by difference */
typedef __u64 time_ns_t;       /* CLOCK_MONOTONIC */
typedef __u64 socket_cookie_t; /* by which the kernel knows a socket, never given twice */
typedef __u64 netns_cookie_t;  /* the same for a network namespace */
typedef __u32 service_id_t;    /* one port of one service, stable while it exists; 0 is none */

/* An IPv6 address, network order. */
typedef struct {
	__be32 word[4];
} ipv6_t;

typedef __u8 mac_t[6];
typedef __u8 verdict_t; /* enum verdict */
typedef __u8 place_t;	/* enum place */

#endif
