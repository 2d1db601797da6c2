// SPDX-License-Identifier: Apache-2.0
// The tables of IPv6 seen through the addresses of IPv4, so that what is said of IPv4 is said of
// both.

import type * as abi from "../../src/datapath/gen/abi.ts";
import type { DatapathMaps, WideMaps } from "../../src/datapath/load.ts";
import { TypedMap } from "../../src/datapath/maps.ts";
import type { Codec, TypedMapSpec } from "../../src/kernel/codec.ts";
import type { Ipv4 } from "../../src/net/address.ts";
import { prefixOf } from "../../src/net/prefix.ts";
import { narrow, narrowLength, widen, widenLength } from "./address.ts";

/** Both ways between a value of IPv4's tables and one of IPv6's. */
interface Way<Four, Six> {
  readonly widen: (value: Four) => Six;
  readonly narrow: (value: Six) => Four;
}

function through<Four, Six>(codec: Codec<Six>, way: Way<Four, Six>): Codec<Four> {
  return {
    name: codec.name,
    size: codec.size,
    decode: (view, offset) => way.narrow(codec.decode(view, offset)),
    encode: (view, offset, value) => codec.encode(view, offset, way.widen(value)),
  };
}

function seen<K4, V4, K6, V6>(
  { raw, spec }: TypedMap<K6, V6>,
  key: Way<K4, K6>,
  value: Way<V4, V6>,
): TypedMap<K4, V4> {
  const { key: keyCodec, value: valueCodec } = spec;
  const narrowed: TypedMapSpec<K4, V4> = {
    ...spec,
    key: through(keyCodec, key),
    value: through(valueCodec, value),
  };
  return new TypedMap(raw, narrowed);
}

function same<T>(): Way<T, T> {
  return { widen: (value) => value, narrow: (value) => value };
}

/** Ports that are others over IPv6, both ways. */
export interface WidePorts {
  readonly widen: ReadonlyMap<number, number>;
  readonly narrow: ReadonlyMap<number, number>;
}

function portBy(ports: ReadonlyMap<number, number>, port: abi.Port): abi.Port {
  return (ports.get(port) ?? port) as abi.Port;
}

const flowKey = (ports: WidePorts): Way<abi.FlowKey, abi.FlowKey6> => ({
  widen: (key) => ({
    ...key,
    source: widen(key.source),
    destination: widen(key.destination),
    destinationPort: portBy(ports.widen, key.destinationPort),
  }),
  narrow: (key) => ({
    ...key,
    source: narrow(key.source),
    destination: narrow(key.destination),
    destinationPort: portBy(ports.narrow, key.destinationPort),
  }),
});
const flow = (ports: WidePorts): Way<abi.Flow, abi.Flow6> => ({
  widen: (value) => ({
    ...value,
    aliasPort: portBy(ports.widen, value.aliasPort),
    client: widen(value.client),
    serviceAddress: widen(value.serviceAddress),
    pod: widen(value.pod),
    aliasAddress: widen(value.aliasAddress),
  }),
  narrow: (value) => ({
    ...value,
    aliasPort: portBy(ports.narrow, value.aliasPort),
    client: narrow(value.client),
    serviceAddress: narrow(value.serviceAddress),
    pod: narrow(value.pod),
    aliasAddress: narrow(value.aliasAddress),
  }),
});
const addressed = <T extends { readonly address: Ipv4 }>(): Way<
  T,
  Omit<T, "address"> & { readonly address: abi.EndpointKey6["address"] }
> => ({
  widen: (value) => ({ ...value, address: widen(value.address) }),
  narrow: (value) => ({ ...value, address: narrow(value.address) }) as unknown as T,
});
const backend: Way<abi.Backend, abi.Backend6> = addressed<abi.Backend>();
const endpointKey: Way<abi.EndpointKey, abi.EndpointKey6> = addressed<abi.EndpointKey>();
const frontend: Way<abi.Frontend, abi.Frontend6> = addressed<abi.Frontend>();
const bucket: Way<abi.FrontendBucket, abi.FrontendBucket6> = {
  widen: ({ slot: [a, b, c, d] }) => ({
    slot: [frontend.widen(a), frontend.widen(b), frontend.widen(c), frontend.widen(d)],
  }),
  narrow: ({ slot: [a, b, c, d] }) => ({
    slot: [frontend.narrow(a), frontend.narrow(b), frontend.narrow(c), frontend.narrow(d)],
  }),
};
const nexthop: Way<abi.Nexthop, abi.Nexthop6> = {
  widen: (value) => ({
    ...value,
    gateway: widen(value.gateway),
    outerSource: widen(value.outerSource),
    peer: widen(value.peer),
  }),
  narrow: (value) => ({
    ...value,
    gateway: narrow(value.gateway),
    outerSource: narrow(value.outerSource),
    peer: narrow(value.peer),
  }),
};
const peerNode: Way<abi.Peer, abi.Peer6> = {
  widen: ({ node }) => ({ node: widen(node) }),
  narrow: ({ node }) => ({ node: narrow(node) }),
};
const owners: Way<abi.FormerOwners, abi.FormerOwners6> = {
  widen: ({ owner: [a, b, c] }) => ({ owner: [widen(a), widen(b), widen(c)] }),
  narrow: ({ owner: [a, b, c] }) => ({ owner: [narrow(a), narrow(b), narrow(c)] }),
};
const fragmentKey: Way<abi.FragmentKey, abi.FragmentKey6> = {
  widen: (key) => ({ ...key, source: widen(key.source), destination: widen(key.destination) }),
  narrow: (key) => ({ ...key, source: narrow(key.source), destination: narrow(key.destination) }),
};
const targetKey: Way<abi.TargetKey, abi.TargetKey6> = {
  widen: (key) => ({ ...key, pod: widen(key.pod) }),
  narrow: (key) => ({ ...key, pod: narrow(key.pod) }),
};
const trustedKey: Way<abi.TrustedKey, abi.TrustedKey6> = {
  widen: ({ prefixLength, address }) => {
    const length = widenLength(prefixLength);
    return { prefixLength: length, address: prefixOf(widen(address), length).address };
  },
  narrow: ({ prefixLength, address }) => {
    const length = narrowLength(prefixLength);
    return { prefixLength: length, address: prefixOf(narrowPart(address), length).address };
  },
};
/** Bits of an id in front of the address. */
const ID_BITS = 32;
const rangeKey: Way<abi.SourceRangeKey, abi.SourceRangeKey6> = {
  widen: ({ prefixLength, service, address }) => {
    const length = widenLength(prefixLength - ID_BITS);
    return {
      prefixLength: ID_BITS + length,
      service,
      address: prefixOf(widen(address), length).address,
    };
  },
  narrow: ({ prefixLength, service, address }) => {
    const length = narrowLength(prefixLength - ID_BITS);
    return {
      prefixLength: ID_BITS + length,
      service,
      address: prefixOf(narrowPart(address), length).address,
    };
  },
};
const affinityKey: Way<abi.AffinityKey, abi.AffinityKey6> = {
  widen: (key) => ({ ...key, client: widen(key.client) }),
  narrow: (key) => ({ ...key, client: narrow(key.client) }),
};
const affinity: Way<abi.Affinity, abi.Affinity6> = {
  widen: (value) => ({ ...value, pod: widen(value.pod) }),
  narrow: (value) => ({ ...value, pod: narrow(value.pod) }),
};
const peerKey: Way<abi.SocketPeerKey, abi.SocketPeerKey6> = {
  widen: (key) => ({ ...key, backend: widen(key.backend) }),
  narrow: (key) => ({ ...key, backend: narrow(key.backend) }),
};
const peer: Way<abi.SocketPeer, abi.SocketPeer6> = {
  widen: (value) => ({ ...value, serviceAddress: widen(value.serviceAddress) }),
  narrow: (value) => ({ ...value, serviceAddress: narrow(value.serviceAddress) }),
};

/** The address whose bits a prefix of IPv6 has, which may have lost its last ones. */
function narrowPart(address: abi.TrustedKey6["address"]): Ipv4 {
  const network = Number(BigInt.asUintN(16, address >> 96n));
  return (((network << 16) | Number(BigInt.asUintN(16, address))) >>> 0) as Ipv4;
}

/** The maps of IPv6 in place of IPv4's, as if they held IPv4; what holds no address is shared. */
export function narrowed(maps: DatapathMaps, wide: WideMaps, ports: WidePorts): DatapathMaps {
  return {
    ...maps,
    affinities: seen(wide.affinities, affinityKey, affinity),
    backends: seen(wide.backends, same<number>(), backend),
    conntrack: seen(wide.conntrack, flowKey(ports), flow(ports)),
    endpoints: seen(wide.endpoints, endpointKey, same<abi.Endpoint>()),
    formerOwners: seen(wide.formerOwners, same<abi.SlotKey>(), owners),
    fragments: seen(wide.fragments, fragmentKey, same<abi.Fragment>()),
    frontends: seen(wide.frontends, same<number>(), bucket),
    nexthops: seen(wide.nexthops, same<number>(), nexthop),
    peers: seen(wide.peers, endpointKey, peerNode),
    socketPeers: seen(wide.socketPeers, peerKey, peer),
    sourceRanges: seen(wide.sourceRanges, rangeKey, same<abi.SourceRange>()),
    targets: seen(wide.targets, targetKey, same<abi.Target>()),
    trusted: seen(wide.trusted, trustedKey, same<abi.Trusted>()),
  };
}
