/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only) */
#ifndef CILIATE_STAGE_SCRATCH_H
#define CILIATE_STAGE_SCRATCH_H

#include "metrics.h"
#include "packet.h"

/* Of what an ICMP error quotes: offsets in the frame. */
struct quote {
	__u32 ip;
	__u32 l4;
	__u32 end;	  /* of what is quoted */
	address_t sender; /* of the error */
};

/* Who a quoted packet is from, and to whom. */
struct quoted {
	address_t source;
	address_t destination;
	port_t source_port;
	port_t destination_port;
};

/* What an error becomes on its way. */
struct errand {
	struct quoted quoted;
	address_t source;
	address_t destination;
	__u8 ttl;
	bool stack; /* to this node itself */
};

/*
 * One row for each CPU: what has no place on a stack of 512 bytes, and what a program has to say to
 * the one that it goes on with. Programs of packets don't interrupt each other on a CPU, but for
 * those of node.bpf.c, which what another one sends meets at once: they have rows of their own. The
 * agent doesn't look into it, and doesn't pin it.
 */
struct scratch {
	flow_t flow;
	flow_key_t key;		 /* of a flow's entry that is being made */
	flow_key_t forgotten[2]; /* REQUEST and REPLY of one that goes */
	struct packet packet;
	struct quote quote;
	struct errand errand;
	address_t pod;	      /* to whom host_deliver delivers */
	__u32 taken;	      /* bytes that it had more when it came, before what told its service,
				 or an outer header, was taken off; 0 for a packet that is new */
	address_t backend;    /* with an answer: to whom the packet would have gone */
	service_id_t service; /* in whose name host_answer answers */
	__u32 frame_bytes;    /* of the packet as it came */
	__u32 mtu; /* the largest that the sender may send; 0: nobody is there for the packet */
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__uint(key_size, sizeof(__u32));
	__uint(value_size, sizeof(struct scratch));
} FAMILY(scratch) SEC(".maps");

/* This CPU's row; NULL never, but for the verifier. */
static __always_inline struct scratch *scratch_row(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&FAMILY(scratch), &zero);
}

/* Bytes that the program before has taken off: of one packet, so nobody finds them there again. */
static __always_inline __u32 scratch_taken(struct scratch *held)
{
	__u32 taken = held->taken;

	held->taken = 0;
	return taken;
}

/* For a program whose chain of calls is deep: its packet. */
static __always_inline struct packet *scratch_packet(struct scratch *held, __u32 frame_bytes)
{
	struct packet *packet = &held->packet;

	__builtin_memset(packet, 0, sizeof(*packet));
	packet->frame_bytes = frame_bytes;
	packet->l3 = ETH_HLEN;
	packet->events = events_now();
	return packet;
}

#endif
