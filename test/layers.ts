// SPDX-License-Identifier: Apache-2.0

// Who may import whom. This table is the architecture diagram: tidy.test.ts fails on an import
// that it doesn't allow, so it can't go stale.

import { dirname, join } from "node:path";

/** A path of the repository: `src/net/` with all below it, or one file. */
type Place = string;

interface Layer {
  readonly files: readonly Place[];
  /** Besides the folder that the file stands in, and what anyone may import. */
  readonly imports: readonly Place[];
  /** Doors: only by `import()`, so that who doesn't go through pays nothing for what is behind. */
  readonly lazily?: readonly Place[];
}

const FEATURES = [
  "conntrack",
  "device",
  "dns",
  "endpoint",
  "identity",
  "ipam",
  "lb",
  "node",
  "policy",
  "socket",
].map((name) => `src/${name}/`);

/** The pure part of a feature: values in, values out. Anyone may import it. */
const PURE = FEATURES.flatMap((feature) =>
  ["rows.ts", "entries.ts", "print.ts"].map((file) => feature + file),
);

/** What a feature's writer, sources, restore and serve stand on. */
const FEATURE_GROUND = [
  "src/net/",
  "src/state/",
  "src/store/",
  "src/api/",
  "src/datapath/",
  "src/config/nearest.ts",
];

/** The first layer that holds a file is the one that counts. */
const LAYERS: readonly Layer[] = [
  { files: ["src/net/"], imports: [] },
  { files: ["src/state/"], imports: [] },
  { files: ["src/kernel/"], imports: ["src/net/"] },
  { files: ["src/datapath/"], imports: ["src/kernel/", "src/net/"] },
  { files: ["src/store/"], imports: ["src/state/", "src/net/"] },
  { files: ["src/config/", "src/telemetry/", "src/api/"], imports: ["src/net/"] },
  { files: PURE, imports: ["src/net/", "src/state/", "src/datapath/gen/"] },
  // The next hop to a node is found by the state of our own devices.
  { files: ["src/node/"], imports: [...FEATURE_GROUND, "src/kernel/", "src/device/"] },
  {
    files: ["src/device/", "src/endpoint/", "src/socket/"],
    imports: [...FEATURE_GROUND, "src/kernel/"],
  },
  { files: FEATURES, imports: FEATURE_GROUND },
  { files: ["src/flow/"], imports: ["src/datapath/", "src/net/"] },
  {
    files: ["src/agent/"],
    imports: [
      ...FEATURE_GROUND,
      ...FEATURES,
      "src/kernel/",
      "src/flow/",
      "src/config/",
      "src/telemetry/",
    ],
  },
  {
    files: ["src/operator/"],
    imports: ["src/net/", "src/state/", "src/store/", "src/api/", "src/config/", "src/telemetry/"],
  },
  { files: ["src/relay/"], imports: ["src/api/", "src/flow/filter.ts", "src/flow/print.ts"] },
  { files: ["src/lab/"], imports: ["src/kernel/", "src/net/"] },
  {
    files: ["src/cli/"],
    imports: ["src/api/", "src/config/", "src/net/"],
    lazily: ["src/lab/", "src/datapath/", "src/agent/"],
  },
];

/** Who may import an npm package that has a keeper. */
const KEEPERS: ReadonlyMap<string, readonly Place[]> = new Map([
  ["koffi", ["src/kernel/ffi.ts"]],
  ["@grpc/grpc-js", ["src/api/", "src/store/", "src/relay/"]],
]);

/** Input and output: not for values and decisions. */
const EDGES = /^node:(fs|child_process|net|http|https|dgram|worker_threads|cluster)(\/|$)/;
const WITHOUT_EDGES = ["src/net/", "src/state/", ...PURE];

/** One import of a file: what it names, and whether by `import()`. */
export interface Import {
  readonly to: string;
  readonly lazy: boolean;
}

// By the formatter, a statement of imports begins in column 0 and names are in double quotes, so
// what is in single quotes is text. A comment has no imports either.
const NO_IMPORTS = /^\s*(\/\/|\*|\/\*).*$|'[^'\n]*'/gm;
const NAMES = String.raw`(?:\{[^}]*\}|\*(?:\s+as\s+\w+)?)`;
const WHAT = String.raw`(?:${NAMES}|\w+(?:\s*,\s*${NAMES})?)`;
const STATIC_IMPORT = new RegExp(
  String.raw`^(?:import|export)\s+(?:type\s+)?${WHAT}\s*from\s*"([^"]+)"`,
  "gm",
);
const BARE_IMPORT = /^import\s+"([^"]+)"/gm;
const DYNAMIC_IMPORT = /\bimport\(\s*("[^"]*"|[^")]+)/g;
const BESIDE = /new URL\(\s*"(\.[^"]*\.ts)",\s*import\.meta\.url/g;

/**
 * Imports of a TypeScript text, and the .ts files that it names for a Worker, which count too. An
 * `import()` of anything but a string has that expression in brackets for a name.
 */
export function importsOf(text: string): Import[] {
  const plain = text.replace(NO_IMPORTS, "");
  const named = (pattern: RegExp, lazy: boolean): Import[] =>
    [...plain.matchAll(pattern)].map(([, to = ""]) => ({ to, lazy }));
  const dynamic = named(DYNAMIC_IMPORT, true).map(({ to }) => ({
    to: to.startsWith('"') ? to.slice(1, -1) : `(${to})`,
    lazy: true,
  }));
  return [
    ...named(STATIC_IMPORT, false),
    ...named(BARE_IMPORT, false),
    ...dynamic,
    ...named(BESIDE, true),
  ];
}

function within(path: string, places: readonly Place[]): boolean {
  return places.some((place) => (place.endsWith("/") ? path.startsWith(place) : path === place));
}

/** The repository's path of what a file imports; undefined for a package or a built-in module. */
export function target(from: string, { to }: Import): string | undefined {
  return to.startsWith(".") ? join(dirname(from), to) : undefined;
}

/** Outside the product, or in it for the tests beside it: may import anything. */
export function isForTests(path: string): boolean {
  return (
    !path.startsWith("src/") ||
    path.includes("/testdata/") ||
    /(\.test|\/testing|\/fixture|\/fake-[a-z-]+)\.ts$/.test(path)
  );
}

/** The folder below src/ (or test/, bench/, …) that a file stands in. */
function box(path: string): Place {
  const [top = "", second = ""] = path.split("/");
  return top === "src" ? `${top}/${second}/` : `${top}/`;
}

function packageFault(from: string, { to, lazy }: Import): string | undefined {
  if (isForTests(from)) return undefined;
  if (to.startsWith("(")) return `${from} imports ${to}: an import names its file`;
  if (lazy && !to.startsWith("node:")) {
    return `${from} imports ${to} lazily: import a file of ours that does, the bundle loses names`;
  }
  if (EDGES.test(to) && within(from, WITHOUT_EDGES)) {
    return `${from} imports ${to}: what decides does no input or output`;
  }
  const keepers = KEEPERS.get(to);
  if (keepers && !within(from, keepers)) {
    return `${from} imports ${to}: only ${keepers.join(", ")} may`;
  }
  return undefined;
}

/** Why a file may not have this import, in one line; undefined when it may. */
export function layerFault(from: string, what: Import): string | undefined {
  const to = target(from, what);
  if (to === undefined) return packageFault(from, what);
  if (!to.endsWith(".ts")) return `${from} imports ${what.to}: an import ends in .ts`;
  if (isForTests(from)) return undefined;
  if (!to.startsWith("src/")) return `${from} imports ${to}: nothing in src/ imports from outside`;

  const layer = LAYERS.find(({ files }) => within(from, files));
  if (!layer) return `${from} stands in no layer: give ${box(from)} a line in test/layers.ts`;
  if (within(to, PURE)) return undefined;
  if (within(to, layer.imports)) return undefined;
  if (box(from) === box(to) && !within(from, PURE)) return undefined;
  if (within(to, layer.lazily ?? [])) {
    return what.lazy ? undefined : `${from} imports ${to}: a door, to be imported lazily`;
  }
  return `${from} imports ${to}: test/layers.ts does not allow it`;
}
