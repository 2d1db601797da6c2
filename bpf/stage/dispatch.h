/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only) */
#ifndef CILIATE_STAGE_DISPATCH_H
#define CILIATE_STAGE_DISPATCH_H

#include "geneve.h"
#include "option.h"
#include "translation.h"

/* What a packet gets on its way to a pod of another node, but for IPIP, which is encap.h's. */

/* Bytes by which it grows. A constant that is read anew for each question is folded by each. */
static __always_inline __u32 dispatch_bytes(void)
{
	if (dispatch == DISPATCH_GENEVE)
		return GENEVE_BYTES;
	return dispatch == DISPATCH_OPTION ? sizeof(struct option) : OUTER_BYTES;
}

static __always_inline __u32 dispatch_bytes_of(enum dispatch how)
{
	if (how == DISPATCH_GENEVE)
		return GENEVE_BYTES;
	return how == DISPATCH_OPTION ? sizeof(struct option) : OUTER_BYTES;
}

/* The client's packet as the pod gets it. What isn't encapsulated is a hop further. */
static __always_inline struct translation dispatch_translation(const struct packet *packet,
							       const backend_t *backend)
{
	return (struct translation){
	    .source = packet->source,
	    .destination = backend->address,
	    .source_port = packet->source_port,
	    .destination_port = backend->port,
	    .tos = packet->tos,
	    .ttl = packet->ttl - (dispatch == DISPATCH_OPTION),
	};
}

#endif
