import { createHash } from 'node:crypto';
import type { Admin, Consumer, ConsumerGroupJoinEvent, EachBatchPayload, Kafka } from 'kafkajs';
import type { Config } from '../../platform/config';
import type { Logger } from '../../platform/logging';
import { TopicIdentityReader } from '../../platform/topic-identity';
import { Backoff } from './backoff';
import type { Committed, MessageSource, SourceListener } from './source';

export interface KafkaJsSourceOptions {
  kafka: Kafka;
  config: Config;
  log: Logger;
  topic: string;
  /** The group is KAFKA_GROUP_PREFIX.groupName. */
  groupName: string;
  /** Called when the client gives up for good. */
  onFatal(error: Error): void;
}

/** Of kafkajs's own Batch, but missing in its types: where this fetch began. */
interface WithFetchedOffset {
  fetchedOffset: string;
}

/** Without an acknowledged heartbeat for this many session timeouts the source is not ready. */
const STALLED_SESSIONS = 2;
/** Partitions that are handed over side by side; handing over is short, and heartbeats fall in between. */
const CONCURRENT_PARTITIONS = 4;
/** A fetch is bounded by this many partitions' worth of bytes. */
const FETCHED_PARTITIONS = 10;

/** How soon it is noticed that a topic was made anew when no fetch and no commit shows it. */
const LOG_CHECK_MS = 5_000;
/** In the metadata of an offset, between the identity of its log and what the listener commits. */
const SEPARATOR = '|';

/** `MessageSource` by kafkajs: what `eachBatch` brings is handed over at once, so heartbeats never wait for ClickHouse. */
export class KafkaJsSource implements MessageSource {
  readonly topic: string;
  readonly group: string;
  private readonly consumer: Consumer;
  private readonly admin: Admin;
  private readonly identities: TopicIdentityReader;
  /** Identity of the log that is read, `<cluster id>/<topic id>`, and of those that the topic's name stood for before. */
  private log = '';
  private readonly formerLogs = new Set<string>();
  private partitions: readonly number[] = [];
  private logCheck: NodeJS.Timeout | undefined;
  private listener: SourceListener | undefined;
  /** Counts generations of the group; what belongs to an earlier one is ignored. */
  private generation = 0;
  private assigned: Promise<boolean> = Promise.resolve(false);
  private joined = false;
  private lastHeartbeatMs = 0;
  private readonly stopping = new AbortController();

  constructor(private readonly options: KafkaJsSourceOptions) {
    const { kafka, config, topic, groupName } = options;
    this.topic = topic;
    this.group = `${config.KAFKA_GROUP_PREFIX}.${groupName}`;
    this.consumer = kafka.consumer({
      groupId: this.group,
      sessionTimeout: config.KAFKA_SESSION_TIMEOUT_MS,
      heartbeatInterval: Math.min(3_000, Math.floor(config.KAFKA_SESSION_TIMEOUT_MS / 4)),
      maxWaitTimeInMs: config.INGEST_FETCH_WAIT_MS,
      minBytes: 1,
      maxBytesPerPartition: config.INGEST_FETCH_BYTES,
      maxBytes: config.INGEST_FETCH_BYTES * FETCHED_PARTITIONS,
      allowAutoTopicCreation: false,
    });
    this.admin = kafka.admin({ retry: { retries: 2 } });
    this.identities = new TopicIdentityReader(kafka);
    this.listen();
  }

  async start(listener: SourceListener): Promise<void> {
    this.listener = listener;
    await this.admin.connect();
    // Brokers that can't name the log are refused at once: without its name nothing is safe from being taken for another.
    this.log = await this.identify();
    this.logCheck = setInterval(() => {
      if (this.joined) this.verifyLog().catch(() => undefined);
    }, LOG_CHECK_MS).unref();
    await this.consumer.connect();
    await this.consumer.subscribe({ topics: [this.topic], fromBeginning: true });
    await this.consumer.run({
      autoCommit: false,
      eachBatchAutoResolve: false,
      partitionsConsumedConcurrently: CONCURRENT_PARTITIONS,
      eachBatch: (payload) => this.onBatch(payload),
    });
  }

  async commit(partitions: readonly Committed[]): Promise<void> {
    const { log } = this;
    await this.verifyLog();
    if (this.log !== log) throw new Error(`the topic ${this.topic} was made anew`);
    await this.consumer.commitOffsets(
      partitions.map(({ partition, offset, metadata }) => ({
        topic: this.topic,
        partition,
        offset: String(offset),
        metadata: `${log}${SEPARATOR}${metadata}`,
      })),
    );
  }

  /** Rejects when the brokers can't say which log the topic is, or there is no such topic at the moment. */
  private async identify(): Promise<string> {
    const { topic } = this;
    const identity = (await this.identities.read([topic])).get(topic);
    if (identity === undefined) throw new Error(`there is no topic ${topic}; create it with remit migrate`);
    return identity;
  }

  /** Asks which log the topic is now; when it is another one, that is read from its beginning. */
  private async verifyLog(): Promise<void> {
    const { generation } = this;
    const identity = await this.identify();
    // Brokers learn of a change one after another; a log that was left behind does not come back.
    if (identity === this.log || this.formerLogs.has(identity) || generation !== this.generation) return;
    const { topic, partitions } = this;
    this.options.log.warn(
      { topic, former: this.log, log: identity },
      'the topic was made anew: it is read from its beginning',
    );
    this.formerLogs.add(this.log);
    this.log = identity;
    for (const partition of partitions) this.seek(partition, 0);
    this.listener?.onLogReplaced(shortName(identity));
  }

  pause(partitions: readonly number[]): void {
    this.whileInGroup(() => this.consumer.pause([{ topic: this.topic, partitions: [...partitions] }]));
  }

  resume(partitions: readonly number[]): void {
    this.whileInGroup(() => this.consumer.resume([{ topic: this.topic, partitions: [...partitions] }]));
  }

  seek(partition: number, offset: number): void {
    this.whileInGroup(() => this.consumer.seek({ topic: this.topic, partition, offset: String(offset) }));
  }

  check(): Promise<void> {
    const silentMs = Date.now() - this.lastHeartbeatMs;
    if (!this.joined) return Promise.reject(new Error(`has not joined the group ${this.group}`));
    if (silentMs > STALLED_SESSIONS * this.options.config.KAFKA_SESSION_TIMEOUT_MS)
      return Promise.reject(new Error(`no heartbeat was acknowledged for ${silentMs} ms`));
    return Promise.resolve();
  }

  async stop(): Promise<void> {
    this.generation += 1;
    this.stopping.abort();
    clearInterval(this.logCheck);
    await this.consumer.disconnect();
    await this.admin.disconnect();
    await this.identities.close();
  }

  private listen(): void {
    const { events } = this.consumer;
    this.consumer.on(events.GROUP_JOIN, (event) => {
      this.assigned = this.onJoin(event);
    });
    this.consumer.on(events.HEARTBEAT, () => {
      this.lastHeartbeatMs = Date.now();
    });
    this.consumer.on(events.REBALANCING, () => {
      this.joined = false;
      this.listener?.onRebalancing();
    });
    this.consumer.on(events.CRASH, ({ payload }) => {
      const { log } = this.options;
      this.joined = false;
      this.generation += 1;
      this.listener?.onLost();
      if (payload.restart)
        return log.warn({ err: payload.error }, 'the consumer lost the brokers; joining again');
      log.fatal({ err: payload.error }, 'the consumer crashed');
      this.options.onFatal(payload.error);
    });
  }

  /** Learns what is committed of the partitions before anything of them is handed over. */
  private async onJoin({ payload }: ConsumerGroupJoinEvent): Promise<boolean> {
    const generation = (this.generation += 1);
    const partitions = payload.memberAssignment[this.topic] ?? [];
    const { log, config } = this.options;
    this.lastHeartbeatMs = Date.now();
    const backoff = new Backoff(config.INGEST_RETRY_BASE_MS, config.INGEST_RETRY_CAP_MS);
    while (this.generation === generation) {
      try {
        const identity = await this.identify();
        const committed = await this.committed(identity);
        if (this.generation !== generation) return false;
        if (identity !== this.log) this.formerLogs.add(this.log);
        this.log = identity;
        this.partitions = partitions;
        for (const partition of partitions) if (committed.get(partition)?.foreign) this.seek(partition, 0);
        this.joined = true;
        this.listener?.onAssigned(shortName(identity), partitions, committed);
        log.info({ group: this.group, partitions }, 'joined the consumer group');
        return true;
      } catch (error) {
        log.warn({ err: error, group: this.group }, 'committed offsets could not be read; trying again');
        await backoff.pause(this.stopping.signal);
      }
    }
    return false;
  }

  /**
   * What is committed of the partitions. Of another log (`foreign`) nothing counts, and this one is read from its
   * beginning; an offset without a log was set by a tool, and counts.
   */
  private async committed(log: string): Promise<Map<number, Committed & { foreign: boolean }>> {
    const [answer] = await this.admin.fetchOffsets({ groupId: this.group, topics: [this.topic] });
    const found = new Map<number, Committed & { foreign: boolean }>();
    for (const { partition, offset, metadata } of answer?.partitions ?? []) {
      if (Number(offset) < 0) continue;
      const [of, pending] = splitMetadata(metadata ?? '');
      const foreign = of !== '' && of !== log;
      if (foreign)
        this.options.log.warn(
          { topic: this.topic, partition, offset, former: of, log },
          'what is committed is of another log of this name: it is read from its beginning',
        );
      found.set(partition, {
        partition,
        foreign,
        offset: foreign ? 0 : Number(offset),
        metadata: foreign ? '' : pending,
      });
    }
    return found;
  }

  private async onBatch(payload: EachBatchPayload): Promise<void> {
    const { batch } = payload;
    const { assigned } = this;
    if (!(await assigned) || this.assigned !== assigned) return;
    const { messages, partition } = batch;
    const last = messages.at(-1);
    if (!last || !payload.isRunning() || payload.isStale()) return;
    const taken = this.listener?.onFetched({
      partition,
      fromOffset: Number((batch as typeof batch & WithFetchedOffset).fetchedOffset),
      nextOffset: Number(batch.lastOffset()) + 1,
      records: messages,
    });
    // Moves the position of the next fetch alone; nothing is committed by this.
    if (taken) payload.resolveOffset(messages[taken - 1]!.offset);
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

function splitMetadata(text: string): [log: string, pending: string] {
  const at = text.indexOf(SEPARATOR);
  return at < 0 ? ['', ''] : [text.slice(0, at), text.slice(at + 1)];
}

/** Of an identity, for tokens: 96 bits, so that no two logs have the same. */
function shortName(identity: string): string {
  return createHash('sha256').update(identity).digest('base64url').slice(0, 16);
}
