/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only) */
/* IPv6: socket.bpf.c is the source of both families. */
#define FAMILY_IPV6
#include "socket.bpf.c"
