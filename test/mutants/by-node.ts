// SPDX-License-Identifier: Apache-2.0
// Faults in IPIP that goes by the address of a pod's node.

import type { Mutant } from "./list.ts";

export const BY_NODE_MUTANTS: readonly Mutant[] = [
  {
    name: "with Geneve, nothing goes by a pod's node",
    file: "stage/peer.h",
    from: "return peer ? peer->node : no_address();",
    to: "return peer ? no_address() : no_address();",
  },
  {
    name: "in IPIP's dispatch, too, packets go by a pod's node",
    file: "stage/peer.h",
    from: "\tif (dispatch != DISPATCH_GENEVE)\n\t\treturn no_address();\n\tpeer",
    to: "\tpeer",
  },
  {
    name: "a second outer header isn't counted",
    file: "stage/peer.h",
    from: "by_node ? 2 * OUTER_BYTES : OUTER_BYTES",
    to: "OUTER_BYTES",
  },
  {
    name: "what goes by a pod's node is routed to the pod",
    file: "stage/peer.h",
    from: "by_node ? passage->node : packet->backend,",
    to: "packet->backend,",
  },
  {
    name: "a second outer header forgets the congestion mark",
    file: "stage/ip4.h",
    from: "outer_fields(outer, first->tos, ",
    to: "outer_fields(outer, first->tos & ~3, ",
  },
  {
    name: "a second outer header is as long as the first",
    file: "stage/ip4.h",
    from: "bpf_htons(bpf_ntohs(first->tot_len) + OUTER_BYTES)",
    to: "first->tot_len",
  },
  {
    name: "a second outer header of IPv6 has no flow label",
    file: "stage/ip6.h",
    from: "*(const __be32 *)(const void *)first;",
    to: "*(const __be32 *)(const void *)first & bpf_htonl(0xfff00000);",
  },
  {
    name: "IPIP in anybody's IPIP is stripped",
    file: "stage/foreign.h",
    from: "return sender->kind == TRUST_NODE ? by_node_undo",
    to: "return sender->kind ? by_node_undo",
  },
  {
    name: "IPIP in IPIP goes to pods of other nodes, too",
    file: "stage/foreign.h",
    from: "IPPROTO_OUTER || !endpoint_find(packet->destination))",
    to: "IPPROTO_OUTER)",
  },
  {
    name: "whatever a node's IPIP has in it is stripped",
    file: "stage/foreign.h",
    from: "\n\t    packet->protocol != IPPROTO_OUTER || !endpoint_find(packet->destination))",
    to: "\n\t    !endpoint_find(packet->destination))",
  },
  {
    name: "pieces of IPIP in IPIP are stripped",
    file: "stage/foreign.h",
    from: "if (packet->fragment || outer_parse(skb, packet) != PARSED_PROTOCOL",
    to: "if (outer_parse(skb, packet) != PARSED_PROTOCOL",
  },
  {
    name: "congestion of the outermost header is forgotten",
    file: "stage/foreign.h",
    from: "header_translate(ip, packet, to.source, to.destination, tos, to.ttl);",
    to: "header_translate(ip, packet, to.source, to.destination, packet->tos, to.ttl);",
  },
  {
    name: "outer headers that were taken off aren't counted among a frame's bytes",
    file: "stage/go-on.h",
    from: "held->taken = packet->frame_bytes - skb->len;",
    to: "held->taken = 0;",
  },
  {
    name: "the outermost of three outer headers isn't counted among a frame's bytes",
    file: "host.bpf.c",
    from: "skb->len + scratch_taken(held));\n\tverdict = to_no_pod",
    to: "skb->len);\n\tverdict = to_no_pod",
  },
  {
    name: "pieces leave for the pod itself",
    file: "stage/peer.h",
    from: "return sent_by_node(skb, packet->backend) ? verdict : DROP_REWRITE;",
    to: "return verdict;",
  },
  {
    name: "a piece's second outer header isn't counted",
    file: "stage/to-node.h",
    from: "\t\textra += OUTER_BYTES;",
    to: "\t\textra += 0;",
  },
];
