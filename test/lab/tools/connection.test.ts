// SPDX-License-Identifier: Apache-2.0

import assert from "node:assert/strict";
import { once } from "node:events";
import { type AddressInfo, createServer, type Socket } from "node:net";
import { test } from "node:test";
import { until } from "../../../src/lab/process.ts";
import { Connection } from "./connection.ts";
import { bytesAt, CHUNK_LIMIT, isRight, keysOf } from "./pattern.ts";

const NUMBER = 7;
const NAME = Buffer.concat([Buffer.of(4), Buffer.from("fake")]);

/**
 * A server that answers its first record by what `spoil` makes of the right answer, and a
 * connection that has had so many bytes of it, or broke.
 */
async function meet(
  spoil: (answer: Buffer, socket: Socket) => Buffer | undefined,
  bytes = 100,
): Promise<Connection> {
  await using server = createServer((socket) => {
    socket.once("data", () => socket.write(NAME));
    socket.on("data", (chunk) => {
      const length = chunk.length % 4 === 0 && chunk.length < 8 ? 0 : chunk.length;
      if (length === 0) return;
      const answer = spoil(Buffer.from(bytesAt(keysOf(NUMBER).down, 0, length)), socket);
      if (answer !== undefined) socket.write(answer);
    });
    socket.on("error", () => {});
  }).listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  const connection = new Connection(NUMBER, { address: "127.0.0.1", port });
  await connection.opened;
  connection.send(100);
  await until("the answer", 5000, () => {
    return connection.answered >= bytes || connection.broken !== undefined;
  });
  await connection.finish(0);
  return connection;
}

test("a stream of numbered bytes is right at its place only, and for its connection only", () => {
  const { up, down } = keysOf(NUMBER);
  for (const position of [0, 1, 65_520, 65_521, 1_000_000]) {
    const chunk = bytesAt(up, position, 1000);
    assert.ok(isRight(up, position, chunk));
    for (const shift of [-1448, -1, 1, 4, 1448]) assert.ok(!isRight(up, position + shift, chunk));
    assert.ok(!isRight(down, position, chunk));
    assert.ok(!isRight(keysOf(NUMBER + 1).up, position, chunk));
  }
  assert.equal(bytesAt(up, 65_000, CHUNK_LIMIT).length, CHUNK_LIMIT);
});

test("a right answer counts, and nothing else is told", async () => {
  const { backend, answered, sent, wrong, broken } = await meet((answer) => answer);
  assert.deepEqual(
    { backend, answered, sent, wrong, broken },
    { backend: "fake", answered: 100, sent: 100, wrong: 0, broken: undefined },
  );
});

test("a wrong byte, a lost one and one too many are seen", async () => {
  const wrong = await meet((answer) => {
    answer[99] = (answer[99] ?? 0) ^ 1;
    return answer;
  });
  assert.equal(wrong.wrong, 1);
  const lost = await meet((answer) => answer.subarray(1), 99);
  assert.equal(lost.wrong, 1);
  const short = await meet((answer) => answer.subarray(0, 60), 60);
  assert.deepEqual([short.wrong, short.answered], [0, 60]);
  const more = await meet(() => bytesAt(keysOf(NUMBER).down, 0, 101), 101);
  assert.equal(more.wrong, 1);
});

test("a reset, a close and a silence are told apart", async () => {
  const reset = await meet((_, socket) => void socket.resetAndDestroy());
  assert.equal(reset.broken, "ECONNRESET");
  const closed = await meet((_, socket) => void socket.end());
  assert.equal(closed.broken, "closed by the server");
  const silent = await meet(() => undefined, 0);
  assert.equal(silent.broken, undefined);
  assert.equal(silent.answered, 0);
  const nobody = new Connection(NUMBER, { address: "127.0.0.1", port: 1 });
  await nobody.opened;
  assert.equal(nobody.broken, "ECONNREFUSED");
});

test("a stall is as long as the wait for an answer", async () => {
  const late = await meet((answer, socket) => {
    setTimeout(() => socket.write(answer), 40);
    return undefined;
  });
  assert.ok(late.stall.longestMs() >= 39, `${late.stall.longestMs()} ms`);
  late.stall.forget();
  assert.equal(late.stall.longestMs(), 0);
});
