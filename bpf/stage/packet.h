/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only) */
#ifndef CILIATE_STAGE_PACKET_H
#define CILIATE_STAGE_PACKET_H

#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/tcp.h>
#include <linux/udp.h>
#include <stdbool.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_endian.h>
#include "abi/maps.h"

#ifdef FAMILY_IPV6
#define IPPROTO_OUTER 41 /* IPv6 in IPv6, RFC 2473 */
#define IPPROTO_ICMP 58
#define OUTER_BYTES 40
/* Longest header of a packet of ours, extension headers included, and the lengths it can have:
 * tells the verifier what it forgot. */
#define IP_HEADER_MAX 256
#define IP_HEADER_MASK 0x1f8
#else
#define IPPROTO_OUTER 4 /* IPv4 in IPv4, RFC 2003 */
#define IPPROTO_ICMP 1
#define OUTER_BYTES 20
#define IP_HEADER_MAX 60
#define IP_HEADER_MASK 0x3c
#endif

#define IPPROTO_TCP 6
#define IPPROTO_UDP 17
#define IPPROTO_SCTP 132

#define TCP_FIN 0x01
#define TCP_SYN 0x02
#define TCP_RST 0x04
#define TCP_ACK 0x10

#define IP_DEFAULT_TTL 64

#define likely(condition) __builtin_expect(!!(condition), 1)
#define unlikely(condition) __builtin_expect(!!(condition), 0)

enum parsed {
	PARSED_WHOLE,	 /* a whole header of TCP, UDP or SCTP */
	PARSED_FRAGMENT, /* a fragment of one of them: no ports */
	PARSED_PROTOCOL, /* a valid packet of another protocol */
	PARSED_INVALID,
};

/* What is known of a packet so far. With an outer header, the first half speaks of the inner one.
 */
struct packet {
	address_t source;
	address_t destination;
	port_t source_port;
	port_t destination_port;
	__u8 protocol;
	__u8 tcp_flags; /* of SCTP, those that its first chunk stands for */
	__u8 tos;
	__u8 ttl;
	__u16 l3;	    /* offset of the IP header in the frame */
	__u16 header_bytes; /* of the IP header, with its options or extension headers */
	__u16 l4_bytes;	    /* of the header of TCP, UDP or SCTP */
	__u16 total_bytes;  /* IP header and what it carries */
	__u16 fragment;	    /* flags and offset that make it one, network order */
	__u8 outer_tos;
	__u8 outer_ttl;
	bool told;   /* its outer header or option said its service, and is gone */
	__u8 events; /* enum event_mask: who listened when it came */
	__u32 frame_bytes;
	__u32 fragment_id;	/* as it lies in the header */
	address_t outer_source; /* no address: no outer header */
	address_t outer_destination;
	/* Found on the way. */
	address_t backend;
	service_id_t service;
	__u32 slot;
	__u32 hash;   /* h: chooses the slot */
	__u32 spread; /* g: spreads outer sources */
	__u32 mtu;    /* the largest that the client may send, once the packet was too big */
};

/* The part of struct bpf_sock_tuple that a family has. */
struct socket_tuple {
	address_t source;
	address_t destination;
	port_t source_port;
	port_t destination_port;
};

static __always_inline bool same_address(address_t a, address_t b)
{
#ifdef FAMILY_IPV6
	return !((a.word[0] ^ b.word[0]) | (a.word[1] ^ b.word[1]) | (a.word[2] ^ b.word[2]) |
		 (a.word[3] ^ b.word[3]));
#else
	return a == b;
#endif
}

static __always_inline bool is_address(address_t address)
{
#ifdef FAMILY_IPV6
	return address.word[0] | address.word[1] | address.word[2] | address.word[3];
#else
	return address;
#endif
}

/* What stands where there is no address. */
static __always_inline address_t no_address(void)
{
#ifdef FAMILY_IPV6
	return (address_t){};
#else
	return 0;
#endif
}

static __always_inline bool has_outer(const struct packet *packet)
{
	return is_address(packet->outer_source);
}

static __always_inline bool has_ports(__u8 protocol)
{
	return protocol == IPPROTO_TCP || protocol == IPPROTO_UDP || protocol == IPPROTO_SCTP;
}

/* SCTP's checksum covers ports and is a CRC32c (RFC 9260, 6.8), which isn't mended word by word. */
static __always_inline bool ports_stay(__u8 protocol)
{
	return protocol == IPPROTO_SCTP;
}

/* Whether connections begin and end by packets that say so; a datagram may be the first of any. */
static __always_inline bool is_connected(const struct packet *packet)
{
	return packet->protocol != IPPROTO_UDP;
}

/* A SYN, or SCTP's INIT. */
static __always_inline bool packet_is_syn(const struct packet *packet)
{
	return (packet->tcp_flags & (TCP_SYN | TCP_ACK | TCP_RST | TCP_FIN)) == TCP_SYN;
}

/*
 * Whether a packet can't be the first that is seen of a flow. TCP without SYN and ACK is discarded
 * by who listens without a word (RFC 9293, 3.10.7.2), so nothing would say that it is no flow.
 */
static __always_inline bool packet_makes_none(const struct packet *packet)
{
	return packet->tcp_flags & (TCP_RST | TCP_FIN) ||
	       (packet->protocol == IPPROTO_TCP && !(packet->tcp_flags & (TCP_SYN | TCP_ACK)));
}

#endif
