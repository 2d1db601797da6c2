// SPDX-License-Identifier: Apache-2.0

export type Colour = "red" | "green" | "yellow" | "grey" | "bold";

/** Where a command writes. */
export interface Output {
  readonly format: "text" | "json";
  /** Text in a colour, where colours are wanted. */
  paint(colour: Colour, text: string): string;
  /** Writes text as it is. */
  write(text: string): void;
  /** Writes an aligned table; nothing when it has no rows and `empty` is undefined. */
  table(table: Table): void;
  /** Writes a value as JSON, one line if `compact`. */
  json(value: unknown, compact?: boolean): void;
}

export interface Table {
  readonly columns: readonly Column[];
  readonly rows: readonly (readonly Cell[])[];
  /** What is said when there are no rows. */
  readonly empty?: string;
}

export interface Column {
  readonly title: string;
  readonly align?: "left" | "right";
}

/** A cell; painted ones keep their width. */
export type Cell = string | number | bigint | { readonly text: string; readonly colour: Colour };

const CODES: Readonly<Record<Colour, number>> = {
  red: 31,
  green: 32,
  yellow: 33,
  grey: 90,
  bold: 1,
};

export interface OutputOptions {
  readonly format: "text" | "json";
  readonly colour: boolean;
  readonly write: (text: string) => void;
}

export function createOutput({ format, colour, write }: OutputOptions): Output {
  const paint = (name: Colour, text: string): string =>
    colour ? `\u001b[${CODES[name]}m${text}\u001b[0m` : text;
  return {
    format,
    paint,
    write,
    table: (table) => write(formatTable(table, paint)),
    json: (value, compact) => write(jsonText(value, compact)),
  };
}

/** A value as `-o json` writes it, with its newline; one line if `compact`. */
export function jsonText(value: unknown, compact = false): string {
  return `${JSON.stringify(plain(value), undefined, compact ? 0 : 2)}\n`;
}

function formatTable(
  { columns, rows, empty }: Table,
  paint: (colour: Colour, text: string) => string,
): string {
  if (rows.length === 0) return empty === undefined ? "" : `${empty}\n`;
  const text = (cell: Cell): string => (typeof cell === "object" ? cell.text : String(cell));
  const widths = columns.map(({ title }, index) =>
    rows.reduce((width, row) => Math.max(width, text(row[index] ?? "").length), title.length),
  );
  const line = (cells: readonly Cell[]): string =>
    columns
      .map(({ align }, index) => {
        const cell = cells[index] ?? "";
        const width = widths[index] ?? 0;
        const last = index === columns.length - 1;
        const padding = " ".repeat(width - text(cell).length);
        const shown = typeof cell === "object" ? paint(cell.colour, cell.text) : text(cell);
        if (align === "right") return padding + shown;
        return last ? shown : shown + padding;
      })
      .join("  ")
      .trimEnd();
  const head = paint("bold", line(columns.map(({ title }) => title)));
  return `${[head, ...rows.map(line)].join("\n")}\n`;
}

/** Protobuf's enum values and big integers as scripts like them: "ready", numbers. */
function plain(value: unknown): unknown {
  if (typeof value === "bigint") {
    return value <= BigInt(Number.MAX_SAFE_INTEGER) ? Number(value) : value.toString();
  }
  if (typeof value === "string") return enumWord(value);
  if (Array.isArray(value)) return value.map(plain);
  if (typeof value !== "object" || value === null) return value;
  return Object.fromEntries(Object.entries(value).map(([key, inner]) => [key, plain(inner)]));
}

/** `AGENT_STATE_READY` → `ready`; any other text is left alone. */
export function enumWord(value: string): string {
  const match = /^[A-Z]+_STATE_([A-Z_]+)$/.exec(value);
  return match?.[1] === undefined ? value : match[1].toLowerCase().replaceAll("_", "-");
}

/** `192.0.2.1:80`, `[2001:db8::1]:80`; `nodes:80` of what is no address. */
export function endpointText(address: string, port: number): string {
  return address.includes(":") ? `[${address}]:${port}` : `${address}:${port}`;
}

/** `17.2 MiB`. */
export function formatBytes(bytes: number | bigint): string {
  let value = Number(bytes);
  for (const unit of ["B", "KiB", "MiB", "GiB", "TiB"]) {
    if (value < 1024 || unit === "TiB") return `${unit === "B" ? value : value.toFixed(1)} ${unit}`;
    value /= 1024;
  }
  return String(bytes);
}

/** `2d3h`, `5m12s`, `40s`, `0.3s`: the two largest units. */
export function formatAge(seconds: number): string {
  if (seconds < 10) return `${seconds.toFixed(1)}s`;
  const whole = Math.floor(seconds);
  const parts = [
    [Math.floor(whole / 86_400), "d"],
    [Math.floor(whole / 3600) % 24, "h"],
    [Math.floor(whole / 60) % 60, "m"],
    [whole % 60, "s"],
  ] as const;
  const first = parts.findIndex(([count]) => count > 0);
  return parts
    .slice(first, first + 2)
    .filter(([count]) => count > 0)
    .map(([count, unit]) => `${count}${unit}`)
    .join("");
}
