// SPDX-License-Identifier: Apache-2.0
import { formatPortRange, type PortRange } from "../config/kind.ts";
import { readSysctl } from "../kernel/sysctl.ts";
import type { Log } from "../telemetry/log.ts";

const LOCAL_PORTS = "net/ipv4/ip_local_port_range";

/** Warns when this node's own connections would come from ports that services have. */
export function warnOfLocalPorts(nodePorts: PortRange | "off", log: Log): void {
  const warning = localPortWarning(nodePorts, readSysctl(LOCAL_PORTS));
  if (warning !== undefined) log.warn(warning);
}

/** What is wrong with the ports of connections, as the sysctl has them; undefined if nothing is. */
export function localPortWarning(nodePorts: PortRange | "off", value: string): string | undefined {
  if (nodePorts === "off") return undefined;
  const [first = 0, last = 0] = value.trim().split(/\s+/).map(Number);
  if (last < nodePorts.first || first > nodePorts.last) return undefined;
  const [ours, theirs] = [formatPortRange(nodePorts), formatPortRange({ first, last })];
  return (
    `node ports ${ours} are among the ports of this node's own connections, ${theirs}, whose ` +
    "replies a service may get: set net.ipv4.ip_local_port_range or nodePort.range"
  );
}
