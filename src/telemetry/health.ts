// SPDX-License-Identifier: Apache-2.0

/** One thing that must be so for the agent to be ready. */
export interface HealthCheck {
  readonly name: string;
  /** Undefined when all is well, else what is wrong in words. */
  readonly problem: string | undefined;
}

/** What the agent says of itself. */
export interface Health {
  /** Adds a check; `problem` is asked whenever somebody wants to know. */
  add(name: string, problem: () => string | undefined): void;
  checks(): readonly HealthCheck[];
}

export function createHealth(): Health {
  const checks = new Map<string, () => string | undefined>();
  return {
    add(name, problem) {
      if (checks.has(name)) throw new Error(`health check ${name} exists already`);
      checks.set(name, problem);
    },
    checks: () => [...checks].map(([name, problem]) => ({ name, problem: problem() })),
  };
}

/** The answer of /readyz: one line a check. */
export function formatChecks(checks: readonly HealthCheck[]): string {
  return checks.map(({ name, problem }) => `${name}: ${problem ?? "ok"}\n`).join("");
}
