// SPDX-License-Identifier: Apache-2.0

// The house's rules that no linter has. Each takes text and answers with faults, one line each,
// so that tidy.test.ts can show every rule a text that it refuses.

import { dirname, join } from "node:path";
import { importsOf, isForTests, target } from "./layers.ts";

/** A file of the repository: its path from the top, and what is in it. */
export interface Source {
  readonly path: string;
  readonly text: string;
}

const MAX_FILE_LINES = 500;
const MAX_FUNCTION_LINES = 70;
const MAX_COLUMNS = 100;
const TAB_COLUMNS = 8;
const MAX_PROGRAM_NAME = 15;

const APACHE = "SPDX-License-Identifier: Apache-2.0";
const DUAL = "SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only)";

function isTypeScript(path: string): boolean {
  return path.endsWith(".ts");
}

function isC(path: string): boolean {
  return /\.[ch]$/.test(path);
}

/** Programs and their like: what has functions, width and a licence of ours. */
export function isCode({ path, text }: Source): boolean {
  return isTypeScript(path) || isC(path) || text.startsWith("#!/");
}

export function isGenerated({ path }: Source): boolean {
  return path.split("/").includes("gen");
}

function linesOf(text: string): string[] {
  return text.replace(/\n$/, "").split("\n");
}

/** The licence stands in the first line, or in the second where a #! has the first. */
export function licenceFaults({ path, text }: Source): string[] {
  const [first = "", second = "", ...more] = linesOf(text);
  const line = isGenerated({ path, text })
    ? [first, second, ...more].slice(0, 20).join()
    : first.startsWith("#!")
      ? second
      : first;
  const wanted = /\.bpf\.c$|^bpf\/.*\.h$/.test(path) ? DUAL : APACHE;
  return line.includes(wanted) ? [] : [`${path}:1: has no line "${wanted}"`];
}

function columns(line: string): number {
  let width = 0;
  for (const character of line) {
    width += character === "\t" ? TAB_COLUMNS - (width % TAB_COLUMNS) : 1;
  }
  return width;
}

/** A line that is one text, with a name before it at most: the formatter can't wrap it. */
const ONE_TEXT = /^\s*([\w"]+: )?(["'`])(?:\\.|(?!\2)[^\\])*\2[,;]?$/;

/** Files of at most 500 lines, lines of at most 100 columns. */
export function sizeFaults({ path, text }: Source): string[] {
  const lines = linesOf(text);
  const tooLong =
    lines.length > MAX_FILE_LINES
      ? [`${path}: ${lines.length} lines, ${MAX_FILE_LINES} is the limit`]
      : [];
  const tooWide = lines.flatMap((line, index) =>
    columns(line) > MAX_COLUMNS && !(isTypeScript(path) && ONE_TEXT.test(line))
      ? [`${path}:${index + 1}: ${columns(line)} columns, ${MAX_COLUMNS} is the limit`]
      : [],
  );
  return [...tooLong, ...tooWide];
}

/**
 * Functions of at most 70 lines: C's, which begin and end in column 0, and the bodies of tests,
 * which end where their line begins (the formatter sees to both). Biome counts the other
 * TypeScript functions; it can't tell a test's body from a suite's.
 */
export function functionFaults({ path, text }: Source): string[] {
  const lines = linesOf(text);
  const faults: string[] = [];
  const check = (begin: number, end: number): void => {
    const count = end - begin - 1;
    if (count <= MAX_FUNCTION_LINES) return;
    faults.push(
      `${path}:${begin + 1}: a function of ${count} lines, ${MAX_FUNCTION_LINES} is the limit`,
    );
  };
  lines.forEach((line, begin) => {
    if (isC(path) && line === "{") check(begin, lines.indexOf("}", begin));
    const test = /^(\s*)(?:test|it)\(.*\{$/.exec(line);
    if (isTypeScript(path) && test) check(begin, lines.indexOf(`${test[1]}});`, begin));
  });
  return faults;
}

/** Nothing is left for later in the code. */
export function promiseFaults({ path, text }: Source): string[] {
  return linesOf(text).flatMap((line, index) =>
    /\b(TODO|FIXME|XXX|HACK)\b/.test(line)
      ? [`${path}:${index + 1}: finish it or leave it out`]
      : [],
  );
}

/** No tests that run alone, no silenced compiler, no file that only passes others' names on. */
export function escapeFaults({ path, text }: Source): string[] {
  if (!isTypeScript(path)) return [];
  const faults = linesOf(text).flatMap((line, index) => {
    const at = `${path}:${index + 1}`;
    if (/^\s*\/\/ @ts-(ignore|nocheck)/.test(line)) return [`${at}: the compiler is right`];
    if (/^\s*(test|it|describe|suite)\.only\(/.test(line)) return [`${at}: the other tests too`];
    if (/^export \*/.test(line)) return [`${at}: name what is exported where it is made`];
    return [];
  });
  const isBarrel = path.endsWith("/index.ts");
  return isBarrel ? [...faults, `${path}: a file is named for what is in it`] : faults;
}

/** Error texts start lower case (a name in capitals is fine) and end without a full stop. */
export function errorTextFaults({ path, text }: Source): string[] {
  if (!path.startsWith("src/") || !isTypeScript(path) || path.endsWith(".test.ts")) return [];
  return [...text.matchAll(/new \w*Error\(\s*(["'`])((?:\\.|(?!\1)[^\\])*)\1/g)].flatMap(
    ({ 2: message = "", index }) => {
      const at = `${path}:${text.slice(0, index).split("\n").length}`;
      if (/^[A-Z][a-z]+\b/.test(message)) return [`${at}: an error text starts lower case`];
      return /[A-Za-z0-9)}"'`]\.$/.test(message)
        ? [`${at}: an error text ends without a full stop`]
        : [];
    },
  );
}

/** Files are named kebab-case; BPF programs fit the kernel's 15 characters. */
export function nameFaults({ path, text }: Source): string[] {
  const name = path.slice(path.lastIndexOf("/") + 1);
  const wrongFile =
    isTypeScript(path) && !/^[a-z0-9]+(-[a-z0-9]+)*(\.root)?(\.test)?\.ts$/.test(name)
      ? [`${path}: a file's name is kebab-case`]
      : [];
  if (!/^(bpf|bench)\/.*\.bpf\.c$/.test(path)) return wrongFile;
  const programs = [
    ...text.matchAll(/^SEC\("[^"]+"\)\s*(?:static )?int (?:FAMILY\((\w+)\)|(\w+)\()/gm),
  ];
  return programs.flatMap(([, stem, plain]) => {
    const program = plain ?? `${stem}6`;
    return program.length > MAX_PROGRAM_NAME
      ? [`${path}: program ${program} is longer than ${MAX_PROGRAM_NAME} characters`]
      : [];
  });
}

/** Where programs begin: nobody imports these. */
function isEntry(path: string): boolean {
  return (
    path.endsWith(".test.ts") ||
    /\/(main|generate|soak|mutants|demo)\.ts$/.test(path) ||
    /^(tools|test\/kernels)\//.test(path)
  );
}

/** Worth being libraries of their own: a part that only its tests use so far is no dead one. */
const LIBRARIES = /^src\/(kernel|net)\//;

/**
 * Files that nobody imports or includes, files of the product that only tests import, and imports
 * of files that aren't there.
 */
export function deadFaults(sources: readonly Source[]): string[] {
  const paths = new Set(sources.map(({ path }) => path));
  const users = new Map<string, string[]>();
  const faults: string[] = [];
  for (const source of sources) {
    for (const to of mentions(source, paths)) {
      if (to !== source.path) users.set(to, [...(users.get(to) ?? []), source.path]);
      if (!paths.has(to)) faults.push(`${source.path}: imports ${to}, which is not there`);
    }
  }
  for (const { path } of sources) {
    const imports = isTypeScript(path);
    if (imports ? isEntry(path) : !path.endsWith(".h")) continue;
    const by = users.get(path) ?? [];
    if (by.length === 0) faults.push(`${path}: nobody ${imports ? "imports" : "includes"} it`);
    else if (!LIBRARIES.test(path) && !isForTests(path) && by.every(isForTests))
      faults.push(`${path}: only tests import it`);
  }
  return faults;
}

function mentions({ path, text }: Source, paths: ReadonlySet<string>): string[] {
  if (isTypeScript(path)) {
    const targets = importsOf(text).map((one) => target(path, one));
    return targets.filter((to) => to !== undefined);
  }
  const included = [...text.matchAll(/^#include ["<]([^">]+)[">]/gm)];
  return included.flatMap(([, to = ""]) => {
    const candidates = [join(dirname(path), to), join("bpf", to)];
    return candidates.find((candidate) => paths.has(candidate)) ?? [];
  });
}

function slug(heading: string): string {
  const plain = heading.toLowerCase().replace(/[`*_]|\[|\]\([^)]*\)/g, "");
  return plain.replace(/[^\p{L}\p{N} -]/gu, "").replaceAll(" ", "-");
}

function anchorsOf(text: string): string[] {
  return [...text.matchAll(/^#+ (.+)$/gm)].map(([, heading = ""]) => slug(heading.trim()));
}

/** Links of a Markdown page to files and headings that aren't there. */
export function linkFaults(page: Source, read: (path: string) => string | undefined): string[] {
  const prose = page.text.replace(/^```.*?^```/gms, "").replace(/`[^`\n]*`/g, "");
  return [...prose.matchAll(/\]\(([^)\s]+)\)/g)].flatMap(([, link = ""]) => {
    if (/^[a-z]+:/.test(link)) return [];
    const [file = "", anchor] = link.split("#");
    const to = file === "" ? page.path : join(dirname(page.path), file);
    const text = read(to);
    if (text === undefined) return [`${page.path}: links to ${to}, which is not there`];
    if (anchor === undefined || anchorsOf(text).includes(anchor)) return [];
    return [`${page.path}: links to #${anchor}, which ${to} doesn't have`];
  });
}

/** A measured figure stands in a section that names the command which measures it. */
export function figureFaults({ path, text }: Source): string[] {
  const sections = text.split(/^(?=#+ )/m);
  return sections.flatMap((section) => {
    const figure = /\b\d[\d ,.]*\s?(ns|µs|ms|Gbit\/s|Mpps)\b/.exec(section);
    if (!figure || /\bmake (bench|soak)\b|\bbench\/main\.ts\b/.test(section)) return [];
    const [heading = ""] = section.split("\n", 1);
    return [`${path}: "${figure[0]}" under "${heading}" names no make bench that measures it`];
  });
}
