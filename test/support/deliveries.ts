import { randomUUID } from 'node:crypto';
import type { DeliveryRef } from '../../src/contracts/workflows';
import { recordAttempts, type AttemptRecord, type HealthRules } from '../../src/domain/attempt-records';
import type { DeliveryRow } from '../../src/domain/pending-deliveries';
import { fanOutSteps } from '../../src/domain/fan-out';
import type { Database } from '../../src/platform/postgres';
import type { Keyring } from '../../src/platform/secrets';
import type { FirstAttempts } from '../../src/webhooks/first-attempts';
import { deliveryPolicyOf } from '../../src/webhooks/delivery-policy';
import { loadConfig } from '../../src/platform/config';

const config = loadConfig({}, []);

/** The rules of the default configuration. */
export const RULES: HealthRules = {
  failingAttempt: config.WEBHOOK_FAILING_ATTEMPT,
  pauseAfterMs: config.WEBHOOK_PAUSE_AFTER_MS,
  throttleBaseMs: config.WEBHOOK_THROTTLE_BASE_MS,
  throttleCapMs: config.WEBHOOK_THROTTLE_CAP_MS,
};

/** Stores an attempt that ended just now. */
export const recordAttempt = async (db: Pick<Database, 'pool'>, record: AttemptRecord) =>
  (await recordAttempts(db, [{ record, at: new Date() }], RULES))[0];

/** The policy of the default configuration, as the worker role hands it to activities. */
export const playedPolicy = deliveryPolicyOf(config);

/** Where nothing is to be started: neither deliveries nor lanes. */
export const NOTHING_STARTED = {
  startDeliveries: () => Promise.resolve(),
  wakeLanes: () => Promise.resolve(),
  cancelDeliveries: () => Promise.resolve(),
};

/** Announces a state change of a tenant, as the database does in the transaction of the change. @returns the deliveries that it writes. */
export async function announce(
  { pool }: Pick<Database, 'pool'>,
  {
    tenantId,
    type = 'payment.succeeded',
    data = { id: 'p1' },
  }: { tenantId: string; type?: string; data?: Record<string, unknown> },
): Promise<{ eventId: string; deliveries: DeliveryRow[] }> {
  const eventId = `evt_${randomUUID().replaceAll('-', '')}`;
  await pool.query(`SELECT announce_event($1, $2, $3, 'payment', 'p1', $4::jsonb, 'correlation')`, [
    ...[eventId, tenantId, type, JSON.stringify(data)],
  ]);
  return { eventId, deliveries: await pendingOf({ pool }, eventId) };
}

/** What the consumer of `events` does with events of few subscriptions. @returns what needs a workflow. */
export async function handOut(
  deps: { db: Pick<Database, 'pool'>; keyring: Keyring },
  first: FirstAttempts,
  eventIds: readonly string[],
): Promise<DeliveryRef[]> {
  const steps = await fanOutSteps(deps.db, deps.keyring, { eventIds, after: '', limit: 100 });
  const left = await Promise.all(
    eventIds.map((id) => first.makeStep(id, steps.get(id)!, { correlationId: 'c' })),
  );
  return left.flat();
}

/** The pending deliveries of an event. */
export async function pendingOf({ pool }: Pick<Database, 'pool'>, eventId: string): Promise<DeliveryRow[]> {
  const { rows } = await pool.query<{ ref: DeliveryRow }>(
    `SELECT delivery_ref_of(d) AS ref FROM deliveries d WHERE event_id = $1 AND status = 'pending' ORDER BY subscription_id`,
    [eventId],
  );
  return rows.map(({ ref }) => ref);
}

/** A delivery as its workflow gets it, with the default schedule. */
export const deliveryRef = (changes: Partial<DeliveryRef> = {}): DeliveryRef => ({
  deliveryId: randomUUID(),
  eventId: `evt_${randomUUID()}`,
  subscriptionId: 'sub_1',
  eventType: 'payment.succeeded',
  scheduleMs: config.WEBHOOK_SCHEDULE_MS,
  timeoutMs: 15_000,
  correlationId: 'correlation',
  ...changes,
});
