import type { AttemptOutcome, DeliveryStatus } from '../contracts/webhooks';
import type { Database } from '../platform/postgres';
import type { Keyring } from '../platform/secrets';
import {
  decrypting,
  decryptingOnce,
  TARGET_COLUMNS,
  type AttemptTarget,
  type AttemptTargetRow,
} from './attempt-targets';

/** Deliveries as attempts need them, each with its event, its subscription and its policy. */

/** What SQL says of a delivery: with the retry policy of its event type, if it has one; else that comes from configuration. */
export interface DeliveryRow {
  deliveryId: string;
  eventId: string;
  subscriptionId: string;
  eventType: string;
  scheduleMs?: number[];
  timeoutMs?: number;
  ordered?: boolean;
  generation?: number;
  attemptsBefore?: number;
}

/** All that an attempt needs to know, read at once. */
export interface LoadedDelivery extends AttemptTarget {
  id: string;
  tenantId: string;
  eventId: string;
  eventType: string;
  /** What is sent, byte for byte; null when the event is no longer kept. */
  body: string | null;
  status: DeliveryStatus;
  /** Attempts recorded so far, of all generations. */
  attempts: number;
  /** How often it was sent again after it had ended. */
  generation: number;
  /** Attempts before the present generation. */
  attemptsBefore: number;
  /** What the last recorded attempt met; null before the first. */
  lastResult: AttemptOutcome | null;
  lastStatusCode: number | null;
  /** All of its attempts are its lane's: its subscription or type keeps the order, or there is a rate. */
  keepsLane: boolean;
  /** It waits in its subscription's lane. */
  inLane: boolean;
  /** Not before then; null when nobody said. */
  nextAttemptAt: Date | null;
  /** The span that published its event; null when that was not traced. */
  traceparent: string | null;
}

type LoadedRow = Omit<LoadedDelivery, 'secrets' | 'headers'> & AttemptTargetRow;

const LOADED_COLUMNS = `d.id, d.tenant_id AS "tenantId", d.event_id AS "eventId", d.event_type AS "eventType",
       d.status, d.attempts, d.generation, d.attempts_before AS "attemptsBefore", d.in_lane AS "inLane",
       d.next_attempt_at AS "nextAttemptAt", coalesce(keeps_lane(s.ordered, s.rate_limit_per_second, c), false) AS "keepsLane",
       ${TARGET_COLUMNS}`;

/**
 * Reads a delivery with its event, subscription and last attempt in one query; undefined when it does not exist.
 * @throws what the database throws in an outage.
 */
export async function loadDelivery(
  db: Pick<Database, 'pool'>,
  keyring: Keyring,
  deliveryId: string,
): Promise<LoadedDelivery | undefined> {
  const { rows } = await db.pool.query<LoadedRow>({
    name: 'load_delivery',
    text: `SELECT ${LOADED_COLUMNS}, e.body, e.traceparent, a.result AS "lastResult", a.status_code AS "lastStatusCode"
             FROM deliveries d
             JOIN subscriptions s ON s.id = d.subscription_id
             LEFT JOIN webhook_events e ON e.id = d.event_id
             LEFT JOIN delivery_attempts a ON a.delivery_id = d.id AND a.attempt = d.attempts
             LEFT JOIN event_configs c ON c.tenant_id = d.tenant_id AND c.event_type = d.event_type
            WHERE d.id = $1`,
    values: [deliveryId],
  });
  return rows[0] && decrypting(rows[0], keyring);
}

/** A pending delivery of an event, with the policy of its event type. */
export interface PendingDelivery {
  delivery: LoadedDelivery & { body: string };
  row: DeliveryRow;
  /** Of the request or message that gave rise to its event. */
  correlationId: string | null;
  /** Of one that has no row yet (see fan-out.ts): its place in the order of publication. */
  sequence?: string;
}

/**
 * Reads the pending deliveries of several events in one query: of each at most `limit`, of the subscriptions after
 * `after` ('' for the first).
 * @throws what the database throws in an outage.
 */
export async function loadPendingOfEvents(
  db: Pick<Database, 'pool'>,
  keyring: Keyring,
  { eventIds, after, limit }: { eventIds: readonly string[]; after: string; limit: number },
): Promise<PendingDelivery[]> {
  return queryPending(db, keyring, {
    name: 'load_pending_of_events',
    // By event alone (LATERAL, OFFSET 0): another index leads through all that is pending, or through whole subscriptions.
    deliveries: `unnest($1::text[]) AS k (event_id) CROSS JOIN LATERAL (
                   SELECT * FROM deliveries WHERE event_id = k.event_id AND subscription_id > $2 OFFSET 0)`,
    where: 'true ORDER BY d.subscription_id LIMIT $3',
    values: [eventIds, after, limit * eventIds.length],
  });
}

/** Reads those of several deliveries that are pending, in one query. @throws what the database throws in an outage. */
export async function loadPending(
  db: Pick<Database, 'pool'>,
  keyring: Keyring,
  ids: readonly string[],
): Promise<PendingDelivery[]> {
  return queryPending(db, keyring, {
    name: 'load_pending',
    where: 'd.id = ANY($1::uuid[])',
    values: [ids],
  });
}

async function queryPending(
  db: Pick<Database, 'pool'>,
  keyring: Keyring,
  {
    name,
    deliveries = 'deliveries',
    where,
    values,
  }: { name: string; deliveries?: string; where: string; values: unknown[] },
): Promise<PendingDelivery[]> {
  type Row = LoadedRow & { policy: DeliveryRow; correlationId: string | null };
  const { rows } = await db.pool.query<Row>({
    name,
    text: `SELECT ${LOADED_COLUMNS}, e.correlation_id AS "correlationId", e.traceparent,
                  NULL AS "lastResult", d.last_status_code AS "lastStatusCode",
                  CASE WHEN row_number() OVER (PARTITION BY d.event_id ORDER BY d.subscription_id) = 1 THEN e.body END AS body,
                  delivery_ref_with(d, s.ordered, c) AS policy
             FROM ${deliveries} AS d
             JOIN subscriptions s ON s.id = d.subscription_id
             JOIN webhook_events e ON e.id = d.event_id
             LEFT JOIN event_configs c ON c.tenant_id = d.tenant_id AND c.event_type = d.event_type
            WHERE d.status = 'pending' AND ${where}`,
    values,
  });
  // A secret is decrypted once, however many events go to its subscription; a body travels once, however many subscriptions get it.
  const once = decryptingOnce(keyring);
  const bodies = new Map(rows.flatMap(({ eventId, body }) => (body === null ? [] : [[eventId, body]])));
  return rows.map(({ policy: row, correlationId, ...each }) => ({
    delivery: { ...decrypting(each, once), body: bodies.get(each.eventId)! },
    row,
    correlationId,
  }));
}
