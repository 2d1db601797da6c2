// SPDX-License-Identifier: Apache-2.0

// Pods that offer a full-sized MSS, and a fabric whose width is in the nodes' files: what doesn't
// fit is told, and bulk gets through. In `make soak` with the settings of every mode and all
// widths; the matrix has the modes' bulk in any case. CILIATE_ROWS=geneve/native/1400 (a regular
// expression) runs some.

import { suite, type TestContext, test } from "node:test";
import { createLab } from "../../src/lab/lab.ts";
import { removeLab } from "../../src/lab/state.ts";
import { ALL, BULK_BYTES, proveBulk } from "./tools/bulk.ts";
import { MODES, type Mode } from "./tools/modes.ts";
import { startPrograms } from "./tools/programs.ts";
import { POD, type Widths } from "./tools/sizes.ts";
import { freshName } from "./tools/stage.ts";

const FULL = 1500;
const CLIENT_MTU = 1300;
/** Pods may not know how narrow the fabric is. */
const WIDTHS: readonly Widths[] = [
  { fabric: FULL, pod: FULL, client: CLIENT_MTU },
  { fabric: 1400, pod: FULL, client: CLIENT_MTU },
  { fabric: 1400, pod: 1400, client: CLIENT_MTU },
];

interface Case {
  readonly name: string;
  readonly modes: readonly Mode[];
  readonly acceleration: "native" | "off";
  readonly widths: Widths;
}

async function prove(t: TestContext, { modes, acceleration, widths }: Case): Promise<void> {
  const name = freshName();
  t.after(() => removeLab(name));
  const { fabric } = widths;
  const lab = await createLab({
    ...modes[0]?.settings,
    name,
    nodes: 2,
    podsPerNode: 1,
    acceleration,
    lowerMss: false,
    config: { mss: { clamp: false }, ...(fabric === FULL ? {} : { mtu: fabric }) },
  });
  await proveBulk(t, lab, await startPrograms(lab, POD, BULK_BYTES), modes, widths);
}

/** Without time to spend, each acceleration has one of the widths. */
function casesOf(modes: readonly Mode[]): Case[] {
  return (["native", "off"] as const).flatMap((acceleration, index) =>
    WIDTHS.filter((_, width) => ALL || width === index).map((widths) => {
      const names = modes.map(({ name }) => name).join("+");
      const { fabric, pod } = widths;
      return { name: `${names}/${acceleration}/${fabric}/${pod}`, modes, acceleration, widths };
    }),
  );
}

const groups = Object.values(Object.groupBy(MODES, ({ settings }) => JSON.stringify(settings)));
const cases = (ALL ? groups : groups.slice(0, 1)).flatMap((modes = []) => casesOf(modes));
const wanted = new RegExp(process.env["CILIATE_ROWS"] ?? "");

suite("bulk gets through pods with a full-sized MSS", { concurrency: 2 }, () => {
  for (const one of cases.filter(({ name }) => wanted.test(name))) {
    test(one.name, (t) => prove(t, one));
  }
});
