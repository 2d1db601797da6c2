// SPDX-License-Identifier: Apache-2.0

// The agent of one node: what is started, and in which order. The datapath of before goes on
// through all of it, and through the agent's end.

import { openApiServer } from "../api/server.ts";
import { type LoadedConfig, loadConfig, socketPath } from "../config/load.ts";
import { VERSION } from "../config/version.ts";
import { openDevices } from "../device/devices.ts";
import { formatIpv4, formatIpv6 } from "../net/address.ts";
import { createChangeHandlers } from "./apply.ts";
import { openNodeDatapath } from "./datapath.ts";
import { createEventNames } from "./event-names.ts";
import { addFeatureMetrics, countedTables } from "./feature-metrics.ts";
import { collectFlows } from "./flows.ts";
import { warnOfForwarding } from "./forwarding.ts";
import { createFrameHandlers } from "./handlers.ts";
import { catchHangups, endOnFault, endSignal, type Hangups, reloadOnHangup } from "./lifecycle.ts";
import { lockPins, lockRuntime } from "./lock.ts";
import { giveMemoryBack, trimRegularly } from "./memory.ts";
import { monitorEvents } from "./monitor.ts";
import { connectServiceManager, type ServiceManager } from "./notify.ts";
import { warnOfLocalPorts } from "./port-ranges.ts";
import { logProblems } from "./problem-log.ts";
import { logRouteless } from "./routeless.ts";
import { createServiceHandlers } from "./serve-services.ts";
import { createServices, type Services } from "./services.ts";
import { createSettings, type Settings } from "./settings.ts";
import { closeEndedSockets } from "./sockets.ts";
import { collectStatus, type Phase } from "./status.ts";
import { addHealthChecks, afterCount, createStatusParts } from "./status-parts.ts";
import { createTelemetry, serveTelemetry, type Telemetry } from "./telemetry.ts";
import { identifyAgain, type NodeIdentity, whyRestart6 } from "./uplinks.ts";

/** Caught from the start. */
interface Signals {
  /** Settles with the one that ends the agent. */
  readonly ended: Promise<NodeJS.Signals>;
  readonly hangups: Hangups;
}

/** Runs the agent until it is told to stop; gives the exit code. A wrong file is thrown. */
export async function runAgent(file: string): Promise<number> {
  const hangups = catchHangups();
  const loaded: LoadedConfig = loadConfig(file);
  const settings = createSettings(loaded);
  const telemetry = createTelemetry(settings);
  const log = telemetry.log("agent");
  endOnFault(log, () => telemetry.logger.flush());
  const ended = endSignal();
  try {
    await run(settings, telemetry, { ended, hangups });
    return 0;
  } catch (error) {
    log.error("the agent can't go on; the datapath is as it was", { error });
    return 1;
  } finally {
    telemetry.logger.flush();
  }
}

async function run(
  settings: Settings,
  telemetry: Telemetry,
  { ended, hangups }: Signals,
): Promise<void> {
  const { config, file } = settings;
  const log = telemetry.log("agent");
  log.info("starting", { version: VERSION, pid: process.pid, file });
  let phase: Phase = "starting";
  telemetry.health.add("agent", () => (phase === "running" ? undefined : phase));

  // One agent per runtime directory and per pins; then whoever asks can see how far it has come.
  using _lock = await lockRuntime(config.paths.runtime, { log });
  using _pins = await lockPins(config.paths.bpffs, { log });
  await using parts = new AsyncDisposableStack();
  const manager = connectManager(telemetry);
  parts.defer(() => manager.close());
  parts.use(await serveTelemetry(telemetry, config));

  // Pins: programs and maps, with everything that is in them.
  const devices = parts.use(
    openDevices({
      failed: (error) => telemetry.log("device").error("devices are not followed", { error }),
    }),
  );
  const identity = await identifyAgain(config, devices);
  warnOfLocalPorts(config.nodePort.range, log);
  const node = parts.use(
    await openNodeDatapath({ config, identity, devices, log: telemetry.log("datapath") }),
  );

  // Ids of before, sources, and the way from one to the other.
  const services = parts.use(createServices(settings, identity, node, devices));
  const flows = parts.use(collectFlows(settings, telemetry.log("conntrack"), node, services));
  const sockets = parts.use(closeEndedSockets(node, services, telemetry.log("socket")));
  logFaults(services, telemetry);
  addHealthChecks(telemetry.health, node, services, () => whyRestart6(config, identity, devices));
  const counts = { ...flows, counted: countedTables(node) };
  addFeatureMetrics(telemetry.registry, node, services, { ...counts, sockets });

  const status = {
    ...describeNode(identity),
    configFile: file,
    health: telemetry.health,
    phase: () => phase,
    parts: createStatusParts(node, services, counts),
  };
  const names = createEventNames(devices, services);
  const api = await openApiServer({
    socket: socketPath(config),
    handlers: {
      ...createFrameHandlers(settings, telemetry.log("config")),
      ...createServiceHandlers(services),
      ...createChangeHandlers(services),
      getStatus: afterCount(counts, () => collectStatus(status)),
      monitor: (request, sink) => monitorEvents(node.events, names, request, sink),
    },
    onFault: (call, error) => telemetry.log("api").error("a call failed", { call, error }),
  });
  parts.defer(() => api.close());

  // All sources, then the kernel's tables, then the programs that read them.
  services.start();
  const inForce = services.loaded.opened.then(() => services.settled());
  const early = await Promise.race([inForce, ended]);
  if (early === undefined) {
    node.attach();
    warnOfForwarding(node, telemetry.log("datapath"));
    await giveMemoryBack();
    parts.use(trimRegularly());
    phase = "running";
    manager.ready(describe(services));
    log.info("ready", { node: identity.name, socket: socketPath(config) });
    reloadOnHangup(hangups, settings, manager, telemetry.log("config"));
  }

  const signal = await ended;
  phase = "stopping";
  log.info("stopping; the datapath goes on", { signal });
  manager.stopping();
}

function logFaults(services: Services, telemetry: Telemetry): void {
  logProblems(services, telemetry.log("manifests"));
  logRouteless(services, telemetry.log("datapath"));
}

function describeNode({ name, address, address6, ipv6Off = "" }: NodeIdentity) {
  return {
    nodeName: name,
    nodeAddress: formatIpv4(address),
    nodeAddress6: address6 === undefined ? "" : formatIpv6(address6),
    ipv6Off,
  };
}

function connectManager(telemetry: Telemetry): ServiceManager {
  return connectServiceManager(process.env, (error) => {
    telemetry.log("agent").warn("the service manager can't be told", { error });
  });
}

/** What `systemctl status` shows. */
function describe({ lb }: Services): string {
  return `${lb.services.size} services, ${lb.ports.size} ports`;
}
