// SPDX-License-Identifier: Apache-2.0
// The rules that kube-proxy writes for LoadBalancer services, for nftables and for iptables:
// service i has the addresses of bench/world.ts. Clients are masqueraded, as with the default
// traffic policy.

import { formatIpv4, type Ipv4 } from "../src/net/address.ts";
import { BACKENDS, BACKENDS_PER_SERVICE, SERVICE_PORT, TARGET_PORT, VIPS } from "./world.ts";

/** Services to write rules for. */
export interface RuleSet {
  readonly services: number;
  /** How many backends a service has. */
  backendsOf(service: number): number;
}

const POD_NETWORK = "10.128.0.0/9";
const MARK = "0x4000";

const vip = (service: number): string => formatIpv4((VIPS + service) as Ipv4);

const pod = (service: number, backend: number): string =>
  formatIpv4((BACKENDS + service * BACKENDS_PER_SERVICE + backend) as Ipv4);

/** Names of sixteen letters and digits, as kube-proxy's hashes have. */
const hash = (service: number, backend = 0xff): string =>
  `${service.toString(36)}X${backend.toString(36)}`.toUpperCase().padStart(16, "A");

function each<T>(count: number, make: (index: number) => T): T[] {
  return Array.from({ length: count }, (_, index) => make(index));
}

const chainName = (service: number): string => `${hash(service)}-bench/s${service}/tcp/p`;

const endpointName = (service: number, backend: number): string =>
  `endpoint-${hash(service, backend)}-bench/s${service}/tcp/p__${pod(service, backend)}/${TARGET_PORT}`;

function choicesOf(service: number, count: number): string {
  const choices = each(count, (backend) => `${backend} : goto ${endpointName(service, backend)}`);
  return `numgen random mod ${count} vmap { ${choices.join(", ")} }`;
}

function masqueradeOf(service: number): string {
  const to = `ip daddr ${vip(service)} tcp dport ${SERVICE_PORT}`;
  return `${to} ip saddr != ${POD_NETWORK} jump mark-for-masquerade`;
}

/** For `nft -f`, on loaded rules: the service has only its first `count` backends, one less. */
export function nftablesChange(service: number, count: number): string {
  const chain = `ip kube-proxy service-${chainName(service)}`;
  return [
    `flush chain ${chain}`,
    `add rule ${chain} ${masqueradeOf(service)}`,
    `add rule ${chain} ${choicesOf(service, count)}`,
    `flush chain ip kube-proxy ${endpointName(service, count)}`,
    `delete chain ip kube-proxy ${endpointName(service, count)}`,
    "",
  ].join("\n");
}

/** For `iptables-restore --noflush`, likewise: a service's chains anew without one endpoint. */
export function iptablesChange(service: number, count: number): string {
  const gone = `KUBE-SEP-${hash(service, count)}`;
  return [
    "*nat",
    ...["EXT", "SVC"].map((kind) => `:KUBE-${kind}-${hash(service)} - [0:0]`),
    ...each(count, (backend) => `:KUBE-SEP-${hash(service, backend)} - [0:0]`),
    `:${gone} - [0:0]`,
    // The rule in KUBE-SERVICES stays as it is.
    ...serviceRules(service, count).slice(1),
    `-X ${gone}`,
    "COMMIT",
    "",
  ].join("\n");
}

/** For `nft -f`: a verdict map leads to a chain a service, and that to a chain an endpoint. */
export function nftablesRules({ services, backendsOf }: RuleSet): string {
  const elements = each(
    services,
    (service) =>
      `\t\t${vip(service)} . tcp . ${SERVICE_PORT} : goto external-${chainName(service)}`,
  );
  const chains = each(services, (service) => {
    const count = backendsOf(service);
    return [
      ...each(count, (backend) =>
        [
          `\tchain ${endpointName(service, backend)} {`,
          `\t\tip saddr ${pod(service, backend)} jump mark-for-masquerade`,
          `\t\tmeta l4proto tcp dnat to ${pod(service, backend)}:${TARGET_PORT}`,
          "\t}",
        ].join("\n"),
      ),
      `\tchain service-${chainName(service)} {`,
      `\t\t${masqueradeOf(service)}`,
      `\t\t${choicesOf(service, count)}`,
      "\t}",
      `\tchain external-${chainName(service)} {`,
      "\t\tjump mark-for-masquerade",
      `\t\tgoto service-${chainName(service)}`,
      "\t}",
    ].join("\n");
  });
  return `table ip kube-proxy {
	chain mark-for-masquerade {
		mark set mark or ${MARK}
	}
${chains.join("\n")}
	map service-ips {
		type ipv4_addr . inet_proto . inet_service : verdict
		elements = {
${elements.join(",\n")}
		}
	}
	map firewall-ips {
		type ipv4_addr . inet_proto . inet_service : verdict
	}
	map no-endpoint-services {
		type ipv4_addr . inet_proto . inet_service : verdict
	}
	chain services {
		ip daddr . meta l4proto . th dport vmap @service-ips
	}
	chain filter-prerouting {
		type filter hook prerouting priority -110; policy accept;
		ct state new ip daddr . meta l4proto . th dport vmap @firewall-ips
	}
	chain filter-forward {
		type filter hook forward priority -110; policy accept;
		ct state new ip daddr . meta l4proto . th dport vmap @no-endpoint-services
	}
	chain nat-prerouting {
		type nat hook prerouting priority dstnat; policy accept;
		jump services
	}
	chain nat-postrouting {
		type nat hook postrouting priority srcnat; policy accept;
		mark and ${MARK} == 0 return
		mark set mark xor ${MARK}
		masquerade fully-random
	}
}
`;
}

/** For `iptables-restore`: one rule a service in KUBE-SERVICES, then chains as in nftables. */
export function iptablesRules({ services, backendsOf }: RuleSet): string {
  const all = each(services, (service) => ({ service, count: backendsOf(service) }));
  const chains = all.flatMap(({ service, count }) => [
    `:KUBE-EXT-${hash(service)} - [0:0]`,
    `:KUBE-SVC-${hash(service)} - [0:0]`,
    ...each(count, (backend) => `:KUBE-SEP-${hash(service, backend)} - [0:0]`),
  ]);
  const rules = all.flatMap(({ service, count }) => serviceRules(service, count));
  return `${[
    "*filter",
    ":KUBE-FORWARD - [0:0]",
    "-A FORWARD -j KUBE-FORWARD",
    "-A KUBE-FORWARD -m conntrack --ctstate INVALID -j DROP",
    `-A KUBE-FORWARD -m mark --mark ${MARK}/${MARK} -j ACCEPT`,
    "-A KUBE-FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT",
    "COMMIT",
    "*nat",
    ":KUBE-SERVICES - [0:0]",
    ":KUBE-POSTROUTING - [0:0]",
    ":KUBE-MARK-MASQ - [0:0]",
    ...chains,
    "-A PREROUTING -j KUBE-SERVICES",
    "-A POSTROUTING -j KUBE-POSTROUTING",
    `-A KUBE-POSTROUTING -m mark ! --mark ${MARK}/${MARK} -j RETURN`,
    `-A KUBE-POSTROUTING -j MARK --xor-mark ${MARK}`,
    "-A KUBE-POSTROUTING -j MASQUERADE --random-fully",
    `-A KUBE-MARK-MASQ -j MARK --or-mark ${MARK}`,
    ...rules,
    "COMMIT",
  ].join("\n")}\n`;
}

function serviceRules(service: number, count: number): string[] {
  const [external, own] = [`KUBE-EXT-${hash(service)}`, `KUBE-SVC-${hash(service)}`];
  const to = `-d ${vip(service)}/32 -p tcp -m tcp --dport ${SERVICE_PORT}`;
  const comment = (text: string): string => `-m comment --comment "bench/s${service}:p ${text}"`;
  return [
    `-A KUBE-SERVICES ${comment("loadbalancer IP")} ${to} -j ${external}`,
    `-A ${external} ${comment("masquerade")} -j KUBE-MARK-MASQ`,
    `-A ${external} -j ${own}`,
    ...each(count, (backend) => {
      const chance = (1 / (count - backend)).toFixed(10);
      const choose = `-m statistic --mode random --probability ${chance} `;
      const where = `${pod(service, backend)}:${TARGET_PORT}`;
      const last = backend === count - 1;
      const chosen = `${last ? "" : choose}-j KUBE-SEP-${hash(service, backend)}`;
      return `-A ${own} ${comment(`-> ${where}`)} ${chosen}`;
    }),
    ...each(count, (backend) => {
      const [chain, at] = [`KUBE-SEP-${hash(service, backend)}`, pod(service, backend)];
      const dnat = `-p tcp -m tcp -j DNAT --to-destination ${at}:${TARGET_PORT}`;
      return `-A ${chain} -s ${at}/32 -j KUBE-MARK-MASQ\n-A ${chain} ${dnat}`;
    }),
  ];
}
