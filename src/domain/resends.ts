import { RemitError } from '../contracts/errors';
import type { DeliveryStatus } from '../contracts/webhooks';
import type { Database } from '../platform/postgres';
import type { DeliveryRow } from './pending-deliveries';

/** Sending one delivery again by hand: reopened here, and carried on by its workflow. Many at once: replays.ts. */

/**
 * Reopens one delivery when it has ended; one that is pending stays as it is. Idempotent only while it is pending.
 * Until `deliveriesStarted` is told of it, the recovery job starts its workflow.
 * @param onlyIf the state that it must be in.
 * @returns what its workflow needs to know.
 * @throws RemitError not_found; conflict when its subscription gets nothing in its state, its event is not kept, or it is
 *   in another state than `onlyIf`.
 */
export async function reopenDelivery(
  db: Pick<Database, 'pool'>,
  { tenantId, id, onlyIf }: { tenantId: string; id: string; onlyIf?: DeliveryStatus | undefined },
): Promise<{ delivery: DeliveryRow; reopened: boolean }> {
  const { rows } = await db.pool.query<{ status: string; state: string; kept: boolean }>(
    `SELECT d.status, s.state, EXISTS (SELECT FROM webhook_events e WHERE e.id = d.event_id) AS kept
       FROM deliveries d JOIN subscriptions s ON s.id = d.subscription_id WHERE d.id = $1 AND d.tenant_id = $2`,
    [id, tenantId],
  );
  const found = rows[0];
  if (!found) throw new RemitError('not_found', 'There is no such delivery.');
  if (found.state !== 'active' && found.state !== 'failing')
    throw new RemitError('conflict', `The subscription is ${found.state}: resume it first.`);
  if (!found.kept) throw new RemitError('conflict', 'The event is no longer kept.');
  const { rows: open } = await db.pool.query(
    `WITH wanted AS MATERIALIZED (
       SELECT id FROM deliveries WHERE id = $1 AND status = coalesce($2, status) FOR UPDATE)
     SELECT reopen_deliveries(ARRAY[id], NULL) FROM wanted`,
    [id, onlyIf ?? null],
  );
  if (open.length === 0)
    throw new RemitError(
      'conflict',
      `The delivery is not ${onlyIf}: it is ${found.status}, or was just now.`,
    );
  return { delivery: await findDeliveryRow(db, { tenantId, id }), reopened: found.status !== 'pending' };
}

/**
 * A pending delivery as its workflow needs to know it.
 * @throws RemitError not_found; conflict when it has ended.
 */
export async function findDeliveryRow(
  db: Pick<Database, 'pool'>,
  { tenantId, id }: { tenantId: string; id: string },
): Promise<DeliveryRow> {
  const { rows } = await db.pool.query<{ status: string; ref: DeliveryRow }>(
    'SELECT status, delivery_ref_of(d) AS ref FROM deliveries d WHERE id = $1 AND tenant_id = $2',
    [id, tenantId],
  );
  const row = rows[0];
  if (!row) throw new RemitError('not_found', 'There is no such delivery.');
  if (row.status !== 'pending') throw new RemitError('conflict', `The delivery is ${row.status}.`);
  return row.ref;
}

/**
 * Deliveries that were reopened by hand and whose workflow may not have been started, oldest first: Temporal did not
 * answer, or the API crashed. Some of them may just be beginning: starting one again under its id changes nothing.
 */
export async function listStrandedDeliveries(
  db: Pick<Database, 'pool'>,
  limit: number,
): Promise<DeliveryRow[]> {
  const { rows } = await db.pool.query<{ ref: DeliveryRow }>({
    name: 'stranded_deliveries',
    text: `SELECT delivery_ref_of(d) AS ref FROM deliveries d
            WHERE to_start_since IS NOT NULL AND status = 'pending' ORDER BY to_start_since, id LIMIT $1`,
    values: [limit],
  });
  return rows.map(({ ref }) => ref);
}

/** Notes that these deliveries have their workflows, or had them. Idempotent; one that was sent again since is left out. */
export async function deliveriesStarted(
  db: Pick<Database, 'pool'>,
  started: readonly { deliveryId: string; generation?: number | undefined }[],
): Promise<void> {
  await db.pool.query({
    name: 'deliveries_started',
    text: `UPDATE deliveries d SET to_start_since = NULL
             FROM unnest($1::uuid[], $2::integer[]) AS s (id, generation)
            WHERE d.id = s.id AND d.generation = s.generation AND d.to_start_since IS NOT NULL`,
    values: [started.map(({ deliveryId }) => deliveryId), started.map(({ generation }) => generation ?? 0)],
  });
}
