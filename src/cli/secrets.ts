// SPDX-License-Identifier: Apache-2.0
// What must not leave the node with an archive that is sent to somebody.

const SECRET_KEY = /secret|token|passw(or)?d|passphrase|credential|(api|private|access)_?key/i;
const REMOVED = "(removed)";
/** `//user:password@host`, `Bearer ...`, `token=...`. */
const USER_INFO = /\/\/[^/\s"@]*@/g;
const BEARER = /\b(bearer|basic)\s+[\w.~+/=-]{8,}/gi;
const ASSIGNED =
  /\b(\w*(?:secret|token|passw(?:or)?d|api_?key)\w*"?\s*[=:]\s*"?)(?!\(removed\))[^\s"&,}]+/gi;

/** A text without credentials of URLs and headers, and without the values of names like token. */
export function hideCredentials(text: string): string {
  return text
    .replace(USER_INFO, `//${REMOVED}@`)
    .replace(BEARER, `$1 ${REMOVED}`)
    .replace(ASSIGNED, `$1${REMOVED}`);
}

/** A value of JSON without secrets: those under names like `token`, and those in its texts. */
export function withoutSecrets(value: unknown, name = ""): unknown {
  if (SECRET_KEY.test(name)) return REMOVED;
  if (typeof value === "string") return hideCredentials(value);
  if (Array.isArray(value)) return value.map((one) => withoutSecrets(one));
  if (typeof value !== "object" || value === null) return value;
  return Object.fromEntries(
    Object.entries(value).map(([key, inner]) => [key, withoutSecrets(inner, key)]),
  );
}
