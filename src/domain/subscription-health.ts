import { RemitError } from '../contracts/errors';
import type { Database } from '../platform/postgres';
import type { Actor } from './audit';

export interface OperatedSubscription {
  /** From when on a resumed subscription has missed something; null when it has missed nothing. */
  missedSince: Date | null;
}

/**
 * Pauses a subscription that gets events, or resumes one that is paused or disabled, whatever the reason. What is pending
 * when it is paused is held at its next attempt. Written with its audit record and its event (`subscription.paused` or
 * `subscription.recovered`) in one transaction.
 * @throws RemitError not_found; conflict when it is in that state already.
 */
export async function operateSubscription(
  db: Pick<Database, 'pool'>,
  { tenantId, actor, correlationId }: Actor,
  id: string,
  action: 'pause' | 'resume',
): Promise<OperatedSubscription> {
  const { rows } = await db.pool.query<{ result: { outcome: string; missedSince?: string | null } }>({
    name: 'operate_subscription',
    text: 'SELECT operate_subscription($1, $2, $3, $4, $5) AS result',
    values: [tenantId, id, action, actor, correlationId],
  });
  const { outcome = 'missing', missedSince = null } = rows[0]?.result ?? {};
  if (outcome === 'missing') throw new RemitError('not_found', 'There is no such subscription.');
  if (outcome !== 'ok') throw new RemitError('conflict', `The subscription is ${outcome}.`);
  return { missedSince: missedSince === null ? null : new Date(missedSince) };
}
