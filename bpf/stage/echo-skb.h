/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only) */
#ifndef CILIATE_STAGE_ECHO_SKB_H
#define CILIATE_STAGE_ECHO_SKB_H

#include "answer.h"
#include "skb.h"

/* A ping of a service's own address, answered in place; PASS_NOT_OURS: it is none. */
static __noinline enum verdict skb_echo(struct __sk_buff *skb, struct packet *packet, int *action)
{
	struct ethhdr *eth = skb_start(skb);
	ip_t *ip = (void *)(eth + 1);
	enum verdict refused;

	if (!packet || !action || (void *)(ip + 1) > skb_end(skb) ||
	    !echo_asked(packet, ip, skb_end(skb)))
		return PASS_NOT_OURS;
	refused = answer_refused(packet, 0);
	if (refused)
		return refused;
	echo_write(eth, packet);
	*action = bpf_redirect(skb->ifindex, 0);
	return SENT_ECHO;
}

#endif
