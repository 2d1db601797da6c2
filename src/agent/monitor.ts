// SPDX-License-Identifier: Apache-2.0
import { ApiError } from "../api/error.ts";
import type { EventSink } from "../api/event-stream.ts";
import type { PacketEvent as ApiEvent, MonitorRequest } from "../api/gen/ciliate.ts";
import { nearest } from "../config/nearest.ts";
import type { AnyPacketEvent, EventSource } from "../datapath/events.ts";
import { verdictNames } from "../datapath/gen/abi.ts";
import { placeText, protocolText, tcpFlagsText, verdictText } from "../flow/words.ts";
import { type Address, formatAddress, tryParseAddress } from "../net/address.ts";

/** Names for the numbers in an event; empty where there is none. */
export interface EventNames {
  device(ifindex: number): string;
  service(id: number): string;
}

/** Answers a monitor call: filters events, gives them names, and sends them on. */
export function monitorEvents(
  source: EventSource,
  names: EventNames,
  request: MonitorRequest,
  sink: EventSink,
): () => void {
  const wanted = createFilter(request);
  // The datapath stamps events with the monotonic clock.
  const sinceBootNs = BigInt(Date.now()) * 1_000_000n - process.hrtime.bigint();
  return source.listen(request.traces ? "traces" : "drops", ({ events, lost }) => {
    if (lost > 0) sink.overwritten(lost);
    for (const event of events) {
      if (wanted(event)) sink.push(describe(event, names, sinceBootNs));
    }
  });
}

type Filter = (event: AnyPacketEvent) => boolean;

function createFilter({ address, port, verdict }: MonitorRequest): Filter {
  const filters: Filter[] = [];
  if (address !== "") {
    const wanted = tryParseAddress(address);
    if (wanted === undefined) {
      throw new ApiError("invalid", `address: expected an address, got "${address}"`);
    }
    filters.push((event) => addressesOf(event).includes(wanted));
  }
  if (port !== 0) {
    filters.push(({ sourcePort, destinationPort }) =>
      [sourcePort, destinationPort].some((p) => p === port),
    );
  }
  if (verdict !== "") filters.push(verdictFilter(verdict));
  return (event) => filters.every((matches) => matches(event));
}

/** A whole verdict ("drop untrusted") or its first word ("drop"). */
function verdictFilter(wanted: string): Filter {
  const texts = Object.keys(verdictNames).map((verdict) => verdictText(Number(verdict)));
  const known = [...texts, ...new Set(texts.map((text) => text.split(" ")[0] ?? ""))];
  if (!known.includes(wanted)) {
    const near = nearest(wanted, known);
    const hint = near === undefined ? `known: ${known.join(", ")}` : `did you mean "${near}"?`;
    throw new ApiError("invalid", `there is no verdict "${wanted}"; ${hint}`);
  }
  const matching = new Set(
    Object.keys(verdictNames)
      .map(Number)
      .filter((verdict) => `${verdictText(verdict)} `.startsWith(`${wanted} `)),
  );
  return (event) => matching.has(event.verdict);
}

function addressesOf(event: AnyPacketEvent): readonly Address[] {
  const { source, destination, outerSource, outerDestination, backend } = event;
  return [source, destination, outerSource, outerDestination, backend];
}

function describe(event: AnyPacketEvent, names: EventNames, sinceBootNs: bigint): ApiEvent {
  return {
    timeUnixNs: event.time + sinceBootNs,
    verdict: verdictText(event.verdict),
    place: placeText(event.place),
    ifindex: event.ifindex,
    device: names.device(event.ifindex),
    length: event.length,
    protocol: protocolText(event.protocol),
    source: formatAddress(event.source),
    sourcePort: event.sourcePort,
    destination: formatAddress(event.destination),
    destinationPort: event.destinationPort,
    tcpFlags: tcpFlagsText(event.tcpFlags),
    outerSource: orEmpty(event.outerSource),
    outerDestination: orEmpty(event.outerDestination),
    backend: orEmpty(event.backend),
    service: event.service === 0 ? "" : names.service(event.service),
  };
}

function orEmpty(address: Address): string {
  return address ? formatAddress(address) : "";
}
