import { setTimeout as sleep } from 'node:timers/promises';
import { createClickHouse } from '../../src/platform/clickhouse';
import { migrateClickHouse } from '../../src/platform/clickhouse-migrations';
import { loadConfig } from '../../src/platform/config';
import { createLogger } from '../../src/platform/logging';
import { PURCHASE_COLUMNS, type IngestStage } from './ingest-stage';

const LIMIT_MS = 300_000;

/**
 * Rows a second of ClickHouse's own Kafka table engine into the same table, with the same views and positions, from
 * its attaching to the last row.
 */
export async function consumeByKafkaEngine(
  stage: IngestStage,
  topic: string,
  messages: number,
  consumers: number,
): Promise<number> {
  const name = `bench_kafka_engine_${consumers}`;
  const config = loadConfig({ ...stage.env, CLICKHOUSE_DATABASE: name }, []);
  await migrateClickHouse(config, createLogger(config, 'bench'));
  const client = createClickHouse(config);
  try {
    await client.command({
      query: `CREATE TABLE queue (${PURCHASE_COLUMNS}) ENGINE = Kafka SETTINGS
                kafka_broker_list = '${stage.config.KAFKA_BROKERS.join(',')}', kafka_topic_list = '${topic}',
                kafka_group_name = '${name}', kafka_format = 'JSONEachRow', kafka_num_consumers = ${consumers},
                kafka_thread_per_consumer = 1, kafka_max_block_size = 65536`,
    });
    const startedAt = performance.now();
    await client.command({
      query: `CREATE MATERIALIZED VIEW pump TO purchases AS
              SELECT *, _topic AS kafkaTopic, _partition AS kafkaPartition, _offset AS kafkaOffset,
                     _timestamp_ms AS queuedAt, now() AS storedAt
              FROM queue`,
    });
    for (;;) {
      const result = await client.query({
        query: 'SELECT count() AS n FROM purchases',
        format: 'JSONEachRow',
      });
      const [row] = await result.json<{ n: string | number }>();
      const elapsedMs = performance.now() - startedAt;
      if (Number(row!.n) >= messages) return messages / (elapsedMs / 1_000);
      if (elapsedMs > LIMIT_MS)
        throw new Error(`the Kafka engine stored ${row!.n} of ${messages} rows in time`);
      await sleep(100);
    }
  } finally {
    await client.command({ query: `DROP DATABASE ${name}` });
    await client.close();
  }
}
