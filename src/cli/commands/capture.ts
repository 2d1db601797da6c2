// SPDX-License-Identifier: Apache-2.0
import { closeSync, openSync, writeSync } from "node:fs";
import { VERSION } from "../../config/version.ts";
import { formatLayer } from "../../net/format-layer.ts";
import { pcapngDevice, pcapngPacket, pcapngSection } from "../../net/pcapng.ts";
import { countOption, durationOption } from "../agent-api.ts";
import type { Context, Run } from "../command.ts";
import { CliError } from "../exit.ts";
import type { Output } from "../output.ts";
import { pinsOf, reading } from "../pins.ts";

/** The doors to the packet path: what is behind them loads libbpf. */
const door = () => import("../../datapath/capture.ts");
const filterDoor = () => import("../../datapath/capture-filter.ts");

type Door = Awaited<ReturnType<typeof door>>;
type Options = ConstructorParameters<Door["PacketCapture"]>[0];
type Packet = Parameters<Options["receive"]>[0];
type Frame = Packet["came"];

const DEFAULT_RATE = 1000;
/** What a slow reader of standard output may leave unread. */
const BEHIND_BYTES_MAX = 64 * 1024 * 1024;

export const capture: Run = async (context) => {
  const { PacketCapture, MIN_SNAP_BYTES, MAX_SNAP_BYTES } = await door();
  const filter = await readFilter(context.args[0] ?? "");
  const snapBytes = countOption(context, "snap-bytes") ?? MAX_SNAP_BYTES;
  if (snapBytes < MIN_SNAP_BYTES || snapBytes > MAX_SNAP_BYTES) {
    const range = `${MIN_SNAP_BYTES} to ${MAX_SNAP_BYTES}`;
    throw new CliError("usage", `--snap-bytes: expected ${range}, got "${snapBytes}"`);
  }
  const rate = countOption(context, "rate") ?? DEFAULT_RATE;
  const limits = readLimits(context);
  const pins = pinsOf(context);
  using sink = openSink(context, snapBytes);
  const end = Promise.withResolvers<void>();
  let packets = 0;
  const options: Options = {
    pins,
    filter,
    rate,
    snapBytes,
    receive(packet) {
      if (packets === limits.count) return;
      packets += 1;
      sink.write(packet);
      if (packets === limits.count) end.resolve();
    },
    fail: end.reject,
  };
  const running = reading(pins, () => new PacketCapture(options));
  process.stderr.write("capturing; Ctrl-C ends it\n");
  const stop = AbortSignal.any([context.signal, ...limits.signals]);
  stop.addEventListener("abort", () => end.resolve());
  try {
    await end.promise;
  } finally {
    await running.close();
    tellEnd(packets, sink.unwritten, running.missing);
  }
  return 0;
};

async function readFilter(text: string): Promise<Options["filter"]> {
  const { FilterError, parseFilter } = await filterDoor();
  try {
    return parseFilter(text);
  } catch (error) {
    if (error instanceof FilterError) throw new CliError("usage", `FILTER: ${error.message}`);
    throw error;
  }
}

function readLimits(context: Context): {
  readonly count: number | undefined;
  readonly signals: readonly AbortSignal[];
} {
  const durationMs = durationOption(context, "duration");
  return {
    count: countOption(context, "count"),
    signals: durationMs === undefined ? [] : [AbortSignal.timeout(durationMs)],
  };
}

/** What happened, where it is in nobody's way. */
function tellEnd(
  packets: number,
  unwritten: number,
  { beyondRate, lost }: InstanceType<Door["PacketCapture"]>["missing"],
): void {
  const parts = [`${packets} packets`];
  if (beyondRate > 0) parts.push(`${beyondRate} more were beyond --rate`);
  if (lost > 0) parts.push(`${lost} frames came too fast to be read`);
  if (unwritten > 0) parts.push(`${unwritten} were not written, as nobody read fast enough`);
  process.stderr.write(`${parts.join("; ")}\n`);
}

/** Where packets go. */
interface Sink extends Disposable {
  write(packet: Packet): void;
  /** Packets that a slow reader missed. */
  readonly unwritten: number;
}

function openSink({ option, output }: Context, snapBytes: number): Sink {
  const file = option("write");
  if (file === undefined) {
    const write = output.format === "json" ? writeJson : writeText;
    return { write: (packet) => write(output, packet), unwritten: 0, [Symbol.dispose]: () => {} };
  }
  if (file === "-") return standardOutput(new PcapngText(snapBytes));
  const fd = openSync(file, "w");
  const text = new PcapngText(snapBytes);
  writeSync(fd, text.begin());
  return {
    write(packet) {
      for (const block of text.blocks(packet)) writeSync(fd, block);
    },
    unwritten: 0,
    [Symbol.dispose]: () => closeSync(fd),
  };
}

function standardOutput(text: PcapngText): Sink {
  let unwritten = 0;
  process.stdout.write(text.begin());
  return {
    write(packet) {
      if (process.stdout.writableLength > BEHIND_BYTES_MAX) unwritten += 1;
      else for (const block of text.blocks(packet)) process.stdout.write(block);
    },
    get unwritten() {
      return unwritten;
    },
    [Symbol.dispose]: () => {},
  };
}

/** Packets as blocks of pcapng, each device named before its first packet. */
class PcapngText {
  readonly #snapBytes: number;
  readonly #devices = new Map<string, number>();

  constructor(snapBytes: number) {
    this.#snapBytes = snapBytes;
  }

  begin(): Uint8Array {
    return pcapngSection(`ciliate ${VERSION}`);
  }

  blocks(packet: Packet): Uint8Array[] {
    const { came, left } = packet;
    const blocks = this.#blocks(packet, came, "in");
    return left === undefined ? blocks : [...blocks, ...this.#blocks(packet, left, "out")];
  }

  #blocks(packet: Packet, frame: Frame, direction: "in" | "out"): Uint8Array[] {
    const name = `${packet.device}/${packet.place} ${direction}`;
    const known = this.#devices.get(name);
    const device = known ?? this.#devices.size;
    const { timeNs, bytes, lengthBytes } = frame;
    const comment = commentOf(packet, frame, direction);
    const block = pcapngPacket({ device, timeNs, bytes, lengthBytes, direction, comment });
    if (known !== undefined) return [block];
    this.#devices.set(name, device);
    const end = direction === "in" ? "as they came to" : "as they left";
    const description = `packets ${end} ciliate's program "${packet.place}" of ${packet.device}`;
    return [pcapngDevice({ name, description, snapBytes: this.#snapBytes }), block];
  }
}

/** `packet 7 as it came; edge: sent encapsulated (…); service 3`. */
function commentOf(packet: Packet, frame: Frame, direction: "in" | "out"): string {
  const { number, place, verdict, why, service } = packet;
  const end = direction === "in" ? "as it came" : "as it left";
  const parts = [`packet ${number} ${end}; ${place}: ${verdict} (${why})`];
  if (service !== 0) parts.push(`service ${service}`);
  if (frame.segmentBytes > 0) parts.push(`GSO, ${frame.segmentBytes} bytes each on the wire`);
  return parts.join("; ");
}

/** RFC 3339 with nanoseconds. */
function formatTime(unixNs: bigint): string {
  const seconds = new Date(Number(unixNs / 1_000_000n)).toISOString().slice(0, 19);
  return `${seconds}.${(unixNs % 1_000_000_000n).toString().padStart(9, "0")}Z`;
}

function layersText({ layers }: Frame): string {
  return layers
    .filter(({ kind }) => kind !== "ethernet" && kind !== "payload" && kind !== "trailer")
    .map(formatLayer)
    .join(" / ");
}

function writeText(output: Output, packet: Packet): void {
  const { number, place, verdict, isDrop, device, came, left } = packet;
  const time = formatTime(came.timeNs).slice(11, 26);
  const painted = output.paint(isDrop ? "red" : "green", verdict.padEnd(18));
  const frameText = (frame: Frame): string => `${frame.lengthBytes} B: ${layersText(frame)}\n`;
  const lines = [
    `${time} ${place.padEnd(4)} ${painted} #${number} on ${device} ${frameText(came)}`,
    left === undefined ? "" : `${" ".repeat(time.length + 6)}left: ${frameText(left)}`,
  ];
  output.write(lines.join(""));
}

function writeJson(output: Output, packet: Packet): void {
  const { number, place, verdict, why, device, service, came, left } = packet;
  const frame = ({ timeNs, lengthBytes, segmentBytes, layers, bytes }: Frame) => ({
    time: formatTime(timeNs),
    lengthBytes,
    segmentBytes,
    layers: layers.map(formatLayer),
    hex: Buffer.from(bytes).toString("hex"),
  });
  const frames = { came: frame(came), ...(left === undefined ? {} : { left: frame(left) }) };
  output.json({ number, place, verdict, why, device, service, ...frames }, true);
}
