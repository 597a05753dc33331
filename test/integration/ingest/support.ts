import { randomUUID } from 'node:crypto';
import type { ClickHouseClient } from '@clickhouse/client';
import { CompressionTypes, type KafkaMessage, type Message } from 'kafkajs';
import { createClickHouse } from '../../../src/platform/clickhouse';
import { migrateClickHouse } from '../../../src/platform/clickhouse-migrations';
import { createKafka } from '../../../src/platform/kafka';
import { startIngest } from '../../../src/roles/ingest';
import { createTestSpace, eventually, runRoles, type TestSpace } from '../../support/harness';

export interface IngestSpace extends TestSpace {
  clickhouse: ClickHouseClient;
}

/** Topics and a migrated ClickHouse database of this test's own. */
export async function createIngestSpace(env: Record<string, string> = {}): Promise<IngestSpace> {
  const space = await createTestSpace({
    topics: true,
    env: { INGEST_FLUSH_MS: '100', INGEST_RETRY_CAP_MS: '500', KAFKA_SESSION_TIMEOUT_MS: '6000', ...env },
  });
  await migrateClickHouse(space.config, space.log);
  return { ...space, clickhouse: createClickHouse(space.config) };
}

export const startIngestRole = (space: TestSpace) => runRoles(space, startIngest);

export async function rows<T>(space: IngestSpace, query: string): Promise<T[]> {
  const result = await space.clickhouse.query({ query, format: 'JSONEachRow' });
  return result.json<T>();
}

export async function count(space: IngestSpace, from = 'purchases'): Promise<number> {
  const [row] = await rows<{ n: string | number }>(space, `SELECT count() AS n FROM ${from}`);
  return Number(row!.n);
}

export function goodPurchase(changes: Record<string, unknown> = {}): Record<string, unknown> {
  return {
    id: randomUUID(),
    userId: 'user-00000001',
    productId: 'sku-000042',
    amount: '129.90',
    currency: 'TRY',
    status: 'completed',
    provider: 'decard',
    createdAt: '2026-11-21T09:37:35.123Z',
    processedAt: '2026-11-21T09:37:36.456Z',
    ...changes,
  };
}

/** Produces idempotently: a test that counts needs each message once in the topic. */
export async function produce(space: TestSpace, topic: string, messages: Message[]): Promise<void> {
  const kafka = createKafka(space.config, space.log);
  // kafkajs numbers the messages wrongly when a new topic's leader is not ready for its first request.
  const admin = kafka.admin();
  await admin.connect();
  await eventually(() => admin.fetchTopicOffsets(topic));
  await admin.disconnect();
  const producer = kafka.producer({ idempotent: true, maxInFlightRequests: 1 });
  await producer.connect();
  try {
    for (let start = 0; start < messages.length; start += 2_000)
      await producer.send({
        topic,
        acks: -1,
        compression: CompressionTypes.None,
        messages: messages.slice(start, start + 2_000),
      });
  } finally {
    await producer.disconnect();
  }
}

/** All messages of a topic, until `expected` of them came and none for a while after. */
export async function readAll(space: TestSpace, topic: string, expected: number): Promise<KafkaMessage[]> {
  const kafka = createKafka(space.config, space.log);
  const consumer = kafka.consumer({ groupId: `${space.name}.${randomUUID()}`, maxWaitTimeInMs: 50 });
  const messages: KafkaMessage[] = [];
  await consumer.connect();
  await consumer.subscribe({ topic, fromBeginning: true });
  await consumer.run({
    eachMessage: ({ message }) => Promise.resolve(void messages.push(message)),
  });
  const deadline = Date.now() + 20_000;
  while (messages.length < expected && Date.now() < deadline) await new Promise((r) => setTimeout(r, 50));
  await new Promise((r) => setTimeout(r, 300));
  await consumer.disconnect();
  return messages;
}

/** What is committed in the group, summed, and the topic's end, summed. */
export async function progress(space: TestSpace, topic: string, group: string) {
  const admin = createKafka(space.config, space.log).admin();
  await admin.connect();
  try {
    const [committed] = await admin.fetchOffsets({ groupId: `${space.name}.${group}`, topics: [topic] });
    const ends = await admin.fetchTopicOffsets(topic);
    return {
      committed: committed!.partitions.reduce((sum, { offset }) => sum + Math.max(0, Number(offset)), 0),
      // Without the log's identity: the announced batches.
      metadata: committed!.partitions.map(({ metadata }) => (metadata ?? '').replace(/^.*\|/, '')).join(''),
      end: ends.reduce((sum, { high }) => sum + Number(high), 0),
    };
  } finally {
    await admin.disconnect();
  }
}

export const PURCHASES_GROUP = 'ingest.purchases';

/** Until all of the topic is settled and committed, and no batch is announced any more. */
export async function untilCommitted(space: IngestSpace, timeoutMs = 20_000): Promise<void> {
  await eventually(
    async () => {
      const { committed, end, metadata } = await progress(
        space,
        space.config.TOPIC_PURCHASES,
        PURCHASES_GROUP,
      );
      expect({ committed, metadata }).toEqual({ committed: end, metadata: '' });
    },
    timeoutMs,
    100,
  );
}
