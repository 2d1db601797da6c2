// SPDX-License-Identifier: Apache-2.0
import { check } from "../kernel/error.ts";
import { close, sendTo, socket } from "../kernel/ffi.ts";

/** Tells the service manager how the agent is: sd_notify(3). Without one it does nothing. */
export interface ServiceManager {
  ready(status: string): void;
  /** A reload has begun; `ready` ends it. */
  reloading(): void;
  stopping(): void;
  status(text: string): void;
  close(): void;
}

const AF_UNIX = 1;
const SOCK_DGRAM = 2;
const MSG_NOSIGNAL = 0x4000;

/**
 * Reads $NOTIFY_SOCKET and $WATCHDOG_USEC. When the manager wants a sign of life, it gets one
 * twice per period as long as the event loop turns. `onFailure` hears of a message that didn't
 * reach the manager.
 */
export function connectServiceManager(
  env: Readonly<Record<string, string | undefined>>,
  onFailure: (error: unknown) => void,
): ServiceManager {
  const path = env["NOTIFY_SOCKET"];
  if (path === undefined || path === "") return ABSENT;
  const send = (text: string): void => {
    try {
      sendDatagram(path, `${text}\n`);
    } catch (error) {
      onFailure(error);
    }
  };
  const timer = startWatchdog(env, () => send("WATCHDOG=1"));
  return {
    ready: (status) => send(`READY=1\nSTATUS=${status}\nMAINPID=${process.pid}`),
    reloading: () => send(`RELOADING=1\nMONOTONIC_USEC=${process.hrtime.bigint() / 1000n}`),
    stopping: () => send("STOPPING=1"),
    status: (text) => send(`STATUS=${text}`),
    close: () => clearInterval(timer),
  };
}

const nothing = (): void => {};

const ABSENT: ServiceManager = {
  ready: nothing,
  reloading: nothing,
  stopping: nothing,
  status: nothing,
  close: nothing,
};

function startWatchdog(
  env: Readonly<Record<string, string | undefined>>,
  beat: () => void,
): NodeJS.Timeout | undefined {
  const periodUs = Number(env["WATCHDOG_USEC"] ?? 0);
  const pid = env["WATCHDOG_PID"];
  const forUs = pid === undefined || pid === String(process.pid);
  return periodUs > 0 && forUs ? setInterval(beat, periodUs / 2000).unref() : undefined;
}

/** Node has no unix datagram sockets. */
function sendDatagram(path: string, text: string): void {
  const fd = check(socket(AF_UNIX, SOCK_DGRAM, 0), "create", "a socket for sd_notify");
  try {
    check(sendTo(fd, Buffer.from(text), MSG_NOSIGNAL, unixAddress(path)), "notify", path);
  } finally {
    close(fd);
  }
}

/** struct sockaddr_un; a leading @ is the abstract namespace. */
function unixAddress(path: string): Uint8Array {
  const name = Buffer.from(path.startsWith("@") ? `\0${path.slice(1)}` : `${path}\0`);
  const bytes = new Uint8Array(2 + name.length);
  new DataView(bytes.buffer).setUint16(0, AF_UNIX, true);
  bytes.set(name, 2);
  return bytes;
}
