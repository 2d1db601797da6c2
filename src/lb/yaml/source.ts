// SPDX-License-Identifier: Apache-2.0
import { dirname } from "node:path";
import { createBreather } from "../../state/breathe.ts";
import { type Claim, Claims, type ManifestSink } from "./claims.ts";
import { type DirectoryWatch, listManifests, type SeenFile, watchDirectory } from "./directory.ts";
import {
  type FileVersion,
  type ManifestProblem,
  NO_VERSION,
  unreadVersion,
  VersionBuilder,
  withoutLeaving,
} from "./file.ts";
import { ManifestFileError, ParserPool } from "./pool.ts";

export interface ManifestSourceOptions {
  /** Absolute and normalized. Where two define the same object, the first one counts. */
  readonly directories: readonly string[];
  readonly sink: ManifestSink;
  /** Called once, when every file that is there has been read: all rows of now are put. */
  readonly loaded: () => void;
  /**
   * Called once, when in addition nothing of the first reading was bad: until then rows may be
   * missing that were in force before this process started.
   */
  readonly complete: () => void;
  readonly timing?: Partial<ManifestTiming>;
  readonly pool?: ParserPool;
}

export interface ManifestTiming {
  /** For how long a directory must be quiet before it is read. */
  readonly settleMs: number;
  /** How often directories are looked at in any case. */
  readonly rescanMs: number;
  /**
   * For how long a file must be gone, or empty, before its rows go, and for how long one that was
   * written in place must lack an object: without being written again, or ten times as long.
   */
  readonly graceMs: number;
  /** For how long the event loop may be held by applying what was read. */
  readonly budgetMs: number;
}

const TIMING: ManifestTiming = { settleMs: 50, rescanMs: 10_000, graceMs: 1000, budgetMs: 5 };

export interface ManifestFigures {
  readonly files: number;
  readonly objects: number;
  /** How long the last look took that found a change, from noticing to all rows put. */
  readonly lastLoadMs: number;
  readonly errors: number;
  readonly warnings: number;
}

interface FileState {
  /** Of the version that was read last; undefined: to be read again. */
  stamp: string | undefined;
  inode: number | undefined;
  version: FileVersion;
  /** Since when the file has been gone or empty. */
  goneSinceMs: number | undefined;
  /** Since when objects of its version have been leaving, and when they go. */
  leaving: { readonly sinceMs: number; readonly untilMs: number } | undefined;
  /** Whether its rows from before this process started may be missing. */
  incomplete: boolean;
}

/** Rows from directories of manifests, kept as the files are. */
export class ManifestSource {
  readonly #options: ManifestSourceOptions;
  readonly #timing: ManifestTiming;
  readonly #pool: ParserPool;
  readonly #claims: Claims;
  readonly #files = new Map<string, FileState>();
  readonly #watches = new Map<string, DirectoryWatch>();
  readonly #directoryErrors = new Map<string, string>();
  readonly #listeners: (() => void)[] = [];
  #timer: NodeJS.Timeout | undefined;
  #scanning: Promise<void> | undefined;
  #again = false;
  #closed = false;
  #loaded = false;
  #complete = false;
  #lastLoadMs = 0;

  constructor(options: ManifestSourceOptions) {
    this.#options = options;
    this.#timing = { ...TIMING, ...options.timing };
    this.#pool = options.pool ?? new ParserPool();
    const rank = (path: string): number => options.directories.indexOf(dirname(path));
    this.#claims = new Claims(options.sink, rank);
  }

  /** Begins to read and to watch. */
  start(): void {
    void this.rescan();
  }

  async close(): Promise<void> {
    this.#closed = true;
    clearTimeout(this.#timer);
    for (const watch of this.#watches.values()) watch.close();
    await this.#pool.close();
    await this.#scanning?.catch(() => {});
  }

  /** Looks at all directories now; settles when what is there now has been put. */
  async rescan(): Promise<void> {
    if (this.#scanning !== undefined) {
      this.#again = true;
      return this.#scanning;
    }
    this.#scanning = this.#scanAll().finally(() => {
      this.#scanning = undefined;
    });
    return this.#scanning;
  }

  /** Calls after every look at the directories, as problems may have come or gone. */
  onLook(call: () => void): void {
    this.#listeners.push(call);
  }

  /** The file and the line that define an object (`Service default/web`). */
  origin(id: string): { readonly file: string; readonly line: number } | undefined {
    const owner = this.#claims.owner(id);
    return owner && { file: owner.path, line: owner.line };
  }

  /** Everything that is wrong or odd now. */
  *problems(): Generator<ManifestProblem> {
    const whole = { line: undefined, object: undefined, field: "" };
    for (const [file, text] of this.#directoryErrors) {
      yield { ...whole, severity: "error", file, text, kept: this.#loaded };
    }
    for (const { version } of this.#files.values()) yield* version.problems;
    for (const { claim, owner } of this.#claims.overruled()) {
      const text = `also defined in ${owner.path} on line ${owner.line}, which comes first`;
      const { path: file, line, id: object } = claim;
      yield { severity: "error", file, line, object, field: "", text, kept: false };
    }
    for (const { id, field, text, kept, severity = "error" } of this.#options.sink.refusals()) {
      const { file = "", line } = this.origin(id) ?? {};
      yield { severity, file, line, object: id, field, text, kept };
    }
  }

  figures(): ManifestFigures {
    let errors = 0;
    let warnings = 0;
    for (const { severity } of this.problems()) severity === "error" ? errors++ : warnings++;
    const { size: files } = this.#files;
    return { files, objects: this.#claims.size, lastLoadMs: this.#lastLoadMs, errors, warnings };
  }

  async #scanAll(): Promise<void> {
    do {
      this.#again = false;
      const sinceMs = performance.now();
      let changed = false;
      for (const directory of this.#options.directories) {
        if (await this.#scan(directory)) changed = true;
      }
      if (changed) this.#lastLoadMs = performance.now() - sinceMs;
    } while (this.#again && !this.#closed);
    if (this.#closed) return;
    this.#announce();
    this.#schedule();
    for (const call of this.#listeners) call();
  }

  /** Reads what changed in a directory; whether anything did. */
  async #scan(directory: string): Promise<boolean> {
    this.#watch(directory);
    const { files, error } = await listManifests(directory);
    if (error !== undefined) {
      this.#directoryErrors.set(directory, explain(error));
      return false;
    }
    this.#directoryErrors.delete(directory);
    const changed = [...files.values()].filter(({ path, stamp }) => {
      const state = this.#files.get(path);
      if (state?.stamp !== stamp) return true;
      state.goneSinceMs = undefined;
      return false;
    });
    await inParallel(4, changed, (file) => this.#read(file));
    let gone = false;
    for (const [path, state] of this.#files) {
      if (dirname(path) !== directory) continue;
      const went = files.has(path) ? this.#dropLeaving(path, state) : this.#lose(path);
      gone = (await went) || gone;
    }
    return changed.length > 0 || gone;
  }

  async #read(file: SeenFile): Promise<void> {
    const { path, stamp, sizeBytes, inode } = file;
    const state = this.#files.get(path) ?? newState();
    const first = !this.#files.has(path);
    this.#files.set(path, state);
    // An empty file is mostly one that is about to be written.
    if (sizeBytes === 0 && stamp !== "unreadable" && !this.#isGone(state)) return;
    try {
      const known = state.version.documents.keys();
      const documents = await this.#pool.parse(path, sizeBytes, known);
      const builder = new VersionBuilder(path, state.version);
      const breathe = createBreather(this.#timing.budgetMs);
      for (const document of documents) {
        builder.add(document);
        await breathe();
      }
      // What was renamed into place is whole, and what is empty has been so for a while.
      const isReplaced = state.inode !== inode && state.goneSinceMs === undefined;
      const isEmpty = sizeBytes === 0 && documents.length === 0;
      await this.#apply(path, state, builder.finish(), !isReplaced && !isEmpty);
      state.stamp = stamp;
      state.inode = inode;
      state.goneSinceMs = undefined;
    } catch (error) {
      if (!(error instanceof ManifestFileError)) throw error;
      if (this.#closed || error.code === "ENOENT") return;
      // A file that changed under the reader is read again; any other waits for its next change.
      if (error.code === "EAGAIN") this.#again = true;
      else state.stamp = stamp;
      await this.#apply(path, state, unreadVersion(path, state.version, error.message));
    }
    state.incomplete = lacksRows(state.version) && (first ? !this.#loaded : state.incomplete);
  }

  /** A file is not there any more. Whether its rows went. */
  async #lose(path: string): Promise<boolean> {
    const state = this.#files.get(path);
    if (state === undefined || !this.#isGone(state)) return false;
    await this.#apply(path, state, NO_VERSION);
    this.#files.delete(path);
    return true;
  }

  /** Whether a file has been gone or empty for long enough to mean it. */
  #isGone(state: FileState): boolean {
    const nowMs = performance.now();
    state.goneSinceMs ??= nowMs;
    // A file that never had rows has nothing to lose.
    if (state.version.objects.size === 0) return true;
    return nowMs - state.goneSinceMs >= this.#timing.graceMs;
  }

  /** What a file has lacked for long enough goes. Whether anything did. */
  async #dropLeaving(path: string, state: FileState): Promise<boolean> {
    if (state.leaving === undefined || performance.now() < state.leaving.untilMs) return false;
    await this.#apply(path, state, withoutLeaving(state.version));
    return true;
  }

  /** Puts a version in force; with grace, what it lacks is kept for a while. */
  async #apply(
    path: string,
    state: FileState,
    version: FileVersion,
    withGrace = false,
  ): Promise<void> {
    const before = state.version;
    const nowMs = performance.now();
    const { sinceMs } = state.leaving ?? { sinceMs: nowMs };
    const { graceMs } = this.#timing;
    const untilMs = withGrace ? Math.min(nowMs + graceMs, sinceMs + 10 * graceMs) : nowMs;
    const leaving = new Map<string, Claim>();
    const breathe = createBreather(this.#timing.budgetMs);
    for (const [id, claim] of version.objects) {
      if (before.objects.get(id) !== claim) this.#claims.set(claim);
      await breathe();
    }
    for (const [id, claim] of before.objects) {
      await breathe();
      if (version.objects.has(id)) continue;
      if (untilMs <= nowMs) {
        this.#claims.drop(id, path);
        continue;
      }
      const kept = claim.leaving ? claim : { ...claim, leaving: true };
      leaving.set(id, kept);
      this.#claims.set(kept);
    }
    const isWhole = leaving.size === 0;
    state.leaving = isWhole ? undefined : { sinceMs, untilMs };
    state.version = isWhole
      ? version
      : { ...version, objects: new Map([...version.objects, ...leaving]) };
  }

  #watch(directory: string): void {
    if (this.#watches.get(directory)?.watching === true || this.#closed) return;
    const watch = watchDirectory(
      directory,
      this.#timing.settleMs,
      () => void this.rescan(),
      () => void this.rescan(),
    );
    this.#watches.set(directory, watch);
  }

  #announce(): void {
    if (this.#directoryErrors.size > 0 && !this.#loaded) return;
    if (!this.#loaded) {
      this.#loaded = true;
      this.#options.loaded();
    }
    if (this.#complete || [...this.#files.values()].some(({ incomplete }) => incomplete)) return;
    this.#complete = true;
    this.#options.complete();
  }

  /** The next look: soon while a file, or something of it, may be about to go, else in a while. */
  #schedule(): void {
    clearTimeout(this.#timer);
    const soon =
      this.#directoryErrors.size > 0 ||
      [...this.#files.values()].some(
        ({ goneSinceMs, leaving }) => goneSinceMs !== undefined || leaving !== undefined,
      );
    const delayMs = soon ? this.#timing.graceMs : this.#timing.rescanMs;
    this.#timer = setTimeout(() => void this.rescan(), delayMs).unref();
  }
}

function newState(): FileState {
  return {
    stamp: undefined,
    inode: undefined,
    version: NO_VERSION,
    goneSinceMs: undefined,
    leaving: undefined,
    incomplete: false,
  };
}

/** Whether an object is not in force, as it is bad and never was good. */
function lacksRows({ problems, objects }: FileVersion): boolean {
  return problems.some(
    ({ severity, kept, object }) =>
      severity === "error" && !kept && !(object !== undefined && objects.has(object)),
  );
}

function explain(error: NodeJS.ErrnoException): string {
  if (error.code === "ENOENT") return "no such directory: create it, or take it out of manifests";
  return `the directory can't be read: ${error.message}`;
}

/** Runs `call` on all items, at most `limit` at a time. */
async function inParallel<Item>(
  limit: number,
  items: readonly Item[],
  call: (item: Item) => Promise<void>,
): Promise<void> {
  const rest = items.values();
  const run = async (): Promise<void> => {
    for (const item of rest) await call(item);
  };
  await Promise.all(Array.from({ length: limit }, run));
}
