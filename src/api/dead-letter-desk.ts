import type { Kafka } from 'kafkajs';
import {
  commitDone,
  deleteBefore,
  dlqState,
  dlqTopics,
  findDlq,
  isDone,
  lyingIn,
  redriveLetter,
  sourceOfDlq,
  waitingIn,
  type DlqState,
  type RedriveAccess,
} from '../platform/dead-letter-topics';
import type { DeadLetter, DeadLetterTopic } from '../contracts/dead-letters';
import { RemitError } from '../contracts/errors';
import { HEADERS } from '../contracts/messages';
import type { Config } from '../platform/config';
import { headersToStrings } from '../platform/kafka';
import type { Logger } from '../platform/logging';
import { MessageReader } from '../platform/message-reader';
import { printable, printableBytes } from '../platform/terminal';
import { GroupIsBusy, withAdmin, type StoredMessage } from '../platform/topic-reader';

/** Letters of a topic that are read to tell their reasons. */
const REASONS_READ_MAX = 1_000;
/** Letters that one request looks at, for a page, a selection or a key. */
const LOOKED_AT_MAX = 5_000;
/** Of a partition, the newest letters among which a key is looked for. */
const OF_KEY_NEWEST = 500;
/** A long value is cut where many are listed. */
const KEY_SHOWN_MAX = 300;
/** One look at all topics serves all who ask within this time. */
const LOOKED_FOR_MS = 2_000;
const names = HEADERS.deadLetter;

export interface DeskDeps {
  kafka: Kafka;
  config: Config;
  log: Logger;
  producer: RedriveAccess['producer'];
}

/** Which letters. All that are given must hold. */
export interface LetterSelection {
  letters?: readonly string[] | undefined;
  code?: string | undefined;
}

export interface FoundLetter {
  message: StoredMessage;
  waits: boolean;
}

export const letterId = ({ partition, offset }: Pick<StoredMessage, 'partition' | 'offset'>) =>
  `${partition}-${offset}`;

const codeOf = ({ headers }: StoredMessage): string =>
  headersToStrings(headers)[names.errorCode] ?? 'none given';

/** A letter as lists show it. */
export function letterSummary(message: StoredMessage, waits: boolean): DeadLetter {
  const { topic, partition, offset, timestampMs, key, value } = message;
  const headers = headersToStrings(message.headers);
  const text = (name: string) => (headers[name] === undefined ? null : printable(headers[name]));
  const attempts = Number(headers[names.attempts] ?? NaN);
  const source = headers[names.topic];
  return {
    ...{ id: letterId(message), topic, partition, offset },
    at: new Date(timestampMs).toISOString(),
    state: waits ? 'waiting' : 'done',
    code: text(names.errorCode),
    reason: text(names.errorMessage),
    attempts: Number.isSafeInteger(attempts) ? attempts : null,
    firstFailedAt: text(names.firstFailedAt),
    key: key === null ? null : printableBytes(key).slice(0, KEY_SHOWN_MAX),
    source:
      source === undefined
        ? null
        : {
            topic: printable(source),
            partition: text(names.partition) ?? '?',
            offset: text(names.offset) ?? '?',
          },
    valueBytes: value?.length ?? null,
  };
}

/**
 * Dead letters for the API: the same state and rules as `remit dlq`, which runs alongside it. Reads are bounded. A topic is
 * worked on by one request at a time; the consumer group keeps other processes away.
 */
export class DeadLetterDesk {
  private readonly reader: MessageReader;
  private readonly busy = new Set<string>();
  private looked: { at: number; topics: Promise<DeadLetterTopic[]> } | undefined;

  constructor(private readonly deps: DeskDeps) {
    this.reader = new MessageReader(deps.kafka, deps.config.KAFKA_GROUP_PREFIX);
  }

  stop(): Promise<void> {
    return this.reader.stop();
  }

  /** Every DLQ, with the reasons of the first that wait. One look serves all who ask within two seconds. */
  overview(): Promise<DeadLetterTopic[]> {
    const last = this.looked;
    if (last && Date.now() - last.at < LOOKED_FOR_MS) return last.topics;
    const topics = this.look();
    this.looked = { at: Date.now(), topics };
    topics.catch(() => (this.looked = undefined));
    return topics;
  }

  private async look(): Promise<DeadLetterTopic[]> {
    const { kafka, config } = this.deps;
    const existing = new Set(await withAdmin(kafka, (admin) => admin.listTopics()));
    const topics: DeadLetterTopic[] = [];
    for (const topic of new Set(dlqTopics(config))) {
      const sourceTopic = sourceOfDlq(config, topic);
      if (!existing.has(topic)) {
        topics.push({
          topic,
          sourceTopic,
          exists: false,
          messages: 0,
          waiting: 0,
          reasons: [],
          complete: true,
        });
        continue;
      }
      const state = await dlqState(kafka, config, topic);
      const reasons = new Map<string, { code: string; waiting: number; oldest: string; newest: string }>();
      let read = 0;
      if (waitingIn(state) > 0n)
        for await (const { message, waits } of this.letters(state)) {
          if (!waits) continue;
          if ((read += 1) > REASONS_READ_MAX) break;
          const code = printable(codeOf(message));
          const at = new Date(message.timestampMs).toISOString();
          const known = reasons.get(code) ?? { code, waiting: 0, oldest: at, newest: at };
          reasons.set(code, {
            code,
            waiting: known.waiting + 1,
            oldest: at < known.oldest ? at : known.oldest,
            newest: at > known.newest ? at : known.newest,
          });
        }
      topics.push({
        ...{ topic, sourceTopic, exists: true },
        messages: Number(lyingIn(state)),
        waiting: Number(waitingIn(state)),
        reasons: [...reasons.values()].sort((a, b) => b.waiting - a.waiting),
        complete: read <= REASONS_READ_MAX,
      });
    }
    return topics;
  }

  /** The letters of a topic after a place, by partition and offset; `more` when there may be others. */
  async list(
    topic: string,
    {
      code,
      state: wanted,
      limit,
      after,
    }: {
      code?: string | undefined;
      state: 'waiting' | 'done' | 'any';
      limit: number;
      after?: string | undefined;
    },
  ): Promise<{ found: FoundLetter[]; next: StoredMessage | null }> {
    const state = await this.state(topic);
    const found: FoundLetter[] = [];
    let lookedAt = 0;
    let last: StoredMessage | null = null;
    for await (const letter of this.letters(state, after, wanted !== 'waiting')) {
      const fits =
        (wanted === 'any' || letter.waits === (wanted === 'waiting')) &&
        (code === undefined || codeOf(letter.message) === code);
      if (fits && found.length === limit) return { found, next: found.at(-1)?.message ?? null };
      if (fits) found.push(letter);
      last = letter.message;
      if ((lookedAt += 1) >= LOOKED_AT_MAX) return { found, next: last };
    }
    return { found, next: null };
  }

  /** One letter. @throws RemitError not_found. */
  async read(topic: string, id: string): Promise<FoundLetter> {
    const state = await this.state(topic);
    const place = placeOf(id);
    const range = state.partitions.find(({ partition }) => partition === place?.partition);
    if (!place || !range || place.offset < range.low || place.offset >= range.high) throw noLetter();
    const [message] = await this.reader.page(state.name, place.partition, place.offset);
    if (message?.offset !== String(place.offset)) throw noLetter();
    return { message, waits: !isDone(range, place.offset) };
  }

  /** Letters under a key, among the newest of each partition. */
  async ofKey(topic: string, key: string): Promise<FoundLetter[]> {
    const state = await dlqState(this.deps.kafka, this.deps.config, topic);
    const newest = state.partitions.map((each) => ({
      ...each,
      low: each.high - each.low > OF_KEY_NEWEST ? each.high - BigInt(OF_KEY_NEWEST) : each.low,
    }));
    const found: FoundLetter[] = [];
    for await (const letter of this.letters({ ...state, partitions: newest }, undefined, true))
      if (letter.message.key?.toString() === key) found.push(letter);
    return found;
  }

  /** Puts letters back, the oldest first, and commits which. @throws RemitError conflict while another does. */
  async redrive(
    topic: string,
    selection: LetterSelection & { limit: number },
    resendDelivery: RedriveAccess['resendDelivery'],
  ): Promise<{ redriven: number; passedOver: { id: string; why: string }[]; waiting: number }> {
    return this.alone(topic, async (state) => {
      const passedOver: { id: string; why: string }[] = [];
      const done = new Map<number, bigint[]>();
      let redriven = 0;
      const { producer, config } = this.deps;
      let after: DlqState = state;
      try {
        for (const { message } of await this.selected(state, selection)) {
          const why = await redriveLetter({ producer, config, resendDelivery }, message);
          if (why !== undefined) {
            passedOver.push({ id: letterId(message), why });
            continue;
          }
          redriven += 1;
          note(done, message);
        }
      } finally {
        after = await this.commit(state, done);
      }
      return { redriven, passedOver, waiting: Number(waitingIn(after)) };
    });
  }

  /** Gives letters up: they wait no more, and those at the beginning are deleted. */
  async purge(
    topic: string,
    { done: those, limit, ...selection }: LetterSelection & { done: boolean; limit: number },
  ): Promise<{ purged: number; deleted: number; waiting: number }> {
    return this.alone(topic, async (state) => {
      const selects = selection.letters !== undefined || selection.code !== undefined;
      const chosen = selects ? await this.selected(state, { ...selection, limit }) : [];
      const given = new Map<number, bigint[]>();
      for (const { message } of chosen) note(given, message);
      const after = await this.commit(state, given);
      const deleted =
        those || chosen.length > 0 ? await deleteBefore(this.deps.kafka, after, ({ base }) => base) : 0n;
      return { purged: chosen.length, deleted: Number(deleted), waiting: Number(waitingIn(after)) };
    });
  }

  private async commit(state: DlqState, done: Map<number, bigint[]>): Promise<DlqState> {
    if (done.size === 0) return state;
    try {
      return await commitDone(this.deps.kafka, this.deps.config, state, done);
    } catch (error) {
      if (error instanceof GroupIsBusy) throw new RemitError('conflict', error.message);
      throw error;
    }
  }

  private async alone<T>(topic: string, run: (state: DlqState) => Promise<T>): Promise<T> {
    const name = this.nameOf(topic);
    if (this.busy.has(name))
      throw new RemitError('conflict', 'Letters of this topic are being processed; try again.');
    this.busy.add(name);
    try {
      return await run(await this.state(topic));
    } finally {
      this.busy.delete(name);
    }
  }

  /** @throws RemitError unprocessable when a letter that was named is not there, or does not wait. */
  private async selected(
    state: DlqState,
    { letters, code, limit }: LetterSelection & { limit: number },
  ): Promise<FoundLetter[]> {
    if (letters !== undefined) {
      const found: FoundLetter[] = [];
      for (const id of new Set(letters)) {
        const letter = await this.read(state.name, id).catch((error: unknown) => {
          if (!(error instanceof RemitError)) throw error;
          throw new RemitError('unprocessable', `There is no letter ${id}.`);
        });
        if (!letter.waits)
          throw new RemitError('unprocessable', `Letter ${id} was redriven or given up before.`);
        if (code === undefined || codeOf(letter.message) === code) found.push(letter);
      }
      return found;
    }
    const found: FoundLetter[] = [];
    let lookedAt = 0;
    for await (const letter of this.letters(state)) {
      if (letter.waits && (code === undefined || codeOf(letter.message) === code)) found.push(letter);
      if (found.length >= limit || (lookedAt += 1) >= LOOKED_AT_MAX) break;
    }
    return found;
  }

  private nameOf(topic: string): string {
    const name = findDlq(this.deps.config, topic);
    if (name === undefined) throw new RemitError('not_found', 'There is no such dead-letter topic.');
    return name;
  }

  private state(topic: string): Promise<DlqState> {
    return dlqState(this.deps.kafka, this.deps.config, this.nameOf(topic));
  }

  /** By partition and offset, after a letter; those before the base, which are all done, only when asked for. */
  private async *letters(
    { name, partitions }: DlqState,
    after?: string,
    doneToo = false,
  ): AsyncIterable<FoundLetter> {
    const place = after === undefined ? undefined : placeOf(after);
    for (const progress of partitions) {
      const { partition, low, base, high } = progress;
      if (place && partition < place.partition) continue;
      let at = doneToo || base < low ? low : base;
      if (place && partition === place.partition && place.offset >= at) at = place.offset + 1n;
      while (at < high) {
        const page = await this.reader.page(name, partition, at);
        for (const message of page) {
          if (BigInt(message.offset) >= high) break;
          yield { message, waits: !isDone(progress, BigInt(message.offset)) };
        }
        const last = page.at(-1);
        if (!last) break;
        at = BigInt(last.offset) + 1n;
      }
    }
  }
}

const noLetter = () => new RemitError('not_found', 'There is no such letter.');

function placeOf(id: string): { partition: number; offset: bigint } | undefined {
  const [, partition, offset] = /^(\d{1,6})-(\d{1,18})$/.exec(id) ?? [];
  return partition === undefined || offset === undefined
    ? undefined
    : { partition: Number(partition), offset: BigInt(offset) };
}

function note(done: Map<number, bigint[]>, { partition, offset }: StoredMessage): void {
  const known = done.get(partition);
  if (known) known.push(BigInt(offset));
  else done.set(partition, [BigInt(offset)]);
}
