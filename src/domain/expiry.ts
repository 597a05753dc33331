import type { Database } from '../platform/postgres';
import { DataRefusedError } from './conflicts';

/** How far the expiry of payments or orders has come: everything up to here has been looked at after its time. */
export interface ExpiryPosition {
  /** Which of them, as in `job_positions`. */
  job: string;
  /** ISO 8601, the time of expiry. */
  at: string;
  id: string;
}

export interface ExpiryLimits {
  /** How long something overdue is left to whoever expires or pays it otherwise. */
  graceMs: number;
  /** Rows of one step. */
  maxRows: number;
}

export interface OverdueStep {
  /** How many were expired. */
  expired: number;
  /** What the database refuses to expire and always will; it stays as it is, for an operator. */
  refused: { id: string; error: DataRefusedError }[];
  /** Where this step ended; null when nothing was left to look at. */
  position: ExpiryPosition | null;
}

export interface Overdue {
  id: string;
  at: Date;
  correlation_id: string | null;
}

/** What an expiry walks over. */
export interface OverdueRows<Row extends Overdue> {
  job: string;
  /** Rows with their time of expiry (`at`) after the position `$1`, `$2` and before `$3` ms ago, in order, `$4` at most. */
  sql: string;
  /** Undefined when there is nothing to expire; otherwise what expiring it came to. */
  expire: (db: Database, row: Row, correlationId: string) => Promise<{ outcome: string } | undefined>;
}

/** So many refusals in one step, and nothing else, are no fault of the rows: the step fails, and is tried again. */
const REFUSED_TOGETHER = 5;

const START = { at: '1970-01-01T00:00:00.000Z', id: '00000000-0000-0000-0000-000000000000' };

/**
 * One step of a walk over what is overdue, in the order of its expiry from where the last step was saved, so that each
 * row is looked at once, however many there are. One that the database refuses holds up none behind it; reconciliation
 * finds it. Where it refuses all, the fault is not theirs, and the job waits. Idempotent as far as `expire` is.
 * @throws DataRefusedError when the database refuses every one of several rows.
 */
export async function expireStep<Row extends Overdue>(
  db: Database,
  { job, sql, expire }: OverdueRows<Row>,
  { graceMs, maxRows }: ExpiryLimits,
): Promise<OverdueStep> {
  const from = await savedPosition(db, job);
  const { rows } = await db.pool.query<Row>(sql, [from.at, from.id, graceMs, maxRows]);
  const step: OverdueStep = { expired: 0, refused: [], position: null };
  for (const row of rows) {
    const correlationId = row.correlation_id ?? `expiry:${row.id}`;
    try {
      const { outcome } = (await expire(db, row, correlationId)) ?? {};
      if (outcome === 'applied') step.expired += 1;
    } catch (error) {
      if (!(error instanceof DataRefusedError)) throw error;
      step.refused.push({ id: row.id, error });
    }
    step.position = { job, at: row.at.toISOString(), id: row.id };
  }
  const { refused, expired } = step;
  if (refused[0] && refused.length >= REFUSED_TOGETHER && expired === 0) throw refused[0].error;
  return step;
}

async function savedPosition({ pool }: Database, job: string): Promise<{ at: string; id: string }> {
  const { rows } = await pool.query<{ at: Date; id: string }>(
    'SELECT reached_at AS at, reached_id AS id FROM job_positions WHERE job = $1',
    [job],
  );
  return rows[0] ? { at: rows[0].at.toISOString(), id: rows[0].id } : START;
}

/** Saves how far an expiry has come; never goes back. Idempotent. */
export async function saveExpiryPosition({ pool }: Database, { job, at, id }: ExpiryPosition): Promise<void> {
  await pool.query(
    `INSERT INTO job_positions AS p (job, reached_at, reached_id) VALUES ($1, $2, $3)
     ON CONFLICT (job) DO UPDATE SET reached_at = EXCLUDED.reached_at, reached_id = EXCLUDED.reached_id, updated_at = now()
     WHERE (p.reached_at, p.reached_id) < (EXCLUDED.reached_at, EXCLUDED.reached_id)`,
    [job, at, id],
  );
}
