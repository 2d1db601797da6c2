// SPDX-License-Identifier: Apache-2.0
// Geneve and options: what a balancer sends by them, and what a backend's node makes of options.

import type { Ipv4 } from "../../src/net/address.ts";
import { dsrDestinationOptions, dsrGeneveOption, dsrOption4 } from "../../src/net/dsr.ts";
import {
  geneve,
  type Init,
  ipv4,
  ipv6,
  type LayerInit,
  payload,
  tcp,
  udp,
} from "../../src/net/packet.ts";
import { flowHash } from "../model/hash.ts";
import { widen } from "../wide/address.ts";
import {
  CLIENT,
  FAR,
  GATEWAY_MAC,
  IDLE,
  NEAR,
  NODE,
  OTHER_NODE,
  OTHER_NODE_MAC,
  protocolOf,
  SERVICES,
  STRANGER,
  UPLINK_MAC,
} from "./cluster.ts";
import {
  ACK,
  arriving,
  askService,
  CLIENT_PORT,
  FROM_ROUTER,
  framed,
  intoNear,
  type More,
  type Packet,
  type ServiceName,
  SYN,
  tcpTo,
  toService,
  udpTo,
} from "./frames.ts";
import type { Row } from "./row.ts";
import { serveBySnat } from "./snat-rows.ts";
import type { Stage } from "./stage.ts";
import { expectCounted, expectFlows } from "./tables.ts";
import { TOLD_ROWS } from "./told-rows.ts";
import { tooBig } from "./too-big.ts";

const BOTH = ["edge", "host"] as const;
const HOST = ["host"] as const;
const SEED = 42n;
const GENEVE = 62;
const OPTION = 8;
const MTU = 1500;
const HEADERS = 40;

const CLIENT_ETHERNET = FROM_ROUTER;

const optionOf = (name: ServiceName): Uint8Array =>
  dsrOption4(SERVICES[name].address, SERVICES[name].port);

/** Port by which Geneve of the client's flow leaves. */
function spreadPort(name: ServiceName): number {
  const { address: service, port: servicePort } = SERVICES[name];
  const client = { client: CLIENT, clientPort: CLIENT_PORT };
  const tuple = { ...client, service, servicePort, protocol: protocolOf(name) };
  return 0x8000 | (flowHash(tuple, SEED).high & 0x7fff);
}

/** A packet that is translated already, as Geneve of this node. */
function geneveTo(target: Ipv4, name: ServiceName, packet: Packet, ip: Init<"ipv4"> = {}): Packet {
  const { address, port } = SERVICES[name];
  return [
    ipv4({ source: NODE, target, ttl: 64, id: 0, dontFragment: true, ...ip }),
    udp({ sourcePort: spreadPort(name), checksum: 0 }),
    geneve({ vni: 2, critical: true, options: dsrGeneveOption(address, port) }),
    CLIENT_ETHERNET,
    ...packet,
  ];
}

/** The same with an option behind the base header. */
function withOption(packet: Packet, options: Uint8Array, ttl = 59): Packet {
  const [ip, ...rest] = packet;
  return ip?.kind === "ipv4" ? [{ ...ip, ttl, options }, ...rest] : packet;
}

const viaGateway = (packet: Packet): Packet => framed(UPLINK_MAC, GATEWAY_MAC, packet);
const viaOther = (packet: Packet): Packet => framed(UPLINK_MAC, OTHER_NODE_MAC, packet);

const largest = (extra: number): number => MTU - HEADERS - extra;

const GENEVE_SENT: readonly Row[] = [
  {
    title: "a SYN is translated and sent to the backend's node in Geneve, with its service",
    places: BOTH,
    coming: { packet: arriving(toService("far", SYN)) },
    verdict: "SENT_ENCAPSULATED",
    leaving: viaOther(geneveTo(OTHER_NODE, "far", tcpTo(FAR, 8080, SYN))),
    back: true,
    check: (stage) => expectCounted(stage, 1, 54, 1, 0),
  },
  {
    title: "every later packet is, too",
    places: BOTH,
    coming: { packet: arriving(toService("far", ACK, { payload: "hello" })) },
    verdict: "SENT_ENCAPSULATED",
    leaving: viaOther(geneveTo(OTHER_NODE, "far", tcpTo(FAR, 8080, ACK, { payload: "hello" }))),
    back: true,
  },
  {
    title: "a UDP packet goes in Geneve",
    places: BOTH,
    coming: { packet: arriving(askService("farDns")) },
    verdict: "SENT_ENCAPSULATED",
    leaving: viaOther(geneveTo(OTHER_NODE, "farDns", udpTo(FAR, 5353))),
    back: true,
  },
  {
    title: "DSCP and ECN are copied to Geneve's outer header",
    places: BOTH,
    coming: { packet: arriving(toService("far", ACK, { ip: { dscp: 46, ecn: 3 } })) },
    verdict: "SENT_ENCAPSULATED",
    leaving: viaOther(
      geneveTo(OTHER_NODE, "far", tcpTo(FAR, 8080, ACK, { ip: { dscp: 46, ecn: 3 } }), {
        dscp: 46,
        ecn: 3,
      }),
    ),
    back: true,
  },
  {
    title: "the largest packet that fits with Geneve goes",
    shorter: 52,
    places: BOTH,
    coming: { packet: arriving(toService("far", ACK, { payload: largest(GENEVE) })) },
    verdict: "SENT_ENCAPSULATED",
    leaving: viaOther(
      geneveTo(OTHER_NODE, "far", tcpTo(FAR, 8080, ACK, { payload: largest(GENEVE) })),
    ),
    back: true,
  },
  {
    title: "one byte more is told to the client, with an MTU that leaves room for Geneve",
    shorter: 52,
    places: BOTH,
    coming: { packet: arriving(toService("far", ACK, { payload: largest(GENEVE) + 1 })) },
    verdict: "SENT_FRAG_NEEDED",
    leaving: tooBig(toService("far", ACK, { payload: largest(GENEVE) + 1 }), MTU - GENEVE + 20),
    isCut: true,
    back: true,
  },
];

function servedBySnat(stage: Stage): () => void {
  const before = [...stage.maps.services.entries()];
  serveBySnat(stage);
  return () => {
    for (const [row, service] of before) stage.maps.services.update(row, service);
  };
}

const CLIENT6 = widen(CLIENT);
export const near6 = dsrDestinationOptions(widen(SERVICES.near.address), SERVICES.near.port);
const far6 = dsrDestinationOptions(widen(SERVICES.far.address), SERVICES.far.port);
/** Of an experiment, which whoever doesn't know it skips. */
const SKIPPED = 0x1e;

export function erased(told: LayerInit): LayerInit {
  if (told.kind !== "destinationOptions") throw new TypeError("no options of IPv6");
  const options = Uint8Array.from(told.options ?? []);
  options[0] = SKIPPED;
  return { ...told, options };
}

const toFar6 = (target: Ipv4, ip: Init<"ipv6">, between: readonly LayerInit[], port: number) => [
  ipv6({ source: CLIENT6, target: widen(target), hopLimit: 59, ...ip }),
  ...between,
  tcp({ sourcePort: CLIENT_PORT, targetPort: port, flags: SYN }),
  payload(""),
];

/** As IPv6 spells it: an option is a header of its own, and what it said is skipped. */
const ERASED6: readonly Row[] = [
  {
    title: "the client's own option that says a service is erased behind ours",
    only: "ipv6",
    places: BOTH,
    coming: {
      packet: arriving(toFar6(SERVICES.far.address, { hopLimit: 60 }, [near6], 80)),
    },
    verdict: "SENT_ENCAPSULATED",
    leaving: viaGateway(toFar6(FAR, {}, [far6, erased(near6)], 8080)),
    back: true,
  },
  {
    title: "the client's own option is erased where SNAT sends the packet on",
    only: "ipv6",
    places: BOTH,
    poke: servedBySnat,
    coming: {
      packet: arriving(toFar6(SERVICES.far.address, { hopLimit: 60 }, [near6], 80)),
    },
    verdict: "SENT_NAT",
    leaving: viaGateway(toFar6(FAR, { source: widen(NODE) }, [erased(near6)], 8080)),
    back: true,
  },
];

const OPTIONS: readonly Row[] = [
  {
    title: "a SYN is translated and gets an option that says its service",
    places: BOTH,
    coming: { packet: arriving(toService("far", SYN)) },
    verdict: "SENT_ENCAPSULATED",
    leaving: viaGateway(withOption(tcpTo(FAR, 8080, SYN), optionOf("far"))),
    back: true,
    check: (stage) => expectCounted(stage, 1, 54, 1, 0),
  },
  {
    title: "a UDP packet gets an option",
    places: BOTH,
    coming: { packet: arriving(askService("farDns")) },
    verdict: "SENT_ENCAPSULATED",
    leaving: viaGateway(withOption(udpTo(FAR, 5353), optionOf("farDns"))),
    back: true,
  },
  {
    title: "the client's own options stay behind it, but one that says a service",
    only: "ipv4",
    places: BOTH,
    coming: {
      packet: arriving(
        toService("far", ACK, {
          ip: { options: Uint8Array.of(...optionOf("near"), 1, 1, 1, 1) },
        }),
      ),
    },
    verdict: "SENT_ENCAPSULATED",
    leaving: viaGateway(
      withOption(
        tcpTo(FAR, 8080, ACK),
        Uint8Array.of(...optionOf("far"), ...new Uint8Array(12).fill(1)),
      ),
    ),
    back: true,
  },
  {
    title: "a client's option that says a service is erased where SNAT sends the packet on",
    only: "ipv4",
    places: BOTH,
    poke: servedBySnat,
    coming: { packet: arriving(toService("far", SYN, { ip: { options: optionOf("near") } })) },
    verdict: "SENT_NAT",
    leaving: viaGateway(
      withOption(tcpTo(FAR, 8080, SYN, { ip: { source: NODE } }), new Uint8Array(OPTION).fill(1)),
    ),
    back: true,
  },
  {
    title: "a header without room for the option is a drop of its own",
    only: "ipv4",
    places: BOTH,
    coming: {
      packet: arriving(toService("far", ACK, { ip: { options: new Uint8Array(36).fill(1) } })),
    },
    verdict: "DROP_OPTION_ROOM",
  },
  {
    title: "a packet whose time to live ends here passes",
    places: BOTH,
    coming: { packet: arriving(toService("far", SYN, { ip: { ttl: 1 } })) },
    verdict: "PASS_TTL",
  },
  {
    title: "the largest packet that fits with the option goes",
    shorter: 36,
    places: BOTH,
    coming: { packet: arriving(toService("far", ACK, { payload: largest(OPTION) })) },
    verdict: "SENT_ENCAPSULATED",
    leaving: viaGateway(
      withOption(tcpTo(FAR, 8080, ACK, { payload: largest(OPTION) }), optionOf("far")),
    ),
    back: true,
  },
  {
    title: "one byte more is told to the client, with an MTU that leaves room for the option",
    shorter: 36,
    places: BOTH,
    coming: { packet: arriving(toService("far", ACK, { payload: largest(OPTION) + 1 })) },
    verdict: "SENT_FRAG_NEEDED",
    leaving: tooBig(toService("far", ACK, { payload: largest(OPTION) + 1 }), MTU - OPTION + 20),
    isCut: true,
    back: true,
  },
  ...ERASED6,
  ...optionsReceived(),
];

/** A packet to the near pod with an option. */
function told(name: ServiceName, flags: number, more: More = {}): Packet {
  return arriving(withOption(tcpTo(NEAR, 8080, flags, more), optionOf(name), 60));
}

function optionsReceived(): readonly Row[] {
  return [
    {
      title: "a packet with an option is put into the pod without it, as the client's flow",
      places: HOST,
      coming: { packet: told("near", SYN) },
      verdict: "SENT_POD",
      leaving: intoNear(tcpTo(NEAR, 8080, SYN)),
      check: (stage) => {
        expectFlows(stage, "request 1", "reply 0");
        expectCounted(stage, 0, 0, 0, 1);
      },
    },
    {
      title: "UDP with an option, too",
      places: HOST,
      coming: {
        packet: arriving(withOption(udpTo(NEAR, 5353), optionOf("nearDns"), 60)),
      },
      verdict: "SENT_POD",
      leaving: intoNear(udpTo(NEAR, 5353)),
    },
    {
      title: "options behind it stay",
      places: HOST,
      coming: {
        packet: arriving(
          withOption(tcpTo(NEAR, 8080, SYN), Uint8Array.of(...optionOf("near"), 1, 1, 1, 0), 60),
        ),
      },
      verdict: "SENT_POD",
      leaving: intoNear(withOption(tcpTo(NEAR, 8080, SYN), Uint8Array.of(1, 1, 1, 0), 60)),
    },
    {
      title: "a later packet of the flow needs no option",
      places: HOST,
      before: [{ packet: told("near", SYN) }],
      coming: { packet: arriving(tcpTo(NEAR, 8080, ACK, { payload: "hello" })) },
      verdict: "SENT_POD",
      leaving: intoNear(tcpTo(NEAR, 8080, ACK, { payload: "hello" })),
    },
    {
      title: "an option of no service is a drop",
      places: HOST,
      coming: {
        packet: arriving(withOption(tcpTo(NEAR, 8080, SYN), dsrOption4(STRANGER, 80), 60)),
      },
      verdict: "DROP_NO_SERVICE",
      check: (stage) => expectFlows(stage),
    },
    {
      title: "an option of a service whose backend the pod isn't is a drop",
      places: HOST,
      coming: { packet: arriving(withOption(tcpTo(IDLE, 8080, SYN), optionOf("near"), 60)) },
      verdict: "DROP_NOT_A_BACKEND",
      check: (stage) => expectFlows(stage),
    },
    {
      title: "a flow that nobody knows here goes on to its slot's former owner in IPIP",
      places: HOST,
      coming: {
        packet: arriving(withOption(tcpTo(NEAR, 8080, ACK), optionOf("cameNear"), 60)),
      },
      verdict: "SENT_PASSED",
      leaving: viaGateway([
        ipv4({ source: NODE, target: FAR, ttl: 96, id: 0, dontFragment: true }),
        ...toService("cameNear", ACK),
      ]),
    },
  ];
}

/** Where options aren't accepted. */
const UNBELIEVED: readonly Row[] = [
  {
    title: "an option isn't looked at unless the configuration says so",
    places: HOST,
    coming: { packet: told("near", SYN) },
    verdict: "PASS_NOT_OURS",
    check: (stage) => expectFlows(stage),
  },
];

/** Of a node with `dispatch: geneve`. */
export const GENEVE_ROWS: readonly Row[] = GENEVE_SENT;

/** Of a node with `dispatch: option`. */
export const OPTION_ROWS: readonly Row[] = OPTIONS;

/** Of a node as it is by default. */
export const DISPATCH_ROWS: readonly Row[] = [...TOLD_ROWS, ...UNBELIEVED];
