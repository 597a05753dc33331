import { createHash } from 'node:crypto';
import type { EachBatchPayload, Kafka } from 'kafkajs';
import type { Config } from '../../platform/config';
import { GroupConsumer, type Assignment } from '../../platform/group-consumer';
import type { Logger } from '../../platform/logging';
import type { Committed, MessageSource, SourceListener } from './source';

export interface KafkaJsSourceOptions {
  kafka: Kafka;
  config: Config;
  log: Logger;
  topic: string;
  /** The group is KAFKA_GROUP_PREFIX.groupName. */
  groupName: string;
  /** Called for a defect; whatever is wrong with the brokers is waited for. */
  onFatal(): void;
}

/** Of kafkajs's own Batch, but missing in its types: where this fetch began. */
interface WithFetchedOffset {
  fetchedOffset: string;
}

/** Partitions that are handed over side by side; handing over is short, and heartbeats fall in between. */
const CONCURRENT_PARTITIONS = 4;
/** A fetch is bounded by this many partitions' worth of bytes. */
const FETCHED_PARTITIONS = 10;

/** `MessageSource` by kafkajs: what a fetch brings is handed over at once, so heartbeats never wait for ClickHouse. */
export class KafkaJsSource implements MessageSource {
  readonly topic: string;
  readonly group: string;
  private readonly consumer: GroupConsumer;
  private listener: SourceListener | undefined;

  constructor(options: KafkaJsSourceOptions) {
    const { kafka, config, log, topic, groupName } = options;
    this.topic = topic;
    this.group = `${config.KAFKA_GROUP_PREFIX}.${groupName}`;
    this.consumer = new GroupConsumer({
      kafka,
      log,
      groupId: this.group,
      topics: [topic],
      sessionTimeoutMs: config.KAFKA_SESSION_TIMEOUT_MS,
      fetch: {
        heartbeatInterval: Math.min(3_000, Math.floor(config.KAFKA_SESSION_TIMEOUT_MS / 4)),
        maxWaitTimeInMs: config.INGEST_FETCH_WAIT_MS,
        maxBytesPerPartition: config.INGEST_FETCH_BYTES,
        maxBytes: config.INGEST_FETCH_BYTES * FETCHED_PARTITIONS,
      },
      concurrency: CONCURRENT_PARTITIONS,
      listener: {
        onAssigned: (assignment) => this.onAssigned(assignment),
        onLogReplaced: (_topic, log) => this.listener?.onLogReplaced(shortName(log)),
        onBatch: (payload) => this.onBatch(payload),
        onRebalancing: () => this.listener?.onRebalancing(),
        onLost: () => this.listener?.onLost(),
      },
      onFatal: () => options.onFatal(),
    });
  }

  async start(listener: SourceListener): Promise<void> {
    this.listener = listener;
    await this.consumer.start();
  }

  async commit(partitions: readonly Committed[]): Promise<void> {
    const { topic, consumer } = this;
    const log = consumer.logOf(topic);
    if ((await consumer.identify()).get(topic) !== log)
      throw new Error(`the topic ${topic} was created again`);
    await consumer.commit(
      partitions.map(({ partition, offset, metadata }) => ({
        topic,
        partition,
        offset: BigInt(offset),
        metadata,
      })),
    );
  }

  pause(partitions: readonly number[]): void {
    this.consumer.pause(this.topic, partitions);
  }

  resume(partitions: readonly number[]): void {
    this.consumer.resume(this.topic, partitions);
  }

  seek(partition: number, offset: number): void {
    this.consumer.seek(this.topic, partition, BigInt(offset));
  }

  check(): Promise<void> {
    return this.consumer.check();
  }

  stop(): Promise<void> {
    return this.consumer.stop();
  }

  private onAssigned({ partitions, logs, committed }: Assignment): void {
    this.listener?.onAssigned(
      shortName(logs.get(this.topic) ?? ''),
      partitions.get(this.topic) ?? [],
      new Map(
        committed.map(({ partition, offset, metadata }) => [
          partition,
          { partition, offset: Number(offset), metadata },
        ]),
      ),
    );
  }

  private onBatch(payload: EachBatchPayload): void {
    const { batch } = payload;
    const { messages, partition } = batch;
    if (messages.length === 0) return;
    const taken = this.listener?.onFetched({
      partition,
      fromOffset: Number((batch as typeof batch & WithFetchedOffset).fetchedOffset),
      nextOffset: Number(batch.lastOffset()) + 1,
      records: messages,
    });
    // Moves the position of the next fetch alone; nothing is committed by this.
    if (taken) payload.resolveOffset(messages[taken - 1]!.offset);
  }
}

/** Of an identity, for tokens: 96 bits, so that no two logs have the same. */
function shortName(identity: string): string {
  return createHash('sha256').update(identity).digest('base64url').slice(0, 16);
}
