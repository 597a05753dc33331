import { createHash, randomUUID } from 'node:crypto';
import type { Admin, Consumer, EachBatchPayload, IHeaders, Kafka } from 'kafkajs';
import { soundHeaders } from './kafka';
import { withAdmin, type StoredMessage } from './topic-reader';

/** SHA-256, hex, of a message's key, value and headers. The same message read again has the same. */
export function messageDigest({
  key,
  value,
  headers,
}: {
  key: Buffer | null;
  value: Buffer | null;
  headers: IHeaders;
}): string {
  const hash = createHash('sha256');
  const add = (bytes: Buffer | string | null): void => {
    hash.update(bytes === null ? '-' : `${Buffer.byteLength(bytes)}:`);
    if (bytes !== null) hash.update(bytes);
  };
  add(key);
  add(value);
  for (const [name, given] of Object.entries(headers))
    for (const each of [given ?? []].flat()) {
      add(name);
      add(each);
    }
  return hash.digest('hex');
}

/** Where a message lay, and what it was. */
export interface MessagePlace {
  topic: string;
  partition: number;
  offset: string;
  sha256: string;
}

/** A message that is not to be had any more, and why. */
export interface LostMessage {
  lost: string;
}

/** Longest wait for one message; the caller tries again. */
const READ_TIMEOUT_MS = 15_000;
/** How much of a partition one fetch brings and the reader keeps: messages that are asked for lie close together. */
const PAGE_BYTES = 262_144;
/** How soon a request is noticed by a consumer that has nothing to fetch. */
const IDLE_WAIT_MS = 50;
/** A consumer that nobody asks for this long leaves its group. */
const CLOSE_AFTER_MS = 60_000;

/**
 * Reads single messages where they lie. One consumer a topic, shared by all who ask and opened on the first question,
 * jumps to what is wanted; the neighbours that come with it are kept for the next question. It commits nothing.
 */
export class MessageReader {
  private readonly topics = new Map<string, TopicCursor>();
  private admin: Promise<Admin> | undefined;

  constructor(
    private readonly kafka: Kafka,
    private readonly groupPrefix: string,
  ) {}

  /**
   * The message, or why it is lost: its topic or its offset is gone, or another message lies there.
   * @throws when the brokers can't be reached or don't answer in time: that says nothing about the message.
   */
  async read(place: MessagePlace): Promise<StoredMessage | LostMessage> {
    return this.cursorOf(place.topic).read(place);
  }

  private cursorOf(topic: string): TopicCursor {
    let cursor = this.topics.get(topic);
    if (!cursor) {
      cursor = new TopicCursor(this.kafka, topic, this.groupPrefix, () => this.connectedAdmin());
      this.topics.set(topic, cursor);
    }
    return cursor;
  }

  /**
   * What one fetch brings of a partition from an offset on, which must lie within what the partition holds; by offset.
   * @throws when the brokers can't be reached or don't answer in time, as where nothing lies from there on.
   */
  async page(topic: string, partition: number, offset: bigint): Promise<StoredMessage[]> {
    return this.cursorOf(topic).page(partition, offset);
  }

  async stop(): Promise<void> {
    await Promise.all([...this.topics.values()].map((cursor) => cursor.stop()));
    const admin = this.admin;
    this.admin = undefined;
    await (await admin?.catch(() => undefined))?.disconnect();
  }

  private connectedAdmin(): Promise<Admin> {
    const connecting = (this.admin ??= connectAdmin(this.kafka));
    connecting.catch(() => (this.admin = undefined));
    return connecting;
  }
}

async function connectAdmin(kafka: Kafka): Promise<Admin> {
  const admin = kafka.admin({ retry: { retries: 3 } });
  await admin.connect();
  return admin;
}

/** Messages of one partition as one fetch brought them, by offset. */
type Page = Map<string, StoredMessage>;

interface Wanted {
  partition: number;
  offset: bigint;
  found(page: Page): void;
  failed(error: Error): void;
}

class TopicCursor {
  private readonly pages = new Map<number, Page>();
  private opened: Promise<Consumer> | undefined;
  private groupId = '';
  private wanted: Wanted | undefined;
  private last: Promise<unknown> = Promise.resolve();
  private idle: NodeJS.Timeout | undefined;

  constructor(
    private readonly kafka: Kafka,
    private readonly topic: string,
    private readonly groupPrefix: string,
    private readonly admin: () => Promise<Admin>,
  ) {}

  /** One question at a time. */
  read(place: MessagePlace): Promise<StoredMessage | LostMessage> {
    const answer = this.last.then(() => this.answer(place));
    this.last = answer.catch(() => undefined);
    return answer;
  }

  page(partition: number, offset: bigint): Promise<StoredMessage[]> {
    const answer = this.last.then(async () => {
      const page = await this.fetch(partition, offset);
      return [...page.values()]
        .filter((message) => BigInt(message.offset) >= offset)
        .sort((a, b) => (BigInt(a.offset) < BigInt(b.offset) ? -1 : 1));
    });
    this.last = answer.catch(() => undefined);
    return answer;
  }

  /** After the questions that were asked before; a later one opens it again. */
  stop(): Promise<void> {
    const stopped = this.last.then(() => this.close());
    this.last = stopped.catch(() => undefined);
    return stopped;
  }

  private async answer({ partition, offset, sha256 }: MessagePlace): Promise<StoredMessage | LostMessage> {
    const at = BigInt(offset);
    const kept = this.pages.get(partition)?.get(offset);
    if (kept && messageDigest(kept) === sha256) return kept;
    const outside = await this.whyOutside(partition, at);
    if (outside !== undefined) return { lost: outside };
    const fetched = await this.fetch(partition, at);
    this.pages.set(partition, fetched);
    const found = fetched.get(offset);
    if (!found) return { lost: `offset ${offset} of partition ${partition} holds no message any more` };
    return messageDigest(found) === sha256
      ? found
      : {
          lost: `another message lies at offset ${offset} of partition ${partition}: the topic was created again`,
        };
  }

  private async whyOutside(partition: number, offset: bigint): Promise<string | undefined> {
    const admin = await this.admin();
    if (!(await admin.listTopics()).includes(this.topic)) return `there is no topic ${this.topic} any more`;
    const range = (await admin.fetchTopicOffsets(this.topic)).find((each) => each.partition === partition);
    if (!range) return `${this.topic} has no partition ${partition}`;
    const { low, high } = range;
    return BigInt(low) <= offset && offset < BigInt(high)
      ? undefined
      : `partition ${partition} holds the offsets from ${low} up to ${high} alone`;
  }

  private async fetch(partition: number, offset: bigint): Promise<Page> {
    clearTimeout(this.idle);
    const { topic } = this;
    const consumer = await (this.opened ??= this.open());
    let timer: NodeJS.Timeout | undefined;
    try {
      return await new Promise<Page>((found, failed) => {
        timer = setTimeout(
          () => failed(new Error(`${topic}/${partition}: no message came within ${READ_TIMEOUT_MS} ms`)),
          READ_TIMEOUT_MS,
        );
        this.wanted = { partition, offset, found, failed };
        this.jump(consumer);
      });
    } catch (error) {
      // Whatever state it is in: the next question opens another.
      await this.close();
      throw error;
    } finally {
      clearTimeout(timer);
      this.wanted = undefined;
      this.idle = setTimeout(() => void this.stop(), CLOSE_AFTER_MS).unref();
    }
  }

  private jump(consumer: Consumer): void {
    if (!this.wanted) return;
    const { partition, offset } = this.wanted;
    consumer.seek({ topic: this.topic, partition, offset: String(offset) });
    consumer.resume([{ topic: this.topic, partitions: [partition] }]);
  }

  private async open(): Promise<Consumer> {
    const { topic } = this;
    this.groupId = `${this.groupPrefix}.reader-${randomUUID()}`;
    const consumer = this.kafka.consumer({
      groupId: this.groupId,
      allowAutoTopicCreation: false,
      maxBytesPerPartition: PAGE_BYTES,
      maxWaitTimeInMs: IDLE_WAIT_MS,
      retry: { retries: 5, restartOnFailure: () => Promise.resolve(false) },
    });
    consumer.on(consumer.events.CRASH, ({ payload }) => {
      this.opened = undefined;
      this.wanted?.failed(payload.error);
    });
    // It reads only what it is asked for; after a rebalance it asks again.
    consumer.on(consumer.events.GROUP_JOIN, ({ payload }) => {
      consumer.pause([{ topic, partitions: payload.memberAssignment[topic] ?? [] }]);
      this.jump(consumer);
    });
    try {
      await consumer.connect();
      await consumer.subscribe({ topic, fromBeginning: true });
      await consumer.run({
        autoCommit: false,
        eachBatchAutoResolve: false,
        eachBatch: (payload) => {
          this.take(consumer, payload);
          return Promise.resolve();
        },
      });
      return consumer;
    } catch (error) {
      this.opened = undefined;
      await consumer.disconnect().catch(() => undefined);
      throw error;
    }
  }

  private take(consumer: Consumer, { batch }: EachBatchPayload): void {
    const { topic, partition } = batch;
    // What was fetched before the last jump is another answer than the one that is waited for.
    const fetchedFrom = BigInt((batch as typeof batch & { fetchedOffset: string }).fetchedOffset);
    const { wanted } = this;
    if (wanted?.partition === partition && wanted.offset !== fetchedFrom) return;
    consumer.pause([{ topic, partitions: [partition] }]);
    if (wanted?.partition !== partition) return;
    const page: Page = new Map();
    for (const { offset, timestamp, key, value, headers } of batch.messages)
      page.set(offset, {
        ...{ topic, partition, offset, key, value },
        timestampMs: Number(timestamp),
        headers: soundHeaders(headers),
      });
    wanted.found(page);
  }

  private async close(): Promise<void> {
    clearTimeout(this.idle);
    const { opened, groupId } = this;
    this.opened = undefined;
    this.pages.clear();
    const consumer = await opened?.catch(() => undefined);
    if (!consumer) return;
    await consumer.disconnect();
    await withAdmin(this.kafka, (admin) => admin.deleteGroups([groupId])).catch(() => undefined);
  }
}
