// SPDX-License-Identifier: Apache-2.0

/** Levels, quiet ones first. */
export const LEVELS = ["debug", "info", "warn", "error"] as const;
export type Level = (typeof LEVELS)[number];

/** What a line says besides its message. An Error is written with its causes. */
export type LogFields = Readonly<Record<string, unknown>>;

/** Writes the lines of one subsystem. */
export interface Log {
  debug(message: string, fields?: LogFields): void;
  info(message: string, fields?: LogFields): void;
  warn(message: string, fields?: LogFields): void;
  error(message: string, fields?: LogFields): void;
}

/** What can change while the agent runs. */
export interface LogSettings {
  readonly level: Level;
  /** Levels that differ, by subsystem. */
  readonly levels: Readonly<Partial<Record<string, Level>>>;
  readonly format: "json" | "text";
}

export interface Logger {
  /** The log of one subsystem; the same object every time. */
  for(subsystem: string): Log;
  configure(settings: LogSettings): void;
  /** Writes what was held back as repeats, for a clean end. */
  flush(): void;
}

export interface LoggerOptions {
  readonly settings: LogSettings;
  /** Takes one whole line, its newline included. */
  readonly write: (line: string) => void;
  /** Whether text may be coloured. */
  readonly colour?: boolean;
}

/** One line, before it is text. */
interface Entry {
  readonly timeMs: number;
  readonly level: Level;
  readonly subsystem: string;
  readonly message: string;
  readonly fields: LogFields;
}

/** The same message of a subsystem is written this often in one window; then it is counted. */
const REPEATS_PER_WINDOW = 10;
const WINDOW_MS = 10_000;
/** Different messages that are watched for repeats. */
const MAX_WATCHED = 1000;

interface Repeats {
  /** By a clock that nobody sets. */
  readonly sinceMs: number;
  written: number;
  held: number;
  last: Entry;
  timer?: NodeJS.Timeout;
}

/**
 * A logger that writes one line per call. A message that repeats more than ten times in ten
 * seconds is held back; at the end of that time the last one is written with their count.
 */
export function createLogger(options: LoggerOptions): Logger {
  const logs = new Map<string, Log>();
  const watched = new Map<string, Repeats>();
  let settings = options.settings;

  const write = (entry: Entry): void => {
    const text = settings.format === "json" ? formatJson(entry) : formatText(entry, options.colour);
    options.write(`${text}\n`);
  };

  const release = (key: string, repeats: Repeats): void => {
    if (watched.get(key) === repeats) watched.delete(key);
    clearTimeout(repeats.timer);
    if (repeats.held === 0) return;
    const fields = { ...repeats.last.fields, repeated: repeats.held };
    write({ ...repeats.last, fields });
  };

  const log = (subsystem: string, level: Level, message: string, fields: LogFields): void => {
    const lowest = settings.levels[subsystem] ?? settings.level;
    if (LEVELS.indexOf(level) < LEVELS.indexOf(lowest)) return;
    const entry: Entry = { timeMs: Date.now(), level, subsystem, message, fields };
    const key = `${subsystem} ${level} ${message}`;
    const repeats = watched.get(key);
    const nowMs = performance.now();
    if (repeats !== undefined && nowMs - repeats.sinceMs < WINDOW_MS) {
      repeats.last = entry;
      if (repeats.written < REPEATS_PER_WINDOW) {
        repeats.written += 1;
        write(entry);
        return;
      }
      repeats.held += 1;
      const leftMs = repeats.sinceMs + WINDOW_MS - nowMs;
      repeats.timer ??= setTimeout(() => release(key, repeats), leftMs).unref();
      return;
    }
    if (repeats !== undefined) release(key, repeats);
    if (watched.size >= MAX_WATCHED) forgetOldest(watched, release);
    watched.set(key, { sinceMs: nowMs, written: 1, held: 0, last: entry });
    write(entry);
  };

  const create = (subsystem: string): Log => ({
    debug: (message, fields = {}) => log(subsystem, "debug", message, fields),
    info: (message, fields = {}) => log(subsystem, "info", message, fields),
    warn: (message, fields = {}) => log(subsystem, "warn", message, fields),
    error: (message, fields = {}) => log(subsystem, "error", message, fields),
  });

  return {
    for(subsystem) {
      const known = logs.get(subsystem);
      if (known !== undefined) return known;
      const created = create(subsystem);
      logs.set(subsystem, created);
      return created;
    },
    configure(next) {
      settings = next;
    },
    flush() {
      for (const [key, repeats] of watched) release(key, repeats);
    },
  };
}

function forgetOldest(
  watched: ReadonlyMap<string, Repeats>,
  release: (key: string, repeats: Repeats) => void,
): void {
  const [oldest] = watched;
  if (oldest !== undefined) release(...oldest);
}

function formatJson(entry: Entry): string {
  return JSON.stringify({
    time: new Date(entry.timeMs).toISOString(),
    level: entry.level,
    subsystem: entry.subsystem,
    message: entry.message,
    ...plainFields(entry.fields),
  });
}

const COLOURS: Record<Level, number> = { debug: 90, info: 36, warn: 33, error: 31 };

function formatText(entry: Entry, colour = false): string {
  const time = new Date(entry.timeMs).toISOString().slice(11, 23);
  const level = entry.level.toUpperCase().padEnd(5);
  const shown = colour ? `\u001b[${COLOURS[entry.level]}m${level}\u001b[0m` : level;
  const fields = Object.entries(plainFields(entry.fields)).map(
    ([name, value]) => `${name}=${textValue(value)}`,
  );
  return [time, shown, `${entry.subsystem}:`, entry.message, ...fields].join(" ");
}

function textValue(value: unknown): string {
  if (typeof value === "string") return /^[^\s"=]+$/.test(value) ? value : JSON.stringify(value);
  return JSON.stringify(value);
}

/** Names whose values never leave the process. */
const SECRET = /(password|passphrase|secret|token|authorization|privatekey|credential)s?$/i;
/** Names that a line has already. */
const TAKEN = new Set(["time", "level", "subsystem", "message"]);
const MAX_TEXT = 8192;

function plainFields(fields: LogFields): Record<string, unknown> {
  const plain: Record<string, unknown> = {};
  for (const [name, value] of Object.entries(fields)) {
    if (value === undefined) continue;
    plain[TAKEN.has(name) ? `${name}_` : name] = SECRET.test(name) ? "(hidden)" : plainValue(value);
  }
  return plain;
}

function plainValue(value: unknown): unknown {
  if (value instanceof Error) return cut(describeError(value));
  if (typeof value === "bigint") return value.toString();
  if (typeof value === "string") return cut(value);
  if (typeof value !== "object" || value === null) return value;
  const text = JSON.stringify(value, (name, inner: unknown) => {
    if (SECRET.test(name)) return "(hidden)";
    if (inner instanceof Error) return describeError(inner);
    return typeof inner === "bigint" ? inner.toString() : inner;
  });
  return text.length > MAX_TEXT ? cut(text) : JSON.parse(text);
}

/** An error's message followed by its causes', each once. */
export function describeError(error: unknown): string {
  const messages: string[] = [];
  let current: unknown = error;
  while (current !== undefined && messages.length < 8) {
    const message = current instanceof Error ? current.message : String(current);
    if (!messages.some((earlier) => earlier.includes(message))) messages.push(message);
    current = current instanceof Error ? current.cause : undefined;
  }
  return messages.join(": ");
}

function cut(text: string): string {
  return text.length <= MAX_TEXT ? text : `${text.slice(0, MAX_TEXT)}… (${text.length} characters)`;
}
