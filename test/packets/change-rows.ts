// SPDX-License-Identifier: Apache-2.0
// Datagrams to a service that has become SNAT's: those of flows that DSR had, and others.

import { ServiceFlag } from "../../src/datapath/gen/abi.ts";
import { FAR } from "./cluster.ts";
import { arriving, askService, ipipTo } from "./frames.ts";
import type { Row } from "./row.ts";
import { BOTH, viaGateway } from "./snat-rows.ts";
import type { Stage } from "./stage.ts";
import { expectFlows, serviceChanged } from "./tables.ts";

const WAS_DSR = ServiceFlag.snat | ServiceFlag.wasDsr;
const LATELY = WAS_DSR | ServiceFlag.lately;
const query = arriving(askService("farDns"));

/** A moment ago a datagram has come; that moment is over. */
function cameLately(stage: Stage): () => void {
  const restore = serviceChanged("farDns", { flags: LATELY })(stage);
  stage.send({ place: "host", frame: stage.build(query) });
  serviceChanged("farDns", { flags: WAS_DSR })(stage);
  return restore;
}

const byDsr = {
  coming: { packet: query },
  verdict: "SENT_ENCAPSULATED",
  leaving: viaGateway(ipipTo(FAR, askService("farDns"))),
  back: true,
} as const;

export const CHANGE_ROWS: readonly Row[] = [
  {
    title: "a datagram to a service that was DSR a moment ago goes by DSR, and is remembered",
    places: BOTH,
    poke: serviceChanged("farDns", { flags: LATELY }),
    ...byDsr,
    check: (stage) => expectFlows(stage, "request 0 alias 0 remote"),
  },
  {
    title: "a flow of datagrams that is remembered goes on by DSR",
    places: BOTH,
    poke: cameLately,
    ...byDsr,
    check: (stage) => expectFlows(stage, "request 0 alias 0 remote"),
  },
];
