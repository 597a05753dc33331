import {
  ClickHouseLogLevel,
  createClient,
  type ClickHouseClient,
  type ClickHouseClientConfigOptions,
} from '@clickhouse/client';
import type { Config } from './config';

type ClickHouseConfig = Pick<
  Config,
  'CLICKHOUSE_URL' | 'CLICKHOUSE_USER' | 'CLICKHOUSE_PASSWORD' | 'CLICKHOUSE_DATABASE'
>;

/** A ClickHouse client over HTTP; connects lazily. `database` is left out when it may not exist yet. */
export function createClickHouse(
  config: ClickHouseConfig,
  withDatabase = true,
  options: ClickHouseClientConfigOptions = {},
): ClickHouseClient {
  return createClient({
    // What fails is thrown, and logged once by whoever handles it.
    log: { level: ClickHouseLogLevel.OFF },
    ...options,
    url: config.CLICKHOUSE_URL,
    username: config.CLICKHOUSE_USER,
    password: config.CLICKHOUSE_PASSWORD,
    ...(withDatabase ? { database: config.CLICKHOUSE_DATABASE } : {}),
    application: 'remit',
  });
}

/** Rejects when ClickHouse is away or refuses the login; for readiness checks. */
export async function checkClickHouse(client: ClickHouseClient): Promise<void> {
  const answer = await client.ping({ select: true });
  if (!answer.success) throw answer.error;
}
