import type { AttemptOutcome, DeliveryStatus } from '../contracts/webhooks';
import type { Database } from '../platform/postgres';
import type { LoadedDelivery } from './pending-deliveries';

/** What is written of attempts: that one begins, and what came of it. Those that are written with a new row are fan-out.ts's. */

/** A delivery as it was when it was read. */
export type AsRead = Pick<LoadedDelivery, 'id' | 'generation' | 'subscriptionId' | 'subscriptionVersion'> & {
  /** False while it has no row: only its subscription can have changed. */
  isStored?: boolean;
};

/**
 * Which of these deliveries may be attempted now: they are still pending, were not sent again since they were read, and
 * their subscriptions are what they were then (their state, address and secrets). An attempt counts as begun with this.
 * @returns of each, in the order given.
 * @throws what the database throws in an outage.
 */
export async function claimAttempts(
  db: Pick<Database, 'pool'>,
  deliveries: readonly AsRead[],
): Promise<boolean[]> {
  const { rows } = await db.pool.query<{ id: string }>({
    name: 'claim_attempts',
    text: `SELECT c.id FROM unnest($1::uuid[], $2::integer[], $3::text[], $4::integer[], $5::boolean[])
                              AS c (id, generation, subscription_id, version, is_stored)
             JOIN subscriptions s ON s.id = c.subscription_id AND s.version = c.version
             LEFT JOIN deliveries d ON d.id = c.id
            WHERE d.generation = c.generation AND d.status = 'pending' OR d.id IS NULL AND NOT c.is_stored`,
    values: [
      deliveries.map(({ id }) => id),
      deliveries.map(({ generation }) => generation),
      deliveries.map(({ subscriptionId }) => subscriptionId),
      deliveries.map(({ subscriptionVersion }) => subscriptionVersion),
      deliveries.map(({ isStored = true }) => isStored),
    ],
  });
  const claimed = new Set(rows.map(({ id }) => id));
  return deliveries.map(({ id }) => claimed.has(id));
}

/** One HTTP request to a subscriber and what came of it. */
export interface AttemptRecord {
  deliveryId: string;
  /** 1 for the first. */
  attempt: number;
  /** The delivery's, and the attempts before it, when the attempt was begun. */
  generation?: number;
  attemptsBefore?: number;
  startedAt: Date;
  durationMs: number;
  result: AttemptOutcome;
  statusCode: number | null;
  error: string | null;
  responseBody: string | null;
  /** Where it was sent. */
  url?: string;
  /** Masked: of the request, what can't be told from its delivery and time (see shown-headers.ts). */
  requestHeaders?: Record<string, string>;
  /** Masked; null without an answer. */
  responseHeaders?: Record<string, string> | null;
  /** The delivery's state after it: `pending` when it is to be retried. */
  status: DeliveryStatus;
  /** The subscriber says that it is gone (410): its subscription is disabled in the same transaction. */
  gone: boolean;
  /** It is overloaded or does not answer: all of its subscription's deliveries wait a while. */
  slowDown: boolean;
  /** How long it asks to be left alone, at most WEBHOOK_RETRY_AFTER_MAX_MS. */
  retryAfterMs: number | null;
  /** When the next attempt is due, of one that is to be retried. */
  nextAttemptAt: string | null;
  correlationId: string;
}

/** WEBHOOK_FAILING_ATTEMPT and the others that say what attempts mean for their subscription. */
export interface HealthRules {
  failingAttempt: number;
  pauseAfterMs: number;
  throttleBaseMs: number;
  throttleCapMs: number;
}

/**
 * What a recorded attempt means: what it met `decides` what follows for the delivery; it is `repeated`: it had been stored
 * before, perhaps with another result, and what is stored is what holds; or it was `overtaken`: the delivery ended or was
 * sent again while it was under way, and whoever did that has seen to what follows.
 */
export type Recorded = 'decides' | 'repeated' | 'overtaken';

/**
 * Writes attempts, and what each means for its delivery and for the health of its subscription, in one statement.
 * Idempotent by (delivery, attempt): a second record of an attempt changes nothing and says so. A delivery
 * that was finished or sent again meanwhile keeps its state; the attempt is kept too.
 * @param attempts each of another delivery; `at` is when it ended.
 * @returns of each, in the order given, what came of it.
 * @throws what the database throws in an outage.
 */
export async function recordAttempts(
  db: Pick<Database, 'pool'>,
  attempts: readonly { record: AttemptRecord; at: Date }[],
  rules: HealthRules,
): Promise<Recorded[]> {
  const { rows } = await db.pool.query<{ deliveryId: string; repeated: boolean }>({
    name: 'record_delivery_attempts',
    text: `SELECT delivery_id AS "deliveryId", after ? 'repeated' AS repeated
             FROM record_delivery_attempts($1::jsonb) WHERE after ?| '{repeated,overtaken}'`,
    values: [JSON.stringify(attempts.map(({ record, at }) => ({ ...record, ...rules, at })))],
  });
  const undecided = new Map(rows.map(({ deliveryId, repeated }) => [deliveryId, repeated]));
  return attempts.map(({ record }) => {
    const repeated = undecided.get(record.deliveryId);
    return repeated === undefined ? 'decides' : repeated ? 'repeated' : 'overtaken';
  });
}
