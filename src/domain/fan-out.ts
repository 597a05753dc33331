import { randomUUID } from 'node:crypto';
import type { Database } from '../platform/postgres';
import type { Keyring } from '../platform/secrets';
import { loadTargets, type SubscriptionTarget } from './attempt-targets';
import type { AttemptRecord } from './attempt-records';
import {
  loadPending,
  loadPendingOfEvents,
  type DeliveryRow,
  type PendingDelivery,
} from './pending-deliveries';

/**
 * Handing events out: to whom, and the rows of their deliveries. A published event has none until its first attempts were
 * made or have to wait: most deliveries are written once, with what came of them, and never changed (docs/adr/0023).
 */

/** What one step of an event's fan-out has to see to: at most `limit` subscriptions. */
export interface FanOutStep {
  /** Without rows: see recordFirstAttempts. */
  fresh: PendingDelivery[];
  /** Rows that were written with a state change, or by an earlier try. */
  stored: PendingDelivery[];
  /** Where the next step begins; null when there is none. */
  next: string | null;
  /** Its deliveries are all written already. */
  handedOut: boolean;
  /** By performance.now(). */
  readAt: number;
}

interface StepRow {
  id: string;
  tenantId: string;
  type: string;
  sequence: string;
  body: string | null;
  correlationId: string | null;
  traceparent: string | null;
  handedOut: boolean;
  scheduleMs: number[] | null;
  timeoutMs: number | null;
  keepsOrder: boolean;
  subscriptions: string[];
  pending: string[];
  next: string | null;
}

/**
 * Reads a step of several events at once, of each the subscriptions after `after` ('' for the first step). Reads only.
 * @returns by event; those that do not exist are missing.
 * @throws what the database throws in an outage.
 */
export async function fanOutSteps(
  db: Pick<Database, 'pool'>,
  keyring: Keyring,
  { eventIds, after, limit }: { eventIds: readonly string[]; after: string; limit: number },
): Promise<Map<string, FanOutStep>> {
  const readAt = performance.now();
  const { rows } = await db.pool.query<StepRow>({
    name: 'fan_out_steps',
    text: `SELECT id, tenant_id AS "tenantId", type, sequence, body, correlation_id AS "correlationId", traceparent,
                  handed_out AS "handedOut", schedule_ms AS "scheduleMs", timeout_ms AS "timeoutMs",
                  keeps_order AS "keepsOrder", subscriptions, pending, next
             FROM fan_out_steps($1, $2, $3)`,
    values: [eventIds, after, limit],
  });
  const [fresh, left, handedOut] = await Promise.all([
    freshDeliveries(db, keyring, rows),
    leftDeliveries(db, keyring, rows),
    handedOutDeliveries(db, keyring, {
      eventIds: rows.flatMap((row) => (row.handedOut ? [row.id] : [])),
      after,
      limit,
    }),
  ]);
  return new Map(
    rows.map((row) => {
      const { stored, next } = handedOut.get(row.id) ?? { stored: left.get(row.id) ?? [], next: row.next };
      const step = { fresh: fresh.get(row.id) ?? [], stored, next, handedOut: row.handedOut, readAt };
      return [row.id, step];
    }),
  );
}

async function freshDeliveries(
  db: Pick<Database, 'pool'>,
  keyring: Keyring,
  rows: readonly StepRow[],
): Promise<Map<string, PendingDelivery[]>> {
  const ids = [...new Set(rows.flatMap(({ subscriptions }) => subscriptions))];
  if (ids.length === 0) return new Map();
  const subscriptions = await loadTargets(db, keyring, ids);
  return new Map(
    rows.map((row) => [
      row.id,
      row.subscriptions.flatMap((id) => {
        const found = subscriptions.get(id);
        return found ? [freshDelivery(row, found)] : [];
      }),
    ]),
  );
}

/** Written out, not spread: this is made for each delivery, and a literal costs a tenth of that. */
function freshDelivery(row: StepRow, subscription: SubscriptionTarget): PendingDelivery {
  const id = randomUUID();
  const { subscriptionId, subscriptionState, subscriptionVersion, url, ratePerSecond } = subscription;
  const { throttledUntil, throttleLevel, secrets, headers } = subscription;
  const { tenantId, id: eventId, type: eventType, body, traceparent, correlationId, sequence } = row;
  const ordered = subscription.ordered || row.keepsOrder;
  const policy: DeliveryRow = { deliveryId: id, eventId, subscriptionId, eventType };
  if (row.scheduleMs) policy.scheduleMs = row.scheduleMs;
  if (row.timeoutMs !== null) policy.timeoutMs = row.timeoutMs;
  if (ordered) policy.ordered = true;
  return {
    delivery: {
      id,
      tenantId,
      eventId,
      eventType,
      body: body!,
      subscriptionId,
      subscriptionState,
      subscriptionVersion,
      url,
      status: 'pending',
      attempts: 0,
      generation: 0,
      attemptsBefore: 0,
      lastResult: null,
      lastStatusCode: null,
      keepsLane: ordered || ratePerSecond !== null,
      inLane: false,
      nextAttemptAt: null,
      throttledUntil,
      throttleLevel,
      traceparent,
      secrets,
      headers,
    },
    row: policy,
    correlationId,
    sequence,
  };
}

/** What an earlier try has left pending of events that are not handed out. */
async function leftDeliveries(
  db: Pick<Database, 'pool'>,
  keyring: Keyring,
  rows: readonly StepRow[],
): Promise<Map<string, PendingDelivery[]>> {
  const ids = rows.flatMap(({ pending }) => pending);
  return ids.length === 0 ? new Map() : byEvent(await loadPending(db, keyring, ids));
}

/**
 * What is pending of events whose deliveries are all written, in the order of subscriptions. There may be more than are
 * read: then the step goes on behind the last subscription that is there for each of the events.
 */
async function handedOutDeliveries(
  db: Pick<Database, 'pool'>,
  keyring: Keyring,
  { eventIds, after, limit }: { eventIds: readonly string[]; after: string; limit: number },
): Promise<Map<string, Pick<FanOutStep, 'stored' | 'next'>>> {
  if (eventIds.length === 0) return new Map();
  const read = await loadPendingOfEvents(db, keyring, { eventIds, after, limit });
  const isAll = read.length < limit * eventIds.length;
  const last = read.at(-1)?.delivery.subscriptionId;
  // Of one event, each subscription has one.
  const whole =
    isAll || eventIds.length === 1 ? read : read.filter(({ delivery }) => delivery.subscriptionId !== last);
  const next = isAll ? null : (whole.at(-1)?.delivery.subscriptionId ?? after);
  const pending = byEvent(whole);
  return new Map(eventIds.map((id) => [id, { stored: pending.get(id) ?? [], next }]));
}

function byEvent(deliveries: readonly PendingDelivery[]): Map<string, PendingDelivery[]> {
  const found = new Map<string, PendingDelivery[]>();
  for (const each of deliveries) {
    const ofEvent = found.get(each.delivery.eventId);
    if (ofEvent) ofEvent.push(each);
    else found.set(each.delivery.eventId, [each]);
  }
  return found;
}

// ---------------------------------------------------------------------------------------------------- rows

/** The row of a delivery that has none yet. */
export interface FirstDelivery {
  pending: PendingDelivery;
  /** It waits in its subscription's lane, to be attempted after so many milliseconds; null when not. */
  laneAfterMs: number | null;
  /** Its first attempt, when it was delivered with it. Without one it is pending. */
  attempt: FirstRecord | null;
}

/** What is stored of an attempt that was delivered. */
export type FirstRecord = Pick<
  AttemptRecord,
  'durationMs' | 'statusCode' | 'responseBody' | 'url' | 'requestHeaders' | 'responseHeaders'
> & { startedAt: Date | string };

/**
 * Writes deliveries, and marks the events that are handed out with that; one statement. Idempotent by event and
 * subscription.
 * @returns the row's id by the delivery's own, of those that were not written as given: another when the delivery was
 *   there already, and stays as it is; its own when its attempt is not stored, because it says something of its
 *   subscription's health (see recordAttempts).
 * @throws what the database throws in an outage.
 */
export async function recordFirstAttempts(
  db: Pick<Database, 'pool'>,
  deliveries: readonly FirstDelivery[],
  handedOut: readonly string[],
): Promise<Map<string, string>> {
  const { rows } = await db.pool.query<{ id: string; storedId: string }>({
    name: 'record_first_attempts',
    text: `SELECT delivery_id AS id, stored_id AS "storedId" FROM record_first_attempts($1::jsonb, $2::text[])`,
    values: [JSON.stringify(deliveries.map(recordOf)), handedOut],
  });
  return new Map(rows.map(({ id, storedId }) => [id, storedId]));
}

/** As record_first_attempts takes it. */
function recordOf({ pending: { delivery, sequence }, laneAfterMs, attempt }: FirstDelivery) {
  return {
    id: delivery.id,
    tenant: delivery.tenantId,
    event: delivery.eventId,
    subscription: delivery.subscriptionId,
    type: delivery.eventType,
    sequence,
    laneAfterMs,
    startedAt: attempt?.startedAt,
    durationMs: attempt?.durationMs,
    statusCode: attempt?.statusCode,
    responseBody: attempt?.responseBody,
    url: attempt?.url,
    requestHeaders: attempt?.requestHeaders,
    responseHeaders: attempt?.responseHeaders,
  };
}
