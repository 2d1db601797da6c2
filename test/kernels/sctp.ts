// SPDX-License-Identifier: Apache-2.0

// Runs inside a booted kernel: associations of the kernel's SCTP through a lab's balancer. The main
// machine's kernel has no SCTP.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { join } from "node:path";
import { after, before, suite, test } from "node:test";
import { createLab, type Lab } from "../../src/lab/lab.ts";
import { nodeNamed, podNamed } from "../../src/lab/plan.ts";
import { removeLab } from "../../src/lab/state.ts";
import { formatIpv4, formatIpv6 } from "../../src/net/address.ts";
import { untilBalanced } from "../lab/tools/inspect.ts";

const NAME = "ksctp";
const PORT = 3868;
const MESSAGES = 100;
const PEER = join(import.meta.dirname, "sctp_peer.py");
const PODS = ["pod1-1", "pod2-1"] as const;
/** By mode and backend; the last part of the service's addresses. */
const SERVICES = [
  { mode: "dsr", pod: "pod1-1", number: 1 },
  { mode: "dsr", pod: "pod2-1", number: 2 },
  { mode: "snat", pod: "pod1-1", number: 3 },
  { mode: "snat", pod: "pod2-1", number: 4 },
] as const;
type Service = (typeof SERVICES)[number];
const FAMILIES = ["ipv4", "ipv6"] as const;
type Family = (typeof FAMILIES)[number];

const addressOf = ({ number }: Service, family: Family): string =>
  family === "ipv4" ? `198.51.100.${number}` : `fd00:198:51:100::${number}`;

/** Who a backend sees when the client asks: the balancer, if it is SNAT's to send it away. */
function seenAs(lab: Lab, { mode, pod }: Service, family: Family): string {
  const { clientAddress, clientAddress6 } = lab.plan;
  const client = { ipv4: clientAddress.address, ipv6: clientAddress6.address };
  const node = nodeNamed(lab.plan, "node1");
  const isFar = mode === "snat" && pod === "pod2-1";
  if (family === "ipv4") return formatIpv4(isFar ? node.address.address : client.ipv4);
  return formatIpv6(isFar ? node.address6.address : client.ipv6);
}

async function bringUp(): Promise<Lab> {
  execFileSync("modprobe", ["sctp"]);
  const lab = await createLab({ name: NAME, nodes: 2, podsPerNode: 1, bundle: true });
  for (const pod of PODS) {
    const { address, address6 } = podNamed(lab.plan, pod);
    for (const at of [formatIpv4(address), formatIpv6(address6)]) {
      lab.start(pod, ["python3", PEER, "serve", pod, at, `${PORT}`], `${pod}-${at}.log`);
    }
  }
  for (const service of SERVICES) {
    lab.publish({
      name: `${service.mode}-${service.pod}`,
      addresses: FAMILIES.map((family) => addressOf(service, family)),
      ports: [{ port: PORT, targetPort: PORT, protocol: "SCTP" }],
      backends: [service.pod],
      annotations: { "ciliate.io/forwarding-mode": service.mode },
    });
  }
  return lab;
}

function ask(lab: Lab, from: string, address: string): Promise<string> {
  return lab.output(from, ["python3", PEER, "ask", address, `${PORT}`, `${MESSAGES}`]);
}

suite("services of SCTP", () => {
  let stage: Lab | undefined;
  const theLab = (): Lab => stage ?? assert.fail("the lab did not come up");

  before(async () => {
    stage = await bringUp();
  });
  after(() => removeLab(NAME));

  for (const service of SERVICES) {
    const { mode, pod } = service;
    for (const family of FAMILIES) {
      const address = addressOf(service, family);
      test(`a client talks to ${pod} by ${mode} and ${family}`, async () => {
        const lab = theLab();
        const { address: narrow, address6: wide } = podNamed(lab.plan, pod);
        const [at, frontend] =
          family === "ipv4"
            ? [`${formatIpv4(narrow)}:${PORT}`, `${address}:${PORT}`]
            : [`[${formatIpv6(wide)}]:${PORT}`, `[${address}]:${PORT}`];
        await untilBalanced(lab, frontend, [at], ["node1", "node2"], "sctp");
        const said = await ask(lab, "client", address);
        assert.equal(said.trim(), `${pod} ${seenAs(lab, service, family)}`);
      });
    }
  }

  for (const from of PODS) {
    test(`${from} talks to a service, whose backend sees it`, async () => {
      const lab = theLab();
      for (const service of SERVICES.filter(({ pod }) => pod !== from)) {
        const { address, address6 } = podNamed(lab.plan, from);
        const narrow = await ask(lab, from, addressOf(service, "ipv4"));
        assert.equal(narrow.trim(), `${service.pod} ${formatIpv4(address)}`);
        const wide = await ask(lab, from, addressOf(service, "ipv6"));
        assert.equal(wide.trim(), `${service.pod} ${formatIpv6(address6)}`);
      }
    });
  }
});
