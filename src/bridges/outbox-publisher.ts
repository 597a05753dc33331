import type { Kafka, Message, Producer, TopicMessages } from 'kafkajs';
import type { Config } from '../platform/config';
import { TRACEPARENT } from '../contracts/tracing';
import { messagingAttributes } from '../platform/kafka';
import { createProducer } from '../platform/kafka-produce';
import { metrics } from '../platform/metrics';
import { tracing, type TraceSpan } from '../platform/tracing';

export interface OutboxRow {
  /** bigint as text. */
  id: string;
  /** Logical name, see `outboxTopics`. */
  topic: string;
  key: string;
  value: string;
  headers: Record<string, unknown>;
}

/** A row that Kafka will never take, and why. */
export interface RefusedRow {
  row: OutboxRow;
  reason: string;
}

/** What the outbox calls its topics, and what they are called here. */
function outboxTopics(config: Config): ReadonlyMap<string, string> {
  return new Map([
    ['payment-request', config.TOPIC_PAYMENT_REQUEST],
    ['payment-status', config.TOPIC_PAYMENT_STATUS],
    ['domain.events', config.TOPIC_DOMAIN_EVENTS],
    ['events', config.TOPIC_EVENTS],
  ]);
}

/** Protocol errors that no repetition fixes: they are about the row. */
const LASTING = new Set(['MESSAGE_TOO_LARGE', 'RECORD_LIST_TOO_LARGE', 'INVALID_RECORD']);

/**
 * Produces outbox rows in their order, with `acks=all` and one request to a broker at a time. A call is one try for all its
 * rows (kafka-produce.ts says why): where a broker fails, those that others have stored are stored again with the next round. After
 * a failed call the producer is replaced, and with it what it knows of brokers and leaders.
 */
export class OutboxPublisher {
  private producer: Promise<Producer> | undefined;
  private readonly topics: ReadonlyMap<string, string>;

  constructor(
    private readonly kafka: Kafka,
    private readonly config: Config,
  ) {
    this.topics = outboxTopics(config);
  }

  /**
   * Resolves when all in-sync replicas have every row except those returned. Rejects when that is not certain; rows
   * may then be stored all the same, and publishing them again repeats them.
   * @param assertTurn throws when this may no longer be published; asked before anything is sent.
   */
  async publish(rows: readonly OutboxRow[], assertTurn: () => void = () => undefined): Promise<RefusedRow[]> {
    const unknown = rows.filter((row) => !this.topics.has(row.topic));
    const refused = unknown.map((row) => ({ row, reason: `no topic is known as ${row.topic}` }));
    const known = unknown.length === 0 ? rows : rows.filter((row) => this.topics.has(row.topic));
    if (known.length === 0) return refused;
    try {
      await this.send(known, assertTurn);
      return refused;
    } catch (error) {
      if (lastingReason(error) === undefined) throw error;
    }
    // One of them is to blame. One by one it is found, and the others stay in order.
    for (const row of known) {
      try {
        await this.send([row], assertTurn);
      } catch (error) {
        const reason = lastingReason(error);
        if (reason === undefined) throw error;
        refused.push({ row, reason });
      }
    }
    return refused;
  }

  async stop(): Promise<void> {
    const producer = this.producer;
    this.producer = undefined;
    await (await producer?.catch(() => undefined))?.disconnect();
  }

  private async connect(): Promise<Producer> {
    // Tried once: the relay's own loop goes on forever, says so in the log, and rolls back in between.
    const producer = createProducer(this.kafka, { maxInFlightRequests: 1 });
    await producer.connect();
    return producer;
  }

  private async send(rows: readonly OutboxRow[], assertTurn: () => void): Promise<void> {
    const byTopic = new Map<string, Message[]>();
    const spans: TraceSpan[] = [];
    for (const row of rows) {
      const topic = this.topics.get(row.topic) ?? row.topic;
      const messages = byTopic.get(topic) ?? [];
      if (messages.length === 0) byTopic.set(topic, messages);
      messages.push({ key: row.key, value: row.value, headers: tracedHeaders(row, topic, spans) });
    }
    const topicMessages: TopicMessages[] = [...byTopic].map(([topic, messages]) => ({ topic, messages }));
    this.producer ??= this.connect();
    try {
      const producer = await this.producer;
      assertTurn();
      await producer.sendBatch({ topicMessages, acks: -1, timeout: this.config.KAFKA_PRODUCE_TIMEOUT_MS });
    } catch (error) {
      // What is refused for good is counted in remit_outbox_refused_rows; this is what is tried again.
      if (lastingReason(error) === undefined)
        for (const { topic, messages } of topicMessages)
          metrics.kafkaProduceErrors.inc({ topic }, messages.length);
      for (const span of spans) span.fail(error);
      await this.stop();
      throw error;
    } finally {
      for (const span of spans) span.end();
    }
    for (const { topic, messages } of topicMessages) metrics.outboxPublished.inc({ topic }, messages.length);
  }
}

/** A row belongs to the trace that wrote it: its message is sent in a span of its own there, whatever is sent with it. */
function tracedHeaders(row: OutboxRow, topic: string, spans: TraceSpan[]): Record<string, string> {
  const headers = headersOf(row);
  const parent = headers[TRACEPARENT];
  const span =
    parent === undefined
      ? undefined
      : tracing()?.start({
          ...{ name: `send ${topic}`, kind: 'producer', parent },
          attributes: { ...messagingAttributes(topic, row.key), 'remit.outbox_id': row.id },
        });
  if (!span) return headers;
  spans.push(span);
  return { ...headers, [TRACEPARENT]: span.traceparent };
}

function headersOf({ headers }: OutboxRow): Record<string, string> {
  const result: Record<string, string> = {};
  for (const [name, value] of Object.entries(headers ?? {}))
    if (value !== null && value !== undefined)
      result[name] = typeof value === 'string' ? value : JSON.stringify(value);
  return result;
}

/** Why the brokers will never take it; undefined when they may later. kafkajs wraps protocol errors a few deep. */
function lastingReason(error: unknown): string | undefined {
  let current = error as { type?: string; message?: string; cause?: unknown } | undefined;
  for (let depth = 0; current && depth < 5; depth += 1) {
    if (current.type !== undefined && LASTING.has(current.type)) return `${current.type}: ${current.message}`;
    current = current.cause as typeof current;
  }
  return undefined;
}
