import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { SingleBar } from 'cli-progress';
import { ConfigResourceTypes, type Kafka, type Message } from 'kafkajs';
import { loadConfig, type Config } from '../platform/config';
import { createKafka } from '../platform/kafka';
import { createProducer, sendWhole } from '../platform/kafka-produce';
import { createLogger, type Logger } from '../platform/logging';
import { callerPath } from '../platform/project';
import { withAdmin } from '../platform/topic-reader';
import { explainingKafka, requireBrokers } from './kafka-access';
import { localAccess } from './local-access';
import { messageLines, readableSize } from './message-lines';
import { purchaseGenerator } from './purchase-generator';

export interface ProduceOptions {
  /** Files with one message a line; when there are none, messages are generated. */
  files: readonly string[];
  /** How many messages to generate. */
  count: number;
  /** Messages a second; 0 is as fast as the brokers take them. */
  ratePerSecond: number;
  /** Share of generated messages that ingest has to dead-letter, 0 to 1. */
  badShare: number;
  seed: number;
  topic: string;
  /** Shows a progress bar on stderr. */
  progress: boolean;
}

export interface Produced {
  messages: number;
  /** Of the generated ones. */
  bad: number;
  /** Lines that are longer than the topic takes, and were not sent. */
  tooLong: TooLong;
  seconds: number;
}

export interface TooLong {
  count: number;
  /** The first of them, for people. */
  first: string[];
}

const REQUEST_MESSAGES = 2_000;
/** At a given rate so many requests a second are sent. */
const REQUESTS_PER_SECOND = 10;
/** A request's messages may all be of one partition, where they are one batch: of that `max.message.bytes` speaks. */
const REQUEST_BYTES = 1_000_000;
/** What the format of Kafka adds to a batch and to a message, at most. */
const BATCH_OVERHEAD_BYTES = 128;
const MESSAGE_OVERHEAD_BYTES = 64;
/** `max.message.bytes` where the brokers don't say theirs. */
const KAFKA_DEFAULT_MAX_BYTES = 1_048_588;
const NAMED_LINES = 10;
/** How long brokers may be away. */
const SEND_MAX_MS = 30_000;

/**
 * Plays the producer of purchases: lines of files, or generated messages. At least once, as producers are: a request
 * whose answer was lost is sent again, and leaves the same ids twice in the topic. Memory does not grow with the files.
 * @throws when a file is not readable, or the brokers do not take a message.
 */
export async function producePurchases(
  config: Config,
  log: Logger,
  options: ProduceOptions,
): Promise<Produced> {
  const kafka = createKafka(config, log);
  const source =
    options.files.length > 0
      ? await fromFiles(options.files, await largestMessage(kafka, options.topic))
      : generated(options);
  const producer = createProducer(kafka);
  const bar = new SingleBar({
    format: '{bar} {percentage} % | {messages} messages | {speed}/s | {eta} s left',
    barsize: 30,
    hideCursor: true,
    noTTYOutput: false,
    stream: process.stderr,
  });
  await producer.connect();
  const startedAt = performance.now();
  const elapsed = () => (performance.now() - startedAt) / 1_000;
  const { ratePerSecond } = options;
  const step =
    ratePerSecond > 0
      ? Math.min(REQUEST_MESSAGES, Math.max(1, Math.round(ratePerSecond / REQUESTS_PER_SECOND)))
      : REQUEST_MESSAGES;
  let sent = 0;
  try {
    if (options.progress) bar.start(source.total, 0, { messages: 0, speed: 0 });
    for await (const messages of source.requests(step)) {
      const batch = { acks: -1, topicMessages: [{ topic: options.topic, messages }] };
      await sendWhole(producer, batch, SEND_MAX_MS);
      sent += messages.length;
      bar.update(source.done(), { messages: sent, speed: Math.round(sent / elapsed()) });
      if (ratePerSecond > 0) await sleep(Math.max(0, (sent / ratePerSecond - elapsed()) * 1_000));
    }
  } finally {
    bar.stop();
    await producer.disconnect();
  }
  return { messages: sent, bad: source.bad(), tooLong: source.tooLong, seconds: elapsed() };
}

interface MessageSupply {
  /** Messages, or bytes of files. */
  total: number;
  /** Of the total. */
  done(): number;
  /** At most `step` messages each, and no more than one batch may be. */
  requests(step: number): AsyncIterable<Message[]> | Iterable<Message[]>;
  bad(): number;
  tooLong: TooLong;
}

function generated({ seed, badShare, count }: ProduceOptions): MessageSupply {
  const next = purchaseGenerator({ seed, badShare });
  let bad = 0;
  let done = 0;
  const message = (): Message => {
    const { key, value, mistake } = next();
    if (mistake !== undefined) bad += 1;
    return { key, value, ...(mistake === undefined ? {} : { headers: { 'played-mistake': mistake } }) };
  };
  return {
    total: count,
    done: () => done,
    *requests(step) {
      while (done < count) {
        const length = Math.min(step, count - done);
        done += length;
        yield Array.from({ length }, message);
      }
    },
    bad: () => bad,
    tooLong: { count: 0, first: [] },
  };
}

/** Every line is a message, broken ones too. All files are looked at before the first message is sent. */
async function fromFiles(files: readonly string[], maxBytes: number): Promise<MessageSupply> {
  const unreadable = (file: string) => (error: unknown) => {
    throw new Error(`${file} is not readable: ${String(error)}`, { cause: error });
  };
  let total = 0;
  for (const file of files) total += await readableSize(callerPath(file)).catch(unreadable(file));
  const tooLong: TooLong = { count: 0, first: [] };
  let done = 0;

  async function* messages(): AsyncGenerator<{ message: Message; bytes: number }> {
    let before = 0;
    for (const file of files) {
      const lines = messageLines(callerPath(file), maxBytes);
      for (;;) {
        const { value: line, done: ended } = await lines.next().catch(unreadable(file));
        if (ended === true || line === undefined) break;
        done = before + line.end;
        const key = line.value && keyOf(line.value);
        const bytes = line.bytes + (key?.length ?? 0) + MESSAGE_OVERHEAD_BYTES;
        if (line.value && key !== undefined && bytes + BATCH_OVERHEAD_BYTES <= maxBytes)
          yield { message: { key, value: line.value }, bytes };
        else {
          tooLong.count += 1;
          if (tooLong.first.length < NAMED_LINES)
            tooLong.first.push(`${file}, line ${line.number}: ${line.bytes} bytes`);
        }
      }
      before = done;
    }
  }

  return {
    total,
    done: () => done,
    async *requests(step) {
      let request: Message[] = [];
      let room = 0;
      for await (const { message, bytes } of messages()) {
        if (request.length > 0 && (request.length === step || bytes > room)) {
          yield request;
          request = [];
        }
        if (request.length === 0) room = Math.min(REQUEST_BYTES, maxBytes - BATCH_OVERHEAD_BYTES);
        request.push(message);
        room -= bytes;
      }
      if (request.length > 0) yield request;
    },
    bad: () => 0,
    tooLong,
  };
}

/** The topic is keyed by purchase id; a line that has none gets no key. Byte by byte, as the line may be no UTF-8. */
function keyOf(line: Buffer): Buffer | null {
  const id = /"id":\s*"([^"]+)"/.exec(line.toString('latin1'))?.[1];
  return id === undefined ? null : Buffer.from(id, 'latin1');
}

/** The largest batch of one partition that the topic takes, in bytes. */
async function largestMessage(kafka: Kafka, topic: string): Promise<number> {
  const resource = { type: ConfigResourceTypes.TOPIC, name: topic, configNames: ['max.message.bytes'] };
  try {
    const { resources } = await withAdmin(kafka, (admin) =>
      admin.describeConfigs({ includeSynonyms: false, resources: [resource] }),
    );
    return Number(resources[0]?.configEntries[0]?.configValue) || KAFKA_DEFAULT_MAX_BYTES;
  } catch {
    // To write into a topic is one right, to read its configuration another.
    return KAFKA_DEFAULT_MAX_BYTES;
  }
}

export interface ProduceCommand {
  count: number;
  rate: number;
  bad: number;
  seed: number;
  topic?: string;
}

/** `remit produce`, towards KAFKA_BROKERS or the local installation. */
export async function runProduce(
  dataDir: string,
  files: readonly string[],
  { count, rate, bad, seed, topic }: ProduceCommand,
  say: (line: string) => void,
): Promise<void> {
  const { endpoints } = await localAccess(path.join(dataDir, 'endpoints.json'));
  const given = loadConfig(process.env, []);
  const config = { ...given, KAFKA_BROKERS: requireBrokers(given, endpoints.kafka) };
  const log = createLogger({ LOG_LEVEL: 'silent', NODE_ENV: config.NODE_ENV }, 'produce');
  const target = topic ?? config.TOPIC_PURCHASES;
  const produced = await explainingKafka(config, async () => {
    // A producer insists for long on brokers that are away and on topics that do not exist; a question is quick.
    await withAdmin(createKafka(config, log), (admin) => admin.fetchTopicOffsets(target));
    const played = { files, count, ratePerSecond: rate, badShare: bad, seed, topic: target };
    return producePurchases(config, log, { ...played, progress: true });
  });
  const broken = files.length > 0 ? '' : `, ${produced.bad} of them broken`;
  say(`${produced.messages} messages in ${produced.seconds.toFixed(1)} s${broken}`);
  const { tooLong } = produced;
  if (tooLong.count > 0) {
    const more = tooLong.count - tooLong.first.length;
    const named = [...tooLong.first, ...(more > 0 ? [`and ${more} more`] : [])].join('\n  ');
    throw new Error(
      `${tooLong.count} lines were left out, longer than ${target} takes (its max.message.bytes); all others were sent:\n  ${named}`,
    );
  }
}
