// SPDX-License-Identifier: Apache-2.0

// Makes build/bundle, the installed form: one program without node_modules, its workers, its BPF
// objects and koffi's binary beside it. The directory works wherever it is put.
//
// A source names a file beside it by `new URL` of "./worker.ts" and import.meta.url. Such a .ts
// file is an entry point of its own here, and a path into build/ is taken to be in the bundle.

import { cp, readFile, rm } from "node:fs/promises";
import { dirname, join, relative, resolve } from "node:path";
import { build, type Plugin } from "esbuild";

const ROOT = resolve(import.meta.dirname, "..");
const BUNDLE = join(ROOT, "build/bundle");
const BESIDE = /new URL\(\s*(["'`])(\.{1,2}\/[^"'`]*)\1,\s*import\.meta\.url,?\s*\)/g;

/** CommonJS packages within an ES module still ask for Node's own modules by require(). */
const REQUIRE =
  'import { createRequire as require$ } from "node:module";' +
  "const require = require$(import.meta.url);";

type Entries = Map<string, string>;

function entryName(path: string): string {
  return relative(join(ROOT, "src"), path).replace(/\.ts$/, "").replaceAll("/", "-");
}

/** Where a file that a source names stands in the bundle; a worker joins the entries. */
function placeInBundle(source: string, path: string, workers: Entries): string {
  const target = resolve(dirname(source), path);
  if (target.endsWith(".ts")) {
    const name = entryName(target);
    workers.set(name, target);
    return `./${name}.mjs`;
  }
  const inBuild = relative(join(ROOT, "build"), target);
  if (inBuild.startsWith("..")) {
    throw new Error(`${source} names ${path}, which is neither a .ts file nor in build/`);
  }
  return `./${inBuild}`;
}

function besides(workers: Entries): Plugin {
  return {
    name: "besides",
    setup({ onLoad }) {
      onLoad({ filter: /\/src\/.*\.ts$/ }, async ({ path }) => {
        const text = await readFile(path, "utf8");
        const contents = text.replace(
          BESIDE,
          (_, quote: string, target: string) =>
            `new URL(${quote}${placeInBundle(path, target, workers)}${quote}, import.meta.url)`,
        );
        return { contents, loader: "ts" };
      });
    },
  };
}

/** koffi looks for its binary by the layout of node_modules; here it stands beside the program. */
const koffi: Plugin = {
  name: "koffi",
  setup({ onResolve, onLoad }) {
    onResolve({ filter: /^koffi$/ }, () => ({ path: "koffi", namespace: "koffi" }));
    onLoad({ filter: /.*/, namespace: "koffi" }, () => ({
      contents: `import { createRequire } from "node:module";
export default createRequire(import.meta.url)("./koffi.node");`,
    }));
  },
};

/** Bundles these entries, and answers with them and the workers that they name. */
async function compile(entries: Entries): Promise<Entries> {
  const workers: Entries = new Map();
  await rm(BUNDLE, { recursive: true, force: true });
  await build({
    entryPoints: Object.fromEntries(entries),
    outdir: BUNDLE,
    outExtension: { ".js": ".mjs" },
    bundle: true,
    splitting: true,
    platform: "node",
    target: "node24",
    format: "esm",
    chunkNames: "chunk-[hash]",
    banner: { js: REQUIRE },
    plugins: [besides(workers), koffi],
    logLevel: "warning",
  });
  return new Map([...entries, ...workers]);
}

// A worker may start another: until no new one turns up.
let entries: Entries = new Map([["ciliate", join(ROOT, "src/cli/main.ts")]]);
for (let known = 0; known < entries.size; ) {
  known = entries.size;
  entries = await compile(entries);
}

const native = `@koromix/koffi-linux-${process.arch}/linux_${process.arch}/koffi.node`;
await cp(join(ROOT, "node_modules", native), join(BUNDLE, "koffi.node"));
await cp(join(ROOT, "build/bpf"), join(BUNDLE, "bpf"), {
  recursive: true,
  filter: (path) => !path.endsWith(".d"),
});
