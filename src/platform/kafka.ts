import { readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import {
  type Admin,
  type Consumer,
  type IHeaders,
  Kafka,
  type KafkaConfig,
  logLevel,
  type Producer,
} from 'kafkajs';
import type { Config } from './config';
import { installFetchDecoder } from './kafka-fetch';
import { createProducer, sendWhole } from './kafka-produce';
import { installSilenceEnd } from './kafkajs-silence';
import { installQuietTimers } from './kafkajs-timers';
import type { Lifecycle, ReadinessCheck } from './lifecycle';
import type { Logger } from './logging';
import { TRACEPARENT } from '../contracts/tracing';
import { metrics } from './metrics';
import { inSpan, traceparentHere, type SpanAttributes, type TraceSpan } from './tracing';

type KafkaSettings = Pick<
  Config,
  | 'KAFKA_BROKERS'
  | 'KAFKA_CLIENT_ID'
  | 'KAFKA_REQUEST_TIMEOUT_MS'
  | 'KAFKA_TLS'
  | 'KAFKA_TLS_CA_FILE'
  | 'KAFKA_SASL_MECHANISM'
  | 'KAFKA_SASL_USERNAME'
  | 'KAFKA_SASL_PASSWORD'
>;

/**
 * A Kafka client with TLS and SASL from config and its log lines in ours, that reads all four compression codecs.
 * Connects lazily.
 */
export function createKafka(config: KafkaSettings, log: Logger): Kafka {
  installFetchDecoder();
  installQuietTimers();
  installSilenceEnd();
  const username = config.KAFKA_SASL_USERNAME ?? '';
  const password = config.KAFKA_SASL_PASSWORD ?? '';
  const sasl: Pick<KafkaConfig, 'sasl'> = config.KAFKA_SASL_MECHANISM
    ? {
        sasl: { mechanism: config.KAFKA_SASL_MECHANISM, username, password } as NonNullable<
          KafkaConfig['sasl']
        >,
      }
    : {};
  const ca = config.KAFKA_TLS_CA_FILE;
  return new Kafka({
    clientId: config.KAFKA_CLIENT_ID,
    brokers: config.KAFKA_BROKERS,
    ssl: config.KAFKA_TLS ? (ca ? { ca: [readFileSync(ca)] } : true) : false,
    ...sasl,
    connectionTimeout: 3_000,
    requestTimeout: config.KAFKA_REQUEST_TIMEOUT_MS,
    retry: { initialRetryTime: 100, maxRetryTime: 5_000, retries: 8 },
    logLevel: logLevel.WARN,
    // kafkajs reports every answer that it retries (rebalance, coordinator moving) as an error: those are routine.
    logCreator: () => (entry) => {
      const { message, ...details } = entry.log;
      delete (details as Record<string, unknown>)['timestamp'];
      log[entry.level === logLevel.ERROR && !message.startsWith('Response ') ? 'warn' : 'debug'](
        { kafka: details },
        `kafka: ${message}`,
      );
    },
  });
}

export interface OutgoingMessage {
  topic: string;
  key: Buffer | string | null;
  value: Buffer | string | null;
  headers?: IHeaders;
}

/** Thrown when a message was not acknowledged; it may still have been stored, so consumers must be idempotent. */
export class NotQueuedError extends Error {}

interface Waiting {
  message: OutgoingMessage;
  bytes: number;
  resolve: () => void;
  reject: (error: Error) => void;
}

/** What a record adds to its key and value on the wire, generously. */
const RECORD_OVERHEAD_BYTES = 200;

/** One request per topic is in flight; what arrives meanwhile shares the next one. Keeps order per topic. */
class TopicQueue {
  private waiting: Waiting[] = [];
  private waitingBytes = 0;
  private running = false;
  private idle: (() => void)[] = [];

  constructor(
    private readonly topic: string,
    private readonly producer: Producer,
    private readonly batchMessages: number,
    private readonly batchBytes: number,
    private readonly queueMessages: number,
    private readonly queueBytes: number,
    private readonly timeoutMs: number,
  ) {}

  /** After the time-out a message that is still waiting is dropped, so that what was answered with an error is not sent. */
  add(message: OutgoingMessage): Promise<void> {
    const bytes = (message.value?.length ?? 0) + (message.key?.length ?? 0) + RECORD_OVERHEAD_BYTES;
    if (this.waiting.length >= this.queueMessages || this.waitingBytes + bytes > this.queueBytes)
      return Promise.reject(
        new NotQueuedError(`${this.waiting.length} messages are waiting for the brokers already`),
      );
    return new Promise<void>((resolve, reject) => {
      const timer = setTimeout(() => {
        const index = this.waiting.indexOf(entry);
        if (index >= 0) {
          this.waiting.splice(index, 1);
          this.waitingBytes -= bytes;
        }
        reject(new NotQueuedError(`Kafka did not acknowledge within ${this.timeoutMs} ms`));
      }, this.timeoutMs);
      const entry: Waiting = {
        message,
        bytes,
        resolve: () => {
          clearTimeout(timer);
          resolve();
        },
        reject: (error) => {
          clearTimeout(timer);
          reject(error);
        },
      };
      this.waiting.push(entry);
      this.waitingBytes += bytes;
      if (!this.running) {
        this.running = true;
        // The rest of this tick's messages join the first request.
        setImmediate(() => void this.run());
      }
    });
  }

  /** Resolves when everything that was handed in is settled. */
  settled(): Promise<void> {
    return this.running ? new Promise((resolve) => this.idle.push(resolve)) : Promise.resolve();
  }

  /** At least one message; more while they fit the brokers' limit for what one request puts on one partition. */
  private batchLength(): number {
    let bytes = 0;
    let length = 0;
    for (const waiting of this.waiting) {
      bytes += waiting.bytes;
      if (length === this.batchMessages || (length > 0 && bytes > this.batchBytes)) break;
      length += 1;
    }
    return length;
  }

  private async run(): Promise<void> {
    while (this.waiting.length > 0) {
      const batch = this.waiting.splice(0, this.batchLength());
      for (const { bytes } of batch) this.waitingBytes -= bytes;
      try {
        const messages = batch.map(({ message }) => ({
          key: message.key,
          value: message.value,
          ...(message.headers ? { headers: message.headers } : {}),
        }));
        await sendWhole(
          this.producer,
          { topicMessages: [{ topic: this.topic, messages }], acks: -1, timeout: this.timeoutMs },
          this.timeoutMs,
        );
        metrics.kafkaProduced.inc({ topic: this.topic }, batch.length);
        for (const each of batch) each.resolve();
      } catch (error) {
        metrics.kafkaProduceErrors.inc({ topic: this.topic }, batch.length);
        const reason = new NotQueuedError(
          `Kafka did not take the message: ${error instanceof Error ? error.message : String(error)}`,
        );
        for (const each of batch) each.reject(reason);
      }
    }
    this.running = false;
    for (const resolve of this.idle.splice(0)) resolve();
  }
}

type ProducerSettings = Pick<
  Config,
  | 'KAFKA_PRODUCER_BATCH_MESSAGES'
  | 'KAFKA_PRODUCER_BATCH_BYTES'
  | 'KAFKA_PRODUCER_QUEUE_MESSAGES'
  | 'KAFKA_PRODUCER_QUEUE_BYTES'
  | 'KAFKA_PRODUCE_TIMEOUT_MS'
>;

/**
 * Produces with `acks=all`; concurrent messages to one topic share requests without waiting for each other.
 * At least once: a message whose acknowledgement was lost may be stored twice.
 */
export class MessageProducer {
  private readonly queues = new Map<string, TopicQueue>();
  private readonly producer: Producer;

  constructor(
    kafka: Kafka,
    private readonly settings: ProducerSettings,
  ) {
    this.producer = createProducer(kafka);
  }

  async connect(): Promise<void> {
    await this.producer.connect();
  }

  /**
   * Resolves when all in-sync replicas have the message. In a trace, its header says so, unless the message has one already:
   * a dead letter keeps what its message came with.
   * @throws NotQueuedError when they did not acknowledge in time, or too many messages are waiting.
   */
  async send(message: OutgoingMessage): Promise<void> {
    const stop = metrics.kafkaProduceSeconds.startTimer();
    const { topic, key } = message;
    try {
      await inSpan(
        () => ({ name: `send ${topic}`, kind: 'producer', attributes: messagingAttributes(topic, key) }),
        (span) => this.queue(topic).add(withTraceparent(message, span)),
      );
    } finally {
      stop();
    }
  }

  /** Sends what is waiting, then disconnects. Idempotent. */
  async stop(): Promise<void> {
    await Promise.all([...this.queues.values()].map((queue) => queue.settled()));
    await this.producer.disconnect();
  }

  private queue(topic: string): TopicQueue {
    let queue = this.queues.get(topic);
    if (!queue) {
      queue = new TopicQueue(
        topic,
        this.producer,
        this.settings.KAFKA_PRODUCER_BATCH_MESSAGES,
        this.settings.KAFKA_PRODUCER_BATCH_BYTES,
        this.settings.KAFKA_PRODUCER_QUEUE_MESSAGES,
        this.settings.KAFKA_PRODUCER_QUEUE_BYTES,
        this.settings.KAFKA_PRODUCE_TIMEOUT_MS,
      );
      this.queues.set(topic, queue);
    }
    return queue;
  }
}

function withTraceparent(message: OutgoingMessage, span: TraceSpan | undefined): OutgoingMessage {
  const traceparent = span?.traceparent ?? traceparentHere();
  if (traceparent === undefined || message.headers?.[TRACEPARENT] !== undefined) return message;
  return { ...message, headers: { ...message.headers, [TRACEPARENT]: traceparent } };
}

/** What spans of messages have in common; longer keys are somebody else's. */
export function messagingAttributes(topic: string, key: Buffer | string | null): SpanAttributes {
  return {
    'messaging.system': 'kafka',
    'messaging.destination.name': topic,
    'messaging.kafka.message.key': key === null ? null : key.toString('utf8').slice(0, 128),
  };
}

/**
 * Headers of a message that was read, as their type says they are. kafkajs hands on a header without a value as null,
 * and collects values in an object with a prototype: before the value of a header named `constructor` stands a function.
 * A producer's headers must not stop whoever reads them. A missing value becomes an empty one: kafkajs can't send null.
 */
export function soundHeaders(headers: IHeaders | undefined): IHeaders {
  const entries = Object.entries((headers ?? {}) as Record<string, unknown>);
  if (entries.every(([, value]) => isHeaderValue(value))) return headers ?? {};
  const sound = (value: unknown) => (value === null ? Buffer.alloc(0) : value);
  return Object.fromEntries(
    entries.map(([name, value]) => {
      const values = (Array.isArray(value) ? value : [value]).map(sound).filter(isHeaderValue);
      return [name, values.length === 1 ? values[0] : values];
    }),
  );
}

function isHeaderValue(value: unknown): value is Buffer | string {
  return Buffer.isBuffer(value) || typeof value === 'string';
}

/** Kafka headers as strings; of a repeated header the first value counts. */
export function headersToStrings(headers: IHeaders | undefined): Record<string, string> {
  const result: Record<string, string> = {};
  for (const [name, value] of Object.entries(headers ?? {})) {
    const first = Array.isArray(value) ? value[0] : value;
    if (first !== undefined) result[name] = first.toString();
  }
  return result;
}

/**
 * `acks=all` is worth what `min.insync.replicas` says: with the brokers' default of 1 it may mean the leader alone. A
 * dead letter is its message and some headers, so that it may be larger than the largest message, and it waits for an
 * operator longer than the brokers' default of a week.
 */
function topicConfig(topic: string, settings: TopicSettings): { name: string; value: string }[] {
  const inSync = Math.max(1, settings.KAFKA_REPLICATION_FACTOR - 1);
  return [
    { name: 'min.insync.replicas', value: String(inSync) },
    ...(topic.endsWith('.dlq')
      ? [
          { name: 'max.message.bytes', value: String(16 * 1_048_576) },
          { name: 'retention.ms', value: String(settings.KAFKA_DEAD_LETTER_RETENTION_MS) },
        ]
      : []),
  ];
}

type TopicSettings = Pick<
  Config,
  'KAFKA_TOPIC_PARTITIONS' | 'KAFKA_REPLICATION_FACTOR' | 'KAFKA_DEAD_LETTER_RETENTION_MS'
>;

/**
 * Creates missing topics; topics that exist are left as they are. Idempotent.
 * @returns the names it created.
 */
export async function ensureTopics(
  kafka: Kafka,
  topics: readonly string[],
  settings: TopicSettings,
): Promise<string[]> {
  const admin = kafka.admin();
  await admin.connect();
  try {
    const existing = new Set(await admin.listTopics());
    const missing = topics.filter((topic) => !existing.has(topic));
    if (missing.length > 0) {
      await admin.createTopics({
        waitForLeaders: false,
        topics: missing.map((topic) => ({
          topic,
          numPartitions: settings.KAFKA_TOPIC_PARTITIONS,
          replicationFactor: settings.KAFKA_REPLICATION_FACTOR,
          configEntries: topicConfig(topic, settings),
        })),
      });
      await waitForLeaders(admin, missing);
    }
    return missing;
  } finally {
    await admin.disconnect();
  }
}

const LEADERS_TIMEOUT_MS = 15_000;
const LEADERS_POLL_MS = 50;

/**
 * Waits until every partition of new topics has a leader that serves it. For a moment after creating a topic a broker may
 * answer that it does not know it, which kafkajs's own `waitForLeaders` takes for an error; and a leader that is named
 * already may refuse what is produced, upon which kafkajs sends a request's other partitions again too.
 */
async function waitForLeaders(admin: Admin, topics: string[]): Promise<void> {
  const deadline = Date.now() + LEADERS_TIMEOUT_MS;
  for (;;) {
    try {
      const metadata = await admin.fetchTopicMetadata({ topics });
      if (metadata.topics.every(({ partitions }) => partitions.every(({ leader }) => leader >= 0))) {
        // Only a leader that serves its partition answers this.
        await Promise.all(topics.map((topic) => admin.fetchTopicOffsets(topic)));
        return;
      }
    } catch (error) {
      if (Date.now() > deadline) throw error;
    }
    if (Date.now() > deadline) throw new Error(`some of the topics ${topics.join(', ')} have no leader yet`);
    await sleep(LEADERS_POLL_MS);
  }
}

/**
 * A readiness check that asks the brokers for the cluster's description, over a connection of its own that is opened
 * on first use and closed with the process.
 */
export function kafkaReadiness(kafka: Kafka, lifecycle: Lifecycle): ReadinessCheck {
  let connected: Promise<Admin> | undefined;
  lifecycle.onStop('close', 'kafka readiness client', async () => {
    await (await connected?.catch(() => undefined))?.disconnect();
  });
  const connect = async (): Promise<Admin> => {
    const admin = kafka.admin({ retry: { retries: 1 } });
    await admin.connect();
    return admin;
  };
  const check = async (): Promise<void> => {
    const current = (connected ??= connect());
    try {
      await (await current).describeCluster();
    } catch (error) {
      connected = undefined;
      void current.then((admin) => admin.disconnect()).catch(() => undefined);
      throw error;
    }
  };
  // kafkajs retries for seconds while brokers are away: probes that come meanwhile share one check.
  let running: Promise<void> | undefined;
  return () => (running ??= check().finally(() => (running = undefined)));
}

/** Every value of every header, a repeated one once for each. */
export function headersToBase64(headers: IHeaders): [name: string, valueBase64: string][] {
  return Object.entries(headers).flatMap(([name, given]) =>
    [given ?? []].flat().map((value): [string, string] => [name, Buffer.from(value).toString('base64')]),
  );
}

/** A group that rebalances lets nobody in for so long at most. */
const JOINING_MAX_MS = 30_000;

/**
 * Ends a consumer, also one that is still joining its group: kafkajs stops only what runs already, and what joins would
 * run for good afterwards, a member that nobody can stop.
 * @param running what its `run` returned; undefined when it was not called.
 */
export async function endConsumer(
  consumer: Pick<Consumer, 'disconnect'>,
  running: Promise<unknown> | undefined,
): Promise<void> {
  const joined = running?.catch(() => undefined);
  if (joined) {
    const inTime = new AbortController();
    const late = sleep(JOINING_MAX_MS, 'late', { signal: inTime.signal }).catch(() => undefined);
    const isLate = (await Promise.race([joined, late])) === 'late';
    inTime.abort();
    if (isLate) void joined.then(() => consumer.disconnect()).catch(() => undefined);
  }
  await consumer.disconnect();
}
