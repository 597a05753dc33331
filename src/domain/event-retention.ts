import type { Database } from '../platform/postgres';

/** How far the purge has come: everything up to here has been looked at in this run. */
export interface PurgePosition {
  /** When the last event that was looked at was stored (ISO 8601). */
  at: string;
  /** Its id. */
  after: string;
}

export interface PurgeStep extends PurgePosition {
  /** Events looked at. */
  examined: number;
  /** Events deleted, with their deliveries and attempts. */
  purged: number;
  /** Nothing that is old enough is left to look at. */
  done: boolean;
}

export const PURGE_START: PurgePosition = { at: '1970-01-01T00:00:00Z', after: '' };

/**
 * One step of the retention: of the next `limit` events that are old enough for any type, deletes those that are older than
 * their own type is kept (its event config, or else `retentionDays`), with their deliveries and attempts. An event that is not
 * handed out yet stays, and so does one with a pending delivery. Idempotent: a repeated step finds less.
 * @throws what the database throws in an outage.
 */
export async function purgeEventsStep(
  db: Pick<Database, 'pool'>,
  { retentionDays, limit, at, after }: PurgePosition & { retentionDays: number; limit: number },
): Promise<PurgeStep> {
  const { rows } = await db.pool.query<{ step: PurgeStep }>({
    name: 'purge_events_step',
    text: 'SELECT purge_events_step($1, $2, $3, $4) AS step',
    values: [retentionDays, at, after, limit],
  });
  return rows[0]!.step;
}
