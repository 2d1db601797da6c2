/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only) */
#ifndef CILIATE_ABI_EVENTS_H
#define CILIATE_ABI_EVENTS_H

#include <linux/bpf.h>
#include "abi.h"
#include "family.h"
#include "types.h"
#include "verdict.h"

/* What goes into the ring: one record a packet, for drops and, when somebody listens, for every
 * verdict. */
struct FAMILY(packet_event) {
	time_ns_t time;
	ifindex_t ifindex;
	__u32 length; /* bytes of the frame as it came */
	address_t source;
	address_t destination;
	port_t source_port;
	port_t destination_port;
	__u8 protocol;
	__u8 tcp_flags;
	verdict_t verdict;
	place_t place;
	address_t outer_source; /* of an IPIP packet as it came, else 0 */
	address_t outer_destination;
	address_t backend; /* the pod it was sent to, else 0 */
	service_id_t service;
	FAMILY_WIDE(__u32 reserved;)
};

#define packet_event_t struct FAMILY(packet_event)

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 20);
} events SEC(".maps");

EXPORT(packet_event_t);

#endif
