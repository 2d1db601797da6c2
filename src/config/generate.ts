// SPDX-License-Identifier: Apache-2.0

// Writes what follows from the schema; run by `make generate`.

import { writeFileSync } from "node:fs";
import { documentConfig, exampleConfig } from "./document.ts";

writeFileSync(new URL("../../docs/configuration.md", import.meta.url), documentConfig());
writeFileSync(new URL("../../deploy/ciliate.yaml", import.meta.url), exampleConfig());
