// SPDX-License-Identifier: Apache-2.0

import type { Document } from "../../../src/lab/manifest.ts";

/** What is left of a manifest without the objects of these names. */
export function without(
  documents: readonly Document[] | undefined,
  names: readonly string[],
): Document[] {
  return (documents ?? []).filter(({ metadata }) => {
    return !names.includes((metadata as { name: string }).name);
  });
}
