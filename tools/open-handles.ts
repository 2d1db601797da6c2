// SPDX-License-Identifier: Apache-2.0

// Imported into every test process. A file whose tests are over and that still keeps the process
// alive would hang the run without a word; here it fails and names what is open.

import { after } from "node:test";

const GRACE_MS = 5_000;

after(() => {
  setTimeout(() => {
    const open = process.getActiveResourcesInfo().join(", ");
    process.stderr.write(`still open ${GRACE_MS} ms after the last test: ${open}\n`);
    process.exit(1);
  }, GRACE_MS).unref();
});
