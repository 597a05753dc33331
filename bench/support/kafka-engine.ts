import { setTimeout as sleep } from 'node:timers/promises';
import { createClickHouse } from '../../src/platform/clickhouse';
import { loadConfig } from '../../src/platform/config';
import { PURCHASE_COLUMNS, type IngestStage } from './ingest-stage';

const CONSUMERS = 2;
const LIMIT_MS = 300_000;

/** Rows a second of ClickHouse's own Kafka table engine into a plain table, from its attaching to the last row. */
export async function consumeByKafkaEngine(
  stage: IngestStage,
  topic: string,
  messages: number,
): Promise<number> {
  const name = 'bench_kafka_engine';
  const admin = createClickHouse(stage.config, false);
  await admin.command({ query: `CREATE DATABASE ${name}` });
  const client = createClickHouse(loadConfig({ ...stage.env, CLICKHOUSE_DATABASE: name }, []));
  try {
    await client.command({
      query: `CREATE TABLE stored (${PURCHASE_COLUMNS}) ENGINE = MergeTree
              PARTITION BY toYYYYMM(createdAt) ORDER BY (provider, currency, createdAt, id)`,
    });
    await client.command({
      query: `CREATE TABLE queue (${PURCHASE_COLUMNS}) ENGINE = Kafka SETTINGS
                kafka_broker_list = '${stage.config.KAFKA_BROKERS.join(',')}', kafka_topic_list = '${topic}',
                kafka_group_name = '${name}', kafka_format = 'JSONEachRow', kafka_num_consumers = ${CONSUMERS},
                kafka_thread_per_consumer = 1, kafka_max_block_size = 65536`,
    });
    const startedAt = performance.now();
    await client.command({ query: 'CREATE MATERIALIZED VIEW pump TO stored AS SELECT * FROM queue' });
    for (;;) {
      const result = await client.query({ query: 'SELECT count() AS n FROM stored', format: 'JSONEachRow' });
      const [row] = await result.json<{ n: string | number }>();
      const elapsedMs = performance.now() - startedAt;
      if (Number(row!.n) >= messages) return messages / (elapsedMs / 1_000);
      if (elapsedMs > LIMIT_MS)
        throw new Error(`the Kafka engine stored ${row!.n} of ${messages} rows in time`);
      await sleep(100);
    }
  } finally {
    await client.close();
    await admin.command({ query: `DROP DATABASE ${name}` });
    await admin.close();
  }
}
