// SPDX-License-Identifier: Apache-2.0

// What the wired parts say of themselves, as status shows it.

import type { Device, Reconciler, Source } from "../api/gen/ciliate.ts";
import type { DeviceStatus } from "../datapath/attach.ts";
import type { ManifestProblem } from "../lb/yaml/file.ts";
import type { Health } from "../telemetry/health.ts";
import type { NodeDatapath } from "./datapath.ts";
import { type Counts, tableUses } from "./feature-metrics.ts";
import { inputsOf, whyNotForwarded } from "./forwarding.ts";
import type { Services } from "./services.ts";
import type { StatusParts } from "./status.ts";

/** Problems of one part that status lists; it says how many more there are. */
const MAX_PROBLEMS = 20;

export function createStatusParts(
  node: NodeDatapath,
  services: Services,
  counts: Counts,
): StatusParts {
  return {
    devices: () => node.devices().flatMap(describeDevice),
    sources: () => describeSources(services),
    tables: () =>
      tableUses(node, services, counts).map(({ table, used, limit, problem }) => ({
        name: table,
        used: BigInt(used),
        limit: BigInt(limit),
        problem,
      })),
    reconcilers: () => [describeReconciler(services)],
  };
}

/** For how long status waits for the counts; beyond, it shows those of the last walks. */
const COUNT_MS = 500;

/** Gives what counts entries anew before it reads; calls meanwhile share a count. */
export function afterCount<Result>(
  { conntrack, counted }: Counts,
  read: () => Result,
): () => Promise<Result> {
  let counting: Promise<unknown> | undefined;
  return async () => {
    // A walk that fails leaves what the last one found; the collector tells of its own.
    counting ??= Promise.allSettled([
      conntrack.refresh(),
      ...counted.map(({ count }) => count.count()),
    ]).finally(() => {
      counting = undefined;
    });
    const { promise: late, resolve } = Promise.withResolvers<void>();
    const limit = setTimeout(resolve, COUNT_MS).unref();
    await Promise.race([counting, late]);
    clearTimeout(limit);
    return read();
  };
}

/** What must be so for the node to carry traffic as it should. */
export function addHealthChecks(
  health: Health,
  node: NodeDatapath,
  services: Services,
  late6: () => string | undefined,
): void {
  health.add("sources", () => {
    const { loaded } = services;
    return loaded.open ? undefined : `not read yet: ${loaded.waitingFor.join(", ")}`;
  });
  health.add("devices", () => {
    const bare = node.devices().filter(({ role, tc }) => role === "uplink" && tc === "none");
    const reasons = bare.map(({ name, reason }) => `${name}: ${reason}`);
    return reasons.length === 0 ? undefined : reasons.join("; ");
  });
  health.add("forwarding", () => whyNotForwarded(inputsOf(node)) || undefined);
  health.add("sockets", () => node.sockets()?.reason || undefined);
  health.add("ipv6", late6);
  health.add("tables", () => node.tables.error?.message);
}

function describeDevice({ name, ifindex, role, xdp, tc, reason }: DeviceStatus): Device[] {
  const device = { name, ifindex };
  const program = role === "uplink" ? "host" : "pod";
  const byTc = {
    ...device,
    program,
    mode: tc === "none" ? "none" : `${tc} ingress`,
    reason: xdp === "none" ? reason : "",
  };
  if (role === "pod" || xdp === "none") return [byTc];
  return [{ ...device, program: "edge", mode: `xdp ${xdp}`, reason }, byTc];
}

function describeSources({ manifests, api, loaded }: Services): Source[] {
  const problems = [...manifests.problems()].map(describeProblem);
  return [
    {
      name: "manifests",
      synced: loaded.open,
      objects: manifests.figures().objects,
      problems: firstOf(problems),
    },
    { name: "api", synced: api.synced, objects: api.size, problems: firstOf(api.problems()) },
  ];
}

function describeProblem({ file, line, object, field, text, kept }: ManifestProblem): string {
  const place = line === undefined ? file : `${file}:${line}`;
  const parts = [place, object, field].filter((part) => part !== undefined && part !== "");
  return `${parts.join(": ")}: ${text}${kept ? " (the previous version stays in force)" : ""}`;
}

function describeReconciler({ reconciler }: Services): Reconciler {
  const { pendingRows, failedRows, lagMs } = reconciler.figures();
  const problems = [...reconciler.failures()].map(
    ({ key, error, attempts }) => `${key}: ${error.message} (tried ${attempts} times)`,
  );
  if (reconciler.pruneError !== undefined) problems.push(`prune: ${reconciler.pruneError.message}`);
  return {
    name: "services",
    pending: BigInt(pendingRows),
    failed: BigInt(failedRows),
    lagSeconds: lagMs / 1000,
    problems: firstOf(problems),
  };
}

function firstOf(problems: readonly string[]): string[] {
  if (problems.length <= MAX_PROBLEMS) return [...problems];
  return [...problems.slice(0, MAX_PROBLEMS), `and ${problems.length - MAX_PROBLEMS} more`];
}
