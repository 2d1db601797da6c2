/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only) */
#ifndef CILIATE_STAGE_GENEVE_H
#define CILIATE_STAGE_GENEVE_H

#include "encap.h"
#include "packet.h"

/*
 * Geneve (RFC 8926) as Cilium's balancers send it to a pod's node: Ethernet with the client's
 * packet, translated already, and an option that says which service it was for.
 */

#define GENEVE_PORT bpf_htons(6081)
#define GENEVE_CRITICAL 0x40 /* some option is */
#define GENEVE_ETHERNET bpf_htons(0x6558)
#define GENEVE_WORLD bpf_htonl(2 << 8) /* the VNI is the sender's identity, "world" */
#define GENEVE_CLASS bpf_htons(0x014b)
#define GENEVE_SERVICE 0x81 /* critical, 1 */

/* What stands between the outer IP header and the inner Ethernet header. */
struct geneve {
	struct udphdr udp;
	__u8 words; /* of options; version 0 */
	__u8 flags;
	__be16 protocol;
	__be32 vni;
	__be16 option_class;
	__u8 option_type;
	__u8 option_words; /* of what follows */
	address_t address;
	port_t port;
	__u16 reserved;
};

#define GENEVE_OPTION_WORDS ((sizeof(address_t) + 4) / 4)

/* All that comes in front of the client's IP header, but for one Ethernet header. */
#define GENEVE_BYTES (sizeof(ip_t) + sizeof(struct geneve) + ETH_HLEN)

/* The flow's hash spreads source ports, so that fabrics and receive queues spread the load. */
static __always_inline void geneve_write(struct geneve *geneve, const struct packet *packet)
{
	geneve->udp.source = bpf_htons(0x8000 | (packet->spread & 0x7fff));
	geneve->udp.dest = GENEVE_PORT;
	geneve->udp.len = bpf_htons(packet->total_bytes + GENEVE_BYTES - sizeof(ip_t));
	/* The inner packet has its own checksum; none is allowed in IPv6 too (RFC 6935). */
	geneve->udp.check = 0;
	geneve->words = 1 + GENEVE_OPTION_WORDS;
	geneve->flags = GENEVE_CRITICAL;
	geneve->protocol = GENEVE_ETHERNET;
	geneve->vni = GENEVE_WORLD;
	geneve->option_class = GENEVE_CLASS;
	geneve->option_type = GENEVE_SERVICE;
	geneve->option_words = GENEVE_OPTION_WORDS;
	geneve->address = packet->destination;
	geneve->port = packet->destination_port;
	geneve->reserved = 0;
}

/* Whether it is Geneve with Ethernet inside. */
static __always_inline bool geneve_is_ethernet(const struct geneve *geneve)
{
	return !(geneve->words >> 6) && geneve->protocol == GENEVE_ETHERNET;
}

/* Whether it says a service, as one option alone. */
static __always_inline bool geneve_has_service(const struct geneve *geneve)
{
	return geneve->words == 1 + GENEVE_OPTION_WORDS && geneve->option_class == GENEVE_CLASS &&
	       geneve->option_type == GENEVE_SERVICE && geneve->option_words == GENEVE_OPTION_WORDS;
}

/* Where Geneve goes for a backend: its node, or the pod itself while that isn't known. */
static __always_inline address_t geneve_target(const nexthop_t *nexthop, const backend_t *backend)
{
	return is_address(nexthop->peer) ? nexthop->peer : backend->address;
}

#endif
