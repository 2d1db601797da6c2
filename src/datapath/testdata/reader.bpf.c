/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only) */
/* Reads the hot tables as the packet path does and says whether all it read is of one image. */
#include <linux/bpf.h>
#include <bpf/bpf_endian.h>
#include "../../../bpf/abi/maps.h"

#define ROUNDS 8192

enum outcome { READ_WHOLE, READ_MIXED, READ_NOTHING, OUTCOMES };

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, OUTCOMES);
	__type(key, __u32);
	__type(value, __u64);
} outcomes SEC(".maps");

struct reading {
	__u32 id;
	__u32 generation;
	__u32 ring;
	__u32 ring_size;
	__u32 backends;
	__u32 backend_count;
	__u32 step;
	enum outcome outcome;
};

/* The flags of an image are its generation, and so is the port of each of its backends. */
static enum outcome look(struct reading *reading)
{
	__u32 slot = (reading->step * 7919) % reading->ring_size;
	__u32 index = reading->ring + slot / RING_ROW_SLOTS;
	struct ring_row *row = bpf_map_lookup_elem(&rings, &index);
	struct backend *backend;

	if (!row)
		return READ_MIXED;
	index = *(volatile __u16 *)&row->backend[slot % RING_ROW_SLOTS];
	if (index >= reading->backend_count)
		return READ_MIXED;
	index += reading->backends;
	backend = bpf_map_lookup_elem(&backends, &index);
	if (!backend || *(volatile __u16 *)&backend->port != bpf_htons(reading->generation) ||
	    *(volatile __u32 *)&backend->counter != reading->id)
		return READ_MIXED;
	return READ_WHOLE;
}

static long look_at_slot(__u32 step, struct reading *reading)
{
	reading->step = step;
	reading->outcome = look(reading);
	return reading->outcome != READ_WHOLE;
}

SEC("tc")
int read_tables(struct __sk_buff *skb)
{
	__u32 bucket_index = bpf_get_prandom_u32() & 15;
	struct frontend_bucket *bucket = bpf_map_lookup_elem(&frontends, &bucket_index);
	struct reading reading = {.outcome = READ_NOTHING};
	struct service *service;
	__u64 *count;
	__u32 row;

	if (bucket) {
		row = *(volatile __u32 *)&bucket->slot[0].service;
		service = bpf_map_lookup_elem(&services, &row);
		if (service && row) {
			reading.id = service->id;
			reading.generation = service->flags;
			reading.ring = service->ring;
			reading.ring_size = service->ring_size;
			reading.backends = service->backends;
			reading.backend_count = service->backend_count;
			if (!reading.ring_size)
				reading.outcome = READ_MIXED;
			else
				bpf_loop(ROUNDS, look_at_slot, &reading, 0);
		}
	}
	row = reading.outcome;
	count = bpf_map_lookup_elem(&outcomes, &row);
	if (count)
		__sync_fetch_and_add(count, 1);
	return 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
