import type { Kafka } from 'kafkajs';
import { RemitError, type DeadLetterCode } from '../contracts/errors';
import { HEADERS } from '../contracts/messages';
import { DeliveryDeadLetter } from '../contracts/webhooks';
import type { Config } from './config';
import { headersToStrings, type OutgoingMessage } from './kafka';
import { printable } from './terminal';
import { allTopics, deadLetterTopic } from './topics';
import { commitFor, rangesOf, withAdmin, type PartitionRange, type StoredMessage } from './topic-reader';

/** Marks a message that came back from its DLQ: `<dlq>/<partition>/<offset>`. */
export const REDRIVEN = 'remit-redriven-from';
const names = HEADERS.deadLetter;

/** Every dead-letter topic there is. */
export const dlqTopics = (config: Config): string[] =>
  allTopics(config).filter(
    (topic) =>
      topic === config.TOPIC_PURCHASES_DLQ ||
      topic === config.TOPIC_WEBHOOK_DELIVERY_DLQ ||
      topic.endsWith('.dlq'),
  );

/** The dead-letter topic of this name, or of the topic of this name; undefined when there is none. */
export function findDlq(config: Config, topic: string): string | undefined {
  return dlqTopics(config).find(
    (name) => name === topic || name === `${topic}.dlq` || name === deadLetterTopic(config, topic),
  );
}

/** Whose dead letters lie in a DLQ; null: deliveries. */
export function sourceOfDlq(config: Config, dlq: string): string | null {
  return allTopics(config).find((topic) => deadLetterTopic(config, topic) === dlq) ?? null;
}

/**
 * What has been redriven or given up of a DLQ: the offsets of a consumer group of its own, committed when the messages are
 * where they belong; the metadata of an offset names those beyond it that are done too. Brokers forget the offsets of a
 * group that does nothing for `offsets.retention.minutes` (a week).
 */
export const redriveGroup = (config: Config, dlq: string) => `${config.KAFKA_GROUP_PREFIX}.redrive.${dlq}`;

/** Offsets from `from` up to, not including, `to`. */
interface Span {
  from: bigint;
  to: bigint;
}

/** Brokers take 4,096 bytes of metadata (`offset.metadata.max.bytes`). */
const METADATA_MAX = 4_000;

/** How far a partition of a DLQ is done: everything before `base`, and what is beyond it in `beyond`, ascending. */
export interface Progress extends PartitionRange {
  base: bigint;
  beyond: Span[];
}

/** Metadata as `done:3,5-7`: offsets counted from the committed one. Anything else says nothing. */
function readBeyond(metadata: string | null | undefined, base: bigint): Span[] {
  if (!metadata?.startsWith('done:')) return [];
  return metadata
    .slice('done:'.length)
    .split(',')
    .flatMap((text) => {
      const [, first, last = first] = /^(\d{1,18})(?:-(\d{1,18}))?$/.exec(text) ?? [];
      return first === undefined || last === undefined
        ? []
        : [{ from: base + BigInt(first), to: base + BigInt(last) + 1n }];
    });
}

/** @throws RemitError conflict when it is more than brokers take. */
export function writeBeyond({ base, beyond }: Pick<Progress, 'base' | 'beyond'>): string {
  if (beyond.length === 0) return '';
  const spans = beyond.map(({ from, to }) => {
    const last = to - 1n - base;
    return from - base === last ? String(last) : `${from - base}-${last}`;
  });
  const text = `done:${spans.join(',')}`;
  if (text.length > METADATA_MAX)
    throw new RemitError(
      'conflict',
      'Too many done letters lie between letters that still wait: redrive or purge the oldest first.',
    );
  return text;
}

/** What is done of a partition from an offset on. */
export const beyondFrom = ({ beyond }: Pick<Progress, 'beyond'>, offset: bigint): Span[] =>
  beyond.filter(({ to }) => to > offset).map(({ from, to }) => ({ from: from > offset ? from : offset, to }));

export const isDone = ({ base, beyond }: Pick<Progress, 'base' | 'beyond'>, offset: bigint): boolean =>
  offset < base || beyond.some(({ from, to }) => from <= offset && offset < to);

/** The same with more offsets done; the base goes on as far as nothing before it waits. */
function withDone<P extends Pick<Progress, 'base' | 'beyond'>>(progress: P, offsets: Iterable<bigint>): P {
  const spans = [...progress.beyond, ...[...offsets].map((from) => ({ from, to: from + 1n }))].sort((a, b) =>
    a.from < b.from ? -1 : a.from > b.from ? 1 : 0,
  );
  let { base } = progress;
  const beyond: Span[] = [];
  for (const { from, to } of spans) {
    const last = beyond.at(-1);
    if (from <= base) base = to > base ? to : base;
    else if (last && from <= last.to) last.to = to > last.to ? to : last.to;
    else beyond.push({ from, to });
  }
  return { ...progress, base, beyond };
}

export interface DlqState {
  name: string;
  /** Everything that lies there, and how far each partition is done. */
  partitions: Progress[];
}

/** @throws RemitError not_found when the brokers have no such topic. */
export async function dlqState(kafka: Kafka, config: Config, name: string): Promise<DlqState> {
  return withAdmin(kafka, async (admin) => {
    const all = await rangesOf(admin, name).catch((error: unknown) => {
      if (!/does not host this topic-partition|UNKNOWN_TOPIC/i.test(String(error))) throw error;
      throw new RemitError(
        'not_found',
        `there is no topic ${name} at ${config.KAFKA_BROKERS.join(',')}: run remit migrate`,
      );
    });
    const [found] = await admin.fetchOffsets({ groupId: redriveGroup(config, name), topics: [name] });
    const committed = new Map((found?.partitions ?? []).map((each) => [each.partition, each]));
    const partitions = all.map((range): Progress => {
      const at = committed.get(range.partition);
      const offset = BigInt(at?.offset ?? -1);
      const base = offset < range.low ? range.low : offset > range.high ? range.high : offset;
      const beyond = readBeyond(at?.metadata, offset).filter(({ to }) => to <= range.high);
      return withDone({ ...range, base, beyond }, []);
    });
    return { name, partitions };
  });
}

const lengthOf = (spans: readonly Span[]): bigint => spans.reduce((sum, { from, to }) => sum + to - from, 0n);

/** Letters that lie there. */
export const lyingIn = ({ partitions }: DlqState): bigint =>
  partitions.reduce((sum, { low, high }) => sum + high - low, 0n);

/** Letters that were neither redriven nor given up. */
export const waitingIn = ({ partitions }: DlqState): bigint =>
  partitions.reduce((sum, { base, high, beyond }) => sum + high - base - lengthOf(beyond), 0n);

/** What is still to be looked at of each partition; some of it may be done. */
export const rangesLeft = ({ partitions }: DlqState): PartitionRange[] =>
  partitions.map(({ partition, base, high }) => ({ partition, low: base, high }));

/**
 * Commits that these offsets of a DLQ are done.
 * @throws GroupIsBusy when another redrive of it runs; RemitError conflict when there are too many gaps.
 */
export async function commitDone(
  kafka: Kafka,
  config: Config,
  state: DlqState,
  done: ReadonlyMap<number, readonly bigint[]>,
): Promise<DlqState> {
  const partitions = state.partitions.map((each) => withDone(each, done.get(each.partition) ?? []));
  const group = {
    topic: state.name,
    groupId: redriveGroup(config, state.name),
    sessionTimeoutMs: config.KAFKA_SESSION_TIMEOUT_MS,
  };
  await commitFor(
    kafka,
    group,
    partitions
      .filter(({ partition }) => (done.get(partition)?.length ?? 0) > 0)
      .map((each) => ({ partition: each.partition, offset: each.base, metadata: writeBeyond(each) })),
  );
  return { ...state, partitions };
}

/**
 * Deletes what lies before these offsets. What is deleted can't be brought back.
 * @returns how many letters.
 */
export async function deleteBefore(
  kafka: Kafka,
  { name, partitions }: DlqState,
  upTo: (progress: Progress) => bigint,
): Promise<bigint> {
  const doomed = partitions
    .map((each) => ({ partition: each.partition, low: each.low, high: upTo(each) }))
    .filter(({ low, high }) => high > low);
  if (doomed.length > 0)
    await withAdmin(kafka, async (admin) => {
      // The client learns of the topic's leaders by it.
      await admin.fetchTopicOffsets(name);
      await admin.deleteTopicRecords({
        topic: name,
        partitions: doomed.map(({ partition, high }) => ({ partition, offset: String(high) })),
      });
    });
  return doomed.reduce((sum, { low, high }) => sum + high - low, 0n);
}

// ---------------------------------------------------------------------------------------------------- redriving

export interface RedriveAccess {
  config: Config;
  /** Resolves when all in-sync replicas have the message. */
  producer: { send(message: OutgoingMessage): Promise<void> };
  /**
   * Sends a delivery again if it is exhausted: deliveries are rows, not messages.
   * @returns why it can't be sent again, or undefined.
   */
  resendDelivery: (deliveryId: string, tenantId: string) => Promise<string | undefined>;
}

/**
 * Puts one dead letter back where it came from, with key, value and headers as they were, the first time of failure and
 * the attempts kept, so that a message that fails again counts on, and a header that says where it was. An exhausted
 * delivery is sent again instead. Repeated, it changes nothing twice: the message's reader finds a duplicate.
 * @returns why it can't be, or undefined when it is.
 * @throws when the brokers, or whoever sends the delivery again, do not take it.
 */
export async function redriveLetter(
  access: RedriveAccess,
  letter: StoredMessage,
): Promise<string | undefined> {
  return letter.topic === access.config.TOPIC_WEBHOOK_DELIVERY_DLQ
    ? resend(access, letter)
    : putBack(access, letter);
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

async function putBack(
  { producer, config }: RedriveAccess,
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

async function resend(
  { resendDelivery }: RedriveAccess,
  { value }: StoredMessage,
): Promise<string | undefined> {
  const letter = DeliveryDeadLetter.safeParse(jsonOf(value));
  if (!letter.success) return 'it is no dead letter of a delivery';
  const { id, tenantId } = letter.data.delivery;
  return resendDelivery(id, tenantId);
}

function jsonOf(value: Buffer | null): unknown {
  try {
    return JSON.parse(value?.toString() ?? 'null');
  } catch {
    return undefined;
  }
}
