/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only) */
#ifndef CILIATE_ABI_PEERS_H
#define CILIATE_ABI_PEERS_H

#include "maps.h"

/*
 * peers: on which node a pod elsewhere is. With `dispatch: geneve` alone, where what knows no other
 * header than IPIP goes by that node's address.
 */
struct FAMILY(peer) {
	address_t node;
};

#define peer_t struct FAMILY(peer)

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 16384);
	__type(key, endpoint_key_t);
	__type(value, peer_t);
} FAMILY(peers) SEC(".maps");

#endif
