import type { Admin, Consumer, ConsumerGroupJoinEvent, EachBatchPayload, Kafka } from 'kafkajs';
import type { Config } from '../../platform/config';
import type { Logger } from '../../platform/logging';
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

/** `MessageSource` by kafkajs: what `eachBatch` brings is handed over at once, so heartbeats never wait for ClickHouse. */
export class KafkaJsSource implements MessageSource {
  readonly topic: string;
  readonly group: string;
  private readonly consumer: Consumer;
  private readonly admin: Admin;
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
    this.listen();
  }

  async start(listener: SourceListener): Promise<void> {
    this.listener = listener;
    await this.admin.connect();
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
    await this.consumer.commitOffsets(
      partitions.map(({ partition, offset, metadata }) => ({
        topic: this.topic,
        partition,
        offset: String(offset),
        metadata,
      })),
    );
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
    await this.consumer.disconnect();
    await this.admin.disconnect();
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
        const committed = await this.committed();
        if (this.generation !== generation) return false;
        this.joined = true;
        this.listener?.onAssigned(partitions, committed);
        log.info({ group: this.group, partitions }, 'joined the consumer group');
        return true;
      } catch (error) {
        log.warn({ err: error, group: this.group }, 'committed offsets could not be read; trying again');
        await backoff.pause(this.stopping.signal);
      }
    }
    return false;
  }

  private async committed(): Promise<Map<number, Committed>> {
    const [answer] = await this.admin.fetchOffsets({ groupId: this.group, topics: [this.topic] });
    const found = new Map<number, Committed>();
    for (const { partition, offset, metadata } of answer?.partitions ?? [])
      if (Number(offset) >= 0)
        found.set(partition, { partition, offset: Number(offset), metadata: metadata ?? '' });
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
    if (taken) payload.resolveOffset(last.offset);
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
