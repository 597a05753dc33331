import { DeliveryStatus } from '../contracts/webhooks';
import type { Database } from '../platform/postgres';

/** Figures of a tenant by time, read by the index of its table on tenant or subscription and time. */

export type Bucket = 'minute' | 'hour' | 'day';
export interface Span {
  tenantId: string;
  since: Date;
  until: Date;
  bucket: Bucket;
}

/** Attempts that are counted at most. */
const ATTEMPTS_COUNTED_MAX = 100_000;

const bucketOf = (column: string) => `date_trunc($4, ${column}, 'UTC')`;
const counted = (condition: string) => `count(*) FILTER (WHERE ${condition})::int`;

export interface DeliveryFigures {
  at: Date;
  group: string;
  created: number;
  pending: number;
  delivered: number;
  exhausted: number;
  cancelled: number;
  held: number;
  attempts: number;
}

const DELIVERY_GROUPS = { none: `''`, eventType: 'event_type', subscription: 'subscription_id' } as const;

/** Deliveries by the time of their rows. */
export async function deliveryFigures(
  { pool }: Pick<Database, 'pool'>,
  {
    tenantId,
    since,
    until,
    bucket,
    by,
    subscriptionId,
    eventType,
  }: Span & {
    by: keyof typeof DELIVERY_GROUPS;
    subscriptionId?: string | undefined;
    eventType?: string | undefined;
  },
): Promise<DeliveryFigures[]> {
  const status = (name: string) => `${counted(`status = '${name}'`)} AS ${name}`;
  const { rows } = await pool.query<DeliveryFigures>(
    `SELECT ${bucketOf('created_at')} AS at, ${DELIVERY_GROUPS[by]} AS "group", count(*)::int AS created,
            ${DeliveryStatus.options.map(status).join(', ')},
            coalesce(sum(attempts), 0)::int AS attempts
       FROM deliveries
      WHERE tenant_id = $1 AND created_at >= $2 AND created_at < $3
        AND ($5::text IS NULL OR subscription_id = $5) AND ($6::text IS NULL OR event_type = $6)
      GROUP BY 1, 2 ORDER BY 1, 2 LIMIT 50000`,
    [tenantId, since, until, bucket, subscriptionId ?? null, eventType ?? null],
  );
  return rows;
}

export interface AttemptFigures {
  at: Date;
  attempts: number;
  delivered: number;
  failed: number;
  p50Ms: number;
  p99Ms: number;
  results: Record<string, number>;
}

/** Attempts by when they began: the newest ATTEMPTS_COUNTED_MAX of the time. */
export async function attemptFigures(
  { pool }: Pick<Database, 'pool'>,
  { tenantId, since, until, bucket, subscriptionId }: Span & { subscriptionId?: string | undefined },
): Promise<{ items: AttemptFigures[]; complete: boolean }> {
  const { rows } = await pool.query<AttemptFigures & { all: number }>(
    `WITH counted AS (
       SELECT started_at, result, duration_ms FROM delivery_attempts
        WHERE tenant_id = $1 AND started_at >= $2 AND started_at < $3 AND ($5::text IS NULL OR subscription_id = $5)
        ORDER BY started_at DESC LIMIT ${ATTEMPTS_COUNTED_MAX}),
     by_result AS (
       SELECT ${bucketOf('started_at')} AS at, result, count(*)::int AS n FROM counted GROUP BY 1, 2)
     SELECT c.*, r.results, (SELECT count(*) FROM counted)::int AS all FROM (
       SELECT ${bucketOf('started_at')} AS at, count(*)::int AS attempts, ${counted(`result = 'delivered'`)} AS delivered,
              ${counted(`result <> 'delivered'`)} AS failed,
              percentile_disc(0.5) WITHIN GROUP (ORDER BY duration_ms) AS "p50Ms",
              percentile_disc(0.99) WITHIN GROUP (ORDER BY duration_ms) AS "p99Ms"
         FROM counted GROUP BY 1) AS c
       JOIN (SELECT at, jsonb_object_agg(result, n) AS results FROM by_result GROUP BY 1) AS r USING (at)
      ORDER BY at`,
    [tenantId, since, until, bucket, subscriptionId ?? null],
  );
  return {
    items: rows.map(({ all: _, ...row }) => row),
    complete: (rows[0]?.all ?? 0) < ATTEMPTS_COUNTED_MAX,
  };
}

export interface MoneyFigures {
  at: Date;
  group: string;
  currency: string;
  count: number;
  succeeded: number;
  failed: number;
  open: number;
  amountMinor: string;
  succeededMinor: string;
}

const moneyColumns = (succeeded: string, open: string) => `
  currency, count(*)::int AS count, ${counted(succeeded)} AS succeeded, ${counted(open)} AS open,
  ${counted(`NOT (${succeeded}) AND NOT (${open})`)} AS failed, sum(amount_minor)::text AS "amountMinor",
  coalesce(sum(amount_minor) FILTER (WHERE ${succeeded}), 0)::text AS "succeededMinor"`;

const PAYMENT_GROUPS = { none: `''`, provider: 'provider', type: 'type', status: 'status' } as const;

/** Payments and payouts by when they were made. */
export async function paymentFigures(
  { pool }: Pick<Database, 'pool'>,
  {
    tenantId,
    since,
    until,
    bucket,
    by,
    type,
  }: Span & { by: keyof typeof PAYMENT_GROUPS; type?: string | undefined },
): Promise<MoneyFigures[]> {
  const { rows } = await pool.query<MoneyFigures>(
    `SELECT ${bucketOf('created_at')} AS at, ${PAYMENT_GROUPS[by]} AS "group",
            ${moneyColumns(`status = 'succeeded'`, `status = 'pending'`)}
       FROM payments
      WHERE tenant_id = $1 AND created_at >= $2 AND created_at < $3 AND ($5::text IS NULL OR type = $5)
      GROUP BY 1, 2, currency ORDER BY 1, 2, currency LIMIT 50000`,
    [tenantId, since, until, bucket, type ?? null],
  );
  return rows;
}

const ORDER_GROUPS = { none: `''`, paymentMethod: 'payment_method', status: 'status' } as const;

/** Orders by when they were placed. */
export async function orderFigures(
  { pool }: Pick<Database, 'pool'>,
  { tenantId, since, until, bucket, by }: Span & { by: keyof typeof ORDER_GROUPS },
): Promise<MoneyFigures[]> {
  const { rows } = await pool.query<MoneyFigures>(
    `SELECT ${bucketOf('created_at')} AS at, ${ORDER_GROUPS[by]} AS "group",
            ${moneyColumns(`status IN ('FINISHED', 'CHARGED_BACK')`, `status = 'NEW'`)}
       FROM orders WHERE tenant_id = $1 AND created_at >= $2 AND created_at < $3
      GROUP BY 1, 2, currency ORDER BY 1, 2, currency LIMIT 50000`,
    [tenantId, since, until, bucket],
  );
  return rows;
}
