// SPDX-License-Identifier: Apache-2.0
// Faults in the translation of services at the socket.

import type { Fault, Mutant } from "./list.ts";

const FAULTS: readonly Fault[] = [
  {
    name: "inside gets what outside gets",
    from: "frontend_key(address, port, protocol, FRONTEND_INTERNAL)",
    to: "frontend_key(address, port, protocol, FRONTEND_SERVICE)",
  },
  {
    name: "node ports at every address",
    from: "return loopback || node_address_kind(address) ? found : NULL;",
    to: "return loopback || node_address_kind(address) || true ? found : NULL;",
  },
  {
    name: "one node port too few",
    from: "number <= node_port_max",
    to: "number < node_port_max",
  },
  {
    name: "one node port too many",
    from: "number >= node_port_min",
    to: "number + 1 >= node_port_min",
  },
  {
    name: "a pod's loopback is the node's",
    from: "\tif (loopback && !at_home)\n\t\treturn NULL;\n",
    to: "",
  },
  {
    name: "loopback is no address of a node's",
    from: "return loopback || node_address_kind",
    to: "return node_address_kind",
  },
  {
    name: "no address isn't loopback",
    from: "return !address || (address & LOOPBACK_MASK)",
    to: "return (address & LOOPBACK_MASK)",
  },
  {
    name: "IPv4's programs take IPv6 for mapped addresses",
    file: "stage/spelling.h",
    from: "return spelling == PLAIN || is_mapped(ctx);",
    to: "return true;",
  },
  {
    name: "IPv6's programs take mapped addresses",
    file: "stage/spelling.h",
    from: "return !is_mapped(ctx);",
    to: "return true;",
  },
  {
    name: "half an IPv6 address is told",
    file: "stage/spelling.h",
    from: "\tctx->user_ip6[1] = address.word[1];\n",
    to: "",
  },
  {
    name: "answers to mapped addresses come from the backend",
    from: "int recvmsg_mapped(struct bpf_sock_addr *ctx)\n{\n\treturn translate_back(ctx, MAPPED);",
    to: "int recvmsg_mapped(struct bpf_sock_addr *ctx)\n{\n\treturn GO_ON;",
  },
  {
    name: "mapped peers are the backend",
    from: "int getpeer_mapped(struct bpf_sock_addr *ctx)\n{\n\treturn translate_back(ctx, MAPPED);",
    to: "int getpeer_mapped(struct bpf_sock_addr *ctx)\n{\n\treturn GO_ON;",
  },
  {
    name: "a bound node port is only not permitted",
    from: "return refuse(ctx, address, DROP_BIND, -EADDRINUSE);",
    to: "return refuse(ctx, address, DROP_BIND, 0);",
  },
  {
    name: "pods' binds are refused too",
    from: "bpf_get_retval() || !is_at_home(ctx) ||",
    to: "bpf_get_retval() ||",
  },
  {
    name: "one bind is refused twice",
    from: "bpf_get_retval() || !is_at_home(ctx) ||",
    to: "!is_at_home(ctx) ||",
  },
  {
    name: "node ports can't be bound at any address",
    from: "\tif (!is_loopback(address) && node_address_kind(address) != NODE_ADDRESS_OWN)\n\t\treturn GO_ON;\n",
    to: "",
  },
  {
    name: "node ports can't be bound at other nodes' addresses",
    from: "node_address_kind(address) != NODE_ADDRESS_OWN",
    to: "!node_address_kind(address)",
  },
  {
    name: "`::` leaves IPv4's node ports free",
    from: "\tif (is_unspecified(ctx))\n\t\treturn check_bind(ctx, no_address());\n",
    to: "",
  },
  {
    name: "datagrams of one socket go anywhere",
    from: "connects ? bpf_get_prandom_u32() : hash_of(bpf_get_socket_cookie(ctx))",
    to: "bpf_get_prandom_u32()",
  },
  {
    name: "affinity of sockets goes by the ring alone",
    from: "return affinity_backend(service, namespace_client(netns), slot_of(service, hash_of(netns)),\n\t\t\t\ttrue);",
    to: "return backend_at(service, slot_of(service, hash_of(netns)));",
  },
  {
    name: "affinity of sockets, not of clients",
    from: "netns = bpf_get_netns_cookie(ctx);",
    to: "netns = bpf_get_socket_cookie(ctx);",
  },
  {
    name: "without backends, a call is only not permitted",
    from: "\tbpf_set_retval(error);\n",
    to: "",
  },
  {
    name: "a connected socket's peer isn't remembered",
    from: "\tremember(ctx, service, address, backend);\n",
    to: "\tif (!connects)\n\t\tremember(ctx, service, address, backend);\n",
  },
  {
    name: "a socket's other service isn't remembered",
    from: "same_address(known->service_address, peer.service_address) &&\n\t    known->service_port == peer.service_port && known->service == peer.service)",
    to: "known->service == peer.service)",
  },
  {
    name: "answers come from the service's address and the pod's port",
    from: "\tctx->user_port = peer->service_port;\n",
    to: "",
  },
  {
    name: "datagrams begin connections",
    from: "\tif (connects)\n\t\tconnection_count(",
    to: "\tconnection_count(",
  },
];

export const SOCKET_MUTANTS: readonly Mutant[] = FAULTS.map((fault) => ({
  file: "socket.bpf.c",
  ...fault,
}));
