/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only) */
#ifndef CILIATE_ABI_CAPTURE_H
#define CILIATE_ABI_CAPTURE_H

#include <linux/bpf.h>
#include "abi.h"
#include "types.h"

/*
 * captures: one row, of whoever captures packets. Programs look at it while EVENT_PACKETS is set in
 * runtime, and clear that once the deadline is over: who captures and dies leaves nothing behind.
 */
struct capture {
	time_ns_t deadline; /* nothing is captured from then on; who captures moves it on */
	time_ns_t second;   /* when the present second began */
	__u64 packets;	    /* that were captured */
	__u64 left_out;	    /* that were more than `rate` */
	__u64 lost;	    /* frames for which the ring had no room */
	__u64 verdicts;	    /* that are wanted, a bit each */
	ipv6_t address; /* wanted in some header, as far as `mask` goes; IPv4 in the first word */
	ipv6_t mask;
	__u32 session;	  /* which capture: frames of another one are in the ring, too */
	__u32 taken;	  /* packets in the present second */
	__u32 rate;	  /* packets in a second at most */
	__u32 snap_bytes; /* kept of a frame at most, CAPTURE_BYTES at most */
	__u32 places;	  /* that are wanted, a bit each */
	port_t port;	  /* wanted in some header; 0: any */
	__u8 version;	  /* of IP; 0: any */
	__u8 reserved;
};

/* Of a frame, kept at most. */
#define CAPTURE_BYTES 16384

enum captured_flag {
	CAPTURED_LEFT = 1, /* the packet as it left, else as it came */
	CAPTURED_MORE = 2, /* the same packet as it left comes next from this CPU */
};

/* One frame; its first bytes stand behind this, as many as the record has. */
struct captured_frame {
	time_ns_t time;
	__u64 packet; /* its number: the same as it came and as it left */
	__u32 session;
	ifindex_t ifindex; /* of the device whose program it met */
	__u32 frame_bytes;
	__u32 segment_bytes; /* of a GSO packet: payload of each packet on the wire, else 0 */
	service_id_t service;
	__u16 cpu;
	verdict_t verdict;
	place_t place;
	__u32 flags; /* enum captured_flag */
	__u32 reserved;
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct capture);
} captures SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 20);
} captured_frames SEC(".maps");

EXPORT(enum captured_flag);
EXPORT(struct captured_frame);

#endif
