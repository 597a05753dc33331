import type { Kafka } from 'kafkajs';
import type { DeadLetterCode } from '../contracts/errors';
import { HEADERS } from '../contracts/messages';
import { DeliveryDeadLetter } from '../contracts/webhooks';
import type { Config } from '../platform/config';
import { createKafka, headersToStrings, MessageProducer } from '../platform/kafka';
import type { Logger } from '../platform/logging';
import { createTable } from '../platform/table';
import { printable } from '../platform/terminal';
import { allTopics, deadLetterTopic } from '../platform/topics';
import {
  eachMessage,
  rangesOf,
  readTopic,
  withAdmin,
  workOff,
  type PartitionRange,
  type StoredMessage,
} from '../platform/topic-reader';
import { ApiRefusal } from './api-call';
import { letterAsJson, letterAsText } from './dlq-letters';

/** Marks a message that came back from its DLQ: `<dlq>/<partition>/<offset>`. */
export const REDRIVEN = 'remit-redriven-from';
const names = HEADERS.deadLetter;

export interface DlqAccess {
  config: Config;
  log: Logger;
  say: (line: string) => void;
  /**
   * Sends a delivery again if it is exhausted; from the API, because deliveries are rows, not messages.
   * @throws ApiRefusal when the API says no.
   */
  resendDelivery: (deliveryId: string, tenantId: string) => Promise<void>;
}

/** Every dead-letter topic there is. */
export const dlqTopics = (config: Config): string[] =>
  allTopics(config).filter(
    (topic) =>
      topic === config.TOPIC_PURCHASES_DLQ ||
      topic === config.TOPIC_WEBHOOK_DELIVERY_DLQ ||
      topic.endsWith('.dlq'),
  );

function requireDlq(config: Config, topic: string): string {
  const known = dlqTopics(config);
  const found = known.find(
    (name) => name === topic || name === `${topic}.dlq` || name === deadLetterTopic(config, topic),
  );
  if (!found)
    throw new Error(`${topic} is no dead-letter topic; there are:\n  ${[...new Set(known)].join('\n  ')}`);
  return found;
}

/**
 * What has been redriven of a DLQ: the offsets of a consumer group of its own, committed when the messages are where
 * they belong. Brokers forget the offsets of a group that does nothing for `offsets.retention.minutes` (a week).
 */
const redriveGroup = (config: Config, dlq: string) => `${config.KAFKA_GROUP_PREFIX}.redrive.${dlq}`;

interface DlqState {
  name: string;
  /** Everything that lies there. */
  all: PartitionRange[];
  /** What was not redriven yet. */
  left: PartitionRange[];
}

async function stateOf(kafka: Kafka, config: Config, name: string): Promise<DlqState> {
  return withAdmin(kafka, async (admin) => {
    const all = await rangesOf(admin, name).catch((error: unknown) => {
      throw new Error(`there is no topic ${name} at ${config.KAFKA_BROKERS.join(',')}: run remit migrate`, {
        cause: error,
      });
    });
    const [found] = await admin.fetchOffsets({ groupId: redriveGroup(config, name), topics: [name] });
    const done = new Map(
      (found?.partitions ?? []).map(({ partition, offset }) => [partition, BigInt(offset)]),
    );
    const left = all.map((range) => {
      const at = done.get(range.partition) ?? -1n;
      return { ...range, low: at < range.low ? range.low : at > range.high ? range.high : at };
    });
    return { name, all, left };
  });
}

const countOf = (ranges: readonly PartitionRange[]): bigint =>
  ranges.reduce((sum, { low, high }) => sum + high - low, 0n);

/** Most messages of one DLQ that `ls` reads to tell their reasons. */
const REASONS_READ_MAX = 10_000;

/** `remit dlq ls`: how much lies in each DLQ, how much of it was not redriven yet, and why it is there. */
export async function listDlqs({ config, log, say }: DlqAccess): Promise<void> {
  const kafka = createKafka(config, log);
  const existing = new Set(await withAdmin(kafka, (admin) => admin.listTopics()));
  const table = createTable(['topic', 'messages', 'not redriven', 'reasons of these']);
  for (const topic of new Set(dlqTopics(config))) {
    if (!existing.has(topic)) {
      table.push([topic, 'no such topic', '', 'run remit migrate']);
      continue;
    }
    const { all, left } = await stateOf(kafka, config, topic);
    table.push([
      topic,
      String(countOf(all)),
      String(countOf(left)),
      await reasonsOf(kafka, config, topic, left),
    ]);
  }
  say(table.toString());
}

async function reasonsOf(
  kafka: Kafka,
  config: Config,
  topic: string,
  left: PartitionRange[],
): Promise<string> {
  const counts = new Map<string, number>();
  const visit = { topic, ranges: left, limit: REASONS_READ_MAX, groupPrefix: config.KAFKA_GROUP_PREFIX };
  await eachMessage(kafka, visit, ({ headers }) => {
    const code = headersToStrings(headers)[names.errorCode] ?? 'none given';
    counts.set(code, (counts.get(code) ?? 0) + 1);
  });
  const lines = [...counts]
    .sort(([, a], [, b]) => b - a)
    .map(([code, count]) => `${count} ${printable(code)}`);
  if (countOf(left) > BigInt(REASONS_READ_MAX)) lines.push(`(of the first ${REASONS_READ_MAX})`);
  return lines.join('\n');
}

export interface ShowOptions {
  topic: string;
  limit: number;
  /** Headers and values too. */
  values: boolean;
  /** Also what was redriven. */
  all: boolean;
  /** One JSON object a line, with all bytes in base64. */
  json: boolean;
}

/** `remit dlq show`: the messages of a DLQ, why they are there, and what they say. */
export async function showDlq(
  { config, log, say }: DlqAccess,
  { topic, limit, values, all, json }: ShowOptions,
): Promise<StoredMessage[]> {
  const kafka = createKafka(config, log);
  const state = await stateOf(kafka, config, requireDlq(config, topic));
  const ranges = all ? state.all : state.left;
  const messages = await readTopic(kafka, {
    topic: state.name,
    ranges,
    limit,
    groupPrefix: config.KAFKA_GROUP_PREFIX,
  });
  const redriven = ({ partition, offset }: StoredMessage) =>
    !state.left.some(
      (range) => range.partition === partition && range.low <= BigInt(offset) && BigInt(offset) < range.high,
    );
  for (const message of messages)
    say(
      json
        ? letterAsJson(message, redriven(message))
        : letterAsText(message, { redriven: redriven(message), values }),
    );
  if (json) return messages;
  const lying = countOf(ranges);
  const hidden = countOf(state.all) - lying;
  if (lying === 0n) say(`${state.name}: nothing that was not redriven`);
  else if (lying > BigInt(messages.length)) say(`${messages.length} of ${lying} shown; --limit shows more`);
  if (hidden > 0n) say(`${hidden} redriven before; --all shows them too`);
  return messages;
}

export interface Redriven {
  redriven: number;
  skipped: number;
}

/**
 * `remit dlq redrive`: puts dead letters back where they came from, with key, value and headers as they were, the first
 * time of failure and the attempts kept, so that a message that fails again counts on, and a header that says where it
 * was. How far it has come is committed every few messages, so that a second run begins where the first one ended, also
 * after a crash; what a crash repeats, the reader's own idempotence finds to be a duplicate. An exhausted delivery is
 * sent again by the API instead. What can't be redriven is passed over and said.
 * @throws when the brokers or the API do not take a message, or another redrive of the topic runs; what went before is
 * done and committed.
 */
export async function redriveDlq(
  access: DlqAccess,
  { topic, limit, signal }: { topic: string; limit: number; signal?: AbortSignal | undefined },
): Promise<Redriven> {
  const { config, log, say } = access;
  const kafka = createKafka(config, log);
  const { name, left } = await stateOf(kafka, config, requireDlq(config, topic));
  const producer = new MessageProducer(kafka, config);
  const result: Redriven = { redriven: 0, skipped: 0 };
  const redrive = async (message: StoredMessage): Promise<void> => {
    const place = `${message.partition}/${message.offset}`;
    const tried =
      name === config.TOPIC_WEBHOOK_DELIVERY_DLQ
        ? resend(access, message)
        : putBack(producer, config, message);
    const obstacle = await tried.catch((error: unknown) => {
      const why = error instanceof Error ? error.message : String(error);
      throw new Error(`stopped at ${place}: ${why}`, { cause: error });
    });
    if (obstacle === undefined) result.redriven += 1;
    else {
      result.skipped += 1;
      say(`${place} passed over: ${obstacle}`);
    }
  };
  await producer.connect();
  try {
    await workOff(
      kafka,
      {
        topic: name,
        ranges: left,
        limit,
        groupId: redriveGroup(config, name),
        sessionTimeoutMs: config.KAFKA_SESSION_TIMEOUT_MS,
        signal,
      },
      redrive,
    );
  } finally {
    await producer.stop();
    say(`${result.redriven} redriven, ${result.skipped} passed over`);
  }
  const remaining = countOf(left) - BigInt(result.redriven + result.skipped);
  if (remaining > 0n) say(`${remaining} not redriven yet: run it again, or raise --limit`);
  if (result.redriven > 0)
    say(`They still lie in the DLQ as redriven: remit dlq purge ${name} deletes them.`);
  return result;
}

/** Headers that are about one stay in the DLQ; the first time of failure and the attempts go on. */
const OWN_HEADERS: readonly string[] = [
  names.topic,
  names.partition,
  names.offset,
  names.lastOffset,
  names.errorCode,
  names.errorMessage,
];

const UNREADABLE: DeadLetterCode = 'unreadable_batch';

/** @returns why it can't be put back, or undefined when it is. */
async function putBack(
  producer: MessageProducer,
  config: Config,
  { key, value, headers, topic, partition, offset }: StoredMessage,
): Promise<string | undefined> {
  const { [names.topic]: target, [names.errorCode]: code } = headersToStrings(headers);
  if (code === UNREADABLE) return 'it holds the bytes of a batch that could not be read, and is no message';
  if (target === undefined) return `it has no header ${names.topic}`;
  const { [names.lost]: lost } = headersToStrings(headers);
  if (lost !== undefined)
    return `it is what was read of a message that is lost (${printable(lost)}): ask its sender for it again`;
  // Whoever may write to a DLQ must not write to every topic by it.
  if (deadLetterTopic(config, target) !== topic || !allTopics(config).includes(target))
    return `${printable(target)} is not the topic that this DLQ belongs to`;
  const kept = Object.fromEntries(
    Object.entries(headers).filter(([header]) => !OWN_HEADERS.includes(header)),
  );
  await producer.send({
    topic: target,
    key,
    value,
    headers: { ...kept, [REDRIVEN]: `${topic}/${partition}/${offset}` },
  });
  return undefined;
}

/** @returns why it can't be sent again, or undefined when the API has taken it. */
async function resend({ resendDelivery }: DlqAccess, { value }: StoredMessage): Promise<string | undefined> {
  const letter = DeliveryDeadLetter.safeParse(jsonOf(value));
  if (!letter.success) return 'it is no dead letter of a delivery';
  const { id, tenantId } = letter.data.delivery;
  try {
    await resendDelivery(id, tenantId);
    return undefined;
  } catch (error) {
    // No longer kept, not exhausted any more, or its subscription takes nothing: that does not change by waiting.
    if (error instanceof ApiRefusal && [404, 409, 422].includes(error.status))
      return `delivery ${id}: ${error.message}`;
    throw error;
  }
}

function jsonOf(value: Buffer | null): unknown {
  try {
    return JSON.parse(value?.toString() ?? 'null');
  } catch {
    return undefined;
  }
}

export interface PurgeOptions {
  topic: string;
  /** Also what was not redriven. */
  all: boolean;
  /** Asked with what would be deleted. */
  confirm: (question: string) => Promise<boolean>;
}

/**
 * `remit dlq purge`: deletes what was redriven, or everything. What is deleted can't be brought back.
 * @returns how many messages; 0 too when it was not confirmed.
 */
export async function purgeDlq(
  { config, log, say }: DlqAccess,
  { topic, all, confirm }: PurgeOptions,
): Promise<bigint> {
  const kafka = createKafka(config, log);
  const state = await stateOf(kafka, config, requireDlq(config, topic));
  const left = countOf(state.left);
  const doomed = state.all
    .map(({ partition, low, high }) => ({
      partition,
      low,
      high: all ? high : (state.left.find((range) => range.partition === partition)?.low ?? low),
    }))
    .filter(({ low, high }) => high > low);
  const count = countOf(doomed);
  if (count === 0n) {
    say(
      `${state.name}: nothing to delete${left > 0n ? `; ${left} not redriven, which --all would delete too` : ''}`,
    );
    return 0n;
  }
  const warning = all && left > 0n ? ` ${left} of them were not redriven.` : '';
  if (!(await confirm(`Delete ${count} messages of ${state.name}?${warning}`))) {
    say('Nothing was deleted.');
    return 0n;
  }
  await withAdmin(kafka, async (admin) => {
    // The client learns of the topic's leaders by it.
    await admin.fetchTopicOffsets(state.name);
    await admin.deleteTopicRecords({
      topic: state.name,
      partitions: doomed.map(({ partition, high }) => ({ partition, offset: String(high) })),
    });
  });
  say(`${count} deleted`);
  return count;
}
