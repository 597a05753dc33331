import { RemitError } from '../contracts/errors';
import type { Database } from '../platform/postgres';
import { inTransaction } from '../platform/postgres-pool';
import type { Actor } from './audit';

/** A replay to be written with a resume: of what was held and what waits. */
export interface ResumeReplay {
  /** And of events that it never got. */
  missed: boolean;
  /** A UUID that makes the resume idempotent: repeated under it, it returns the same replay. */
  replayId: string;
  ratePerSecond: number;
  /** WEBHOOK_REPLAYS_MAX_RUNNING of the tenant. */
  maxRunning: number;
}

export interface OperatedSubscription {
  /** From when on a resumed subscription has missed something; null when it has missed nothing. */
  missedSince: Date | null;
  /** The replay that was written; null when none was asked for, or nothing was missed. Its workflow is to be started. */
  replayId: string | null;
}

/**
 * Pauses a subscription that gets events, or resumes one that is paused or disabled, whatever the reason. What is pending when
 * it is paused is held at its next attempt; when it is resumed, that and what waits is tried now. Written with its audit
 * record, its event (`subscription.paused` or `subscription.recovered`) and the replay of what was missed in one transaction:
 * after a crash the schedule finds the replay.
 * @throws RemitError not_found; conflict when it is in that state already; unprocessable when too many replays of the
 *   tenant are running: then it is not resumed either.
 */
export async function operateSubscription(
  db: Pick<Database, 'pool'>,
  { tenantId, actor, correlationId }: Actor,
  id: string,
  action: 'pause' | 'resume',
  replay?: ResumeReplay,
): Promise<OperatedSubscription> {
  const missed = replay?.missed === true ? replay : undefined;
  const {
    outcome,
    missedSince = null,
    replayId,
  } = await inTransaction(db.pool, async (client) => {
    type Result = { outcome: string; missedSince?: string | null; replayId?: string | null };
    const { rows } = await client.query<{ result: Result }>({
      name: 'operate_subscription',
      text: 'SELECT operate_subscription($1, $2, $3, $4, $5, $6, $7, $8) AS result',
      values: [
        ...[tenantId, id, action, actor, correlationId],
        ...[missed?.replayId, missed?.ratePerSecond, missed?.maxRunning],
      ],
    });
    const result = rows[0]!.result;
    const made = result.replayId ?? null;
    if (result.outcome !== 'ok' || action !== 'resume' || !replay || made !== null)
      return { ...result, replayId: made };
    const retry = await client.query<{ id: string | null }>({
      name: 'retry_after_resume',
      text: 'SELECT retry_after_resume($1, $2, $3, $4, $5) AS id',
      values: [tenantId, id, replay.replayId, replay.ratePerSecond, actor],
    });
    return { ...result, replayId: retry.rows[0]?.id ?? null };
  });
  if (outcome === 'missing') throw new RemitError('not_found', 'There is no such subscription.');
  if (outcome === 'too_many')
    throw new RemitError(
      'unprocessable',
      `A tenant has at most ${replay?.maxRunning} replays at a time; the subscription was not resumed.`,
    );
  if (outcome !== 'ok') throw new RemitError('conflict', `The subscription is ${outcome}.`);
  return { missedSince: missedSince === null ? null : new Date(missedSince), replayId };
}
