import { createClient, type ClickHouseClient } from '@clickhouse/client';
import type { Config } from './config';

type ClickHouseConfig = Pick<
  Config,
  'CLICKHOUSE_URL' | 'CLICKHOUSE_USER' | 'CLICKHOUSE_PASSWORD' | 'CLICKHOUSE_DATABASE'
>;

/** A ClickHouse client over HTTP; connects lazily. `database` is left out when it may not exist yet. */
export function createClickHouse(config: ClickHouseConfig, withDatabase = true): ClickHouseClient {
  return createClient({
    url: config.CLICKHOUSE_URL,
    username: config.CLICKHOUSE_USER,
    password: config.CLICKHOUSE_PASSWORD,
    ...(withDatabase ? { database: config.CLICKHOUSE_DATABASE } : {}),
    application: 'remit',
  });
}

/** Rejects when ClickHouse can't be used; for readiness checks. */
export async function checkClickHouse(client: ClickHouseClient): Promise<void> {
  const answer = await client.ping();
  if (!answer.success) throw answer.error;
}
