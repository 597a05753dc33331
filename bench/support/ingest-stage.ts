import { once } from 'node:events';
import { existsSync, readFileSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { createClickHouse } from '../../src/platform/clickhouse';
import { migrateClickHouse } from '../../src/platform/clickhouse-migrations';
import { loadConfig, type Config } from '../../src/platform/config';
import { createKafka, ensureTopics } from '../../src/platform/kafka';
import { createLogger } from '../../src/platform/logging';
import { startLocalStack, type LocalStack } from '../../src/roles/local-stack';
import { purchaseGenerator } from '../../src/operations/purchase-generator';
import type { ChildResult } from './ingest-child';
import { startScript } from '../../test/support/processes';

const PARTITIONS = 6;
const SEND_MESSAGES = 5_000;
const LEADER_TRIES = 50;
const LEADER_PAUSE_MS = 100;

export interface IngestStage {
  env: NodeJS.ProcessEnv;
  config: Config;
  /** Fills a new topic (with its DLQ). @returns how many of its messages are bad. */
  fill(topic: string, messages: number, badShare: number): Promise<number>;
  /** Runs one consumer to its end in a process of its own, on a database that is dropped afterwards. */
  consume(mode: string, topic: string, messages: number, env?: NodeJS.ProcessEnv): Promise<Consumed>;
  close(): Promise<void>;
}

export interface Consumed extends ChildResult {
  /** CPU of ClickHouse and of Kafka during the run. */
  clickhouseCpuSeconds: number;
  kafkaCpuSeconds: number;
  rows: number;
  perSecond: number;
}

/** A throw-away Kafka and ClickHouse; nothing else runs. */
export async function openIngestStage(progress: (line: string) => void): Promise<IngestStage> {
  const dataDir = await mkdtemp(path.join(os.tmpdir(), 'remit-bench-ingest-'));
  const stack = await startLocalStack({
    env: { ...process.env, LOG_LEVEL: 'error', KAFKA_TOPIC_PARTITIONS: String(PARTITIONS) },
    dataDir,
    ports: 'free',
    parts: ['kafka', 'clickhouse'],
    report: progress,
  });
  const { config } = stack;
  const log = createLogger(config, 'bench');
  const kafka = createKafka(config, log);
  let runs = 0;

  async function fill(topic: string, messages: number, badShare: number): Promise<number> {
    progress(`filling ${topic} with ${messages.toLocaleString('en')} messages`);
    await ensureTopics(kafka, [topic, `${topic}.dlq`], config);
    const admin = kafka.admin();
    await admin.connect();
    // Refused until every partition has its leader.
    for (let tries = 1; ; tries++) {
      try {
        await admin.fetchTopicOffsets(topic);
        break;
      } catch (error) {
        if (tries === LEADER_TRIES) throw error;
        await sleep(LEADER_PAUSE_MS);
      }
    }
    await admin.disconnect();
    const producer = kafka.producer({ idempotent: true, maxInFlightRequests: 1 });
    await producer.connect();
    const next = purchaseGenerator({ seed: 1, badShare });
    let bad = 0;
    for (let sent = 0; sent < messages; sent += SEND_MESSAGES) {
      const batch = Array.from({ length: Math.min(SEND_MESSAGES, messages - sent) }, next);
      bad += batch.filter(({ mistake }) => mistake).length;
      await producer.send({ topic, acks: -1, messages: batch.map(({ key, value }) => ({ key, value })) });
    }
    await producer.disconnect();
    return bad;
  }

  async function consume(
    mode: string,
    topic: string,
    messages: number,
    extra: NodeJS.ProcessEnv = {},
  ): Promise<Consumed> {
    const name = `bench${(runs += 1)}`;
    const env: NodeJS.ProcessEnv = {
      ...stack.env,
      CLICKHOUSE_DATABASE: name,
      KAFKA_GROUP_PREFIX: name,
      TOPIC_PURCHASES: topic,
      BENCH_MODE: mode,
      BENCH_MESSAGES: String(messages),
      NODE_ENV: 'production',
      LOG_LEVEL: 'error',
      ...extra,
    };
    const runConfig = loadConfig(env, []);
    await migrateClickHouse(runConfig, log);
    await ensureTopics(kafka, [runConfig.TOPIC_DOMAIN_EVENTS], runConfig);
    const clickhouse = createClickHouse(runConfig);
    await clickhouse.command({ query: BARE_TABLE });
    const child = await startScript(path.join(__dirname, 'ingest-child.ts'), env);
    try {
      const answer = once(child.process, 'message') as Promise<[ChildResult]>;
      const ended = once(child.process, 'exit').then(() => {
        throw new Error(`the ${mode} consumer ended before its work`);
      });
      ended.catch(() => undefined);
      const cpuBefore = serverCpu(stack);
      child.process.send('go');
      const [result] = await Promise.race([answer, ended]);
      const cpuAfter = serverCpu(stack);
      const counted = await clickhouse.query({
        query: `SELECT count() AS n FROM ${mode === 'bare' ? (env['BENCH_TABLE'] ?? 'bare') : 'purchases'}`,
        format: 'JSONEachRow',
      });
      const [row] = await counted.json<{ n: string | number }>();
      return {
        ...result,
        clickhouseCpuSeconds: cpuAfter.clickhouse - cpuBefore.clickhouse,
        kafkaCpuSeconds: cpuAfter.kafka - cpuBefore.kafka,
        rows: Number(row!.n),
        perSecond: messages / result.seconds,
      };
    } finally {
      await child.stop();
      await clickhouse.command({ query: `DROP DATABASE ${name}` });
      await clickhouse.close();
    }
  }

  return {
    env: stack.env,
    config,
    fill,
    consume,
    async close() {
      await stack.stop();
      await rm(dataDir, { recursive: true, force: true });
    },
  };
}

/** User and system time of the servers so far, from /proc (100 ticks a second on Linux); zeros elsewhere. */
function serverCpu(stack: LocalStack): { clickhouse: number; kafka: number } {
  const seconds = { clickhouse: 0, kafka: 0 };
  for (const { part, pid } of stack.embedded?.processes ?? []) {
    if ((part !== 'clickhouse' && part !== 'kafka') || !existsSync(`/proc/${pid}/stat`)) continue;
    const fields = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1]!.split(' ');
    seconds[part] = (Number(fields[11]) + Number(fields[12])) / 100;
  }
  return seconds;
}

/** The fields of the messages as plain columns: nothing that remit adds. */
export const PURCHASE_COLUMNS = `
  id UUID, userId String, productId LowCardinality(String), amount Decimal(18, 4), currency LowCardinality(String),
  status Enum8('pending' = 1, 'completed' = 2, 'failed' = 3, 'refunded' = 4), provider LowCardinality(String),
  createdAt DateTime64(3, 'UTC'), processedAt DateTime64(3, 'UTC')`;

const BARE_TABLE = `CREATE TABLE bare (${PURCHASE_COLUMNS}) ENGINE = MergeTree
  PARTITION BY toYYYYMM(createdAt) ORDER BY (provider, currency, createdAt, id)`;
