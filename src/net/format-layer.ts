// SPDX-License-Identifier: Apache-2.0
import { formatAddress, formatAddressPort } from "./address.ts";
import { readDsr } from "./dsr.ts";
import { formatMac } from "./mac.ts";
import type { ArpLayer, Ipv4Layer, Ipv6Layer, Layer } from "./packet.ts";
import { TCP_FLAG } from "./protocol.ts";

const hexOf = (bytes: Uint8Array): string => Buffer.from(bytes).toString("hex");

function formatFlags(flags: number): string {
  const names = Object.entries(TCP_FLAG).filter(([, bit]) => (flags & bit) !== 0);
  return names.length === 0 ? "none" : names.map(([name]) => name).join(",");
}

function formatIpv4Layer(layer: Ipv4Layer): string {
  const parts = [`ipv4 ${formatAddress(layer.source)} > ${formatAddress(layer.target)}`];
  parts.push(`ttl ${layer.ttl} len ${layer.totalLength}`);
  if (layer.dscp !== 0 || layer.ecn !== 0) parts.push(`dscp ${layer.dscp} ecn ${layer.ecn}`);
  if (layer.fragmentOffset !== 0 || layer.moreFragments) {
    parts.push(`frag ${layer.fragmentOffset}${layer.moreFragments ? "+" : ""}`);
  }
  if (layer.options.length > 0) parts.push(`options ${hexOf(layer.options)}`);
  return parts.join(" ");
}

function formatIpv6Layer(layer: Ipv6Layer): string {
  const parts = [`ipv6 ${formatAddress(layer.source)} > ${formatAddress(layer.target)}`];
  parts.push(`hops ${layer.hopLimit} len ${layer.payloadLength}`);
  if (layer.dscp !== 0 || layer.ecn !== 0) parts.push(`dscp ${layer.dscp} ecn ${layer.ecn}`);
  if (layer.flowLabel !== 0) parts.push(`flow ${layer.flowLabel}`);
  return parts.join(" ");
}

function formatArpLayer(layer: ArpLayer): string {
  const sender = `${formatAddress(layer.senderAddress)} is ${formatMac(layer.senderMac)}`;
  return `arp ${layer.operation} ${sender} to ${formatAddress(layer.targetAddress)}`;
}

/** A layer in a few words for a person. */
export function formatLayer(layer: Layer): string {
  const told = readDsr(layer);
  const text = formatFields(layer);
  return told === undefined ? text : `${text} for ${formatAddressPort(told.address, told.port)}`;
}

function formatFields(layer: Layer): string {
  switch (layer.kind) {
    case "ethernet":
      return `eth ${formatMac(layer.source)} > ${formatMac(layer.target)}`;
    case "vlan":
      return `vlan ${layer.id}`;
    case "ipv4":
      return formatIpv4Layer(layer);
    case "tcp":
      return (
        `tcp ${layer.sourcePort} > ${layer.targetPort} ${formatFlags(layer.flags)} ` +
        `seq ${layer.sequence} ack ${layer.acknowledgement}`
      );
    case "arp":
      return formatArpLayer(layer);
    case "ipv6":
      return formatIpv6Layer(layer);
    case "hopByHop":
    case "destinationOptions":
      return `${layer.kind} ${hexOf(layer.options)}`;
    case "routing":
      return `routing type ${layer.type} left ${layer.segmentsLeft} ${hexOf(layer.data)}`;
    case "fragment": {
      const more = layer.moreFragments ? "+" : "";
      return `fragment ${layer.fragmentOffset}${more} id ${layer.id}`;
    }
    case "geneve": {
      const options = layer.options.length === 0 ? "" : ` options ${hexOf(layer.options)}`;
      return `geneve vni ${layer.vni}${options}`;
    }
    case "sctp":
      return `sctp ${layer.sourcePort} > ${layer.targetPort} tag ${layer.verificationTag}`;
    case "udp":
      return `udp ${layer.sourcePort} > ${layer.targetPort} len ${layer.length}`;
    case "icmp":
    case "icmpv6":
      return `${layer.kind} ${layer.type}/${layer.code} rest ${layer.rest}`;
    default:
      return `${layer.kind} ${layer.bytes.length} bytes`;
  }
}
