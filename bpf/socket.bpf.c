/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only) */
/* cgroup hooks: a socket that names a service for its peer gets a backend instead, so that no
 * packet of it needs to be translated. */
#include <linux/bpf.h>
#include <linux/errno.h>
#include <bpf/bpf_helpers.h>
#include "stage/limits.h"
#include "stage/metrics.h"
#include "stage/service.h"

/* What a program says to the kernel; a refusal fails the call. */
#define REFUSE 0
#define GO_ON 1

#define LOOPBACK bpf_htonl(0x7f000000)
#define LOOPBACK_MASK bpf_htonl(0xff000000)

/* These run in tasks, which other tasks and packets' programs interrupt: atomic, unlike theirs. */
static __always_inline void socket_count(enum verdict verdict)
{
	__u32 row =
	    (bpf_get_smp_processor_id() * PLACE_SLOTS + PLACE_SOCKET) * VERDICT_SLOTS + verdict;
	struct metric *metric = bpf_map_lookup_elem(&metrics, &row);

	if (metric)
		__sync_fetch_and_add(&metric->packets, 1);
}

static __always_inline void connection_count(__u32 counter)
{
	struct traffic *traffic = traffic_of(counter);

	if (traffic)
		__sync_fetch_and_add(&traffic->connections, 1);
}

static __always_inline bool is_of_a_node(ipv4_t address)
{
	return (address & LOOPBACK_MASK) == LOOPBACK ||
	       frontend_find(frontend_key(address, 0, 0, FRONTEND_NODE));
}

/* Whom a client inside the cluster means by an address and port; NULL: no service. */
static __noinline struct frontend *internal_frontend(ipv4_t address, port_t port, __u8 protocol)
{
	__u16 number = bpf_ntohs(port);
	struct frontend *found;

	found = frontend_find(frontend_key(address, port, protocol, FRONTEND_INTERNAL));
	if (!found)
		found = frontend_find(frontend_key(address, port, protocol, FRONTEND_SERVICE));
	if (found || number < node_port_min || number > node_port_max)
		return found;
	found = frontend_find(frontend_key(0, port, protocol, FRONTEND_INTERNAL));
	if (!found)
		found = frontend_find(frontend_key(0, port, protocol, FRONTEND_NODE_PORT));
	return found && is_of_a_node(address) ? found : NULL;
}

static __always_inline __u32 hash_of(__u64 cookie)
{
	return cookie * 0x9E3779B97F4A7C15ULL >> 32;
}

/* A namespace is a client where the service wants a client to stay with its backend; a socket that
 * names its peer with each datagram stays with one anyway. */
static __always_inline __u32 choice_of(struct bpf_sock_addr *ctx, const struct service *service,
				       bool connects)
{
	if (service->flags & SERVICE_AFFINITY)
		return hash_of(bpf_get_netns_cookie(ctx));
	return connects ? bpf_get_prandom_u32() : hash_of(bpf_get_socket_cookie(ctx));
}

static __always_inline struct socket_peer_key peer_key_of(struct bpf_sock_addr *ctx, ipv4_t backend,
							  port_t port)
{
	struct socket_peer_key key = {
	    .cookie = bpf_get_socket_cookie(ctx),
	    .backend = backend,
	    .port = port,
	    .protocol = ctx->protocol,
	};

	return key;
}

static __always_inline void remember(struct bpf_sock_addr *ctx, const struct service *service,
				     const struct backend *backend)
{
	struct socket_peer_key key = peer_key_of(ctx, backend->address, backend->port);
	struct socket_peer peer = {
	    .netns = bpf_get_netns_cookie(ctx),
	    .service_address = ctx->user_ip4,
	    .service = service->id,
	    .created = jiffies_now(),
	    .service_port = ctx->user_port,
	};
	struct socket_peer *known = bpf_map_lookup_elem(&socket_peers, &key);

	/* A datagram like those before it. */
	if (known && known->service_address == peer.service_address &&
	    known->service_port == peer.service_port && known->service == peer.service)
		return;
	bpf_map_update_elem(&socket_peers, &key, &peer, BPF_ANY);
}

static __always_inline int refuse(enum verdict verdict)
{
	socket_count(verdict);
	bpf_set_retval(-ECONNREFUSED);
	return REFUSE;
}

static __always_inline int translate(struct bpf_sock_addr *ctx, bool connects)
{
	struct service *service =
	    service_of(internal_frontend(ctx->user_ip4, ctx->user_port, ctx->protocol));
	struct backend *backend;

	if (!service) {
		socket_count(PASS_NOT_OURS);
		return GO_ON;
	}
	if (!service->backend_count)
		return refuse(DROP_NO_BACKEND);
	backend = backend_at(service, slot_of(service, choice_of(ctx, service, connects)));
	if (!backend)
		return refuse(DROP_TABLE);
	remember(ctx, service, backend);
	ctx->user_ip4 = backend->address;
	ctx->user_port = backend->port;
	socket_count(SENT_SOCKET);
	if (connects)
		connection_count(backend->counter);
	return GO_ON;
}

/* The service's address, where the kernel is about to tell a backend's. */
static __always_inline void translate_back(struct bpf_sock_addr *ctx)
{
	struct socket_peer_key key = peer_key_of(ctx, ctx->user_ip4, ctx->user_port);
	struct socket_peer *peer = bpf_map_lookup_elem(&socket_peers, &key);

	if (!peer)
		return;
	ctx->user_ip4 = peer->service_address;
	ctx->user_port = peer->service_port;
}

SEC("cgroup/connect4")
int connect4(struct bpf_sock_addr *ctx)
{
	return translate(ctx, true);
}

SEC("cgroup/sendmsg4")
int sendmsg4(struct bpf_sock_addr *ctx)
{
	return translate(ctx, false);
}

SEC("cgroup/recvmsg4")
int recvmsg4(struct bpf_sock_addr *ctx)
{
	translate_back(ctx);
	return GO_ON;
}

SEC("cgroup/getpeername4")
int getpeername4(struct bpf_sock_addr *ctx)
{
	translate_back(ctx);
	return GO_ON;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
