import { randomBytes } from 'node:crypto';
import { CompressionTypes, type IHeaders, type Kafka, type KafkaMessage, type Producer } from 'kafkajs';
import { StreamConsumer, type StreamOptions } from '../../../src/bridges/consumer';
import {
  createKafka,
  ensureTopics,
  MessageProducer,
  type OutgoingMessage,
} from '../../../src/platform/kafka';
import { Lifecycle } from '../../../src/platform/lifecycle';
import { deadLetterTopic } from '../../../src/platform/topics';
import { createTestSpace, eventually, type TestSpace } from '../../support/harness';

export interface Stream {
  topic: string;
  dlq: string;
  group: string;
  /** Starts one more member of the group; a member is stopped or killed by the test, or at the end. */
  member(handle: StreamOptions['handle'], options?: Partial<StreamOptions>): Promise<StreamConsumer>;
  /** As the product does: what the brokers are slow to acknowledge may be in the topic twice. */
  send(messages: Omit<OutgoingMessage, 'topic'>[]): Promise<void>;
  /** Each message is in the topic once, so that what is handled twice was handled twice by the consumer. */
  sendOnce(messages: Omit<OutgoingMessage, 'topic'>[]): Promise<void>;
}

/** Kafka for the tests of one file: topics and groups that nobody else uses. */
export class StreamBench {
  private readonly members: StreamConsumer[] = [];

  private constructor(
    readonly space: TestSpace,
    readonly kafka: Kafka,
    readonly producer: MessageProducer,
    private readonly sender: Producer,
  ) {}

  static async open(env: Record<string, string> = {}): Promise<StreamBench> {
    const space = await createTestSpace({
      env: { BRIDGE_RETRY_BASE_MS: '20', BRIDGE_RETRY_CAP_MS: '200', KAFKA_LAG_INTERVAL_MS: '200', ...env },
    });
    const kafka = createKafka(space.config, space.log);
    const producer = new MessageProducer(kafka, space.config);
    await producer.connect();
    const sender = kafka.producer({ idempotent: true, maxInFlightRequests: 1 });
    await sender.connect();
    return new StreamBench(space, kafka, producer, sender);
  }

  async stream(partitions = 3): Promise<Stream> {
    const { kafka, space, producer, sender } = this;
    const name = `s${randomBytes(4).toString('hex')}`;
    const topic = `${space.name}.${name}`;
    const dlq = deadLetterTopic(space.config, topic);
    await ensureTopics(kafka, [topic, dlq], { ...space.config, KAFKA_TOPIC_PARTITIONS: partitions });
    return {
      topic,
      dlq,
      group: `${space.name}.${name}`,
      member: (handle, options = {}) => this.consumer({ topic, groupName: name }, handle, options),
      send: async (messages) => {
        await Promise.all(messages.map((message) => producer.send({ ...message, topic })));
      },
      sendOnce: async (messages) => {
        await sender.send({ topic, acks: -1, compression: CompressionTypes.None, messages });
      },
    };
  }

  /** Starts a member of a group that reads the topic, of a new group when none is named. */
  async consumer(
    { topic, groupName = `g${randomBytes(4).toString('hex')}` }: { topic: string; groupName?: string },
    handle: StreamOptions['handle'],
    options: Partial<StreamOptions> = {},
  ): Promise<StreamConsumer> {
    const { kafka, producer } = this;
    const { config, log } = this.space;
    const consumer = new StreamConsumer({
      kafka,
      producer,
      config,
      log,
      lifecycle: new Lifecycle(log, 30_000),
      topics: [topic],
      groupName,
      handle,
      ...options,
    });
    this.members.push(consumer);
    await consumer.start();
    return consumer;
  }

  async admin<T>(run: (admin: ReturnType<Kafka['admin']>) => Promise<T>): Promise<T> {
    const admin = this.kafka.admin();
    await admin.connect();
    try {
      return await run(admin);
    } finally {
      await admin.disconnect();
    }
  }

  /** Committed offsets of a stream's group by partition; -1 where there is none. */
  committed({ group, topic }: Pick<Stream, 'group' | 'topic'>): Promise<number[]> {
    return this.admin(async (admin) => {
      const [offsets] = await admin.fetchOffsets({ groupId: group, topics: [topic] });
      return (offsets?.partitions ?? [])
        .sort((a, b) => a.partition - b.partition)
        .map(({ offset }) => Number(offset));
    });
  }

  /** How many messages are on a topic, repetitions among them. */
  count(topic: string): Promise<number> {
    return this.admin(async (admin) => {
      const offsets = await admin.fetchTopicOffsets(topic);
      return offsets.reduce((sum, { high, low }) => sum + Number(high) - Number(low), 0);
    });
  }

  /** Reads a topic from its beginning until it has `count` different values (repetitions are returned too). */
  async read(topic: string, count: number): Promise<KafkaMessage[]> {
    const consumer = this.kafka.consumer({
      groupId: `${topic}.reader.${randomBytes(4).toString('hex')}`,
      maxWaitTimeInMs: 100,
    });
    const messages: KafkaMessage[] = [];
    const values = new Set<string>();
    await consumer.connect();
    await consumer.subscribe({ topic, fromBeginning: true });
    try {
      await consumer.run({
        eachMessage: ({ message }) => {
          messages.push(message);
          values.add(String(message.value?.toString('latin1')));
          return Promise.resolve();
        },
      });
      await eventually(() => {
        if (values.size < count) throw new Error(`${values.size} of ${count} messages on ${topic}`);
      });
      return messages;
    } finally {
      await consumer.disconnect();
    }
  }

  async close(): Promise<void> {
    await Promise.all(this.members.map((member) => member.stop().catch(() => undefined)));
    await Promise.all([this.producer.stop(), this.sender.disconnect()]);
  }
}

/** Headers with every value as text. */
export function headerTexts(headers: IHeaders | undefined): Record<string, string> {
  return Object.fromEntries(Object.entries(headers ?? {}).map(([name, value]) => [name, String(value)]));
}
