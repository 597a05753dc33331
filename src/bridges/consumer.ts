import type { Consumer, ConsumerGroupJoinEvent, EachBatchPayload, Kafka, KafkaMessage } from 'kafkajs';
import type { Config } from '../platform/config';
import { soundHeaders, type MessageProducer } from '../platform/kafka';
import type { Lifecycle } from '../platform/lifecycle';
import type { Logger } from '../platform/logging';
import { unreadableBatch } from '../platform/record-batch';
import { ConsumerLag } from './consumer-lag';
import { sendDeadLetter } from './dead-letters';
import { Dispatcher } from './dispatcher';
import type { IncomingMessage } from './message';
import { PartitionWork } from './partition-work';

export interface StreamOptions {
  kafka: Kafka;
  /** For dead letters. */
  producer: Pick<MessageProducer, 'send'>;
  config: Config;
  log: Logger;
  lifecycle: Lifecycle;
  topics: readonly string[];
  /** The group is KAFKA_GROUP_PREFIX.groupName. */
  groupName: string;
  /**
   * Resolves when what the message causes is durable; may be called again for the same message, and must then change
   * nothing twice. Throws PoisonMessage for a message that will never be right; anything else is tried again for ever.
   */
  handle(message: IncomingMessage): Promise<void>;
}

const HEARTBEAT_INTERVAL_MS = 1_000;
const COMMIT_RETRY_MS = 1_000;
/** Without an acknowledged heartbeat for this many session timeouts the consumer is not ready. */
const STALLED_SESSIONS = 2;

/**
 * A consumer whose offsets follow the work. kafkajs fetches no partition again before every batch of the last fetch
 * has been handled, so `eachBatch` only hands messages over and returns: heartbeats and other partitions never wait
 * for Temporal. What is in memory is bounded by pausing partitions, and a partition's offset is committed up to the
 * first message that is not settled.
 *
 * At least once: a crash or a partition that moves repeats what was in flight. While a partition stays with this
 * member through a rebalance, its messages in flight are not repeated.
 */
export class StreamConsumer {
  readonly group: string;
  private readonly consumer: Consumer;
  private readonly dispatcher: Dispatcher;
  private readonly lag: ConsumerLag;
  private readonly works = new Map<string, PartitionWork>();
  /** Closed work that still has messages in flight, by partition. */
  private readonly leaving = new Map<string, Promise<void>>();
  private assigned = new Set<string>();
  private memberId: string | undefined;
  private joined = false;
  private lastHeartbeatMs = 0;
  private stopping = false;
  private commitTimer: NodeJS.Timeout | undefined;
  private committing: Promise<void> | undefined;

  constructor(private readonly options: StreamOptions) {
    const { kafka, config, topics, log, producer } = options;
    this.group = `${config.KAFKA_GROUP_PREFIX}.${options.groupName}`;
    this.consumer = kafka.consumer({
      groupId: this.group,
      sessionTimeout: config.KAFKA_SESSION_TIMEOUT_MS,
      // Also how soon a member learns of a rebalance, for which those that join have to wait.
      heartbeatInterval: HEARTBEAT_INTERVAL_MS,
      maxWaitTimeInMs: config.BRIDGE_FETCH_WAIT_MS,
      minBytes: 1,
      allowAutoTopicCreation: false,
    });
    this.lag = new ConsumerLag(kafka, this.group, topics, config.KAFKA_LAG_INTERVAL_MS, log);
    this.dispatcher = new Dispatcher({
      log,
      concurrentKeys: config.BRIDGE_CONCURRENT_KEYS,
      messageMaxBytes: config.KAFKA_MESSAGE_MAX_BYTES,
      retryBaseMs: config.BRIDGE_RETRY_BASE_MS,
      retryCapMs: config.BRIDGE_RETRY_CAP_MS,
      handle: (message) => options.handle(message),
      deadLetter: (message, poison) => sendDeadLetter(producer, config, message, poison.code, poison.message),
      onSettled: (work) => this.onSettled(work),
    });
    this.listen();
  }

  /** Joins the group and starts to read. Rejects when the brokers or a topic can't be reached. */
  async start(): Promise<void> {
    const { config } = this.options;
    await this.consumer.connect();
    await this.subscribe();
    await this.consumer.run({
      autoCommit: false,
      eachBatchAutoResolve: false,
      // Batches are only handed over, so this needs no tuning: it keeps heartbeats of several partitions apart.
      partitionsConsumedConcurrently: Math.min(16, config.KAFKA_TOPIC_PARTITIONS),
      eachBatch: (payload) => {
        this.onBatch(payload);
        return Promise.resolve();
      },
    });
    this.lag.start();
  }

  private async subscribe(): Promise<void> {
    const topics = [...this.options.topics];
    try {
      // A group without offsets starts with what is there already: the topic may have been written to before.
      await this.consumer.subscribe({ topics, fromBeginning: true });
    } catch (error) {
      await this.consumer.disconnect();
      throw new Error(`can't subscribe to ${topics.join(', ')}; has \`remit migrate\` created the topics?`, {
        cause: error,
      });
    }
  }

  /** Rejects unless the group is joined and the fetch loop turns: heartbeats are sent from it alone. */
  check(): Promise<void> {
    const silentMs = Date.now() - this.lastHeartbeatMs;
    if (!this.joined) return Promise.reject(new Error(`has not joined the group ${this.group}`));
    if (silentMs > STALLED_SESSIONS * this.options.config.KAFKA_SESSION_TIMEOUT_MS)
      return Promise.reject(new Error(`no heartbeat was acknowledged for ${silentMs} ms`));
    return Promise.resolve();
  }

  /** First half of stopping: starts no further message. What is in flight goes on. */
  stopTaking(): void {
    this.stopping = true;
    this.whileInGroup(() => this.consumer.pause(this.options.topics.map((topic) => ({ topic }))));
  }

  /** Second half: waits for what is in flight, commits it, and leaves the group. */
  async stop(): Promise<void> {
    this.stopTaking();
    await this.dispatcher.stop();
    clearTimeout(this.commitTimer);
    await this.committing;
    await this.commit();
    await this.consumer.disconnect();
    this.joined = false;
    await this.lag.stop();
  }

  private listen(): void {
    const { events } = this.consumer;
    this.consumer.on(events.GROUP_JOIN, (event) => this.onJoin(event));
    this.consumer.on(events.HEARTBEAT, () => {
      this.lastHeartbeatMs = Date.now();
    });
    this.consumer.on(events.REBALANCING, () => {
      this.joined = false;
      // Before the group is joined again: what is settled by now need not be repeated by whoever gets the partition.
      void this.commit();
    });
    this.consumer.on(events.CRASH, ({ payload }) => {
      this.joined = false;
      for (const work of [...this.works.values()]) this.drop(work);
      const { log, lifecycle } = this.options;
      if (payload.restart)
        return log.warn({ err: payload.error }, 'consumer lost the brokers; joining again');
      log.fatal({ err: payload.error }, 'consumer crashed');
      lifecycle.crash();
    });
  }

  /**
   * A new generation of the group. A partition that was and stays ours keeps its work, for nobody else can have had it
   * meanwhile without this member being expelled (and given a new id). All other work is dropped: it is not ours to
   * commit, and comes again wherever the partition went.
   */
  private onJoin({ payload }: ConsumerGroupJoinEvent): void {
    const assigned = new Set<string>();
    for (const [topic, partitions] of Object.entries(payload.memberAssignment))
      for (const partition of partitions) assigned.add(idOf(topic, partition));
    const sameMember = payload.memberId === this.memberId;
    for (const [id, work] of [...this.works]) if (!sameMember || !assigned.has(id)) this.drop(work);
    this.assigned = assigned;
    this.memberId = payload.memberId;
    this.joined = true;
    this.lastHeartbeatMs = Date.now();
    if (this.stopping) this.stopTaking();
    this.options.log.info({ group: this.group, partitions: [...assigned] }, 'joined the consumer group');
  }

  private drop(work: PartitionWork): void {
    const id = idOf(work.topic, work.partition);
    this.works.delete(id);
    this.dispatcher.detach(work);
    this.resume(work);
    const before = this.leaving.get(id);
    const gone = Promise.all([before, work.idle()]).then(() => {
      if (this.leaving.get(id) === gone) this.leaving.delete(id);
    });
    this.leaving.set(id, gone);
  }

  private workOf(topic: string, partition: number): PartitionWork {
    const id = idOf(topic, partition);
    const existing = this.works.get(id);
    if (existing) return existing;
    const { BRIDGE_BUFFER_MESSAGES: messages, BRIDGE_BUFFER_BYTES: bytes } = this.options.config;
    const work = new PartitionWork(topic, partition, { messages, bytes });
    this.works.set(id, work);
    this.dispatcher.attach(work);
    const predecessor = this.leaving.get(id);
    if (predecessor) {
      // A message in flight from before and its repetition must not run side by side, nor one of its key overtake it.
      work.blocked = true;
      void predecessor.then(() => {
        work.blocked = false;
        this.dispatcher.pump();
      });
    }
    return work;
  }

  private onBatch(payload: EachBatchPayload): void {
    const { batch } = payload;
    const { topic, partition, messages } = batch;
    const last = messages.at(-1);
    if (this.stopping || !payload.isRunning() || payload.isStale() || !last) return;
    if (!this.assigned.has(idOf(topic, partition))) return;
    const work = this.workOf(topic, partition);
    work.add(
      messages.map((message) => toIncoming(topic, partition, message)),
      BigInt(batch.lastOffset()),
    );
    work.highWatermark = BigInt(batch.highWatermark);
    // Moves the position of the next fetch; what is committed is decided in `commit` alone.
    payload.resolveOffset(last.offset);
    if (work.isFull && !work.paused) {
      work.paused = true;
      this.whileInGroup(() => this.consumer.pause([{ topic, partitions: [partition] }]));
    }
    this.dispatcher.pump();
  }

  private onSettled(work: PartitionWork): void {
    if (work.paused && work.hasRoom) this.resume(work);
    this.commitSoon(this.options.config.BRIDGE_COMMIT_INTERVAL_MS);
  }

  private commitSoon(delayMs: number): void {
    this.commitTimer ??= setTimeout(() => {
      this.commitTimer = undefined;
      this.committing = this.commit();
    }, delayMs);
  }

  private resume(work: PartitionWork): void {
    if (!work.paused) return;
    work.paused = false;
    this.whileInGroup(() => this.consumer.resume([{ topic: work.topic, partitions: [work.partition] }]));
  }

  /**
   * Commits the settled prefix of each partition. A commit that fails is made up for by the next one: the group is
   * rebalancing or the coordinator is away, and the worst that follows is repetition.
   */
  private async commit(): Promise<void> {
    const due = [...this.works.values()].flatMap((work) =>
      work.committable !== undefined && work.committable !== work.committed
        ? [{ work, offset: work.committable }]
        : [],
    );
    if (due.length === 0) return;
    try {
      await this.consumer.commitOffsets(
        due.map(({ work: { topic, partition }, offset }) => ({ topic, partition, offset: String(offset) })),
      );
      for (const { work, offset } of due) {
        work.committed = offset;
        if (work.highWatermark !== undefined)
          this.lag.report(work.topic, work.partition, work.highWatermark - offset);
      }
    } catch (error) {
      this.options.log.debug({ err: error }, 'offsets were not committed');
      if (!this.stopping) this.commitSoon(COMMIT_RETRY_MS);
    }
  }

  /** kafkajs throws on pause and resume while it is between two groups, where there is nothing to pause. */
  private whileInGroup(action: () => void): void {
    try {
      action();
    } catch (error) {
      this.options.log.debug({ err: error }, 'the consumer is not in its group');
    }
  }
}

/**
 * Starts a stream and registers its ordered stop (`intake`: take no more; `drain`: finish, commit, leave the group)
 * and its readiness check.
 */
export async function startConsumer(options: StreamOptions): Promise<StreamConsumer> {
  const stream = new StreamConsumer(options);
  const name = `consumer ${stream.group}`;
  options.lifecycle.onStop('intake', name, () => stream.stopTaking());
  options.lifecycle.onStop('drain', name, () => stream.stop());
  options.lifecycle.addCheck(name, () => stream.check());
  await stream.start();
  return stream;
}

function idOf(topic: string, partition: number): string {
  return `${topic}/${partition}`;
}

function toIncoming(topic: string, partition: number, message: KafkaMessage): IncomingMessage {
  const unreadable = unreadableBatch(message);
  return {
    topic,
    partition,
    offset: message.offset,
    key: message.key,
    value: message.value,
    headers: soundHeaders(message.headers),
    timestampMs: Number(message.timestamp),
    ...(unreadable ? { unreadable } : {}),
  };
}
