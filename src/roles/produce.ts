import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { SingleBar } from 'cli-progress';
import { Partitioners, type Message } from 'kafkajs';
import { loadConfig, type Config } from '../platform/config';
import { createKafka } from '../platform/kafka';
import { createLogger, type Logger } from '../platform/logging';
import { callerPath } from '../platform/project';
import { withAdmin } from '../platform/topic-reader';
import { explainingKafka, requireBrokers } from './kafka-access';
import { localAccess } from './local-access';
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
  seconds: number;
}

const REQUEST_MESSAGES = 2_000;
/** At a given rate so many requests a second are sent. */
const REQUESTS_PER_SECOND = 10;

/**
 * Plays the producer of purchases: lines of files, or generated messages. At least once, as producers are: a request
 * whose answer was lost is sent again, and leaves the same ids twice in the topic.
 * @throws when a file is not readable, or the brokers do not take a message.
 */
export async function producePurchases(
  config: Config,
  log: Logger,
  options: ProduceOptions,
): Promise<Produced> {
  const source = options.files.length > 0 ? await linesOf(options.files) : generated(options);
  const producer = createKafka(config, log).producer({
    createPartitioner: Partitioners.DefaultPartitioner,
    allowAutoTopicCreation: false,
  });
  const bar = new SingleBar({
    format: '{bar} {percentage} % | {value}/{total} messages | {speed}/s | {eta} s left',
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
    if (options.progress) bar.start(source.total, 0, { speed: 0 });
    while (sent < source.total) {
      const messages = source.take(Math.min(step, source.total - sent));
      await producer.send({ topic: options.topic, acks: -1, messages });
      sent += messages.length;
      bar.update(sent, { speed: Math.round(sent / elapsed()) });
      if (ratePerSecond > 0) await sleep(Math.max(0, (sent / ratePerSecond - elapsed()) * 1_000));
    }
  } finally {
    bar.stop();
    await producer.disconnect();
  }
  return { messages: sent, bad: source.bad(), seconds: elapsed() };
}

interface MessageSupply {
  total: number;
  take(count: number): Message[];
  bad(): number;
}

function generated({ seed, badShare, count }: ProduceOptions): MessageSupply {
  const next = purchaseGenerator({ seed, badShare });
  let bad = 0;
  return {
    total: count,
    take: (size) =>
      Array.from({ length: size }, () => {
        const { key, value, mistake } = next();
        if (mistake !== undefined) bad += 1;
        return { key, value, ...(mistake === undefined ? {} : { headers: { 'played-mistake': mistake } }) };
      }),
    bad: () => bad,
  };
}

/** Every line is a message, broken ones too; only blank lines and lines that begin with # are left out. */
async function linesOf(files: readonly string[]): Promise<MessageSupply> {
  const lines: string[] = [];
  for (const file of files) {
    const text = await readFile(callerPath(file), 'utf8').catch((error: unknown) => {
      throw new Error(`${file} is not readable: ${String(error)}`, { cause: error });
    });
    for (const line of text.split(/\r?\n/)) if (line.trim() !== '' && !line.startsWith('#')) lines.push(line);
  }
  let at = 0;
  return {
    total: lines.length,
    take: (size) => lines.slice(at, (at += size)).map((value) => ({ key: keyOf(value), value })),
    bad: () => 0,
  };
}

/** The topic is keyed by purchase id; a line that has none gets no key. */
function keyOf(line: string): string | null {
  return /"id":\s*"([^"]+)"/.exec(line)?.[1] ?? null;
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
}
