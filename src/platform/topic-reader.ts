import { randomUUID } from 'node:crypto';
import type { Admin, Consumer, EachBatchPayload, IHeaders, Kafka, KafkaMessage } from 'kafkajs';
import type { DeadLetterCode } from '../contracts/errors';
import { HEADERS } from '../contracts/messages';
import { endConsumer, soundHeaders } from './kafka';
import { unreadableBatch, unreadableReason } from './record-batch';

/** A message where it lies. */
export interface StoredMessage {
  topic: string;
  partition: number;
  offset: string;
  timestampMs: number;
  key: Buffer | null;
  value: Buffer | null;
  /** As they were produced: bytes, repeated ones as lists. */
  headers: IHeaders;
}

/** What a partition holds: from `low` up to, not including, `high`. */
export interface PartitionRange {
  partition: number;
  low: bigint;
  high: bigint;
}

const UNREADABLE_BATCH: DeadLetterCode = 'unreadable_batch';

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
const SILENCE_MS = 30_000;
/** Messages that are handed over together; what a crash repeats is at most so many. */
const CHUNK_MESSAGES = 20;

/** A consumer that failed ends its visit; one that started again by itself would stay in the group forever. */
const ONE_VISIT = {
  allowAutoTopicCreation: false,
  retry: { retries: 5, restartOnFailure: () => Promise.resolve(false) },
};

interface Visit {
  topic: string;
  /** What to read; partitions that are not named are left alone. */
  ranges: readonly PartitionRange[];
  /** At most so many messages. */
  limit: number;
}

/**
 * Shows each message of the ranges to `see`, each partition in its order. Commits nothing and leaves no consumer group
 * behind, so that it may be repeated.
 * @throws when the brokers are silent for thirty seconds.
 */
export async function eachMessage(
  kafka: Kafka,
  { groupPrefix, ...visit }: Visit & { groupPrefix: string },
  see: (message: StoredMessage) => void,
): Promise<void> {
  const groupId = `${groupPrefix}.reader-${randomUUID()}`;
  try {
    await visitRanges(kafka.consumer({ ...ONE_VISIT, groupId }), visit, (messages) => {
      messages.forEach(see);
      return Promise.resolve();
    });
  } finally {
    await withAdmin(kafka, (admin) => admin.deleteGroups([groupId])).catch(() => undefined);
  }
}

/** The messages of the ranges by partition and offset, at most `limit`, all of them in memory: see eachMessage. */
export async function readTopic(
  kafka: Kafka,
  visit: Visit & { groupPrefix: string },
): Promise<StoredMessage[]> {
  const found: StoredMessage[] = [];
  await eachMessage(kafka, visit, (message) => void found.push(message));
  return found.sort(
    (a, b) => a.partition - b.partition || Math.sign(Number(BigInt(a.offset) - BigInt(b.offset))),
  );
}

interface Group {
  groupId: string;
  sessionTimeoutMs: number;
}

/** @throws GroupIsBusy when a process is a member of the group. */
async function requireNobodyElse(kafka: Kafka, { groupId, sessionTimeoutMs }: Group): Promise<void> {
  const {
    groups: [group],
  } = await withAdmin(kafka, (admin) => admin.describeGroups([groupId]));
  if ((group?.members.length ?? 0) > 0)
    throw new GroupIsBusy(
      `this is already running, or was interrupted a moment ago (consumer group ${groupId} has a member); ` +
        `try again in ${Math.ceil(sessionTimeoutMs / 1_000)} s`,
    );
}

/** Another process is at work for the same group. */
export class GroupIsBusy extends Error {}

/** Longest wait for becoming the group's one member. */
const JOIN_TIMEOUT_MS = 30_000;

/**
 * Commits offsets of a topic, with metadata, for a group that nobody is a member of.
 * @throws GroupIsBusy; what the brokers say when they do not take it.
 */
export async function commitFor(
  kafka: Kafka,
  { topic, groupId, sessionTimeoutMs }: Group & { topic: string },
  offsets: readonly { partition: number; offset: bigint; metadata: string }[],
): Promise<void> {
  if (offsets.length === 0) return;
  await requireNobodyElse(kafka, { groupId, sessionTimeoutMs });
  const consumer = kafka.consumer({ ...ONE_VISIT, groupId, sessionTimeout: sessionTimeoutMs });
  await consumer.connect();
  let timer: NodeJS.Timeout | undefined;
  let refused: GroupIsBusy | undefined;
  let running: Promise<void> | undefined;
  try {
    await consumer.subscribe({ topic, fromBeginning: true });
    await new Promise<void>((resolve, reject) => {
      timer = setTimeout(() => reject(new Error(`${groupId} could not be joined`)), JOIN_TIMEOUT_MS);
      consumer.on(consumer.events.CRASH, ({ payload }) => reject(payload.error));
      consumer.on(consumer.events.GROUP_JOIN, ({ payload }) => {
        const mine = payload.memberAssignment[topic] ?? [];
        consumer.pause([{ topic, partitions: mine }]);
        if (!offsets.every(({ partition }) => mine.includes(partition)))
          refused = new GroupIsBusy(`${topic}: another process does the same at the same time`);
      });
      // Resolves when it has joined: before that, kafkajs passes over what it is to commit.
      running = consumer.run({
        autoCommit: false,
        eachBatchAutoResolve: false,
        eachBatch: () => Promise.resolve(),
      });
      running.then(() => (refused ? reject(refused) : resolve()), reject);
    });
    await consumer.commitOffsets(
      offsets.map(({ offset, ...each }) => ({ topic, ...each, offset: String(offset) })),
    );
  } finally {
    clearTimeout(timer);
    await endConsumer(consumer, running);
  }
}

/**
 * Hands each message of the ranges to `handle`, some at a time, and commits for the group how far it came: only what
 * was handled without an error, in the order of the partition.
 * @throws the first error of `handle`; and when another process is at work for the same group.
 */
export async function workOff(
  kafka: Kafka,
  {
    groupId,
    sessionTimeoutMs,
    signal,
    metadataOf,
    ...visit
  }: Visit &
    Group & {
      signal?: AbortSignal | undefined;
      /** What is committed with an offset. */
      metadataOf?: (partition: number, offset: bigint) => string;
    },
  handle: (message: StoredMessage) => Promise<void>,
): Promise<void> {
  await requireNobodyElse(kafka, { groupId, sessionTimeoutMs });
  const consumer = kafka.consumer({ ...ONE_VISIT, groupId, sessionTimeout: sessionTimeoutMs });
  await visitRanges(
    consumer,
    visit,
    async (messages) => {
      const results = await Promise.allSettled(messages.map((message) => handle(message)));
      const failed = results.findIndex(({ status }) => status === 'rejected');
      const last = failed < 0 ? messages.at(-1) : messages[failed - 1];
      if (last)
        await consumer.commitOffsets([
          {
            topic: last.topic,
            partition: last.partition,
            offset: String(BigInt(last.offset) + 1n),
            ...(metadataOf && { metadata: metadataOf(last.partition, BigInt(last.offset) + 1n) }),
          },
        ]);
      const result = results[failed];
      if (result?.status === 'rejected') throw result.reason;
    },
    signal,
  );
}

/** Connects the consumer, hands what lies in the ranges to `take` in chunks of one partition, and disconnects. */
async function visitRanges(
  consumer: Consumer,
  { topic, ranges, limit }: Visit,
  take: (messages: StoredMessage[]) => Promise<void>,
  signal?: AbortSignal,
): Promise<void> {
  const open = new Map(ranges.filter(({ low, high }) => low < high).map((range) => [range.partition, range]));
  if (open.size === 0 || limit <= 0) return;
  let left = limit;
  let over = false;
  let running: Promise<void> | undefined;
  await consumer.connect();
  try {
    await consumer.subscribe({ topic, fromBeginning: true });
    await new Promise<void>((resolve, reject) => {
      const end = (error?: Error): void => {
        over = true;
        clearTimeout(silence);
        if (error) reject(error);
        else resolve();
      };
      const fail = (error: unknown): void =>
        end(error instanceof Error ? error : new Error('not readable', { cause: error }));
      const silence = setTimeout(
        () => end(new Error(`${topic}: the brokers sent nothing for ${SILENCE_MS / 1_000} s; try again`)),
        SILENCE_MS,
      );
      const visitBatch = async (payload: EachBatchPayload): Promise<void> => {
        const { batch } = payload;
        const range = open.get(batch.partition);
        const messages = range ? inRange(batch, range).slice(0, left) : [];
        for (let at = 0; at < messages.length; at += CHUNK_MESSAGES) {
          if (over || signal?.aborted) return end();
          const chunk = messages.slice(at, at + CHUNK_MESSAGES);
          await take(chunk);
          left -= chunk.length;
          silence.refresh();
          await payload.heartbeat();
        }
        payload.resolveOffset(batch.lastOffset());
        if (left <= 0) end();
      };
      // Also told of what has no message for anybody: the ends of transactions, offsets without a record.
      consumer.on(consumer.events.END_BATCH_PROCESS, ({ payload: { partition, lastOffset } }) => {
        const range = open.get(partition);
        if (over || !range || BigInt(lastOffset) < range.high - 1n) return;
        open.delete(partition);
        consumer.pause([{ topic, partitions: [partition] }]);
        if (open.size === 0) end();
      });
      consumer.on(consumer.events.CRASH, ({ payload }) => end(payload.error));
      consumer.on(consumer.events.GROUP_JOIN, ({ payload }) => {
        const mine = payload.memberAssignment[topic] ?? [];
        if ([...open.keys()].some((partition) => !mine.includes(partition)))
          end(
            new Error(`${topic}: another process does the same at the same time; try again when it is done`),
          );
      });
      running = consumer.run({
        autoCommit: false,
        eachBatchAutoResolve: false,
        // An error ends the visit; kafkajs would begin the batch again.
        eachBatch: (payload) => (over ? Promise.resolve() : visitBatch(payload).catch(fail)),
      });
      running.catch(fail);
      for (const { partition, low } of open.values())
        consumer.seek({ topic, partition, offset: String(low) });
    });
  } finally {
    await endConsumer(consumer, running);
  }
}

function inRange(batch: EachBatchPayload['batch'], { low, high }: PartitionRange): StoredMessage[] {
  return batch.messages
    .filter(({ offset }) => BigInt(offset) >= low && BigInt(offset) < high)
    .map((message) => ({
      topic: batch.topic,
      partition: batch.partition,
      offset: message.offset,
      timestampMs: Number(message.timestamp),
      key: message.key,
      value: message.value,
      headers: headersOf(message),
    }));
}

/** In the place of a batch that can't be read stands one message, whose headers say so as those of a dead letter do. */
function headersOf(message: KafkaMessage): IHeaders {
  const unreadable = unreadableBatch(message);
  if (!unreadable) return soundHeaders(message.headers);
  return {
    [HEADERS.deadLetter.errorCode]: UNREADABLE_BATCH,
    [HEADERS.deadLetter.errorMessage]: unreadableReason(unreadable, message.value?.length ?? 0),
  };
}
