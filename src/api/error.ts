// SPDX-License-Identifier: Apache-2.0

/** Why a call failed, for code; the message is for people. */
export type ApiErrorCode =
  /** No agent answers at the socket, or not in time. */
  | "unreachable"
  /** The request is wrong; repeating it won't help. */
  | "invalid"
  | "not-found"
  /** The request is right, and the agent's state doesn't allow it. */
  | "refused"
  /** This agent doesn't know the call: it is older. */
  | "unknown-call"
  /** A limit was met: try again later. */
  | "busy"
  | "internal";

/** A failed call of the agent's API, on either side of the socket. */
export class ApiError extends Error {
  override readonly name = "ApiError";
  readonly code: ApiErrorCode;

  constructor(code: ApiErrorCode, message: string, options?: ErrorOptions) {
    super(message, options);
    this.code = code;
  }
}

/** gRPC's numbers for our codes. */
const STATUS: Readonly<Record<ApiErrorCode, number>> = {
  invalid: 3,
  "not-found": 5,
  busy: 8,
  refused: 9,
  "unknown-call": 12,
  internal: 13,
  unreachable: 14,
};

/** The gRPC status of a code. */
export function statusOf(code: ApiErrorCode): number {
  return STATUS[code];
}

const CANCELLED = 1;
/** gRPC's status of a call that got no answer in time. */
export const DEADLINE_EXCEEDED = 4;

/** The code of a gRPC status. A server that shuts down cancels its calls. */
export function codeOf(status: number): ApiErrorCode {
  if (status === CANCELLED || status === DEADLINE_EXCEEDED) return "unreachable";
  const found = Object.entries(STATUS).find(([, number]) => number === status);
  return found === undefined ? "internal" : (found[0] as ApiErrorCode);
}
