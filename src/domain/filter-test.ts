import type { Database } from '../platform/postgres';

export interface FilterTestRow {
  id: string;
  type: string;
  createdAt: Date;
  matches: boolean;
}

/** So many of the newest events are looked at for those of the subscription's types. */
const LOOK_AT_EVENTS = 1_000;

/**
 * Whether a filter wants the newest events of a subscription's types, by the very function that decides it for deliveries.
 * Changes nothing. @returns undefined when the tenant has no such subscription.
 */
export async function testFilter(
  { pool }: Pick<Database, 'pool'>,
  tenantId: string,
  subscriptionId: string,
  filter: readonly object[],
  limit: number,
): Promise<FilterTestRow[] | undefined> {
  const found = await pool.query('SELECT 1 FROM subscriptions WHERE tenant_id = $1 AND id = $2', [
    tenantId,
    subscriptionId,
  ]);
  if (found.rowCount === 0) return undefined;
  const { rows } = await pool.query<FilterTestRow>(
    `SELECT e.id, e.type, e.created_at AS "createdAt", filter_matches($3, event_data(e.body)) AS matches
       FROM (SELECT * FROM webhook_events WHERE tenant_id = $1 ORDER BY created_at DESC, id DESC LIMIT $5) AS e
       JOIN subscriptions s ON s.id = $2 AND event_type_wanted(s.event_types, e.type)
      WHERE e.only_subscription_id IS NULL
      ORDER BY e.created_at DESC, e.id DESC LIMIT $4`,
    [tenantId, subscriptionId, JSON.stringify(filter), limit, LOOK_AT_EVENTS],
  );
  return rows;
}
