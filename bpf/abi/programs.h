/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only) */
#ifndef CILIATE_ABI_PROGRAMS_H
#define CILIATE_ABI_PROGRAMS_H

#include <linux/bpf.h>
#include "abi.h"
#include "family.h"

/*
 * Programs that another one goes on with, by a tail call: what is aside from the straight way has a
 * stack of its own there, and reads the packet anew. Slots are the agent's to fill; the programs of
 * a slot are named in src/datapath/programs.ts.
 */

enum edge_program {
	EDGE_PROGRAM_IPV6 = 0, /* of IPv4's programs only */
	EDGE_PROGRAM_NAT = 1,
	EDGE_PROGRAM_NAT_NEW = 2,
	EDGE_PROGRAM_NAT_BACK = 3,
	EDGE_PROGRAM_BALANCE = 4,
};

enum host_program {
	HOST_PROGRAM_IPV6 = 0,
	HOST_PROGRAM_NAT = 1,
	HOST_PROGRAM_DELIVER = 2,
	HOST_PROGRAM_ICMP = 3,
	HOST_PROGRAM_NAT_NEW = 4,
	HOST_PROGRAM_NAT_BACK = 5,
	HOST_PROGRAM_ANSWER = 6,
	HOST_PROGRAM_PLAIN = 7,
	HOST_PROGRAM_FRAGMENT = 8,
	HOST_PROGRAM_ICMP_NAT = 9,
	HOST_PROGRAM_TOLD = 10,
	HOST_PROGRAM_FOREIGN = 11,
	HOST_PROGRAM_BALANCE = 12,
};

enum pod_program {
	POD_PROGRAM_IPV6 = 0,
	POD_PROGRAM_OUTBOUND = 1,
	POD_PROGRAM_ICMP = 2,
	POD_PROGRAM_OUTBOUND_NEW = 3,
	POD_PROGRAM_ANSWER = 4,
	POD_PROGRAM_FRAGMENT = 5,
};

enum node_program {
	NODE_PROGRAM_IPV6 = 0,
	NODE_PROGRAM_OUTBOUND = 1,
	NODE_PROGRAM_OUTBOUND_NEW = 2,
	NODE_PROGRAM_ANSWER = 3,
	NODE_PROGRAM_ICMP = 4,
	NODE_PROGRAM_FRAGMENT = 5,
};

#define PROGRAMS 16

#define PROGRAM_TABLE(name)                                                                        \
	struct {                                                                                   \
		__uint(type, BPF_MAP_TYPE_PROG_ARRAY);                                             \
		__uint(max_entries, PROGRAMS);                                                     \
		__uint(key_size, sizeof(__u32));                                                   \
		__uint(value_size, sizeof(__u32));                                                 \
	} name SEC(".maps")

EXPORT(enum edge_program);
EXPORT(enum host_program);
EXPORT(enum pod_program);
EXPORT(enum node_program);

#endif
