// SPDX-License-Identifier: Apache-2.0
import type { Run } from "../command.ts";
import { ROOT } from "../commands.ts";
import { completionScript, type Shell, withSuggestions } from "../completion.ts";

export const completion: Run = async ({ args, output }) => {
  output.write(completionScript(await withSuggestions(ROOT), args[0] as Shell));
  return 0;
};
