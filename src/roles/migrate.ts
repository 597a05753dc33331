import type { Connection } from '@temporalio/client';
import type { Config } from '../platform/config';
import { migrateClickHouse } from '../platform/clickhouse-migrations';
import { createKafka, ensureTopics } from '../platform/kafka';
import type { Logger } from '../platform/logging';
import { migratePostgres } from '../platform/postgres-migrations';
import { ensureSchedules } from '../platform/schedules';
import { connectTemporal, registerSearchAttributes } from '../platform/temporal';
import { ensureRetention } from '../platform/topic-retention';
import { allTopics } from '../platform/topics';

/** Brings PostgreSQL, Kafka, Temporal and ClickHouse to what this version needs. Idempotent. */
export async function migrate(config: Config, log: Logger): Promise<void> {
  await Promise.all([
    migratePostgres(config.DATABASE_URL).then(({ applied, newer }) =>
      newer === undefined
        ? log.info({ applied }, 'PostgreSQL is migrated')
        : log.warn({ newer }, 'PostgreSQL was migrated by a newer version and is left as it is'),
    ),
    migrateKafka(config, log),
    migrateTemporal(config).then((added) =>
      log.info(added, 'Temporal search attributes and schedules are in place'),
    ),
    migrateClickHouse(config, log),
  ]);
}

async function migrateKafka(config: Config, log: Logger): Promise<void> {
  const kafka = createKafka(config, log);
  const created = await ensureTopics(kafka, allTopics(config), config);
  const keptLonger = await ensureRetention(kafka, config);
  log.info({ created, keptLonger }, 'Kafka topics are in place');
}

async function migrateTemporal(config: Config): Promise<{ attributes: string[]; schedules: string[] }> {
  const client = await connectTemporal(config);
  try {
    return {
      attributes: await registerSearchAttributes(client),
      schedules: await ensureSchedules(client, config),
    };
  } finally {
    await (client.connection as Connection).close();
  }
}
