import type { Kafka } from 'kafkajs';
import { HEADERS } from '../contracts/messages';
import { DeliveryDeadLetter } from '../contracts/webhooks';
import type { Config } from '../platform/config';
import { createKafka, MessageProducer } from '../platform/kafka';
import type { Logger } from '../platform/logging';
import { createTable } from '../platform/table';
import { allTopics } from '../platform/topics';
import {
  rangesOf,
  readTopic,
  withAdmin,
  type PartitionRange,
  type StoredMessage,
} from '../platform/topic-reader';

/** Marks a message that came back from its DLQ, so that nobody wonders; and, on the DLQ's own marker, what it was. */
const REDRIVEN = 'remit-redriven-from';
const names = HEADERS.deadLetter;

export interface DlqAccess {
  config: Config;
  log: Logger;
  say: (line: string) => void;
  /** Sends an exhausted delivery again; from the API, because deliveries are rows, not messages. */
  resendDelivery: (deliveryId: string, tenantId: string) => Promise<void>;
}

/** Every dead-letter topic there is. */
export const dlqTopics = (config: Config): string[] =>
  allTopics(config).filter((topic) => topic.endsWith('.dlq'));

function requireDlq(config: Config, topic: string): string {
  const known = dlqTopics(config);
  const found = known.find((name) => name === topic || name === `${topic}.dlq`);
  if (!found) throw new Error(`${topic} is no dead-letter topic; there are ${known.join(', ')}`);
  return found;
}

/** What has been redriven: the consumer group's offsets of a DLQ, committed after the messages are where they belong. */
const redriveGroup = (config: Config) => `${config.KAFKA_GROUP_PREFIX}.redrive`;

async function committed(kafka: Kafka, config: Config, topic: string): Promise<Map<number, bigint>> {
  const [found] = await withAdmin(kafka, (admin) =>
    admin.fetchOffsets({ groupId: redriveGroup(config), topics: [topic] }),
  );
  return new Map((found?.partitions ?? []).map(({ partition, offset }) => [partition, BigInt(offset)]));
}

/** `remit dlq ls`: how much lies in each DLQ, and how much of it was not redriven yet. */
export async function listDlqs({ config, log, say }: DlqAccess): Promise<void> {
  const kafka = createKafka(config, log);
  const table = createTable(['topic', 'messages', 'not redriven']);
  for (const topic of dlqTopics(config)) {
    const ranges = await withAdmin(kafka, (admin) => rangesOf(admin, topic)).catch(() => undefined);
    if (!ranges) {
      table.push([topic, '(there is no such topic)', '']);
      continue;
    }
    const done = await committed(kafka, config, topic);
    const all = ranges.reduce((sum, { low, high }) => sum + high - low, 0n);
    const left = ranges.reduce((sum, range) => sum + range.high - startOf(range, done), 0n);
    table.push([topic, String(all), String(left)]);
  }
  say(table.toString());
}

function startOf({ partition, low }: PartitionRange, done: Map<number, bigint>): bigint {
  const at = done.get(partition) ?? -1n;
  return at > low ? at : low;
}

/** `remit dlq show`: the messages of a DLQ, why they are there, and what they say. */
export async function showDlq(
  { config, log, say }: DlqAccess,
  { topic, limit, values }: { topic: string; limit: number; values: boolean },
): Promise<StoredMessage[]> {
  const kafka = createKafka(config, log);
  const name = requireDlq(config, topic);
  const ranges = await withAdmin(kafka, (admin) => rangesOf(admin, name));
  const messages = await readTopic(kafka, {
    topic: name,
    ranges,
    limit,
    groupPrefix: config.KAFKA_GROUP_PREFIX,
  });
  const done = await committed(kafka, config, name);
  for (const message of messages) {
    const { headers, partition, offset } = message;
    const was = BigInt(offset) < (done.get(partition) ?? -1n) ? '  redriven' : '';
    say(
      `${partition}/${offset}  ${new Date(message.timestampMs).toISOString()}  ${headers[names.errorCode] ?? '?'}` +
        `  attempts ${headers[names.attempts] ?? '?'}  first ${headers[names.firstFailedAt] ?? '?'}` +
        `  key ${message.key?.toString() ?? ''}${was}`,
    );
    say(`    ${headers[names.errorMessage] ?? ''}`);
    if (values) say(`    ${message.value?.toString() ?? ''}`);
  }
  return messages;
}

export interface Redriven {
  redriven: number;
  skipped: number;
}

/**
 * `remit dlq redrive`: puts dead letters back where they came from, with key, value and headers as they were and the
 * first time of failure and the attempts kept, so that a message that fails again counts on. How far it has come is
 * committed, so that a second run begins where the first one ended; what a crash in between repeats, the reader's own
 * idempotence finds to be a duplicate. An exhausted delivery is sent again by the API instead.
 * @throws when the brokers or the API do not take a message; what went before is done.
 */
export async function redriveDlq(
  access: DlqAccess,
  { topic, limit }: { topic: string; limit: number },
): Promise<Redriven> {
  const { config, log, say } = access;
  const kafka = createKafka(config, log);
  const name = requireDlq(config, topic);
  const [all, done] = await Promise.all([
    withAdmin(kafka, (admin) => rangesOf(admin, name)),
    committed(kafka, config, name),
  ]);
  const ranges = all
    .map((range) => ({ ...range, low: startOf(range, done) }))
    .filter(({ low, high }) => low < high);
  // Reading begins at the topic's beginning: what was redriven is passed over and does not count for the limit.
  const passed = all.reduce((sum, range) => sum + startOf(range, done) - range.low, 0n);
  const messages = (
    await readTopic(kafka, {
      topic: name,
      ranges: all,
      limit: limit + Number(passed),
      groupPrefix: config.KAFKA_GROUP_PREFIX,
    })
  )
    .filter(({ partition, offset }) =>
      ranges.some((range) => range.partition === partition && BigInt(offset) >= range.low),
    )
    .slice(0, limit);
  const producer = new MessageProducer(kafka, config);
  await producer.connect();
  const result: Redriven = { redriven: 0, skipped: 0 };
  const reached = new Map<number, bigint>();
  try {
    for (const message of messages) {
      const done =
        name === config.TOPIC_WEBHOOK_DELIVERY_DLQ
          ? await resend(access, message)
          : await putBack(producer, message);
      result[done ? 'redriven' : 'skipped']++;
      reached.set(message.partition, BigInt(message.offset) + 1n);
    }
  } finally {
    await producer.stop();
    if (reached.size > 0)
      await withAdmin(kafka, (admin) =>
        admin.setOffsets({
          groupId: redriveGroup(config),
          topic: name,
          partitions: [...reached].map(([partition, offset]) => ({ partition, offset: String(offset) })),
        }),
      );
  }
  say(`${result.redriven} redriven, ${result.skipped} passed over`);
  return result;
}

async function putBack(
  producer: MessageProducer,
  { key, value, headers, topic, partition, offset }: StoredMessage,
): Promise<boolean> {
  const target = headers[names.topic];
  if (target === undefined) return false;
  const own: string[] = [names.topic, names.partition, names.offset, names.errorCode, names.errorMessage];
  const kept = Object.fromEntries(Object.entries(headers).filter(([header]) => !own.includes(header)));
  await producer.send({
    topic: target,
    key,
    value,
    headers: { ...kept, [REDRIVEN]: `${topic}/${partition}/${offset}` },
  });
  return true;
}

async function resend({ resendDelivery }: DlqAccess, { value }: StoredMessage): Promise<boolean> {
  const letter = DeliveryDeadLetter.safeParse(JSON.parse(value?.toString() ?? 'null'));
  if (!letter.success) return false;
  const { id, tenantId } = letter.data.delivery;
  await resendDelivery(id, tenantId);
  return true;
}

/** `remit dlq purge`: deletes what was redriven, or everything. What is deleted can't be brought back. */
export async function purgeDlq(
  { config, log, say }: DlqAccess,
  { topic, all }: { topic: string; all: boolean },
): Promise<bigint> {
  const kafka = createKafka(config, log);
  const name = requireDlq(config, topic);
  const done = await committed(kafka, config, name);
  return withAdmin(kafka, async (admin) => {
    const ranges = await rangesOf(admin, name);
    const upTo = ranges
      .map((range) => ({ ...range, to: all ? range.high : startOf(range, done) }))
      .filter(({ low, to }) => to > low);
    if (upTo.length > 0)
      await admin.deleteTopicRecords({
        topic: name,
        partitions: upTo.map(({ partition, to }) => ({ partition, offset: String(to) })),
      });
    const deleted = upTo.reduce((sum, { low, to }) => sum + to - low, 0n);
    say(`${deleted} deleted`);
    return deleted;
  });
}
