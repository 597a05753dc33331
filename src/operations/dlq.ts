import { createKafka, headersToStrings, MessageProducer } from '../platform/kafka';
import type { Kafka } from 'kafkajs';
import {
  beyondFrom,
  deleteBefore,
  dlqState,
  dlqTopics,
  findDlq,
  isDone,
  lyingIn,
  rangesLeft,
  redriveGroup,
  redriveLetter,
  waitingIn,
  writeBeyond,
  type DlqState,
} from '../platform/dead-letter-topics';
import { HEADERS } from '../contracts/messages';
import type { Config } from '../platform/config';
import type { Logger } from '../platform/logging';
import { createTable } from '../platform/table';
import { printable } from '../platform/terminal';
import { eachMessage, readTopic, withAdmin, workOff, type StoredMessage } from '../platform/topic-reader';
import { ApiRefusal } from './api-call';
import { letterAsJson, letterAsText } from './dlq-letters';

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

function requireDlq(config: Config, topic: string): string {
  const found = findDlq(config, topic);
  if (found === undefined)
    throw new Error(
      `${topic} is no dead-letter topic; there are:\n  ${[...new Set(dlqTopics(config))].join('\n  ')}`,
    );
  return found;
}

const waits = ({ partitions }: DlqState, { partition, offset }: StoredMessage): boolean =>
  !isDone(
    partitions.find((each) => each.partition === partition)!,
    BigInt(offset),
  );

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
    const state = await dlqState(kafka, config, topic);
    table.push([
      topic,
      String(lyingIn(state)),
      String(waitingIn(state)),
      await reasonsOf(kafka, config, state),
    ]);
  }
  say(table.toString());
}

async function reasonsOf(kafka: Kafka, config: Config, state: DlqState): Promise<string> {
  const counts = new Map<string, number>();
  const visit = {
    topic: state.name,
    ranges: rangesLeft(state),
    limit: REASONS_READ_MAX,
    groupPrefix: config.KAFKA_GROUP_PREFIX,
  };
  await eachMessage(kafka, visit, (message) => {
    if (!waits(state, message)) return;
    const code = headersToStrings(message.headers)[names.errorCode] ?? 'none given';
    counts.set(code, (counts.get(code) ?? 0) + 1);
  });
  const lines = [...counts]
    .sort(([, a], [, b]) => b - a)
    .map(([code, count]) => `${count} ${printable(code)}`);
  if (waitingIn(state) > BigInt(REASONS_READ_MAX)) lines.push(`(of the first ${REASONS_READ_MAX})`);
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
  const state = await dlqState(kafka, config, requireDlq(config, topic));
  const found = await readTopic(kafka, {
    topic: state.name,
    ranges: all ? state.partitions : rangesLeft(state),
    // Those that are done lie among them.
    limit: all ? limit : limit + Number(lyingIn(state) - waitingIn(state)),
    groupPrefix: config.KAFKA_GROUP_PREFIX,
  });
  const messages = found.filter((message) => all || waits(state, message)).slice(0, limit);
  for (const message of messages)
    say(
      json
        ? letterAsJson(message, !waits(state, message))
        : letterAsText(message, { redriven: !waits(state, message), values }),
    );
  if (json) return messages;
  const lying = all ? lyingIn(state) : waitingIn(state);
  const hidden = lyingIn(state) - lying;
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
  const state = await dlqState(kafka, config, requireDlq(config, topic));
  const { name } = state;
  const producer = new MessageProducer(kafka, config);
  const result: Redriven = { redriven: 0, skipped: 0 };
  const resendDelivery = (id: string, tenantId: string) =>
    access.resendDelivery(id, tenantId).then(
      () => undefined,
      (error: unknown) => {
        // No longer kept, not exhausted any more, or its subscription takes nothing: that does not change by waiting.
        if (error instanceof ApiRefusal && [404, 409, 422].includes(error.status))
          return `delivery ${id}: ${error.message}`;
        throw error;
      },
    );
  const redrive = async (message: StoredMessage): Promise<void> => {
    if (!waits(state, message)) return;
    const place = `${message.partition}/${message.offset}`;
    const obstacle = await redriveLetter({ config, producer, resendDelivery }, message).catch(
      (error: unknown) => {
        const why = error instanceof Error ? error.message : String(error);
        throw new Error(`stopped at ${place}: ${why}`, { cause: error });
      },
    );
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
        ranges: rangesLeft(state),
        limit,
        groupId: redriveGroup(config, name),
        // Those beyond that were redriven alone stay so.
        metadataOf: (partition, offset) => {
          const progress = state.partitions.find((each) => each.partition === partition)!;
          return writeBeyond({ base: offset, beyond: beyondFrom(progress, offset) });
        },
        sessionTimeoutMs: config.KAFKA_SESSION_TIMEOUT_MS,
        signal,
      },
      redrive,
    );
  } finally {
    await producer.stop();
    say(`${result.redriven} redriven, ${result.skipped} passed over`);
  }
  const remaining = waitingIn(state) - BigInt(result.redriven + result.skipped);
  if (remaining > 0n) say(`${remaining} not redriven yet: run it again, or raise --limit`);
  if (result.redriven > 0)
    say(`They still lie in the DLQ as redriven: remit dlq purge ${name} deletes them.`);
  return result;
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
  const state = await dlqState(kafka, config, requireDlq(config, topic));
  const left = waitingIn(state);
  const upTo = ({ base, high }: DlqState['partitions'][number]) => (all ? high : base);
  const count = state.partitions.reduce((sum, each) => sum + upTo(each) - each.low, 0n);
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
  await deleteBefore(kafka, state, upTo);
  say(`${count} deleted`);
  return count;
}
