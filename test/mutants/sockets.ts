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
    from: "return found && is_of_a_node(address) ? found : NULL;",
    to: "return found && (is_of_a_node(address) || true) ? found : NULL;",
  },
  {
    name: "one node port too few",
    from: "number > node_port_max",
    to: "number >= node_port_max",
  },
  {
    name: "one node port too many",
    from: "number < node_port_min",
    to: "number + 1 < node_port_min",
  },
  {
    name: "datagrams of one socket go anywhere",
    from: "connects ? bpf_get_prandom_u32() : hash_of(bpf_get_socket_cookie(ctx))",
    to: "bpf_get_prandom_u32()",
  },
  {
    name: "affinity of sockets, not of clients",
    from: "return hash_of(bpf_get_netns_cookie(ctx));",
    to: "return hash_of(bpf_get_socket_cookie(ctx));",
  },
  {
    name: "without backends, a call is only not permitted",
    from: "bpf_set_retval(-ECONNREFUSED);\n",
    to: "",
  },
  {
    name: "a connected socket's peer isn't remembered",
    from: "\tremember(ctx, service, backend);\n",
    to: "\tif (!connects)\n\t\tremember(ctx, service, backend);\n",
  },
  {
    name: "a socket's other service isn't remembered",
    from: "known->service_address == peer.service_address &&\n\t    known->service_port == peer.service_port && known->service == peer.service)",
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
