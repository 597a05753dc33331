import type { EachBatchPayload, Kafka, KafkaMessage } from 'kafkajs';
import type { Config } from '../platform/config';
import { GroupConsumer, type Assignment } from '../platform/group-consumer';
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
   * nothing twice. Throws PoisonMessage for a message that will never be right; anything else is retried forever. `yieldPlace`: see
   * DispatcherOptions.
   */
  handle(message: IncomingMessage, yieldPlace: () => void): Promise<void>;
}

const HEARTBEAT_INTERVAL_MS = 1_000;
const COMMIT_RETRY_MS = 1_000;

/**
 * A consumer whose offsets follow the work. kafkajs fetches no partition again before every batch of the last fetch
 * has been handled, so a batch is only handed over: heartbeats and other partitions never wait for Temporal. What is in
 * memory is bounded by pausing partitions, and a partition's offset is committed up to the first message that is not
 * settled.
 *
 * At least once: a crash or a partition that moves repeats what was in flight. While a partition stays with this
 * member through a rebalance, its messages in flight are not repeated. Of a topic that was created again, what was fetched of
 * the former log is still handled, and what the new one holds comes after it.
 */
export class StreamConsumer {
  readonly group: string;
  private readonly consumer: GroupConsumer;
  private readonly dispatcher: Dispatcher;
  private readonly lag: ConsumerLag;
  private readonly works = new Map<string, PartitionWork>();
  /** Work that is over but has messages in flight, by partition. */
  private readonly leaving = new Map<string, Promise<void>>();
  private logs: ReadonlyMap<string, string> = new Map();
  private memberId: string | undefined;
  private stopping = false;
  private commitTimer: NodeJS.Timeout | undefined;
  private committing: Promise<void> | undefined;

  constructor(private readonly options: StreamOptions) {
    const { kafka, config, topics, log, producer, lifecycle } = options;
    this.group = `${config.KAFKA_GROUP_PREFIX}.${options.groupName}`;
    this.consumer = new GroupConsumer({
      kafka,
      log,
      groupId: this.group,
      topics,
      sessionTimeoutMs: config.KAFKA_SESSION_TIMEOUT_MS,
      // Also how soon a member learns of a rebalance, for which those that join have to wait.
      fetch: {
        heartbeatInterval: HEARTBEAT_INTERVAL_MS,
        maxWaitTimeInMs: config.BRIDGE_FETCH_WAIT_MS,
      },
      // Batches are only handed over, so this needs no tuning: it keeps heartbeats of several partitions apart.
      concurrency: Math.min(16, config.KAFKA_TOPIC_PARTITIONS),
      listener: {
        onAssigned: (assignment) => this.onAssigned(assignment),
        onLogReplaced: (topic, _log, partitions) => this.onLogReplaced(topic, partitions),
        onBatch: (payload) => this.onBatch(payload),
        onPassed: (topic, partition, first, last) => this.onPassed(topic, partition, first, last),
        // Before the group is joined again: what is settled by now need not be repeated by whoever gets the partition.
        onRebalancing: () => void this.commit(),
        onLost: () => [...this.works.values()].forEach((work) => this.drop(work)),
      },
      onFatal: () => lifecycle.crash(),
    });
    this.lag = new ConsumerLag(kafka, this.group, topics, config.KAFKA_LAG_INTERVAL_MS, log);
    this.dispatcher = new Dispatcher({
      log,
      concurrentKeys: config.BRIDGE_CONCURRENT_KEYS,
      messageMaxBytes: config.KAFKA_MESSAGE_MAX_BYTES,
      retryBaseMs: config.BRIDGE_RETRY_BASE_MS,
      retryCapMs: config.BRIDGE_RETRY_CAP_MS,
      handle: (message, yieldPlace) => options.handle(message, yieldPlace),
      deadLetter: (message, poison) => sendDeadLetter(producer, config, message, poison.code, poison.message),
      onSettled: (work) => this.onSettled(work),
    });
  }

  /** Joins the group and starts to read. Rejects when the brokers or a topic can't be reached. */
  async start(): Promise<void> {
    await this.consumer.start();
    this.lag.start();
  }

  /** Rejects unless the group is joined and heartbeats are acknowledged. */
  check(): Promise<void> {
    return this.consumer.check();
  }

  /** First half of stopping: starts no further message. What is in flight goes on. */
  stopTaking(): void {
    this.stopping = true;
    for (const [topic, partitions] of this.consumer.assigned) this.consumer.pause(topic, partitions);
  }

  /** Second half: waits for what is in flight, commits it, and leaves the group. */
  async stop(): Promise<void> {
    this.stopTaking();
    await this.dispatcher.stop();
    clearTimeout(this.commitTimer);
    await this.committing;
    await this.commit();
    await this.consumer.stop();
    await this.lag.stop();
  }

  /**
   * A partition that was and stays ours keeps its work, for nobody else can have had it meanwhile without this member
   * being expelled (and given a new id), and goes on where that stands. All other work is dropped: it is not ours to
   * commit, and comes again wherever the partition went.
   */
  private onAssigned({ memberId, partitions, logs }: Assignment): void {
    const sameMember = memberId === this.memberId;
    for (const work of [...this.works.values()]) {
      const { topic, partition } = work;
      if (!sameMember || !partitions.get(topic)?.includes(partition)) this.drop(work);
      else if (logs.get(topic) !== this.logs.get(topic)) this.retire(work);
      else if (work.position !== undefined) this.consumer.seek(topic, partition, work.position);
    }
    this.logs = new Map(logs);
    this.memberId = memberId;
    if (this.stopping) this.stopTaking();
  }

  private onLogReplaced(topic: string, partitions: readonly number[]): void {
    for (const partition of partitions) {
      const work = this.works.get(idOf(topic, partition));
      if (work) this.retire(work);
    }
    // Takes the place of what is committed of the former log. When it fails, that is not believed all the same.
    this.consumer
      .commit(partitions.map((partition) => ({ topic, partition, offset: 0n, metadata: '' })))
      .catch(() => undefined);
  }

  /** Ends work whose messages come again elsewhere: starts nothing more of it. */
  private drop(work: PartitionWork): void {
    this.dispatcher.detach(work);
    this.leave(work, work.idle());
  }

  /** Ends work whose messages come never again: what was fetched is still handled, but no longer committed. */
  private retire(work: PartitionWork): void {
    this.leave(
      work,
      work.drained().then(() => this.dispatcher.detach(work)),
    );
  }

  private leave(work: PartitionWork, over: Promise<void>): void {
    const id = idOf(work.topic, work.partition);
    this.works.delete(id);
    this.resume(work);
    const gone = Promise.all([this.leaving.get(id), over]).then(() => {
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
    if (this.stopping || !last) return;
    const end = BigInt(batch.highWatermark);
    const before = this.works.get(idOf(topic, partition));
    // The log ends before what was read of it: brokers lost its end, and what comes now was never seen.
    if (before?.position !== undefined && end < before.position) this.retire(before);
    const work = this.workOf(topic, partition);
    work.add(
      messages.map((message) => toIncoming(topic, partition, message)),
      BigInt(batch.lastOffset()),
    );
    work.highWatermark = end;
    // Moves the position of the next fetch; what is committed is decided in `commit` alone.
    payload.resolveOffset(last.offset);
    if (work.isFull && !work.paused) {
      work.paused = true;
      this.consumer.pause(topic, [partition]);
    }
    this.dispatcher.pump();
  }

  /**
   * Between these offsets there is no message for anybody: the end of a transaction, records that were compacted away.
   * They are committed with the next message when there was none before, as they may be of a former log.
   */
  private onPassed(topic: string, partition: number, first: bigint, last: bigint): void {
    const work = this.works.get(idOf(topic, partition));
    if (this.stopping || work?.position === undefined || first < work.position) return;
    work.pass(last);
    this.commitSoon(this.options.config.BRIDGE_COMMIT_INTERVAL_MS);
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
    this.consumer.resume(work.topic, [work.partition]);
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
      await this.consumer.commit(
        due.map(({ work: { topic, partition }, offset }) => ({ topic, partition, offset, metadata: '' })),
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
