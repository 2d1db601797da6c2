/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only) */
#ifndef CILIATE_ABI_FAMILY_H
#define CILIATE_ABI_FAMILY_H

#include "abi.h"
#include "types.h"

/*
 * Which family of addresses an object speaks: IPv4, or IPv6 where FAMILY_IPV6 is defined before
 * anything is included. All else is one source: docs/decisions/ipv6-packet-path.md. What holds
 * addresses has a name for each family: conntrack and conntrack6, struct flow and struct flow6.
 */
#ifdef FAMILY_IPV6
#define address_t ipv6_t
#define FAMILY(name) ABI_JOIN(name, 6)
/* A member that only wide addresses leave a hole for. */
#define FAMILY_WIDE(member) member
#define FAMILY_NARROW(member)
#else
#define address_t ipv4_t
#define FAMILY(name) name
#define FAMILY_WIDE(member)
/* The same of narrow ones: rows of tables are whole words of eight bytes. */
#define FAMILY_NARROW(member) member
#endif

#endif
