import type { ClickHouseClient } from '@clickhouse/client';
import type { z } from 'zod';
import { RemitError } from '../contracts/errors';
import type { PurchaseStatistics } from '../contracts/statistics';
import type { Span } from '../domain/statistics';
import { createClickHouse } from '../platform/clickhouse';
import type { ApiDeps } from './routes/route';

type Figures = Pick<z.output<typeof PurchaseStatistics>, 'items' | 'products' | 'lag' | 'stored'>;

/** ClickHouse's own limit on a query, and ours on its answer. */
const QUERY_S = 8;
const ANSWER_MS = 10_000;

const GROUPS = {
  none: `''`,
  provider: 'provider',
  status: 'toString(status)',
  product: 'productId',
} as const;
const BUCKETS = { minute: 'toStartOfMinute', hour: 'toStartOfHour', day: 'toStartOfDay' } as const;
const isoOf = (column: string) => `formatDateTime(${column}, '%Y-%m-%dT%H:%i:%SZ', 'UTC')`;

/**
 * Purchases by time, top products and the lag of the ingest. Each purchase once, whatever its producer repeated.
 * @throws RemitError unavailable when ClickHouse does not answer, or was not migrated.
 */
export async function purchaseFigures(
  { config, log }: Pick<ApiDeps, 'config' | 'log'>,
  { since, until, bucket, by, products }: Span & { by: keyof typeof GROUPS; products: number },
): Promise<Figures> {
  const client = createClickHouse(config, true, { request_timeout: ANSWER_MS });
  const params = { since: since.getTime(), until: until.getTime(), products };
  const within = `createdAt >= fromUnixTimestamp64Milli({since:Int64}) AND createdAt < fromUnixTimestamp64Milli({until:Int64})`;
  try {
    const [items, top, lag, stored] = await Promise.all([
      rowsOf<Figures['items'][number]>(
        client,
        `SELECT ${isoOf(`${BUCKETS[bucket]}(toDateTime(createdAt, 'UTC'))`)} AS at, ${GROUPS[by]} AS "group", currency,
                count() AS purchases, countIf(status = 'completed') AS completed,
                toString(sumIf(amount, status = 'completed')) AS amount
           FROM purchases_once WHERE ${within}
          GROUP BY at, "group", currency ORDER BY at, "group", currency LIMIT 50000`,
        params,
      ),
      rowsOf<Figures['products'][number]>(
        client,
        `SELECT productId, currency, count() AS purchases, toString(sum(p.amount)) AS amount
           FROM purchases_once AS p WHERE ${within} AND status = 'completed'
          GROUP BY productId, currency ORDER BY purchases DESC, productId LIMIT {products:UInt32}`,
        params,
      ),
      rowsOf<Figures['lag'][number]>(
        client,
        `SELECT ${isoOf('l.minute')} AS minute, sum(l.rows) AS rows,
                round(sum(lagSecondsSum) / greatest(sum(l.rows), 1), 2) AS meanSeconds, max(lagSecondsMax) AS maxSeconds
           FROM ingest_lag AS l WHERE l.minute > now() - toIntervalMinute(60) GROUP BY l.minute ORDER BY minute`,
        params,
      ),
      rowsOf<{ rows: number }>(client, 'SELECT count() AS rows FROM purchases', params),
    ]);
    return { items, products: top, lag, stored: stored[0]?.rows ?? 0 };
  } catch (error) {
    log.warn({ err: error }, 'ClickHouse did not answer');
    throw new RemitError('unavailable', 'ClickHouse did not answer, or was not migrated; try again.');
  } finally {
    await client.close();
  }
}

async function rowsOf<T>(
  client: ClickHouseClient,
  query: string,
  parameters: Record<string, number>,
): Promise<T[]> {
  const result = await client.query({
    query,
    query_params: parameters,
    format: 'JSONEachRow',
    clickhouse_settings: { output_format_json_quote_64bit_integers: 0, max_execution_time: QUERY_S },
  });
  return result.json<T>();
}
