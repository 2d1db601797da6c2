// SPDX-License-Identifier: Apache-2.0

// What is wrong with manifests, as lines of the log.

import type { ManifestProblem } from "../lb/yaml/file.ts";
import type { Log } from "../telemetry/log.ts";
import type { Services } from "./services.ts";

/** Problems that are told one by one; of what is beyond, status knows more. */
const MAX_TOLD = 200;

/** Logs each problem of the manifests once when it comes and once when it goes. */
export function logProblems({ manifests, lb }: Pick<Services, "manifests" | "lb">, log: Log): void {
  const tell = createProblemLog(log);
  manifests.onLook(() => {
    tell(manifests.problems());
    // What rows say of each other is known when service ports are made.
    void lb.settled().then(() => tell(manifests.problems()));
  });
}

/** Gives what takes all problems of now, and logs how they differ from those of before. */
export function createProblemLog(log: Log): (problems: Iterable<ManifestProblem>) => void {
  let told = new Map<string, ManifestProblem>();
  let untold = 0;
  return (problems) => {
    const now = new Map<string, ManifestProblem>();
    let more = 0;
    for (const problem of problems) {
      const { file, line, object, field, text } = problem;
      const key = JSON.stringify([file, line, object, field, text]);
      if (told.has(key) || now.size < MAX_TOLD) now.set(key, problem);
      else more++;
    }
    for (const [key, problem] of now) {
      if (!told.has(key)) log.warn("a manifest has a fault", fieldsOf(problem));
    }
    for (const [key, problem] of told) {
      if (!now.has(key)) log.info("a manifest's fault is gone", fieldsOf(problem));
    }
    if (more > 0 && untold === 0) {
      log.warn("manifests have more faults than are logged: see ciliate status", { more });
    }
    told = now;
    untold = more;
  };
}

function fieldsOf({ file, line, object, field, text, kept }: ManifestProblem) {
  return { file, line, object, field, reason: text, previousInForce: kept };
}
