// SPDX-License-Identifier: Apache-2.0
// Geneve and options between nodes: bodies up and down and datagrams by each, and what a switch
// counts of them. Options are what its slow path would get.

import assert from "node:assert/strict";
import { suite, type TestContext, test } from "node:test";
import { createLab } from "../../src/lab/lab.ts";
import { removeLab } from "../../src/lab/state.ts";
import { conversation, converseOnce } from "./tools/conversation.ts";
import { ECHO_PORT, HTTP_PORT, startPrograms } from "./tools/programs.ts";
import { freshName } from "./tools/stage.ts";

const ADDRESS = "198.51.100.1";
const POD = "pod2-1";
const PORTS = { tcp: 80, udp: 7 } as const;

async function prove(
  t: TestContext,
  dispatch: "geneve" | "option",
  acceleration: "native" | "off",
): Promise<void> {
  const name = freshName();
  t.after(() => removeLab(name));
  const lab = await createLab({
    name,
    nodes: 2,
    podsPerNode: 1,
    // The datapath itself must see to it.
    lowerMss: false,
    acceleration,
    dispatch,
  });
  await startPrograms(lab, POD);
  lab.publish({
    name: "web",
    addresses: [ADDRESS],
    ports: [
      { name: "web", port: PORTS.tcp, targetPort: HTTP_PORT },
      { name: "echo", port: PORTS.udp, targetPort: ECHO_PORT, protocol: "UDP" },
    ],
    backends: [POD],
  });
  await lab.output("client", [
    "curl",
    ...["-sS", "-f", "-m", "2", "--retry", "20", "--retry-delay", "1", "--retry-all-errors"],
    `http://${ADDRESS}/name`,
  ]);
  await lab.resetCounters();
  for (const protocol of ["tcp", "udp"] as const) {
    const asked = { what: `${dispatch} ${protocol}`, address: ADDRESS, entry: "node1", pod: POD };
    await converseOnce(
      lab,
      conversation({ ...asked, port: PORTS[protocol], protocol, way: "ipip" }),
    );
  }
  const { options, ipip, geneve } = await lab.counters();
  assert.equal(ipip.packets, 0, "IPIP");
  assert.equal(geneve.packets > 0, dispatch === "geneve", `${geneve.packets} of Geneve`);
  assert.equal(options.packets > 0, dispatch === "option", `${options.packets} with options`);
}

suite("dispatch in a lab", { concurrency: false }, () => {
  for (const dispatch of ["geneve", "option"] as const) {
    for (const acceleration of ["native", "off"] as const) {
      test(`${dispatch}, acceleration ${acceleration}`, (t) => prove(t, dispatch, acceleration));
    }
  }
});
