/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only) */
#ifndef CILIATE_STAGE_FRAGMENT_H
#define CILIATE_STAGE_FRAGMENT_H

#include "abi/fragments.h"
#include "limits.h"
#include "parse.h"

/* Packets in pieces: the first has the ports, and the others go where it went. */

/* No first piece teaches for longer: RFC 8200, 4.5 gives up after 60 s, Linux after 30 s. */
#define FRAGMENT_AGE_WINDOWS 30

static __always_inline bool fragment_is_first(const struct packet *packet)
{
	return packet->fragment && !packet_is_later(packet);
}

static __always_inline fragment_key_t fragment_key_of(const struct packet *packet)
{
	return (fragment_key_t){
	    .source = packet->source,
	    .destination = packet->destination,
	    .id = packet->fragment_id,
	    .protocol = packet->protocol,
	};
}

/* Not inlined, as what follows: few packets come in pieces. */
static __noinline int fragment_learn(const struct packet *packet)
{
	struct fragment ports = {};
	fragment_key_t key;

	if (!packet)
		return 0;
	key = fragment_key_of(packet);
	ports.source_port = packet->source_port;
	ports.destination_port = packet->destination_port;
	ports.seen = jiffies_now();
	bpf_map_update_elem(&FAMILY(fragments), &key, &ports, BPF_ANY);
	return 0;
}

static __noinline bool fragment_follow(struct packet *packet)
{
	struct fragment *ports;
	fragment_key_t key;

	if (!packet)
		return false;
	key = fragment_key_of(packet);
	ports = bpf_map_lookup_elem(&FAMILY(fragments), &key);
	if (!ports ||
	    jiffies_since(ports->seen, jiffies_now()) > limit_window * FRAGMENT_AGE_WINDOWS)
		return false;
	packet->source_port = ports->source_port;
	packet->destination_port = ports->destination_port;
	packet->l4_bytes = 0;
	packet->tcp_flags = 0;
	return true;
}

/*
 * The ports of a fragment whose IP header is read. PARSED_WHOLE: it has them; PARSED_FRAGMENT: the
 * first piece has not been seen; PARSED_INVALID: it is the first, and has no whole header of TCP or
 * UDP.
 */
static __always_inline enum parsed fragment_parse(struct packet *packet, void *ip, void *end)
{
	if (fragment_is_first(packet))
		return parse_ports(packet, ip + (packet->header_bytes & IP_HEADER_MASK), end);
	return fragment_follow(packet) ? PARSED_WHOLE : PARSED_FRAGMENT;
}

#endif
