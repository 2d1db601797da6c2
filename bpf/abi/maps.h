/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only) */
#ifndef CILIATE_ABI_MAPS_H
#define CILIATE_ABI_MAPS_H

#include <linux/bpf.h>
#include "abi.h"
#include "family.h"
#include "types.h"
#include "verdict.h"

/*
 * Two kinds of tables. The hot ones are arrays in memory that the agent maps and writes with plain
 * stores: rows and rings never change in place, the word that leads to them is published by one
 * aligned store. The others are kernel hash maps, touched by new or unknown flows and by the
 * backend's node. Sizes are the agent's; the ones here are for tests.
 */

/* frontends: a hash table of 64-byte buckets, four slots each. */

/*
 * What a key of frontends stands for. `service` is a row of services, but for the kinds of
 * addresses.
 */
enum frontend_kind {
	FRONTEND_EMPTY = 0,
	FRONTEND_SERVICE = 1,	/* address, port, protocol: for clients outside */
	FRONTEND_ADDRESS = 2,	/* of services; port and protocol are 0 */
	FRONTEND_NODE_PORT = 3, /* port and protocol at any node; the address is 0 */
	FRONTEND_INTERNAL = 4,	/* as SERVICE, for pods and for nodes themselves; wins over it. With
				 * address 0 as NODE_PORT, and wins over that */
	FRONTEND_NODE = 5,	/* an address of a node; `service` is of enum node_address */
};

enum node_address {
	NODE_ADDRESS_OWN = 1, /* of this node, and node ports are served there */
	NODE_ADDRESS_OTHER = 2,
};

/* The first eight bytes are the key and are published together, after the rest; 0 is an empty slot.
 */
struct FAMILY(frontend) {
	address_t address;
	port_t port;
	__u8 protocol;
	__u8 kind;
	__u32 service; /* row of services, published by one store */
	__u32 spill; /* of the last slot: not 0 if a key of this bucket may stand in the next one */
	FAMILY_WIDE(__u32 reserved;)
};

#define frontend_t struct FAMILY(frontend)

struct FAMILY(frontend_bucket) {
	frontend_t slot[4];
};

#define frontend_bucket_t struct FAMILY(frontend_bucket)

/* How many buckets, from its own on, a key may stand in. */
#define FRONTEND_PROBES 4

/* services: one port of one service. */

enum service_flag {
	SERVICE_ENCAPSULATE_FIRST = 1, /* TCP packets but the SYN travel without outer header */
	SERVICE_FORMER_OWNERS = 2,     /* some slot of the ring has former owners */
	SERVICE_SNAT = 4, /* backends of other nodes get the node's address as the client's */
	SERVICE_SOURCE_RANGES = 8, /* clients have to be looked up in source_ranges */
	SERVICE_SOURCE_DENY = 16,  /* who is listed there is refused; else who isn't */
	SERVICE_AFFINITY = 32,	   /* all connections of a client go to one backend */
	SERVICE_REJECT = 64,	   /* without backends, clients are told */
	SERVICE_WAS_SNAT = 128,	   /* was SNAT: flows of then have entries, and go on by them */
	SERVICE_WAS_DSR = 256,	   /* with SNAT: was DSR, and connections of then may live */
	SERVICE_RANDOM = 512,	   /* flows that get an entry go to a slot by chance */
	SERVICE_LATELY = 1024, /* with WAS_DSR: was a moment ago, any flow of UDP may be of then */
};

struct service {
	service_id_t id;
	__u32 ring;	     /* first row of rings */
	__u32 ring_size;     /* slots */
	__u32 backends;	     /* first row of backends */
	__u32 backend_count; /* 0: nothing to send to */
	__u32 flags;
	jiffies_t changed;  /* when the ring last changed here */
	__u32 affinity_age; /* in jiffies: a client's backend is remembered for so long */
};

/* rings: slots hold an index into the service's backends. */
#define RING_ROW_SLOTS 32

struct ring_row {
	__u16 backend[RING_ROW_SLOTS];
};

/* backends: contiguous per service. */

enum backend_flag {
	BACKEND_LOCAL = 1, /* a pod of this node */
};

struct FAMILY(backend) {
	address_t address;
	port_t port;
	__u16 nexthop; /* row of nexthops */
	__u32 counter; /* row of counters within one CPU's part */
	__u32 flags;
	FAMILY_WIDE(__u32 reserved;)
};

#define backend_t struct FAMILY(backend)

/* nexthops: how a packet leaves this node. */

enum nexthop_flag {
	NEXTHOP_RESOLVED = 1, /* device and both MACs are right: set last, cleared first */
	NEXTHOP_EDGE = 2,     /* and XDP can send by this device */
	/*
	 * Lowest bit of the row's generation, which has the rest. It is another one when the row
	 * may lead old flows astray.
	 */
	NEXTHOP_GENERATION = 256,
};

struct FAMILY(nexthop) {
	ifindex_t ifindex;
	__u16 mtu;   /* of what is sent, in bytes of IP */
	__u16 flags; /* enum nexthop_flag */
	mac_t destination;
	mac_t source;
	address_t gateway;	/* on-link address whose MAC destination is */
	address_t outer_source; /* outer source for this way out */
	__u32 checksum; /* sum of the outer header's constant 16-bit words as stored, outer_source
			   included */
	address_t peer; /* the backends' node, where Geneve goes; none: to the pod itself */
	FAMILY_NARROW(__u32 reserved;)
};

#define nexthop_t struct FAMILY(nexthop)

/* counters: what a balancer sent to one backend of one service port, a part for each CPU. */
struct traffic {
	__u64 packets;
	__u64 bytes;	   /* of the frames as they came */
	__u64 connections; /* TCP: SYNs seen here; UDP: flows adopted here */
	__u64 adopted;	   /* flows that the backend's node took up */
};

/* metrics: index = (cpu * PLACE_SLOTS + place) * VERDICT_SLOTS + verdict. */
struct metric {
	__u64 packets;
	__u64 bytes;
};

/*
 * runtime: one row, read on every packet. DROPS and TRACES are the agent's, PACKETS is of whoever
 * captures: each changes its own bits, atomically.
 */
enum event_mask {
	EVENT_DROPS = 1,
	EVENT_TRACES = 2,
	EVENT_PACKETS = 4, /* whole ones, as `captures` says */
};

struct runtime {
	__u32 events; /* which events somebody listens to */
	__u32 reserved;
};

/*
 * conntrack: flows of this node's pods, and those that this node translates for others; two entries
 * a flow.
 */

enum flow_direction {
	FLOW_REQUEST = 0, /* as the client sent it: client -> service */
	FLOW_REPLY = 1,	  /* as the pod sends it: pod -> client, as the pod sees the client */
};

struct FAMILY(flow_key) {
	address_t source;
	address_t destination;
	port_t source_port;
	port_t destination_port;
	__u8 protocol;
	__u8 direction;
	__u16 reserved;
};

#define flow_key_t struct FAMILY(flow_key)

enum flow_flag {
	FLOW_REMOTE = 1,    /* not ours: pod is the owner that got the flow's packets */
	FLOW_CONFIRMED = 2, /* TCP: both sides have shown that they have the connection */
	FLOW_FIN_CLIENT = 4,
	FLOW_FIN_POD = 8,
	FLOW_RESET = 16,
	FLOW_REPLIED = 32,   /* the pod has answered */
	FLOW_SNAT = 64,	     /* of a pod of another node, which sees this node as the client */
	FLOW_OUTBOUND = 128, /* the client is a pod of this node, or the node itself */
	FLOW_NODE = 256,     /* with FLOW_OUTBOUND: the node itself */
};

struct FAMILY(flow) {
	address_t client;
	address_t service_address;
	address_t pod;
	address_t alias_address; /* the client's address and port as the pod sees them */
	port_t client_port;
	port_t service_port;
	port_t pod_port;
	port_t alias_port;
	service_id_t service;
	__u16 nexthop;		  /* FLOW_SNAT: row of nexthops to the pod, */
	__u16 nexthop_generation; /* and its generation then */
	__u32 counter;		  /* row of counters within one CPU's part */
	jiffies_t seen;
	__u32 flags; /* enum flow_flag */
	identity_t client_identity;
	__u64 packets;
	__u64 bytes;
	jiffies_t created;
	__u32 claimed; /* somebody is removing the entry */
};

#define flow_t struct FAMILY(flow)

/* targets: which port of a pod of this node serves a service port; also of pods that served it and
 * still live. */
struct FAMILY(target_key) {
	service_id_t service;
	address_t pod;
};

#define target_key_t struct FAMILY(target_key)

enum target_flag {
	TARGET_ACTIVE = 1, /* in the ring now */
};

struct target {
	port_t port;
	__u16 flags;
	__u32 counter;
};

/* endpoints: pods of this node, and its own addresses that services have as backends. */
struct FAMILY(endpoint_key) {
	address_t address;
};

#define endpoint_key_t struct FAMILY(endpoint_key)

struct endpoint {
	ifindex_t ifindex; /* of the pod's device on the node's side; 0: the node itself */
	__s32 netns;	   /* the pod's namespace id as the node's namespace numbers it, -1: none */
	mac_t pod_mac;
	mac_t node_mac;
	identity_t identity;
};

/* trusted: whose IPIP is stripped. */
enum trust {
	TRUST_NODE = 1,		 /* a node of ours: hop numbers in the outer TTL are believed */
	TRUST_LOAD_BALANCER = 2, /* a foreign balancer */
};

struct FAMILY(trusted_key) {
	__u32 prefix_length;
	address_t address;
};

#define trusted_key_t struct FAMILY(trusted_key)

struct trusted {
	__u32 kind; /* enum trust */
};

/* former_owners: of a slot, newest first, 0 ends the list. Read for packets of unknown flows only.
 */
#define FORMER_OWNERS 3

struct slot_key {
	service_id_t service;
	__u32 slot;
};

struct FAMILY(former_owners) {
	address_t owner[FORMER_OWNERS];
};

#define former_owners_t struct FAMILY(former_owners)

/* source_ranges: who may use a service, or who may not. */
struct FAMILY(source_range_key) {
	__u32 prefix_length; /* 32 for the service, and the bits of the address */
	service_id_t service;
	address_t address;
};

#define source_range_key_t struct FAMILY(source_range_key)

struct source_range {
	__u32 listed; /* 1 */
};

/* affinities: which backend a client's connections go to. */
struct FAMILY(affinity_key) {
	service_id_t service;
	address_t client;
};

#define affinity_key_t struct FAMILY(affinity_key)

struct FAMILY(affinity) {
	address_t pod;
	__u32 backend;	/* its index in the service's part of backends */
	jiffies_t seen; /* when the client last began a connection */
};

#define affinity_t struct FAMILY(affinity)

/* socket_peers: what sockets were translated to, for who asks them about their peer. */
struct FAMILY(socket_peer_key) {
	socket_cookie_t cookie;
	address_t backend;
	port_t port;
	__u8 protocol;
	__u8 reserved;
	FAMILY_WIDE(__u32 reserved2;)
};

#define socket_peer_key_t struct FAMILY(socket_peer_key)

struct FAMILY(socket_peer) {
	netns_cookie_t netns; /* where the socket is */
	address_t service_address;
	service_id_t service;
	jiffies_t created;
	port_t service_port;
	__u16 reserved;
	FAMILY_WIDE(__u32 reserved2;)
};

#define socket_peer_t struct FAMILY(socket_peer)

/* limits: index = service id; what a service did in the present window. */
struct limit_window {
	jiffies_t since;
	__u32 passed; /* packets of unknown flows passed on */
	__u32 told;   /* ICMP and RST sent in the service's name, ICMP errors relayed for it */
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1024);
	__type(key, __u32);
	__type(value, frontend_bucket_t);
} FAMILY(frontends) SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1024);
	__type(key, __u32);
	__type(value, struct service);
} services SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 65536);
	__type(key, __u32);
	__type(value, struct ring_row);
} rings SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 16384);
	__type(key, __u32);
	__type(value, backend_t);
} FAMILY(backends) SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 256);
	__type(key, __u32);
	__type(value, nexthop_t);
} FAMILY(nexthops) SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 65536);
	__type(key, __u32);
	__type(value, struct traffic);
} counters SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 4096);
	__type(key, __u32);
	__type(value, struct metric);
} metrics SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct runtime);
} runtime SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 65536);
	__type(key, flow_key_t);
	__type(value, flow_t);
} FAMILY(conntrack) SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 65536);
	__type(key, target_key_t);
	__type(value, struct target);
} FAMILY(targets) SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 4096);
	__type(key, endpoint_key_t);
	__type(value, struct endpoint);
} FAMILY(endpoints) SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 16384);
	__type(key, trusted_key_t);
	__type(value, struct trusted);
} FAMILY(trusted) SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 1048576);
	__type(key, struct slot_key);
	__type(value, former_owners_t);
} FAMILY(former_owners) SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 65536);
	__type(key, source_range_key_t);
	__type(value, struct source_range);
} FAMILY(source_ranges) SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 65536);
	__type(key, affinity_key_t);
	__type(value, affinity_t);
} FAMILY(affinities) SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 65536);
	__type(key, socket_peer_key_t);
	__type(value, socket_peer_t);
} FAMILY(socket_peers) SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 65536);
	__type(key, __u32);
	__type(value, struct limit_window);
} limits SEC(".maps");

EXPORT(enum frontend_kind);
EXPORT(enum node_address);
EXPORT(enum service_flag);
EXPORT(enum backend_flag);
EXPORT(enum nexthop_flag);
EXPORT(enum event_mask);
EXPORT(enum flow_direction);
EXPORT(enum flow_flag);
EXPORT(enum target_flag);
EXPORT(enum trust);

#endif
