import { randomUUID } from 'node:crypto';
import type { Admin, Kafka } from 'kafkajs';
import { headersToStrings } from './kafka';

/** A message where it lies. */
export interface StoredMessage {
  topic: string;
  partition: number;
  offset: string;
  timestampMs: number;
  key: Buffer | null;
  value: Buffer | null;
  headers: Record<string, string>;
}

/** What a partition holds: from `low` up to, not including, `high`. */
export interface PartitionRange {
  partition: number;
  low: bigint;
  high: bigint;
}

/** Runs something with an admin client and closes it. */
export async function withAdmin<T>(kafka: Kafka, run: (admin: Admin) => Promise<T>): Promise<T> {
  const admin = kafka.admin({ retry: { retries: 3 } });
  await admin.connect();
  try {
    return await run(admin);
  } finally {
    await admin.disconnect();
  }
}

/** The offsets that each partition of a topic holds. @throws when there is no such topic. */
export async function rangesOf(admin: Admin, topic: string): Promise<PartitionRange[]> {
  const offsets = await admin.fetchTopicOffsets(topic);
  return offsets
    .map(({ partition, low, high }) => ({ partition, low: BigInt(low), high: BigInt(high) }))
    .sort((a, b) => a.partition - b.partition);
}

/** Longest wait for a message that the offsets say is there. */
const SILENCE_MS = 15_000;

/**
 * Reads from the beginning of a topic up to where the ranges end, at most `limit` messages. Commits nothing and leaves
 * no consumer group behind, so that it may be repeated.
 * @throws when the brokers are silent for fifteen seconds.
 */
export async function readTopic(
  kafka: Kafka,
  {
    topic,
    ranges,
    limit,
    groupPrefix,
  }: { topic: string; ranges: readonly PartitionRange[]; limit: number; groupPrefix: string },
): Promise<StoredMessage[]> {
  const ends = new Map(
    ranges.filter(({ low, high }) => low < high).map(({ partition, high }) => [partition, high]),
  );
  if (ends.size === 0 || limit === 0) return [];
  const groupId = `${groupPrefix}.reader-${randomUUID()}`;
  const consumer = kafka.consumer({ groupId });
  await consumer.connect();
  const found: StoredMessage[] = [];
  try {
    await consumer.subscribe({ topic, fromBeginning: true });
    await new Promise<void>((resolve, reject) => {
      const silence = setTimeout(() => reject(new Error(`${topic}: the brokers do not answer`)), SILENCE_MS);
      const finish = () => {
        clearTimeout(silence);
        resolve();
      };
      const take = (message: StoredMessage): void => {
        silence.refresh();
        const end = ends.get(message.partition);
        if (end === undefined) return;
        if (BigInt(message.offset) < end && found.length < limit) found.push(message);
        if (BigInt(message.offset) >= end - 1n) ends.delete(message.partition);
        if (ends.size === 0 || found.length >= limit) finish();
      };
      const run = consumer.run({
        autoCommit: false,
        eachMessage: ({ partition, message }) => {
          const { offset, timestamp, key, value, headers } = message;
          take({
            topic,
            partition,
            offset,
            timestampMs: Number(timestamp),
            key,
            value,
            headers: headersToStrings(headers),
          });
          return Promise.resolve();
        },
      });
      run.catch(reject);
    });
  } finally {
    await consumer.disconnect();
    await withAdmin(kafka, (admin) => admin.deleteGroups([groupId])).catch(() => undefined);
  }
  return found.sort((a, b) => a.partition - b.partition || Number(BigInt(a.offset) - BigInt(b.offset)));
}
