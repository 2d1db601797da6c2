/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only) */
#ifndef CILIATE_STAGE_LIMITS_H
#define CILIATE_STAGE_LIMITS_H

#include "abi/config.h"
#include "packet.h"

static __always_inline jiffies_t jiffies_now(void)
{
	return (jiffies_t)bpf_jiffies64();
}

/* Whoever stores a time reads the clock for itself, another CPU or the agent: it may be ahead. */
#define JIFFIES_AHEAD 1000

/*
 * The age of what a table says of `then`. Only just ahead is 0: what is older than half of what
 * jiffies can count, or was never written, is old.
 */
static __always_inline __u32 jiffies_since(jiffies_t then, jiffies_t now)
{
	__u32 age = now - then;

	return age > (__u32)-JIFFIES_AHEAD ? 0 : age;
}

/* The present window of a service; approximate across CPUs. */
static __always_inline struct limit_window *limit_window_of(service_id_t service)
{
	struct limit_window *window = bpf_map_lookup_elem(&limits, &service);
	jiffies_t now = jiffies_now();

	if (window && jiffies_since(window->since, now) >= limit_window) {
		window->since = now;
		window->passed = 0;
		window->told = 0;
	}
	return window;
}

/* Whether one more packet may be answered in the name of the service. */
static __always_inline bool answer_allowed(service_id_t service)
{
	struct limit_window *window = limit_window_of(service);

	return !window || window->told++ < answer_limit;
}

#endif
