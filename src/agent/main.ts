// SPDX-License-Identifier: Apache-2.0
export async function runAgent(file: string): Promise<number> {
  throw new Error(file);
}
