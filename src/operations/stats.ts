import path from 'node:path';
import { ClickHouseError, type ClickHouseClient } from '@clickhouse/client';
import { createClickHouse } from '../platform/clickhouse';
import { loadConfig, type Config } from '../platform/config';
import { localAccess } from './local-access';
import { statsJson, statsReport } from './stats-report';

export interface StatsOptions {
  /** Days of revenue and products. */
  days: number;
  /** Minutes of ingest lag. */
  minutes: number;
  /** Longest list of products. */
  products: number;
  /** Machine-readable: one JSON object instead of tables and plots. */
  json: boolean;
}

/** Counts are exact, however large: ClickHouse counts in 64 bits. */
export interface Stats {
  stored: { table: string; rows: bigint; once: bigint }[];
  revenue: { day: string; provider: string; currency: string; purchases: bigint; amount: string }[];
  products: { productId: string; currency: string; purchases: bigint; amount: string }[];
  lag: { minute: string; rows: bigint; meanSeconds: number; maxSeconds: number }[];
}

/** The columns that are counts. */
const COUNTS: ReadonlySet<string> = new Set(['rows', 'once', 'purchases']);

/**
 * Reads what ingest has stored: rows, revenue by day, provider and currency, top products, lag by minute. Completed
 * purchases only, where money is summed.
 * @throws when ClickHouse does not answer or was not migrated.
 */
export async function readStats(config: Config, options: StatsOptions): Promise<Stats> {
  const client = createClickHouse(config);
  try {
    const [stored, revenue, products, lag] = await Promise.all([
      readRows<Stats['stored'][number]>(
        client,
        `SELECT 'purchases' AS table, toUInt64((SELECT count() FROM purchases)) AS rows, count() AS once FROM purchases_once
         UNION ALL
         SELECT 'domain_events', toUInt64((SELECT count() FROM domain_events)), count() FROM domain_events_once`,
      ),
      readRows<Stats['revenue'][number]>(
        client,
        `SELECT day, provider, currency, sum(r.purchases) AS purchases, toString(sum(r.amount)) AS amount
         FROM revenue_daily AS r
         WHERE status = 'completed' AND day > today() - {days:UInt32}
         GROUP BY day, provider, currency ORDER BY day, provider, currency`,
        { days: options.days },
      ),
      readRows<Stats['products'][number]>(
        client,
        `SELECT productId, currency, sum(p.purchases) AS purchases, toString(sum(p.amount)) AS amount
         FROM products_daily AS p
         WHERE day > today() - {days:UInt32}
         GROUP BY productId, currency ORDER BY purchases DESC, productId LIMIT {products:UInt32}`,
        { days: options.days, products: options.products },
      ),
      readRows<Stats['lag'][number]>(
        client,
        `SELECT minute, sum(l.rows) AS rows, round(sum(lagSecondsSum) / rows, 2) AS meanSeconds,
                max(lagSecondsMax) AS maxSeconds
         FROM ingest_lag AS l
         WHERE minute > now() - toIntervalMinute({minutes:UInt32})
         GROUP BY minute ORDER BY minute`,
        { minutes: options.minutes },
      ),
    ]);
    return { stored, revenue, products, lag };
  } finally {
    await client.close();
  }
}

async function readRows<T>(
  client: ClickHouseClient,
  query: string,
  parameters: Record<string, number> = {},
): Promise<T[]> {
  const result = await client.query({
    query,
    query_params: parameters,
    format: 'JSONEachRow',
    clickhouse_settings: { output_format_json_quote_64bit_integers: 1 },
  });
  const rows = await result.json<Record<string, string | number>>();
  return rows.map(
    (row) =>
      Object.fromEntries(
        Object.entries(row).map(([name, value]) => [name, COUNTS.has(name) ? BigInt(value) : value]),
      ) as T,
  );
}

/** `remit stats`: the figures as tables, revenue and lag as plots. */
export async function runStats(
  dataDir: string,
  options: StatsOptions,
  say: (line: string) => void,
): Promise<void> {
  const { endpoints } = await localAccess(path.join(dataDir, 'endpoints.json'));
  const set = Object.entries(process.env).filter(([, value]) => value !== undefined && value !== '');
  const config = loadConfig({ CLICKHOUSE_URL: endpoints.clickhouse, ...Object.fromEntries(set) }, []);
  if (!config.CLICKHOUSE_URL)
    throw new Error('no ClickHouse is known: start remit first (npm start), or set CLICKHOUSE_URL');
  const stats = await readStats(config, options).catch((error: unknown) => {
    throw new Error(whatIsWrong(config, error), { cause: error });
  });
  if (options.json) return say(statsJson(stats));
  for (const line of statsReport(stats, options, process.stdout.columns)) say(line);
}

/** ClickHouse's code of an unknown table or database. */
const NOT_MIGRATED: readonly (string | undefined)[] = ['60', '81'];

function whatIsWrong({ CLICKHOUSE_URL, CLICKHOUSE_DATABASE }: Config, error: unknown): string {
  const { host } = new URL(CLICKHOUSE_URL);
  if (!(error instanceof ClickHouseError))
    return `ClickHouse at ${host} does not answer (${String(error)}): is it running? CLICKHOUSE_URL names another`;
  const hint = NOT_MIGRATED.includes(error.code) ? ': run remit migrate' : '';
  return `ClickHouse (${CLICKHOUSE_DATABASE}) says: ${error.message}${hint}`;
}
