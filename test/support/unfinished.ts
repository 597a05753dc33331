import type { Database } from '../../src/platform/postgres';

/** @param from what follows FROM: a table, and perhaps a condition. */
export async function countRows({ pool }: Pick<Database, 'pool'>, from: string): Promise<number> {
  const { rows } = await pool.query<{ n: string }>(`SELECT count(*) AS n FROM ${from}`);
  return Number(rows[0]!.n);
}

/** How much is not at its end, by the database. */
export async function unfinished(db: Pick<Database, 'pool'>) {
  return {
    outbox: await countRows(db, 'outbox'),
    orders: await countRows(db, `orders WHERE status = 'NEW'`),
    payments: await countRows(db, `payments WHERE status = 'pending'`),
    events: await countRows(db, 'webhook_events WHERE fanned_out_at IS NULL'),
    disputes: await countRows(db, 'disputes WHERE closed_at IS NULL'),
    deliveries: await countRows(db, `deliveries WHERE status = 'pending'`),
  };
}
