/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only) */
#ifndef CILIATE_STAGE_PACKET_H
#define CILIATE_STAGE_PACKET_H

#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/ip.h>
#include <linux/tcp.h>
#include <linux/udp.h>
#include <stdbool.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_endian.h>
#include "abi/maps.h"

#define IPPROTO_IPIP 4
#define IPPROTO_TCP 6
#define IPPROTO_UDP 17

#define TCP_FIN 0x01
#define TCP_SYN 0x02
#define TCP_RST 0x04
#define TCP_ACK 0x10

#define OUTER_BYTES 20

#define likely(condition) __builtin_expect(!!(condition), 1)
#define unlikely(condition) __builtin_expect(!!(condition), 0)

/* Lengths that an IPv4 header can have: tells the verifier what it forgot. */
#define IP_HEADER_MASK 0x3c

/* What is known of a packet so far. With an outer header, the first half speaks of the inner one.
 */
struct packet {
	ipv4_t source;
	ipv4_t destination;
	port_t source_port;
	port_t destination_port;
	__u8 protocol;
	__u8 tcp_flags;
	__u8 tos;
	__u8 ttl;
	__u16 l3;	    /* offset of the IPv4 header in the frame */
	__u16 header_bytes; /* of the IPv4 header */
	__u16 l4_bytes;	    /* of the TCP or UDP header */
	__u16 total_bytes;  /* IPv4 total length */
	__u16 fragment;	    /* flags and offset that make it one, network order */
	__u8 outer_tos;
	__u8 outer_ttl;
	__u32 frame_bytes;
	ipv4_t outer_source; /* 0: no outer header */
	ipv4_t outer_destination;
	/* Found on the way. */
	ipv4_t backend;
	service_id_t service;
	__u32 slot;
	__u32 hash;   /* h: chooses the slot */
	__u32 spread; /* g: spreads outer sources */
	__u32 mtu;    /* the largest that the client may send, once the packet was too big */
};

static __always_inline bool packet_is_syn(const struct packet *packet)
{
	return packet->protocol == IPPROTO_TCP &&
	       (packet->tcp_flags & (TCP_SYN | TCP_ACK | TCP_RST | TCP_FIN)) == TCP_SYN;
}

#endif
