// SPDX-License-Identifier: Apache-2.0
// Faults in what is known of flows, and in who gets those that aren't known.

import type { Mutant } from "./list.ts";

const inFile = (file: string, faults: readonly Omit<Mutant, "file">[]): readonly Mutant[] =>
  faults.map((fault) => ({ file, ...fault }));

const OWNERS = inFile("stage/owners.h", [
  {
    name: "hops' TTLs off by one",
    from: "(ttl - IP_DEFAULT_TTL - 1) / HOP_TTL_STEP + 1",
    to: "(ttl - IP_DEFAULT_TTL) / HOP_TTL_STEP + 1",
  },
  { name: "one hop fewer", from: "#define HOP_LAST 3 ", to: "#define HOP_LAST 2 " },
  {
    name: "listening sockets know every flow",
    from: "known = sk->state != TCP_LISTEN_STATE;",
    to: "known = true;",
  },
  {
    name: "one packet more than the limit",
    from: "window->passed++ < pass_limit",
    to: "window->passed++ <= pass_limit",
  },
  {
    name: "remembered owners count for the limit",
    from: "if (!remembered && !pass_allowed",
    to: "if (!pass_allowed",
  },
  {
    name: "a former owner is left out",
    from: "if (found)\n\t\t\treturn former->owner[i];",
    to: "if (found && i != 1)\n\t\t\treturn former->owner[i];",
  },
  {
    name: "former owners are asked from the last one on",
    from: "if (found)\n\t\t\treturn former->owner[i];",
    to: "if (found)\n\t\t\treturn former->owner[FORMER_OWNERS - 1];",
  },
  {
    name: "the present owner is asked as a former one",
    from: "if (former->owner[i] == present)\n\t\t\tcontinue;\n",
    to: "",
  },
  {
    name: "a ring that is changing is believed",
    from: "return present && former && former->owner[0] == present->address;",
    to: "return false;",
  },
  {
    name: "old rings are new",
    from: "jiffies_now() - service->changed < quiet_jiffies",
    to: "jiffies_now() - service->changed > quiet_jiffies",
  },
  {
    name: "unknown FINs are adopted",
    from: "if (packet->protocol == IPPROTO_TCP && packet->tcp_flags & (TCP_RST | TCP_FIN))",
    to: "if (packet->protocol == IPPROTO_TCP && packet->tcp_flags & TCP_RST)",
  },
  {
    name: "SYNs follow remembered owners",
    from: "if (flow && flow->flags & FLOW_REMOTE && !packet_is_syn(packet) &&",
    to: "if (flow && flow->flags & FLOW_REMOTE &&",
  },
  {
    name: "closed flows aren't opened again",
    from: "!(packet_is_syn(packet) && flow_is_over(flow))",
    to: "true",
  },
  {
    name: "what was reset is known for ever",
    from: "!(flow->flags & (FLOW_REMOTE | FLOW_RESET))",
    to: "!(flow->flags & FLOW_REMOTE)",
  },
  {
    name: "half a flow is left behind",
    from: "\tkey = reply_key(flow, packet->protocol);\n\tbpf_map_delete_elem(&conntrack, &key);\n",
    to: "",
  },
  {
    name: "adopted TCP flows are counted as connections",
    from: "traffic->connections += packet->protocol == IPPROTO_UDP;",
    to: "traffic->connections++;",
  },
  {
    name: "flows keep the service's port",
    from: "flow->pod_port = target->port;",
    to: "flow->pod_port = packet->destination_port;",
  },
  {
    name: "a pod without a target adopts at last",
    from: "if (!target && (!decision->hop || decision->hop == HOP_FINAL)) {",
    to: "if (!target && !decision->hop) {",
  },
  {
    name: "pods of this node are sent to",
    from: "if (endpoint_find(next)) {",
    to: "if (0) {",
  },
  {
    name: "the present owner isn't told that it's final",
    from: "decision->hop == HOP_FINAL ? HOP_FINAL : decision->hop + 1",
    to: "decision->hop + 1",
  },
  {
    name: "notes about flows of our own",
    from: "endpoint_find(owner) || (known && !(known->flags & FLOW_REMOTE))",
    to: "endpoint_find(owner) || (known && known->flags == 0xffff)",
  },
  {
    name: "notes about pods of our own",
    from: "if (endpoint_find(owner) || (known",
    to: "if ((known",
  },
  {
    name: "packets to remembered owners count as hops",
    from: "decide_pass(decision, packet, flow->pod, HOP_KNOWN, true);",
    to: "decide_pass(decision, packet, flow->pod, decision->hop + 1, true);",
  },
]);

const LIMITS = inFile("stage/limits.h", [
  {
    name: "the window never ends",
    from: "if (window && now - window->since >= limit_window)",
    to: "if (0)",
  },
  {
    name: "one answer more than the limit",
    from: "window->told++ < answer_limit",
    to: "window->told++ <= answer_limit",
  },
]);

const CONNTRACK = inFile("stage/conntrack.h", [
  {
    name: "FINs of the wrong side",
    from: "from_pod ? FLOW_FIN_POD : FLOW_FIN_CLIENT",
    to: "from_pod ? FLOW_FIN_CLIENT : FLOW_FIN_POD",
  },
  { name: "one FIN closes", from: "(flow->flags & both) == both", to: "flow->flags & both" },
  {
    name: "an RST closes nothing",
    from: "return flow->flags & FLOW_RESET || (flow",
    to: "return (flow",
  },
  { name: "other candidates for ports", from: "i * 4099", to: "i * 4098" },
  { name: "one candidate fewer", from: "#define ALIAS_TRIES 8", to: "#define ALIAS_TRIES 7" },
  { name: "candidates below 32768", from: "bpf_htons(0x8000 | (", to: "bpf_htons((" },
  {
    name: "flows to two addresses are one",
    from: " || other->service_address != flow->service_address ||",
    to: " ||",
  },
  {
    name: "closed flows keep their ports",
    from: "return other && !flow_is_over(other) &&",
    to: "return other &&",
  },
  {
    name: "bytes without Ethernet and outer header",
    from: "flow->bytes += packet->frame_bytes;",
    to: "flow->bytes += packet->total_bytes;",
  },
  { name: "flows aren't seen", from: "\tflow->seen = jiffies_now();\n", to: "" },
  {
    name: "the other entry isn't told",
    from: "\t\t\tother->flags |= both;\n",
    to: "\t\t\tother->flags |= 0;\n",
  },
  { name: "SYNs confirm", from: "if (!from_pod && !packet_is_syn(packet))", to: "if (!from_pod)" },
  {
    name: "the reply entry stays",
    from: "if (!(flow->flags & FLOW_REMOTE))\n\t\tbpf_map_delete_elem",
    to: "if (flow->flags & FLOW_REMOTE)\n\t\tbpf_map_delete_elem",
  },
]);

export const CONNTRACK_MUTANTS: readonly Mutant[] = [...OWNERS, ...LIMITS, ...CONNTRACK];
