// SPDX-License-Identifier: Apache-2.0
// The pinned tables as a person asks for them: read only, with or without an agent.

import { join } from "node:path";
import { possibleCpus } from "../kernel/bpf.ts";
import type { TypedMapSpec } from "../kernel/codec.ts";
import { readJiffies, secondsSince } from "../kernel/jiffies.ts";
import { BpfMap } from "../kernel/map.ts";
import { formatIpv4, type Ipv4 } from "../net/address.ts";
import {
  BackendFlag,
  type Flow,
  FlowDirection,
  type FlowKey,
  type Frontend,
  FrontendKind,
  flowFlagNames,
  maps,
  Place,
  placeNames,
  type Service,
  serviceFlagNames,
  Verdict,
  verdictNames,
} from "./gen/abi.ts";
import { TypedMap } from "./maps.ts";

/** An address and port that packets are looked up by, and the service row it leads to. */
export interface FrontendDump {
  readonly frontend: string;
  readonly protocol: string;
  readonly row: number;
  readonly id: number;
  readonly ringSize: number;
  readonly backends: number;
  readonly flags: readonly string[];
}

/** One backend of one service row, and what this node's balancer sent it. */
export interface BackendDump {
  readonly service: number;
  readonly index: number;
  readonly backend: string;
  readonly local: boolean;
  readonly device: number;
  readonly gateway: string;
  readonly packets: bigint;
  readonly bytes: bigint;
  readonly connections: bigint;
}

/** How many slots of a ring a backend has. */
export interface RingDump {
  readonly service: number;
  readonly ringSize: number;
  readonly backend: string;
  readonly slots: number;
  readonly share: number;
}

/** A flow of this node's pods. */
export interface FlowDump {
  readonly protocol: string;
  readonly client: string;
  readonly service: string;
  readonly pod: string;
  readonly flags: readonly string[];
  readonly ageSeconds: number;
  readonly idleSeconds: number;
  readonly packets: bigint;
  readonly bytes: bigint;
}

/** Packets that met one end at one place. */
export interface MetricDump {
  readonly place: string;
  readonly verdict: string;
  readonly packets: bigint;
  readonly bytes: bigint;
}

/** The rows of a mapped array, decoded one by one as they are asked for. */
interface Rows<V> extends Disposable {
  readonly count: number;
  at(index: number): V;
}

function openRows<V>(directory: string, spec: TypedMapSpec<number, V>): Rows<V> {
  using map = openPinned(directory, spec);
  const mapping = map.raw.mmap({ readOnly: true });
  const view = new DataView(mapping.buffer);
  const count = map.raw.info.maxEntries;
  return {
    count,
    at(index) {
      if (index >= count)
        throw new Error(`table ${spec.name} has no row ${index}: it has ${count}`);
      return spec.value.decode(view, index * mapping.stride);
    },
    [Symbol.dispose]: () => mapping.close(),
  };
}
