// SPDX-License-Identifier: Apache-2.0
import { nearest } from "../../config/nearest.ts";
import type { Run } from "../command.ts";
import { CliError } from "../exit.ts";
import type { Cell, Output } from "../output.ts";
import { pinsOf, reading } from "../pins.ts";

/** The door to the pinned tables: what is behind it loads libbpf. */
const door = () => import("../../datapath/dump-map.ts");

type Entry =
  ReturnType<Awaited<ReturnType<typeof door>>["dumpMap"]> extends Generator<infer One>
    ? One
    : never;
type Plain = Entry["key"];

/** Rows between one line of titles and the next. */
const PAGE = 1000;

export const dumpMap: Run = async (context) => {
  const { args, output } = context;
  const name = args[0] ?? "";
  const directory = pinsOf(context);
  const dumps = await door();
  const names = dumps.mapNames();
  if (!names.includes(name)) throw unknown(name, names);
  const entries = dumps.dumpMap(directory, name, context.option("zeros") === "true");
  reading(directory, () => {
    if (output.format === "json") writeJson(output, entries);
    else writeTable(output, entries);
  });
  return 0;
};

/** The names of all maps, for the completion of shells. */
export async function mapNames(): Promise<readonly string[]> {
  return (await door()).mapNames();
}

function unknown(name: string, names: readonly string[]): CliError {
  const near = nearest(name, names);
  const hint = near === undefined ? "" : `; did you mean "${near}"?`;
  const all = `there are: ${names.join(", ")}`;
  return new CliError("notFound", `there is no map "${name}"${hint}\n${all}`);
}

/** An array whose elements are written as they are read. */
function writeJson(output: Output, entries: Iterable<Entry>): void {
  let before = "[\n";
  for (const entry of entries) {
    output.write(before);
    output.json(entry, true);
    before = ",";
  }
  output.write(before === "," ? "]\n" : "[]\n");
}

function writeTable(output: Output, entries: Iterable<Entry>): void {
  let page: Entry[] = [];
  let isFirst = true;
  const flush = (): void => {
    const first = page[0];
    if (first === undefined && !isFirst) return;
    if (!isFirst) output.write("\n");
    const columns = first === undefined ? [] : titlesOf(first).map((title) => ({ title }));
    output.table({ columns, rows: page.map(cellsOf), empty: "no entries" });
    isFirst = false;
    page = [];
  };
  for (const entry of entries) {
    page.push(entry);
    if (page.length === PAGE) flush();
  }
  flush();
}

function fieldsOf(value: Plain, name: string): (readonly [title: string, value: Plain])[] {
  const isStruct = typeof value === "object" && !Array.isArray(value);
  return isStruct ? Object.entries(value) : [[name, value]];
}

/** A field that key and value both have tells which one it is of. */
function titlesOf({ key, value }: Entry): string[] {
  const ofKey = fieldsOf(key, "index").map(([title]) => title);
  const ofValue = fieldsOf(value, "value").map(([title]) => title);
  const title = (words: string): string =>
    words.replace(/[A-Z]/g, (letter) => ` ${letter}`).toUpperCase();
  return [
    ...ofKey.map((one) => title(ofValue.includes(one) ? `key ${one}` : one)),
    ...ofValue.map(title),
  ];
}

function cellsOf({ key, value }: Entry): Cell[] {
  return [...fieldsOf(key, "index"), ...fieldsOf(value, "value")].map(([, field]) => inline(field));
}

function inline(value: Plain): string {
  if (typeof value !== "object") return String(value);
  if (Array.isArray(value)) return `[${value.map(inline).join(" ")}]`;
  const fields = Object.entries(value).map(([name, field]) => `${name} ${inline(field)}`);
  return `{${fields.join(", ")}}`;
}
