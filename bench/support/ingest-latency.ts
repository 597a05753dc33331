import { setTimeout as sleep } from 'node:timers/promises';
import { createClickHouse } from '../../src/platform/clickhouse';
import { migrateClickHouse } from '../../src/platform/clickhouse-migrations';
import { loadConfig } from '../../src/platform/config';
import { createKafka, ensureTopics } from '../../src/platform/kafka';
import { Lifecycle } from '../../src/platform/lifecycle';
import { createLogger } from '../../src/platform/logging';
import { createRoleContext } from '../../src/roles/context';
import { startIngest } from '../../src/roles/ingest';
import { producePurchases } from '../../src/operations/produce';
import type { IngestStage } from './ingest-stage';

const RATE_PER_SECOND = 1_000;
const POLL_MS = 20;
const WARM_UP_S = 2;

/** Milliseconds from each message's timestamp to the first query that sees its row, at 1,000 messages a second. */
export async function measureLatency(
  stage: IngestStage,
  seconds: number,
  progress: (line: string) => void,
): Promise<number[]> {
  progress(`latency at ${RATE_PER_SECOND} messages a second for ${seconds} s`);
  const name = 'latency';
  const env = {
    ...stage.env,
    CLICKHOUSE_DATABASE: name,
    KAFKA_GROUP_PREFIX: name,
    TOPIC_PURCHASES: name,
    LOG_LEVEL: 'error',
  };
  const config = loadConfig(env, []);
  const log = createLogger(config, 'bench');
  await migrateClickHouse(config, log);
  await ensureTopics(createKafka(config, log), [name, `${name}.dlq`, config.TOPIC_DOMAIN_EVENTS], config);
  const lifecycle = new Lifecycle(log, config.SHUTDOWN_TIMEOUT_MS);
  await startIngest(createRoleContext(config, log, lifecycle));
  const clickhouse = createClickHouse(config);
  const total = (seconds + WARM_UP_S) * RATE_PER_SECOND;
  let producing = true;
  const produced = producePurchases(config, log, {
    files: [],
    count: total,
    ratePerSecond: RATE_PER_SECOND,
    badShare: 0,
    seed: 5,
    topic: name,
    progress: false,
  }).finally(() => (producing = false));
  const latencies: number[] = [];
  const lastOffsets = new Map<number, number>();
  const deadline = Date.now() + (seconds + WARM_UP_S + 30) * 1_000;
  while ((producing || latencies.length < total) && Date.now() < deadline) {
    const known = [...lastOffsets].map(
      ([partition, offset]) => `(kafkaPartition = ${partition} AND kafkaOffset <= ${offset})`,
    );
    const result = await clickhouse.query({
      query: `SELECT kafkaPartition AS p, toUInt32(kafkaOffset) AS o, toUnixTimestamp64Milli(queuedAt) AS at FROM purchases
              ${known.length > 0 ? `WHERE NOT (${known.join(' OR ')})` : ''}`,
      format: 'JSONCompactEachRow',
    });
    const rows = await result.json<[number, number, string | number]>();
    const seenAt = Date.now();
    for (const [partition, offset, at] of rows) {
      latencies.push(seenAt - Number(at));
      lastOffsets.set(partition, Math.max(offset, lastOffsets.get(partition) ?? -1));
    }
    await sleep(POLL_MS);
  }
  await produced;
  await lifecycle.stop();
  await clickhouse.command({ query: `DROP DATABASE ${name}` });
  await clickhouse.close();
  if (latencies.length !== total) throw new Error(`${latencies.length} of ${total} rows were seen`);
  return latencies.slice(WARM_UP_S * RATE_PER_SECOND);
}
