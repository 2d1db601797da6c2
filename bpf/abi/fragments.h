/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only) */
#ifndef CILIATE_ABI_FRAGMENTS_H
#define CILIATE_ABI_FRAGMENTS_H

#include <linux/bpf.h>
#include "abi.h"
#include "family.h"
#include "types.h"

/* fragments: the ports of packets that came in pieces, by the first piece. */
struct FAMILY(fragment_key) {
	address_t source;
	address_t destination;
	__u32 id; /* as it lies in the header */
	__u8 protocol;
	__u8 reserved[3];
};

#define fragment_key_t struct FAMILY(fragment_key)

struct fragment {
	port_t source_port;
	port_t destination_port;
	jiffies_t seen; /* when the first piece came */
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 8192);
	__type(key, fragment_key_t);
	__type(value, struct fragment);
} FAMILY(fragments) SEC(".maps");

#endif
