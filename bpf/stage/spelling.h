/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only) */
#ifndef CILIATE_STAGE_SPELLING_H
#define CILIATE_STAGE_SPELLING_H

#include "packet.h"

/* How a call on a socket has the family's address in its context. */
enum spelling {
	PLAIN,	/* at the family's own hooks */
	MAPPED, /* IPv4 at hooks of AF_INET6: ::ffff:a.b.c.d */
};

static __always_inline bool is_mapped(struct bpf_sock_addr *ctx)
{
	return !ctx->user_ip6[0] && !ctx->user_ip6[1] && ctx->user_ip6[2] == bpf_htonl(0xffff);
}

#ifdef FAMILY_IPV6

static __always_inline bool is_spelled(struct bpf_sock_addr *ctx, const enum spelling spelling)
{
	return !is_mapped(ctx);
}

static __always_inline ipv6_t address_of(struct bpf_sock_addr *ctx, const enum spelling spelling)
{
	return (ipv6_t){
	    .word = {ctx->user_ip6[0], ctx->user_ip6[1], ctx->user_ip6[2], ctx->user_ip6[3]}};
}

static __always_inline void address_set(struct bpf_sock_addr *ctx, const enum spelling spelling,
					ipv6_t address)
{
	ctx->user_ip6[0] = address.word[0];
	ctx->user_ip6[1] = address.word[1];
	ctx->user_ip6[2] = address.word[2];
	ctx->user_ip6[3] = address.word[3];
}

/* As whom a network namespace is known in affinities: an address that no packet's source has. */
static __always_inline ipv6_t namespace_client(__u64 cookie)
{
	return (ipv6_t){.word = {0, 0, bpf_htonl((__u32)(cookie >> 32)), bpf_htonl((__u32)cookie)}};
}

#else

/* In 0.0.0.0/8 there is room for 24 bits: two namespaces may be one client. */
static __always_inline ipv4_t namespace_client(__u64 cookie)
{
	return bpf_htonl((__u32)(cookie * 0x9E3779B97F4A7C15ULL >> 40));
}

/* Whether the address is `::`. */
static __always_inline bool is_unspecified(struct bpf_sock_addr *ctx)
{
	return !ctx->user_ip6[0] && !ctx->user_ip6[1] && !ctx->user_ip6[2] && !ctx->user_ip6[3];
}

/* Whether it is an address of the family at all. */
static __always_inline bool is_spelled(struct bpf_sock_addr *ctx, const enum spelling spelling)
{
	return spelling == PLAIN || is_mapped(ctx);
}

static __always_inline ipv4_t address_of(struct bpf_sock_addr *ctx, const enum spelling spelling)
{
	return spelling == MAPPED ? ctx->user_ip6[3] : ctx->user_ip4;
}

static __always_inline void address_set(struct bpf_sock_addr *ctx, const enum spelling spelling,
					ipv4_t address)
{
	if (spelling == MAPPED)
		ctx->user_ip6[3] = address;
	else
		ctx->user_ip4 = address;
}

#endif

#endif
