import type { Database } from '../platform/postgres';
import { DataRefusedError } from './conflicts';
import { settleProviderEvent, type DeliveryRow } from './payments';

/** How far the sweep has come: every payment up to here has been looked at after its time. */
export interface SweepPosition {
  /** ISO 8601, the payment's time of expiry. */
  at: string;
  id: string;
}

export interface SweepStep {
  /** How many were expired. */
  expired: number;
  /** Deliveries that have to be started before the position is saved. */
  deliveries: { row: DeliveryRow; correlationId: string }[];
  /** Payments that the database refuses to expire and always will; they stay pending, for an operator. */
  refused: { id: string; error: DataRefusedError }[];
  /** Where this step ended; null when nothing was left to look at. */
  position: SweepPosition | null;
}

interface Overdue {
  id: string;
  at: Date;
  provider: string;
  type: 'payment' | 'payout';
  status: string;
  amount_minor: string;
  currency: string;
  correlation_id: string | null;
}

/** So many refusals in one step, and nothing else, are no fault of the payments: the step fails, and is tried again. */
const REFUSED_TOGETHER = 5;

const JOB = 'payment-sweep';
const START: SweepPosition = { at: '1970-01-01T00:00:00.000Z', id: '00000000-0000-0000-0000-000000000000' };

/**
 * Expires payments and payouts whose time is long over and that no workflow expired, because no event of theirs ever
 * came. Walks them in the order of their expiry from where the last step was saved, so that each is looked at once,
 * however many there are. Goes through settle_provider_event under the same event id as the workflow's own expiry:
 * whichever comes second is a duplicate. One that the database refuses holds up none behind it; reconciliation finds it
 * (`payments_vs_sweep`). Where it refuses all, the fault is not theirs, and the sweep waits. Idempotent: a step that is repeated before its position is saved hands back
 * the same deliveries.
 * @param limits `graceMs`: how long a payment is left to its workflow; `maxRows`: payments of one step; `maxDeliveries`:
 *   a step ends with the payment that reaches so many deliveries.
 * @throws DataRefusedError when the database refuses every one of several payments.
 */
export async function sweepPayments(
  db: Database,
  { graceMs, maxRows, maxDeliveries }: { graceMs: number; maxRows: number; maxDeliveries: number },
): Promise<SweepStep> {
  const from = await savedPosition(db);
  const { rows } = await db.pool.query<Overdue>(
    `SELECT id, expires_at AS at, provider, type, status, amount_minor, currency, correlation_id FROM payments
      WHERE (expires_at, id) > ($1::timestamptz, $2::uuid) AND expires_at <= now() - $3 * interval '1 millisecond'
      ORDER BY expires_at, id LIMIT $4`,
    [from.at, from.id, graceMs, maxRows],
  );
  const step: SweepStep = { expired: 0, deliveries: [], refused: [], position: null };
  for (const payment of rows) {
    // What has expired is asked again: a step that was cut off may have expired it and not handed on its deliveries.
    if (payment.status === 'pending' || payment.status === 'expired') await expire(db, payment, step);
    step.position = { at: payment.at.toISOString(), id: payment.id };
    if (step.deliveries.length >= maxDeliveries) break;
  }
  const { refused, expired, deliveries } = step;
  if (refused[0] && refused.length >= REFUSED_TOGETHER && expired + deliveries.length === 0)
    throw refused[0].error;
  return step;
}

async function expire(db: Database, payment: Overdue, step: SweepStep): Promise<void> {
  const correlationId = payment.correlation_id ?? `expiry:${payment.id}`;
  try {
    const { outcome, deliveries } = await settleProviderEvent(db, {
      ...expiryEvent(payment.id),
      provider: payment.provider,
      type: payment.type,
      amountMinor: payment.amount_minor,
      currency: payment.currency,
      correlationId,
    });
    if (outcome === 'applied') step.expired += 1;
    step.deliveries.push(...deliveries.map((row) => ({ row, correlationId })));
  } catch (error) {
    if (!(error instanceof DataRefusedError)) throw error;
    step.refused.push({ id: payment.id, error });
  }
}

/** What expires a payment, whoever finds that its time is over: one event id, so that it happens once. */
export function expiryEvent(transactionId: string) {
  return {
    transactionId,
    status: 'expired' as const,
    // The space keeps it apart from every id that a provider can send.
    providerEventId: `remit expiry:${transactionId}`,
    payloadHash: 'expiry',
    receivedAt: new Date().toISOString(),
    actor: 'system:expiry',
  };
}

async function savedPosition({ pool }: Database): Promise<SweepPosition> {
  const { rows } = await pool.query<{ at: Date; id: string }>(
    'SELECT reached_at AS at, reached_id AS id FROM job_positions WHERE job = $1',
    [JOB],
  );
  return rows[0] ? { at: rows[0].at.toISOString(), id: rows[0].id } : START;
}

/** Saves where the sweep has come to; never goes back. Idempotent. */
export async function saveSweepPosition({ pool }: Database, { at, id }: SweepPosition): Promise<void> {
  await pool.query(
    `INSERT INTO job_positions AS p (job, reached_at, reached_id) VALUES ($1, $2, $3)
     ON CONFLICT (job) DO UPDATE SET reached_at = EXCLUDED.reached_at, reached_id = EXCLUDED.reached_id, updated_at = now()
     WHERE (p.reached_at, p.reached_id) < (EXCLUDED.reached_at, EXCLUDED.reached_id)`,
    [JOB, at, id],
  );
}
