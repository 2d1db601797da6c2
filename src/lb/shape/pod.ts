// SPDX-License-Identifier: Apache-2.0
import type { Attachment, Endpoint, HostPort } from "../../endpoint/rows.ts";
import { type Address, familyOf } from "../../net/address.ts";
import { tryParseMac } from "../../net/mac.ts";
import { objectKey } from "../rows.ts";
import type { Field } from "./field.ts";
import {
  ANNOTATIONS,
  readAddress,
  readAnnotations,
  readMeta,
  readPort,
  readProtocol,
} from "./meta.ts";

/**
 * Reads a v1 Pod: its address, its node and, from annotations, how the node reaches it. A pod
 * that has ended, or that has no address yet, is no endpoint and no fault.
 */
export function readPod(root: Field): Endpoint | undefined {
  const meta = readMeta(root);
  const node = root.get("spec").get("nodeName").text();
  const attachment = readAttachment(root);
  const status = root.get("status");
  const phase = status.get("phase").text();
  if (phase === "Succeeded" || phase === "Failed") return undefined;
  const podIp = status.get("podIP");
  const podIps = status.get("podIPs").items();
  const fields = [podIp, ...podIps.map((item) => item.get("ip"))].filter(({ absent }) => !absent);
  if (fields.length === 0) {
    if (attachment !== undefined) podIp.refuse("the pod's IP address");
    return undefined;
  }
  const addresses = readEach(fields);
  if (node === undefined || node === "") root.get("spec").get("nodeName").refuse("a node's name");
  if (meta === undefined || node === undefined || addresses.length === 0) return undefined;
  const key = objectKey(meta.namespace, meta.name);
  return { key, addresses, node, attachment, hostPorts: readHostPorts(root.get("spec")) };
}

/** One of each family at most, as in Kubernetes. */
function readEach(fields: readonly Field[]): Address[] {
  const found: Address[] = [];
  for (const field of fields) {
    const address = readAddress(field);
    if (address === undefined || found.includes(address)) continue;
    if (found.some((other) => familyOf(other) === familyOf(address))) {
      field.fault("a second address of one family");
    } else found.push(address);
  }
  return found;
}

function readAttachment(root: Field): Attachment | undefined {
  const { device, mac, netns } = ANNOTATIONS;
  const found = readAnnotations(root, [device, mac, netns]);
  const name = found.get(device);
  if (name === undefined) {
    for (const { field } of found.values()) field.fault(`expected ${device} beside it`);
    return undefined;
  }
  if (!/^[^\s/:]{1,15}$/.test(name.text)) name.field.refuse("a device name of 1 to 15 characters");
  const written = found.get(mac);
  const parsed = written === undefined ? undefined : tryParseMac(written.text);
  if (written !== undefined && parsed === undefined) {
    written.field.refuse("a MAC address such as 02:00:00:00:00:01");
  }
  const namespace = found.get(netns);
  if (namespace?.text === "") namespace.field.refuse("a name or a path of a network namespace");
  return { device: name.text, mac: parsed, netns: namespace?.text };
}

/** Only of containers that have networks of their own: with the host's, its ports are theirs. */
function readHostPorts(spec: Field): HostPort[] | undefined {
  if (spec.get("hostNetwork").value === true) return undefined;
  const found: HostPort[] = [];
  for (const container of spec.get("containers").items()) {
    for (const item of container.get("ports").items()) {
      const hostPort = item.get("hostPort");
      if (hostPort.absent || hostPort.value === 0) continue;
      const port = readPort(hostPort);
      const podPort = readPort(item.get("containerPort"));
      const protocol = readProtocol(item.get("protocol"));
      const hostIp = item.get("hostIP");
      const isAny = hostIp.absent || ["", "0.0.0.0", "::"].includes(String(hostIp.value));
      const address = isAny ? undefined : readAddress(hostIp);
      if (port === undefined || podPort === undefined || protocol === undefined) continue;
      if (isAny || address !== undefined) found.push({ port, podPort, protocol, address });
    }
  }
  return found.length === 0 ? undefined : found;
}
