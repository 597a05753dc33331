import type {
  Admin,
  Consumer,
  ConsumerConfig,
  ConsumerCrashEvent,
  ConsumerGroupJoinEvent,
  EachBatchPayload,
  Kafka,
} from 'kafkajs';
import { Backoff } from './backoff';
import { endConsumer } from './kafka';
import type { Logger } from './logging';
import { metrics } from './metrics';
import { TopicWatch } from './topic-watch';

/** What is committed of a partition of the log that is read. */
export interface CommittedOffset {
  topic: string;
  partition: number;
  offset: bigint;
  metadata: string;
}

export interface Assignment {
  memberId: string;
  /** The partitions that this member reads from now on, of each topic. */
  partitions: ReadonlyMap<string, readonly number[]>;
  /** Which log each topic is: see topic-identity.ts. */
  logs: ReadonlyMap<string, string>;
  /** Without what was committed of another log. A partition that is missing is read from its beginning. */
  committed: readonly CommittedOffset[];
}

export interface GroupListener {
  /** A new generation of the group. What was read of partitions that are not in it is no longer this member's to commit. */
  onAssigned(assignment: Assignment): void;
  /**
   * The topic was created again: its partitions are read from their beginning. What was read of the former log must not be
   * committed any more.
   */
  onLogReplaced(topic: string, log: string, partitions: readonly number[]): void;
  /** What one fetch brought of one partition. Nothing moves on before it resolves. */
  onBatch(payload: EachBatchPayload): void;
  /** From the first to the last of these offsets the partition has no message for anybody (the end of a transaction, compacted records). */
  onPassed?(topic: string, partition: number, first: bigint, last: bigint): void;
  /** The group is about to be joined again: the last chance to commit what is settled. */
  onRebalancing(): void;
  /** The client lost its group and joins again by itself; nothing can be committed until `onAssigned`. */
  onLost(): void;
}

export interface GroupConsumerOptions {
  kafka: Kafka;
  log: Logger;
  groupId: string;
  topics: readonly string[];
  sessionTimeoutMs: number;
  /** How fetching goes on. */
  fetch: Pick<ConsumerConfig, 'heartbeatInterval' | 'maxWaitTimeInMs' | 'maxBytesPerPartition' | 'maxBytes'>;
  concurrency: number;
  listener: GroupListener;
  /** Called for a defect of ours; whatever is wrong with the brokers is waited for. */
  onFatal(): void;
}

/** Without an acknowledged heartbeat for this many session timeouts the consumer is not ready. */
const STALLED_SESSIONS = 2;
/**
 * How many session timeouts the others have to join again: all of them heartbeat, and none works on anything meanwhile. It is also
 * how long a member waits for a coordinator that hangs while it joins.
 */
const REBALANCE_SESSIONS = 2;
/** New partitions are found, and leaders that moved, at the latest after so long. */
const METADATA_MAX_AGE_MS = 10_000;
const RETRY_BASE_MS = 500;
const RETRY_CAP_MS = 10_000;
/** Between the log's identity and the listener's metadata. */
const SEPARATOR = '|';
/** What JavaScript throws for a mistake in code. */
const DEFECTS = new Set(['TypeError', 'RangeError', 'ReferenceError', 'SyntaxError']);

/**
 * A member of a consumer group that stays one: when the brokers refuse it (a topic is missing, a right was taken away,
 * credentials are wrong), it says so, is not ready, and tries again until they do not.
 *
 * Positions belong to a log, not to a topic's name. Each commit carries the identity of the log that it is about, and one
 * of another log is not believed, so that a topic that was deleted and created again is read from its beginning.
 */
export class GroupConsumer {
  private readonly consumer: Consumer;
  private readonly admin: Admin;
  private readonly watch: TopicWatch;
  private unwatch: (() => Promise<void>) | undefined;
  private adminConnected = false;
  /** Counts generations of the group; what belongs to an earlier one is ignored. */
  private generation = 0;
  private ready: Promise<boolean> = Promise.resolve(false);
  private partitions: ReadonlyMap<string, readonly number[]> = new Map();
  private logs = new Map<string, string>();
  private readonly highWatermarks = new Map<string, bigint>();
  private joined = false;
  private lastHeartbeatMs = 0;
  private lastError: Error | undefined;
  /** Where a batch was that its listener did not take. */
  private failedAt: { topic: string; partition: number; offset: string | null } | undefined;
  private readonly backoff = new Backoff(RETRY_BASE_MS, RETRY_CAP_MS);
  /** What the consumer's `run` returned last. */
  private running: Promise<void> | undefined;
  private readonly stopping = new AbortController();

  constructor(private readonly options: GroupConsumerOptions) {
    const { kafka, groupId, sessionTimeoutMs, fetch } = options;
    this.consumer = kafka.consumer({
      groupId,
      sessionTimeout: sessionTimeoutMs,
      rebalanceTimeout: REBALANCE_SESSIONS * sessionTimeoutMs,
      metadataMaxAge: METADATA_MAX_AGE_MS,
      minBytes: 1,
      allowAutoTopicCreation: false,
      // kafkajs would begin again at once, and only after what it takes for passing.
      retry: { retries: 5, restartOnFailure: () => Promise.resolve(false) },
      ...fetch,
    });
    this.admin = kafka.admin({ retry: { retries: 2 } });
    this.watch = TopicWatch.of(kafka);
    this.listen();
    this.setJoined(false);
  }

  /** Joins the group and starts to read. Rejects when the brokers or a topic can't be reached. */
  async start(): Promise<void> {
    this.unwatch = this.watch.watch(this.options.topics, (topic, log) => this.onLogReplaced(topic, log));
    try {
      // Brokers that can't name the log are refused at once: without its name no position is sure.
      await this.identify();
      await this.consumer.connect();
    } catch (error) {
      await this.stop();
      throw error;
    }
    try {
      await this.subscribeAndRun();
    } catch (error) {
      await this.stop();
      const topics = this.options.topics.join(', ');
      throw new Error(`can't subscribe to ${topics}; has \`remit migrate\` created the topics?`, {
        cause: error,
      });
    }
  }

  private async subscribeAndRun(): Promise<void> {
    // A group without offsets starts with what is there already: the topic may have been written to before.
    await this.consumer.subscribe({ topics: [...this.options.topics], fromBeginning: true });
    this.running = this.consumer.run({
      autoCommit: false,
      eachBatchAutoResolve: false,
      partitionsConsumedConcurrently: this.options.concurrency,
      eachBatch: (payload) => this.onBatch(payload),
    });
    await this.running;
  }

  /** The identity of the log that is read; undefined before the group was joined. */
  logOf(topic: string): string | undefined {
    return this.logs.get(topic);
  }

  /**
   * Asks the brokers which logs the topics are now; when one is another than it was, `onLogReplaced` is called first.
   * Rejects when the brokers do not answer.
   */
  identify(): Promise<Map<string, string>> {
    return this.watch.identify(this.options.topics);
  }

  get assigned(): ReadonlyMap<string, readonly number[]> {
    return this.partitions;
  }

  /** Rejects unless the group is joined and the fetch loop turns: heartbeats are sent from it alone. */
  check(): Promise<void> {
    const { groupId, sessionTimeoutMs } = this.options;
    const silentMs = Date.now() - this.lastHeartbeatMs;
    const why = this.lastError ? `: ${this.lastError.message}` : '';
    if (!this.joined) return Promise.reject(new Error(`has not joined the group ${groupId}${why}`));
    if (silentMs > STALLED_SESSIONS * sessionTimeoutMs)
      return Promise.reject(new Error(`no heartbeat was acknowledged for ${silentMs} ms`));
    return Promise.resolve();
  }

  /**
   * Commits for the current generation. Rejects when it is not (any more) this member's to commit, or the coordinator
   * can't be reached; it may then have been committed all the same.
   */
  async commit(offsets: readonly CommittedOffset[]): Promise<void> {
    await this.consumer.commitOffsets(
      offsets.map(({ topic, partition, offset, metadata }) => ({
        topic,
        partition,
        offset: String(offset),
        metadata: `${this.logs.get(topic) ?? ''}${SEPARATOR}${metadata}`,
      })),
    );
  }

  pause(topic: string, partitions: readonly number[]): void {
    this.whileInGroup(() => this.consumer.pause([{ topic, partitions: [...partitions] }]));
  }

  resume(topic: string, partitions: readonly number[]): void {
    this.whileInGroup(() => this.consumer.resume([{ topic, partitions: [...partitions] }]));
  }

  /** The next fetch of this partition begins here. */
  seek(topic: string, partition: number, offset: bigint): void {
    this.whileInGroup(() => this.consumer.seek({ topic, partition, offset: String(offset) }));
  }

  /** Leaves the group, so that others get its partitions at once. */
  async stop(): Promise<void> {
    this.generation += 1;
    this.setJoined(false);
    this.stopping.abort();
    // What learns of a generation just now would open connections behind those that are closed here.
    await Promise.all([endConsumer(this.consumer, this.running), this.ready]);
    await this.ready;
    await this.unwatch?.();
    if (this.adminConnected) await this.admin.disconnect();
  }

  private listen(): void {
    const { events } = this.consumer;
    const { listener } = this.options;
    this.consumer.on(events.GROUP_JOIN, (event) => {
      this.ready = this.onJoin(event);
    });
    this.consumer.on(events.HEARTBEAT, () => {
      this.lastHeartbeatMs = Date.now();
    });
    this.consumer.on(events.REBALANCING, () => {
      this.setJoined(false);
      listener.onRebalancing();
    });
    this.consumer.on(events.END_BATCH_PROCESS, ({ payload }) => {
      const { topic, partition, batchSize, firstOffset, lastOffset } = payload;
      if (batchSize === 0 && this.joined)
        listener.onPassed?.(topic, partition, BigInt(firstOffset), BigInt(lastOffset));
    });
    this.consumer.on(events.CRASH, ({ payload }) => {
      this.setJoined(false);
      this.generation += 1;
      listener.onLost();
      this.onCrash(payload);
    });
  }

  private setJoined(joined: boolean): void {
    this.joined = joined;
    metrics.consumerJoined.set({ group: this.options.groupId }, joined ? 1 : 0);
  }

  private onCrash({ error }: ConsumerCrashEvent['payload']): void {
    const { log, groupId, topics } = this.options;
    const details = { err: error, group: groupId, topics, ...this.failedAt };
    this.lastError = error;
    if (this.stopping.signal.aborted) return;
    metrics.consumerFailures.inc({ group: groupId });
    if (isDefect(error)) {
      log.fatal(details, 'the consumer crashed');
      return this.options.onFatal();
    }
    // What passes by itself (an election, a restart) is no alarm; what it takes long to pass is: remit_consumer_joined.
    log[isPassing(error) ? 'warn' : 'error'](
      details,
      'the consumer lost its group; it joins again until the brokers let it. Nothing is skipped',
    );
    void this.joinAgain();
  }

  private async joinAgain(): Promise<void> {
    const { signal } = this.stopping;
    for (;;) {
      await this.backoff.pause(signal);
      if (signal.aborted) return;
      try {
        await this.consumer.connect();
        // A failure in it is another crash, which comes here by itself.
        await this.subscribeAndRun();
        return;
      } catch (error) {
        this.lastError = error instanceof Error ? error : new Error(String(error));
        this.options.log.error(
          { err: error, group: this.options.groupId },
          'the group can not be joined yet',
        );
      }
    }
  }

  /** Learns which log is read and what is committed of it before anything of it is handed over. */
  private async onJoin({ payload }: ConsumerGroupJoinEvent): Promise<boolean> {
    const { signal } = this.stopping;
    // kafkajs ends a join that has begun.
    if (signal.aborted) return false;
    const generation = (this.generation += 1);
    const { log, groupId } = this.options;
    const { memberId, memberAssignment } = payload;
    this.lastHeartbeatMs = Date.now();
    while (this.generation === generation) {
      try {
        await this.identify();
        if (this.generation !== generation) return false;
        const committed = await this.committed();
        if (this.generation !== generation) return false;
        this.begin(memberId, new Map(Object.entries(memberAssignment)), committed);
        log.info({ group: groupId, partitions: memberAssignment }, 'joined the consumer group');
        return true;
      } catch (error) {
        this.lastError = error instanceof Error ? error : new Error(String(error));
        log.warn({ err: error, group: groupId }, 'committed offsets could not be read; trying again');
        await this.backoff.pause(signal);
      }
    }
    return false;
  }

  private begin(
    memberId: string,
    partitions: ReadonlyMap<string, readonly number[]>,
    committed: readonly (CommittedOffset & { log: string })[],
  ): void {
    const { groupId, log, listener, topics } = this.options;
    const logs = new Map(topics.map((topic) => [topic, this.watch.identityOf(topic) ?? '']));
    this.partitions = partitions;
    this.logs = logs;
    this.highWatermarks.clear();
    const isForeign = ({ topic, log: of }: { topic: string; log: string }) =>
      of !== '' && of !== logs.get(topic);
    for (const { topic, partition, offset, log: former } of committed.filter(isForeign)) {
      if (!partitions.get(topic)?.includes(partition)) continue;
      log.warn(
        { group: groupId, topic, partition, offset: String(offset), former, log: logs.get(topic) },
        'what is committed is of another log of this name: the topic is read from its beginning',
      );
      this.seek(topic, partition, 0n);
    }
    this.setJoined(true);
    this.lastError = undefined;
    this.failedAt = undefined;
    this.backoff.reset();
    listener.onAssigned({
      memberId,
      partitions,
      logs,
      committed: committed.filter((each) => !isForeign(each)),
    });
  }

  /** With the log that each was committed of; none where a tool or another client committed. */
  private async committed(): Promise<(CommittedOffset & { log: string })[]> {
    const { groupId, topics } = this.options;
    if (!this.adminConnected) await this.admin.connect();
    this.adminConnected = true;
    const answer = await this.admin.fetchOffsets({ groupId, topics: [...topics] });
    return answer.flatMap(({ topic, partitions }) =>
      partitions
        .filter(({ offset }) => Number(offset) >= 0)
        .map(({ partition, offset, metadata }) => {
          const text = metadata ?? '';
          const at = text.indexOf(SEPARATOR);
          return {
            topic,
            partition,
            offset: BigInt(offset),
            log: at < 0 ? '' : text.slice(0, at),
            metadata: text.slice(at + 1),
          };
        }),
    );
  }

  private onLogReplaced(topic: string, log: string): void {
    const former = this.logs.get(topic);
    if (!this.joined || former === log) return;
    const partitions = this.partitions.get(topic) ?? [];
    this.options.log.warn(
      { group: this.options.groupId, topic, former, log, partitions },
      'the topic was created again: it is read from its beginning',
    );
    this.logs.set(topic, log);
    for (const partition of partitions) {
      this.highWatermarks.delete(`${topic}/${partition}`);
      this.seek(topic, partition, 0n);
    }
    this.options.listener.onLogReplaced(topic, log, partitions);
    // Takes the place of what is committed of the former log. When it fails, that is not believed all the same.
    this.commit(partitions.map((partition) => ({ topic, partition, offset: 0n, metadata: '' }))).catch(
      () => undefined,
    );
  }

  private async onBatch(payload: EachBatchPayload): Promise<void> {
    const { ready } = this;
    if (!(await ready) || this.ready !== ready) return;
    const { topic, partition, highWatermark } = payload.batch;
    const id = `${topic}/${partition}`;
    const end = BigInt(highWatermark);
    // A log does not get shorter: this may be another one.
    if (end < (this.highWatermarks.get(id) ?? 0n)) await this.identify();
    if (this.ready !== ready || !payload.isRunning() || payload.isStale()) return;
    this.highWatermarks.set(id, end);
    try {
      this.options.listener.onBatch(payload);
    } catch (error) {
      this.failedAt = { topic, partition, offset: payload.batch.firstOffset() };
      throw error;
    }
  }

  /** kafkajs throws on pause, resume and seek while it is between two groups, where there is nothing to pause. */
  private whileInGroup(action: () => void): void {
    try {
      action();
    } catch (error) {
      this.options.log.debug({ err: error }, 'the consumer is not in its group');
    }
  }
}

/** Whether kafkajs takes it for something that another try may get over. */
function isPassing(error: Error): boolean {
  const { retriable } = rootOf(error) as { retriable?: boolean };
  return retriable === true || error.name === 'KafkaJSNumberOfRetriesExceeded';
}

function rootOf(error: Error): Error {
  return error.cause instanceof Error ? rootOf(error.cause) : error;
}

/** Whether code of ours (or of kafkajs) went wrong, rather than the brokers. */
function isDefect(error: Error): boolean {
  return DEFECTS.has(rootOf(error).name) || !error.name.startsWith('KafkaJS');
}
