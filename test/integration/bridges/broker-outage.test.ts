import { mkdtemp, rm } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { OutboxRelay } from '../../../src/bridges/relay';
import { startEmbeddedStack, type EmbeddedStack } from '../../../src/embedded/stack';
import { createKafka, ensureTopics } from '../../../src/platform/kafka';
import type { Database } from '../../../src/platform/postgres';
import { createTestSpace, eventually, openTestDatabase } from '../../support/harness';
import { StreamBench } from './streams';

/** A broker of this file's own: killing the shared one would take down the tests beside it. */
let stack: EmbeddedStack;
let dataDir: string;
let bench: StreamBench;
let database: Database;
beforeAll(async () => {
  dataDir = await mkdtemp(path.join(os.tmpdir(), 'remit-broker-test-'));
  stack = await startEmbeddedStack({
    dataDir,
    outside: {},
    parts: ['kafka'],
    ports: 'free',
    searchAttributes: {},
    report: () => undefined,
  });
  bench = await StreamBench.open({ KAFKA_BROKERS: stack.endpoints.kafka });
});
afterAll(async () => {
  await bench?.close();
  await database?.close();
  await stack?.stop();
  await rm(dataDir, { recursive: true, force: true });
});

it('streams and the relay live through the death of the broker, and lose nothing', async () => {
  const stream = await bench.stream();
  const handled = new Set<string>();
  const member = await stream.member((message) => {
    handled.add(String(message.value));
    return Promise.resolve();
  });
  const space = await createTestSpace({ env: { KAFKA_BROKERS: stack.endpoints.kafka } });
  const kafka = createKafka(space.config, space.log);
  await ensureTopics(kafka, [space.config.TOPIC_PAYMENT_REQUEST], space.config);
  database = openTestDatabase(space);
  const { pool } = database;
  const relay = new OutboxRelay({ pool, kafka, config: space.config, log: space.log });
  relay.start();
  const write = (from: number) =>
    pool.query(
      `INSERT INTO outbox (topic, key, value)
       SELECT 'payment-request', 'k' || n % 5, n::text FROM generate_series($1::int, $1 + 99) AS n`,
      [from],
    );
  const values = (from: number) =>
    Array.from({ length: 100 }, (_, index) => ({ key: `k${index % 7}`, value: String(from + index) }));

  await Promise.all([stream.send(values(0)), write(0)]);
  await eventually(() => expect(handled.size).toBe(100));

  await stack.kill('kafka');
  await write(100);
  await eventually(() => expect(relay.check()).rejects.toThrow(), 30_000);
  await sleep(2_000);
  await stack.restart('kafka');

  await eventually(() => stream.send(values(100)), 30_000);
  await eventually(() => expect(handled.size).toBe(200), 60_000);
  await eventually(async () => {
    const ends = await bench.admin((admin) => admin.fetchTopicOffsets(stream.topic));
    expect((await bench.committed(stream)).reduce((sum, offset) => sum + offset, 0)).toBe(
      ends.reduce((sum, { high }) => sum + Number(high), 0),
    );
  });
  await member.check();
  await eventually(() => relay.check(), 30_000);
  const published = await bench.read(space.config.TOPIC_PAYMENT_REQUEST, 200);
  for (let key = 0; key < 5; key += 1) {
    const ofKey = published.filter((message) => String(message.key) === `k${key}`);
    const firsts = [...new Set(ofKey.map(({ value }) => Number(value)))];
    expect(firsts).toEqual([...firsts].sort((a, b) => a - b));
  }
  await relay.stop();
}, 180_000);
