// SPDX-License-Identifier: Apache-2.0
import assert from "node:assert/strict";
import test from "node:test";
import fc from "fast-check";
import { KernelError } from "../error.ts";
import { AF, dumpFamilies } from "./family.ts";
import { FLAG, Netlink, type Request } from "./socket.ts";
import {
  type Attribute,
  decodeAttributes,
  decodeMessages,
  encodeBody,
  encodeMessage,
  listAttributes,
  nested,
  text,
  u32,
  viewOf,
} from "./wire.ts";

const ERROR = 2;
const DONE = 3;
const DATA = 100;
const ACK_TLVS = 0x200;
const CAPPED = 0x100;

/** A kernel that answers each send with what the script says, and keeps what it was sent. */
function scripted(answer: (sequence: number, type: number) => Uint8Array[]) {
  const queue: Uint8Array[] = [];
  const sent: number[] = [];
  const netlink = new Netlink({
    fd: -1,
    send: (bytes) => {
      for (const message of decodeMessages(bytes)) {
        sent.push(message.type);
        queue.push(...answer(message.sequence, message.type));
      }
      return bytes.length;
    },
    receive: (into) => {
      const next = queue.shift();
      if (next === undefined) return -11;
      into.set(next.subarray(0, into.length));
      return next.length;
    },
    close: () => {},
  });
  return { netlink, sent };
}

const message = (type: number, flags: number, sequence: number, body: Uint8Array): Uint8Array =>
  encodeMessage({ type, flags, body }, sequence);

const data = (sequence: number, value: number, flags = 0): Uint8Array =>
  message(DATA, flags, sequence, Uint8Array.of(value, 0, 0, 0));

const done = (sequence: number, flags = 0): Uint8Array =>
  message(DONE, flags, sequence, new Uint8Array(4));

/** An acknowledgement: the errno, the request's header, and the kernel's words. */
function ack(sequence: number, errno = 0, words = ""): Uint8Array {
  const header = new Uint8Array(20);
  viewOf(header).setInt32(0, -errno, true);
  const body = encodeBody(header, words === "" ? [] : [text(1, words)]);
  return message(ERROR, CAPPED | (words === "" ? 0 : ACK_TLVS), sequence, body);
}

const request = (type: number, undo?: Request): Request => ({
  operation: "try",
  object: `number ${type}`,
  message: { type, flags: 0, body: new Uint8Array(4) },
  ...(undo === undefined ? {} : { undo }),
});

const values = (replies: readonly { body: Uint8Array }[]) => replies.map(({ body }) => body[0]);

test("a dump that the kernel calls interrupted is done again, and not for ever", () => {
  let tries = 0;
  const twice = scripted((sequence) => {
    tries++;
    const flags = tries < 3 ? FLAG.dumpInterrupted : 0;
    return [data(sequence, tries), data(sequence, 10 * tries, flags), done(sequence)];
  });
  assert.deepEqual(values(twice.netlink.dump(request(18))), [3, 30]);
  tries = 0;
  const atEnd = scripted((sequence) => {
    tries++;
    return [data(sequence, tries), done(sequence, tries < 3 ? FLAG.dumpInterrupted : 0)];
  });
  assert.deepEqual(values(atEnd.netlink.dump(request(18))), [3]);
  const always = scripted((sequence) => [data(sequence, 1, FLAG.dumpInterrupted), done(sequence)]);
  assert.throws(
    () => always.netlink.dump(request(18)),
    /\(EBUSY\).*changed during each of 8 dumps/,
  );
  assert.equal(always.sent.length, 8);
});

test("a kernel without IPv6, which answers for it with IPv4, has each thing once", () => {
  const { netlink, sent } = scripted((sequence) => [
    data(sequence, AF.ipv4),
    data(sequence, AF.unspecified),
    done(sequence),
  ]);
  const replies = dumpFamilies(netlink, "things", DATA, (family) => Uint8Array.of(family, 0, 0, 0));
  assert.deepEqual([sent.length, replies.map(({ body }) => body[0])], [2, [AF.ipv4]]);
});

test("answers to an abandoned request are no answers to the next", () => {
  const { netlink } = scripted((sequence) => [
    data(sequence + 99, 7),
    data(sequence, 1),
    ack(sequence + 99, 5),
    ack(sequence),
  ]);
  assert.deepEqual(values(netlink.query(request(20))), [1]);
  assert.deepEqual(values(netlink.query(request(20))), [1]);
});

test("an error carries the kernel's words behind a capped request and behind a whole one", () => {
  const capped = scripted((sequence) => [ack(sequence, 22, "no such thing")]);
  assert.throws(
    () => capped.netlink.run(request(20)),
    (error) => {
      assert.ok(error instanceof KernelError);
      assert.equal(error.message, "cannot try number 20: invalid argument (EINVAL): no such thing");
      return true;
    },
  );
  const whole = scripted((sequence) => {
    const header = new Uint8Array(4 + 24);
    viewOf(header).setInt32(0, -22, true);
    viewOf(header).setUint32(4, 24, true);
    const body = encodeBody(header, [text(1, "echoed")]);
    return [message(ERROR, ACK_TLVS, sequence, body)];
  });
  assert.throws(() => whole.netlink.run(request(20)), /EINVAL\): echoed$/);
});

test("a failed batch undoes in reverse what was done, also what came after the failure", () => {
  const { netlink, sent } = scripted((sequence, type) => [ack(sequence, type === 22 ? 17 : 0)]);
  const undoable = (type: number): Request => request(type, request(type + 100));
  const batch = [undoable(20), undoable(21), undoable(22), undoable(23), request(24)];
  assert.throws(() => netlink.runAll(batch), /number 22: file exists \(EEXIST\)/);
  assert.deepEqual(sent, [20, 21, 22, 23, 24, 123, 121, 120]);
});

test("nothing follows a send with a failure in it, and a failed undo is the cause", () => {
  const { netlink, sent } = scripted((sequence, type) => [
    ack(sequence, type === 90 ? 17 : type === 500 ? 1 : 0),
  ]);
  const batch = Array.from({ length: 200 }, (_, index) =>
    request(30 + index, index === 0 ? request(500) : undefined),
  );
  assert.throws(
    () => netlink.runAll(batch),
    (error) => {
      assert.ok(error instanceof KernelError && error.cause instanceof KernelError);
      assert.equal(error.object, "number 90");
      assert.equal(error.cause.object, "number 500");
      return true;
    },
  );
  assert.equal(sent.length, 64 + 1);
});

test("an answer longer than can be read is an error, not half an answer", () => {
  const { netlink } = scripted((sequence) => [
    message(DATA, 0, sequence, new Uint8Array(70_000)),
    ack(sequence),
  ]);
  assert.throws(() => netlink.query(request(20)), /EMSGSIZE.*70016 bytes/);
});

test("attributes survive bytes, nested ones too", () => {
  const anyAttribute: fc.Arbitrary<Attribute> = fc.record({
    type: fc.integer({ min: 0, max: 0x3fff }),
    value: fc.uint8Array({ maxLength: 40 }),
  });
  fc.assert(
    fc.property(fc.array(anyAttribute), fc.uint8Array({ maxLength: 20 }), (list, header) => {
      const body = encodeBody(header, [...list, nested(9, [u32(1, 7), text(2, "ü")])]);
      const start = (header.length + 3) & ~3;
      const read = [...listAttributes(body.subarray(start))];
      const flat = (attributes: readonly Attribute[]) =>
        attributes.map(({ type, value }) => [type, [...value]]);
      assert.deepEqual(flat(read.slice(0, -1)), flat(list));
      const inner = decodeAttributes(body, header.length).nested(9);
      assert.deepEqual([inner?.u32(1), inner?.text(2)], [7, "ü"]);
    }),
  );
});

test("any bytes are read as messages and attributes without an error", () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => {
      for (const { body } of decodeMessages(bytes)) [...listAttributes(body)];
      const attributes = decodeAttributes(bytes);
      for (let type = 0; type < 8; type++) {
        attributes.u32(type);
        attributes.u64(type);
        attributes.address(type);
        attributes.mac(type);
        attributes.nested(type);
      }
    }),
  );
});
