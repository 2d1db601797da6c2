// SPDX-License-Identifier: Apache-2.0

// What the demo writes: for a person at a terminal, or plain text for a pipe.

import { setTimeout as delay } from "node:timers/promises";

const MAX_COLUMNS = 100;
const DEFAULT_COLUMNS = 80;
const CTRL_C = 3;
const SPACE = 32;

const CODES = { bold: 1, red: 31, green: 32, yellow: 33, blue: 34, cyan: 36, grey: 90 } as const;

export type Paint = keyof typeof CODES;

const UNICODE = {
  tick: "✓",
  cross: "✗",
  to: "→",
  block: "█",
  rule: "─",
  life: "│",
  tee: "├",
  corner: "└",
  branch: "┬",
  from: "●",
  right: "▸",
  left: "◂",
  spark: "▁▂▃▄▅▆▇█",
  up: "▲",
} as const;

const ASCII: Record<keyof typeof UNICODE, string> = {
  tick: "ok",
  cross: "FAILED",
  to: ">",
  block: "#",
  rule: "-",
  life: "|",
  tee: "+",
  corner: "+",
  branch: "+",
  from: "o",
  right: ">",
  left: "<",
  spark: "_.:-=+*#",
  up: "^",
};

export interface ScreenOptions {
  /** Escape sequences and pauses. */
  readonly terminal: boolean;
  readonly colour: boolean;
  readonly unicode: boolean;
  /** Pauses, so that what is shown can be read. */
  readonly pauses: boolean;
}

// biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is looked for
const ESCAPES = /\u001b\[[0-9;]*[A-Za-z]/g;

/** How many columns a text takes. */
export function widthOf(text: string): number {
  return text.replace(ESCAPES, "").length;
}

/** A text to a width, the blanks behind it or before it. */
export function pad(text: string, width: number, side: "left" | "right" = "left"): string {
  const blanks = " ".repeat(Math.max(0, width - widthOf(text)));
  return side === "left" ? text + blanks : blanks + text;
}

/** Breaks a text between words. */
export function wrap(text: string, columns: number): string[] {
  const lines: string[] = [];
  let line = "";
  for (const word of text.split(/\s+/)) {
    const longer = line === "" ? word : `${line} ${word}`;
    if (line !== "" && longer.length > columns) {
      lines.push(line);
      line = word;
    } else {
      line = longer;
    }
  }
  return [...lines, line];
}

/** What the environment and the standard output say of how to write. */
export function detectScreen(
  env: NodeJS.ProcessEnv,
  isTerminal: boolean,
  quick: boolean,
): ScreenOptions {
  const terminal = isTerminal && env["TERM"] !== "dumb";
  const locale = env["LC_ALL"] || env["LC_CTYPE"] || env["LANG"] || "";
  const inCi = env["CI"] !== undefined && env["CI"] !== "" && env["CI"] !== "false";
  return {
    terminal,
    colour: terminal && !env["NO_COLOR"],
    unicode: /utf-?8/i.test(locale),
    pauses: terminal && !quick && !inCi,
  };
}

/** The demo's page. */
export class Screen {
  readonly glyphs: Record<keyof typeof UNICODE, string>;
  readonly options: ScreenOptions;
  /** Facts that did not hold. */
  readonly failures: string[] = [];
  facts = 0;

  constructor(options: ScreenOptions) {
    this.options = options;
    this.glyphs = options.unicode ? UNICODE : ASCII;
  }

  get columns(): number {
    const wide = this.options.terminal ? (process.stdout.columns ?? DEFAULT_COLUMNS) : 80;
    return Math.min(wide || DEFAULT_COLUMNS, MAX_COLUMNS);
  }

  paint(how: Paint, text: string): string {
    return this.options.colour ? `\u001b[${CODES[how]}m${text}\u001b[0m` : text;
  }

  line(text = ""): void {
    process.stdout.write(`${text}\n`);
  }

  /** Begins a part: a rule with its title. */
  title(text: string): void {
    const { rule } = this.glyphs;
    const rest = rule.repeat(Math.max(3, this.columns - widthOf(text) - 5));
    this.line();
    const before = this.paint("blue", rule.repeat(3));
    this.line(`${before} ${this.paint("bold", text)} ${this.paint("blue", rest)}`);
  }

  /** A paragraph; `code` in it stands out. */
  say(text: string): void {
    for (const line of wrap(text, this.columns - 2)) {
      this.line(line.replaceAll(/`([^`]+)`/g, (_, code: string) => this.paint("cyan", code)));
    }
  }

  /** A command that a person could type, too. */
  command(text: string): void {
    this.line(this.paint("bold", `$ ${text}`));
  }

  /** What a command wrote: its tables cut at the edge of the screen, its sentences broken. */
  output(text: string, tooLong: "cut" | "break" = "cut"): void {
    const columns = this.columns - 2;
    const lines = text.trimEnd().split("\n");
    const [head = ""] = lines;
    const fits = lines.every((line) => line.length <= columns);
    // Between two columns of a table, by its head.
    const edge = fits ? columns : Math.max(head.slice(0, columns).lastIndexOf("  "), 1);
    for (const line of lines) {
      const pieces = tooLong === "cut" ? [line.slice(0, edge)] : wrap(line, columns - 4);
      for (const [index, piece] of pieces.entries()) {
        const indent = index === 0 ? "  " : "      ";
        this.line(`${indent}${this.paint("grey", piece.trimEnd())}`);
      }
    }
  }

  /** Says whether something is as it should be; the demo fails at its end if it is not. */
  fact(holds: boolean, text: string): void {
    this.facts++;
    if (!holds) this.failures.push(text);
    const { tick, cross } = this.glyphs;
    const mark = holds ? this.paint("green", tick) : this.paint("red", cross);
    const [first = "", ...more] = wrap(text, this.columns - 3 - widthOf(tick));
    this.line(`${mark} ${first}`);
    for (const line of more) this.line(`${" ".repeat(widthOf(tick))} ${line}`);
  }

  /** Rows in columns; a title's leading `>` aligns its column right. */
  table(titles: readonly string[], rows: readonly (readonly string[])[]): void {
    const right = titles.map((title) => title.startsWith(">"));
    const heads = titles.map((title, index) => (right[index] ? title.slice(1) : title));
    const widths = heads.map((head, index) =>
      Math.max(widthOf(head), ...rows.map((row) => widthOf(row[index] ?? ""))),
    );
    const text = (cells: readonly string[]): string =>
      cells
        .map((cell, index) => pad(cell, widths[index] ?? 0, right[index] ? "right" : "left"))
        .join("  ")
        .trimEnd();
    if (heads.some((head) => head !== "")) this.line(`  ${this.paint("bold", text(heads))}`);
    for (const row of rows) this.line(`  ${text(row)}`);
  }

  /** Tells what is being done until it is done, on a terminal. */
  async during<T>(what: string, work: Promise<T>): Promise<T> {
    if (!this.options.terminal) return await work;
    process.stdout.write(this.paint("grey", `${what} ...`));
    try {
      return await work;
    } finally {
      process.stdout.write("\r\u001b[K");
    }
  }

  /** Time to read. Enter goes on at once; space holds until the next key. */
  async pause(seconds: number, signal: AbortSignal): Promise<void> {
    if (!this.options.pauses) return;
    const input = process.stdin;
    if (!input.isTTY) {
      await delay(seconds * 1000, undefined, { signal });
      return;
    }
    await new Promise<void>((resolve, reject) => {
      let held = false;
      const end = (): void => {
        clearTimeout(timer);
        input.off("data", onKey);
        input.setRawMode(false);
        input.pause();
        if (held) process.stdout.write("\r\u001b[K");
        signal.removeEventListener("abort", onAbort);
        resolve();
      };
      const onAbort = (): void => {
        end();
        reject(new Error("interrupted"));
      };
      const onKey = (key: Buffer): void => {
        // A terminal in raw mode sends no signal by itself.
        if (key[0] === CTRL_C) process.kill(process.pid, "SIGINT");
        else if (key[0] === SPACE && !held) {
          held = true;
          clearTimeout(timer);
          process.stdout.write(this.paint("grey", "held; any key goes on"));
        } else end();
      };
      const timer = setTimeout(end, seconds * 1000);
      signal.addEventListener("abort", onAbort);
      input.setRawMode(true);
      input.resume();
      input.on("data", onKey);
    });
  }
}
