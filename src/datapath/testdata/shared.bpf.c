/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only) */
/* One of everything that user space can share. The generator's golden files are made of it. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include <stdbool.h>
#include "abi/abi.h"

typedef __be32 ipv4_t;
typedef __be16 port_t;
typedef __u32 identity_t;
typedef __u64 time_ns_t;
typedef __u8 colour_t; /* enum colour */
typedef __u8 mac_t[6];

typedef struct {
	__u16 low;
	__u16 high;
} range_t;

#define COLOURS(X)                                                                                 \
	X(COLOUR_RED, 1, "of roses")                                                               \
	X(COLOUR_DEEP_BLUE, 200, "of the sea, and \"more\"")
EXPORT_ENUM(colour, COLOURS);

enum mixed {
	PASS_ALL = -1,
	DROP_ALL = 1,
};

struct peer {
	ipv4_t address DOC("where it answers");
	port_t port;
	__u8 reserved[2];
};

struct numbers {
	__u8 u8;
	__s8 s8;
	__u16 u16;
	__s32 s32;
	__s64 s64;
	__u64 u64;
	__s16 s16;
	__be16 be16;
	__be32 be32;
	__be64 be64;
	__u32 u32;
	__u32 reserved;
};

struct many {
	struct peer peers[2] DOC("the first is preferred");
	__u16 slots[12];
	__u8 bytes[5];
	bool yes;
	mac_t mac;
	enum mixed mixed;
	identity_t identities[3];
	range_t range;
	colour_t colour;
	__u8 reserved1[7];
	time_ns_t seen;
} DOC("a bit of all");

EXPORT(struct numbers);
EXPORT(enum mixed);

CONFIG(ipv4_t, gateway, "where packets leave") = 0x0100000a; /* 10.0.0.1 as it lies in memory */
CONFIG(bool, enabled, "whether it's on") = true;
CONFIG(__u64, big, "more than 2^53") = 0x8000000000000001;
CONFIG(__s16, offset, "may be below zero") = -2;
CONFIG(mac_t, router, "the router's MAC") = {0x02, 0, 0, 0, 0, 0x07};
CONFIG(__u32, unset, "nobody gives it a value");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 16);
	__type(key, struct peer);
	__type(value, struct many);
} peers SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 4);
	__type(key, __u32);
	__type(value, struct numbers);
} number_rows SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 4096);
} events SEC(".maps");

SEC("tc")
int from_test(struct __sk_buff *packet)
{
	struct peer key = {.address = gateway};

	return enabled && bpf_map_lookup_elem(&peers, &key) ? 0 : -1;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
