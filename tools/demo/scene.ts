// SPDX-License-Identifier: Apache-2.0
import type { Screen } from "./screen.ts";
import type { Stage } from "./stage.ts";

/** What every scene of the demo gets. */
export interface Scene {
  readonly screen: Screen;
  readonly stage: Stage;
  /** Shorter loads. */
  readonly quick: boolean;
  /** Time to read, unless nobody reads. */
  readonly pause: (seconds: number) => Promise<void>;
}

/**
 * One scene: what it does silently beforehand, while the one before is still being read, and then
 * the show, which answers with the seconds that reading its end takes.
 */
export type Play = (scene: Scene) => Promise<() => Promise<number>>;
