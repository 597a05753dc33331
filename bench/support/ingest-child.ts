import { Readable } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import type { EachBatchPayload } from 'kafkajs';
import { registry } from '../../src/platform/metrics';
import { loadConfig } from '../../src/platform/config';
import { createClickHouse } from '../../src/platform/clickhouse';
import { createKafka } from '../../src/platform/kafka';
import { Lifecycle } from '../../src/platform/lifecycle';
import { createLogger } from '../../src/platform/logging';
import { createRoleContext } from '../../src/roles/context';
import { startIngest } from '../../src/roles/ingest';

/**
 * One consumer as a process of its own: `discard` reads and throws away, `bare` reads and inserts raw bytes with
 * nothing else, `remit` is the ingest role. It says when it is loaded, waits to be told to go, and says what it used.
 */
export interface ChildResult {
  seconds: number;
  cpuSeconds: number;
  peakMegabytes: number;
}

const config = loadConfig(process.env, []);
const log = createLogger(config, 'bench');
const expected = Number(process.env['BENCH_MESSAGES']);
const table = process.env['BENCH_TABLE'] ?? 'bare';

function consumer() {
  // The same fetch sizes as the role's.
  return createKafka(config, log).consumer({
    groupId: `${config.KAFKA_GROUP_PREFIX}.bench`,
    maxWaitTimeInMs: config.INGEST_FETCH_WAIT_MS,
    maxBytesPerPartition: config.INGEST_FETCH_BYTES,
    maxBytes: 10 * config.INGEST_FETCH_BYTES,
  });
}

async function consume(onBatch: (batch: EachBatchPayload['batch']) => Promise<void> | void): Promise<void> {
  const reader = consumer();
  await reader.connect();
  await reader.subscribe({ topic: config.TOPIC_PURCHASES, fromBeginning: true });
  await reader.run({
    autoCommit: false,
    eachBatchAutoResolve: true,
    partitionsConsumedConcurrently: 4,
    eachBatch: async ({ batch }) => onBatch(batch),
  });
}

async function discard(): Promise<void> {
  let read = 0;
  await new Promise<void>((resolve, reject) => {
    consume((batch) => {
      read += batch.messages.length;
      if (read >= expected) resolve();
    }).catch(reject);
  });
}

const NEWLINE = Buffer.from('\n');

/** Batches of the same size and as many writers as the role; no checks, no positions, no tokens, no commits. */
async function bare(): Promise<void> {
  const clickhouse = createClickHouse(config);
  const pending = new Map<number, Buffer[]>();
  const writing = new Set<Promise<void>>();
  let read = 0;
  const insert = async (pieces: Buffer[]): Promise<void> => {
    const result = await clickhouse.exec({
      query: `INSERT INTO ${table} FORMAT JSONEachRow`,
      values: Readable.from([Buffer.concat(pieces)], { objectMode: false }),
      clickhouse_settings: { async_insert: 0, date_time_input_format: 'best_effort' },
    });
    for await (const _ of result.stream);
  };
  const flush = async (pieces: Buffer[]): Promise<void> => {
    while (writing.size >= config.INGEST_WRITERS) await Promise.race(writing);
    const work = insert(pieces).finally(() => writing.delete(work));
    writing.add(work);
  };
  await new Promise<void>((resolve, reject) => {
    consume(async ({ partition, messages }) => {
      let pieces = pending.get(partition) ?? [];
      for (const { value } of messages) {
        pieces.push(value!, NEWLINE);
        if (pieces.length < 2 * config.INGEST_BATCH_ROWS) continue;
        await flush(pieces);
        pieces = [];
      }
      pending.set(partition, pieces);
      read += messages.length;
      if (read >= expected) resolve();
    }).catch(reject);
  });
  for (const pieces of pending.values()) if (pieces.length > 0) await flush(pieces);
  await Promise.all(writing);
}

/** Ends when all is stored, dead-lettered and committed. */
async function remit(): Promise<void> {
  const lifecycle = new Lifecycle(log, config.SHUTDOWN_TIMEOUT_MS);
  await startIngest(createRoleContext(config, log, lifecycle));
  const total = async (name: string): Promise<number> => {
    const metric = registry.getSingleMetric(name);
    const { values } = (await metric!.get()) as {
      values: { value: number; labels: Record<string, unknown> }[];
    };
    return values
      .filter(({ labels }) => labels['topic'] === config.TOPIC_PURCHASES)
      .reduce((sum, { value }) => sum + value, 0);
  };
  for (;;) {
    const settled = (await total('remit_ingest_rows_total')) + (await total('remit_dead_letters_total'));
    if (settled >= expected && (await total('remit_ingest_last_commit_age_seconds')) === 0) return;
    await sleep(10);
  }
}

const MODES: Record<string, () => Promise<void>> = { discard, bare, remit };

process.once('message', () => {
  const startedAt = performance.now();
  const cpu = process.cpuUsage();
  MODES[process.env['BENCH_MODE']!]!().then(
    () => {
      const used = process.cpuUsage(cpu);
      const result: ChildResult = {
        seconds: (performance.now() - startedAt) / 1_000,
        cpuSeconds: (used.user + used.system) / 1e6,
        peakMegabytes: process.resourceUsage().maxRSS / 1_024,
      };
      process.send!(result, () => process.exit(0));
    },
    (error: unknown) => {
      process.stderr.write(`${String(error)}\n`);
      process.exit(1);
    },
  );
});
process.send!('ready');
