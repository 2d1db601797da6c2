/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only) */
/*
 * cgroup hooks: a socket that names a service for its peer gets a backend instead, so that no
 * packet of it needs to be translated; and no socket gets a port that a service has at the node.
 *
 * A socket of AF_INET6 speaks IPv4 by mapped addresses, ::ffff:a.b.c.d. The hooks of AF_INET6 have
 * programs of their own for these, beside those of IPv6: a hook runs all that are attached to it,
 * and each leaves alone what is of the other family.
 */
#include <linux/bpf.h>
#include <linux/errno.h>
#include <bpf/bpf_helpers.h>
#include "stage/affinity.h"
#include "stage/limits.h"
#include "stage/metrics.h"
#include "stage/service.h"
#include "stage/spelling.h"

/* What a program says to the kernel; a refusal fails the call. */
#define REFUSE 0
#define GO_ON 1

/* A program at the family's own hook of this name: connect4 of IPv4. */
#ifdef FAMILY_IPV6
#define HOOK(name) SEC("cgroup/" #name "6") int name##6(struct bpf_sock_addr * ctx)
#else
#define HOOK(name) SEC("cgroup/" #name "4") int name##4(struct bpf_sock_addr * ctx)
#endif

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

/* What the node has for itself, and each pod in its own namespace; Linux connects no address there,
 * and binds it to all. */
static __always_inline bool is_loopback(address_t address)
{
#ifdef FAMILY_IPV6
	return same_address(address, (ipv6_t){.word = {0, 0, 0, bpf_htonl(1)}}) ||
	       !is_address(address);
#else
	return !address || (address & LOOPBACK_MASK) == LOOPBACK;
#endif
}

static __always_inline bool is_at_home(struct bpf_sock_addr *ctx)
{
	return bpf_get_netns_cookie(ctx) == node_netns;
}

static __always_inline bool is_node_port(port_t port)
{
	__u16 number = bpf_ntohs(port);

	return number >= node_port_min && number <= node_port_max;
}

/* Whom a client inside the cluster means by an address and port; NULL: no service. */
static __noinline frontend_t *internal_frontend(address_t address, port_t port, __u8 protocol,
						bool at_home)
{
	const bool loopback = is_loopback(address);
	frontend_t *found;

	if (loopback && !at_home)
		return NULL;
	found = frontend_find(frontend_key(address, port, protocol, FRONTEND_INTERNAL));
	if (!found)
		found = frontend_find(frontend_key(address, port, protocol, FRONTEND_SERVICE));
	if (found || !is_node_port(port))
		return found;
	found = frontend_find(frontend_key(no_address(), port, protocol, FRONTEND_INTERNAL));
	if (!found)
		found =
		    frontend_find(frontend_key(no_address(), port, protocol, FRONTEND_NODE_PORT));
	return loopback || node_address_kind(address) ? found : NULL;
}

static __always_inline __u32 hash_of(__u64 cookie)
{
	return cookie * 0x9E3779B97F4A7C15ULL >> 32;
}

/*
 * The backend of a call. A namespace is a client where the service wants a client to stay with its
 * backend; a socket that names its peer with each datagram stays with one anyway. NULL if a row
 * points outside its table.
 */
static __always_inline backend_t *backend_for(struct bpf_sock_addr *ctx,
					      const struct service *service, bool connects)
{
	__u64 netns;
	__u32 choice;

	if (!(service->flags & SERVICE_AFFINITY)) {
		choice = connects ? bpf_get_prandom_u32() : hash_of(bpf_get_socket_cookie(ctx));
		return backend_at(service, slot_of(service, choice));
	}
	netns = bpf_get_netns_cookie(ctx);
	return affinity_backend(service, namespace_client(netns), slot_of(service, hash_of(netns)),
				true);
}

static __always_inline socket_peer_key_t peer_key_of(struct bpf_sock_addr *ctx, address_t backend,
						     port_t port)
{
	socket_peer_key_t key = {
	    .cookie = bpf_get_socket_cookie(ctx),
	    .backend = backend,
	    .port = port,
	    .protocol = ctx->protocol,
	};

	return key;
}

/* `service_address` is as the caller named it. */
static __always_inline void remember(struct bpf_sock_addr *ctx, const struct service *service,
				     address_t service_address, const backend_t *backend)
{
	socket_peer_key_t key = peer_key_of(ctx, backend->address, backend->port);
	socket_peer_t peer = {
	    .netns = bpf_get_netns_cookie(ctx),
	    .service_address = service_address,
	    .service = service->id,
	    .created = jiffies_now(),
	    .service_port = ctx->user_port,
	};
	socket_peer_t *known = bpf_map_lookup_elem(&FAMILY(socket_peers), &key);

	/* A datagram like those before it. */
	if (known && same_address(known->service_address, peer.service_address) &&
	    known->service_port == peer.service_port && known->service == peer.service)
		return;
	bpf_map_update_elem(&FAMILY(socket_peers), &key, &peer, BPF_ANY);
}

static __always_inline void call_told(const struct packet *call, enum verdict verdict)
{
	packet_event_t *event;

	/* There is no packet to capture. */
	if (!(events_wanted(events_now(), verdict) & ~EVENT_PACKETS))
		return;
	event = bpf_ringbuf_reserve(&events, sizeof(*event), 0);
	if (!event)
		return;
	event_write(event, call, PLACE_SOCKET, verdict);
	event->time = bpf_ktime_get_ns();
	event->ifindex = 0;
	bpf_ringbuf_submit(event, 0);
}

/* Fails the call by `error`, and tells whoever listens which address and port it named. */
static __noinline int refuse(struct bpf_sock_addr *ctx, address_t address, enum verdict verdict,
			     int error)
{
	struct packet call = {
	    .destination = address,
	    .destination_port = ctx->user_port,
	    .protocol = ctx->protocol,
	};

	socket_count(verdict);
	call_told(&call, verdict);
	bpf_set_retval(error);
	return REFUSE;
}

static __always_inline int translate(struct bpf_sock_addr *ctx, const enum spelling spelling,
				     bool connects)
{
	address_t address = address_of(ctx, spelling);
	struct service *service;
	backend_t *backend;

	if (!is_spelled(ctx, spelling))
		return GO_ON;
	service =
	    service_of(internal_frontend(address, ctx->user_port, ctx->protocol, is_at_home(ctx)));
	if (!service) {
		socket_count(PASS_NOT_OURS);
		return GO_ON;
	}
	if (!service->backend_count)
		return refuse(ctx, address, DROP_NO_BACKEND, -ECONNREFUSED);
	backend = backend_for(ctx, service, connects);
	if (!backend)
		return refuse(ctx, address, DROP_TABLE, -ECONNREFUSED);
	remember(ctx, service, address, backend);
	address_set(ctx, spelling, backend->address);
	ctx->user_port = backend->port;
	socket_count(SENT_SOCKET);
	if (connects)
		connection_count(backend->counter);
	return GO_ON;
}

/* The service's address, where the kernel is about to tell a backend's. */
static __always_inline int translate_back(struct bpf_sock_addr *ctx, const enum spelling spelling)
{
	socket_peer_key_t key;
	socket_peer_t *peer;

	if (!is_spelled(ctx, spelling))
		return GO_ON;
	key = peer_key_of(ctx, address_of(ctx, spelling), ctx->user_port);
	peer = bpf_map_lookup_elem(&FAMILY(socket_peers), &key);
	if (peer) {
		address_set(ctx, spelling, peer->service_address);
		ctx->user_port = peer->service_port;
	}
	return GO_ON;
}

/* A program that binds a node port of a service would wait there for nobody. */
static __always_inline int check_bind(struct bpf_sock_addr *ctx, address_t address)
{
	port_t port = ctx->user_port;

	/* Who binds `::` meets the programs of both families, but fails once. */
	if (!is_node_port(port) || bpf_get_retval() || !is_at_home(ctx) ||
	    !frontend_find(frontend_key(no_address(), port, ctx->protocol, FRONTEND_NODE_PORT)))
		return GO_ON;
	if (!is_loopback(address) && node_address_kind(address) != NODE_ADDRESS_OWN)
		return GO_ON;
	return refuse(ctx, address, DROP_BIND, -EADDRINUSE);
}

HOOK(connect)
{
	return translate(ctx, PLAIN, true);
}

/* IPv4's has datagrams to mapped addresses too: the kernel sends them as its own. */
HOOK(sendmsg)
{
	return translate(ctx, PLAIN, false);
}

HOOK(recvmsg)
{
	return translate_back(ctx, PLAIN);
}

HOOK(getpeername)
{
	return translate_back(ctx, PLAIN);
}

HOOK(bind)
{
	return is_spelled(ctx, PLAIN) ? check_bind(ctx, address_of(ctx, PLAIN)) : GO_ON;
}

#ifndef FAMILY_IPV6
SEC("cgroup/connect6")
int connect_mapped(struct bpf_sock_addr *ctx)
{
	return translate(ctx, MAPPED, true);
}

SEC("cgroup/recvmsg6")
int recvmsg_mapped(struct bpf_sock_addr *ctx)
{
	return translate_back(ctx, MAPPED);
}

SEC("cgroup/getpeername6")
int getpeer_mapped(struct bpf_sock_addr *ctx)
{
	return translate_back(ctx, MAPPED);
}

/* `::` is every address of IPv4 too, unless IPV6_V6ONLY is set, which can't be seen here. */
SEC("cgroup/bind6")
int bind_mapped(struct bpf_sock_addr *ctx)
{
	if (is_unspecified(ctx))
		return check_bind(ctx, no_address());
	return is_spelled(ctx, MAPPED) ? check_bind(ctx, address_of(ctx, MAPPED)) : GO_ON;
}
#endif

char LICENSE[] SEC("license") = "Dual BSD/GPL";
