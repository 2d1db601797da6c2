// SPDX-License-Identifier: Apache-2.0
// Faults in how the edge writes Geneve and options.

import type { Mutant } from "./list.ts";

export const DISPATCH_MUTANTS: readonly Mutant[] = [
  {
    name: "dispatch: a packet with an option is no hop further",
    file: "stage/dispatch-xdp.h",
    from: "told_lead(ctx, &packet, backend, true)",
    to: "told_lead(ctx, &packet, backend, false)",
  },
  {
    name: "dispatch: the edge forgets the backend's port in the checksum",
    file: "stage/dispatch-xdp.h",
    from: "change + (__u16)~packet->destination_port + backend->port",
    to: "change",
  },
];
