import type { AttemptOutcome, DeliveryDeadLetter, DeliveryStatus } from '../contracts/webhooks';
import { RemitError } from '../contracts/errors';
import type { Delivery, DeliveryAttempt } from '../generated/prisma/client';
import type { Database } from '../platform/postgres';
import type { Keyring } from '../platform/secrets';
import { afterCursor, NEWEST_FIRST, toPage, type Page } from './pages';
import { secretContext, type SubscriptionState } from './subscriptions';

// ---------------------------------------------------------------------------------------------------- attempts

/** All that an attempt needs to know, read at once. */
export interface LoadedDelivery {
  id: string;
  eventId: string;
  eventType: string;
  /** What is sent, byte for byte; null when the event is no longer kept. */
  body: string | null;
  subscriptionId: string;
  subscriptionState: SubscriptionState;
  url: string;
  status: DeliveryStatus;
  /** Attempts recorded so far. */
  attempts: number;
  /** What the last recorded attempt met; null before the first. */
  lastResult: AttemptOutcome | null;
  lastStatusCode: number | null;
  /** Decrypts the subscription's secrets. @throws DecryptionError when the key is not configured. */
  secrets(): string[];
}

interface LoadedRow extends Omit<LoadedDelivery, 'secrets'> {
  secretCiphertext: Buffer;
}

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
    text: `SELECT d.id, d.event_id AS "eventId", d.event_type AS "eventType", e.body,
                  d.subscription_id AS "subscriptionId", s.state AS "subscriptionState", s.url,
                  s.secret_ciphertext AS "secretCiphertext", d.status, d.attempts,
                  a.result AS "lastResult", a.status_code AS "lastStatusCode"
             FROM deliveries d
             JOIN subscriptions s ON s.id = d.subscription_id
             LEFT JOIN webhook_events e ON e.id = d.event_id
             LEFT JOIN delivery_attempts a ON a.delivery_id = d.id AND a.attempt = d.attempts
            WHERE d.id = $1`,
    values: [deliveryId],
  });
  const row = rows[0];
  if (!row) return undefined;
  const { secretCiphertext, ...delivery } = row;
  return {
    ...delivery,
    secrets: () => [keyring.decrypt(secretCiphertext, secretContext(row.subscriptionId))],
  };
}

/** One HTTP request to a subscriber and what came of it. */
export interface AttemptRecord {
  deliveryId: string;
  /** 1 for the first. */
  attempt: number;
  startedAt: Date;
  durationMs: number;
  result: AttemptOutcome;
  statusCode: number | null;
  error: string | null;
  responseBody: string | null;
  /** The delivery's state after it: `pending` when it is to be retried. */
  status: DeliveryStatus;
  /** The subscriber says that it is gone (410): its subscription is disabled in the same transaction. */
  disableSubscription: boolean;
}

/**
 * Writes an attempt and what it means for its delivery in one statement. Idempotent by (delivery, attempt): a second
 * record of an attempt changes nothing. A delivery that was finished meanwhile keeps its state; the attempt is kept too.
 * @throws what the database throws in an outage.
 */
export async function recordAttempt(db: Pick<Database, 'pool'>, record: AttemptRecord): Promise<void> {
  await db.pool.query({
    name: 'record_delivery_attempt',
    text: `WITH logged AS (
             INSERT INTO delivery_attempts
               (delivery_id, attempt, started_at, duration_ms, result, status_code, error, response_body)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
             ON CONFLICT DO NOTHING RETURNING delivery_id, attempt),
           counted AS (
             UPDATE deliveries d
                SET attempts = greatest(d.attempts, logged.attempt), last_status_code = $6, last_error = $7,
                    status = CASE d.status WHEN 'pending' THEN $9 ELSE d.status END,
                    finished_at = CASE WHEN d.status = 'pending' AND $9 <> 'pending' THEN now() ELSE d.finished_at END
               FROM logged WHERE d.id = logged.delivery_id RETURNING d.subscription_id)
           UPDATE subscriptions s SET state = 'disabled', version = s.version + 1, updated_at = now()
             FROM counted WHERE s.id = counted.subscription_id AND s.state = 'active' AND $10`,
    values: [
      record.deliveryId,
      record.attempt,
      record.startedAt,
      record.durationMs,
      record.result,
      record.statusCode,
      record.error,
      record.responseBody,
      record.status,
      record.disableSubscription,
    ],
  });
}

/**
 * Ends a pending delivery without another attempt. Idempotent: a finished one stays as it is.
 * @returns the state that the delivery is in afterwards; undefined when it does not exist.
 */
export async function finishDelivery(
  db: Pick<Database, 'pool'>,
  { deliveryId, status, reason }: { deliveryId: string; status: 'exhausted' | 'cancelled'; reason: string },
): Promise<DeliveryStatus | undefined> {
  const { rows } = await db.pool.query<{ status: DeliveryStatus }>({
    name: 'finish_delivery',
    text: `UPDATE deliveries
              SET finished_at = CASE status WHEN 'pending' THEN now() ELSE finished_at END,
                  last_error = CASE status WHEN 'pending' THEN $3 ELSE last_error END,
                  status = CASE status WHEN 'pending' THEN $2 ELSE status END
            WHERE id = $1 RETURNING status`,
    values: [deliveryId, status, reason],
  });
  return rows[0]?.status;
}

/** A given-up delivery as its dead letter tells it; undefined when it or its event is no longer kept. */
export async function loadDeadLetter(
  db: Pick<Database, 'prisma'>,
  deliveryId: string,
): Promise<DeliveryDeadLetter | undefined> {
  const delivery = await db.prisma.delivery.findUnique({
    where: { id: deliveryId },
    include: {
      subscription: { select: { url: true } },
      attemptLog: { orderBy: { attempt: 'desc' }, take: 1 },
    },
  });
  // Not by the relation: without a foreign key the event may be gone, and Prisma would take that for corruption.
  const event = delivery && (await db.prisma.webhookEvent.findUnique({ where: { id: delivery.eventId } }));
  if (!event) return undefined;
  const { id, tenantId, eventId, subscriptionId, eventType, attempts, createdAt, finishedAt } = delivery;
  const last = delivery.attemptLog[0];
  return {
    delivery: {
      id,
      tenantId,
      eventId,
      subscriptionId,
      eventType,
      url: delivery.subscription.url,
      attempts,
      createdAt: createdAt.toISOString(),
      finishedAt: (finishedAt ?? new Date()).toISOString(),
    },
    event: { id: event.id, type: event.type, body: event.body },
    lastAttempt: last ? { ...attemptView(last), startedAt: last.startedAt.toISOString() } : null,
  };
}

// ---------------------------------------------------------------------------------------------------- reads for the API

export interface DeliveryView {
  id: string;
  eventId: string;
  subscriptionId: string;
  eventType: string;
  status: DeliveryStatus;
  attempts: number;
  lastStatusCode: number | null;
  lastError: string | null;
  createdAt: Date;
  finishedAt: Date | null;
}

function view(delivery: Delivery): DeliveryView {
  const {
    id,
    eventId,
    subscriptionId,
    eventType,
    attempts,
    lastStatusCode,
    lastError,
    createdAt,
    finishedAt,
  } = delivery;
  return {
    id,
    eventId,
    subscriptionId,
    eventType,
    status: delivery.status as DeliveryStatus,
    attempts,
    lastStatusCode,
    lastError,
    createdAt,
    finishedAt,
  };
}

export interface AttemptView {
  attempt: number;
  startedAt: Date;
  durationMs: number;
  result: string;
  statusCode: number | null;
  error: string | null;
  responseBody: string | null;
}

function attemptView({ deliveryId: _, ...attempt }: DeliveryAttempt): AttemptView {
  return attempt;
}

export interface DeliveryFilter {
  tenantId: string;
  subscriptionId?: string | undefined;
  eventId?: string | undefined;
  eventType?: string | undefined;
  status?: DeliveryStatus | undefined;
  limit: number;
  cursor?: string | undefined;
}

/** A tenant's deliveries, newest first. @throws RemitError invalid_request on a malformed cursor. */
export async function listDeliveries(
  db: Pick<Database, 'prisma'>,
  { limit, cursor, ...filter }: DeliveryFilter,
): Promise<Page<DeliveryView>> {
  const given = Object.entries(filter).filter(([, value]) => value !== undefined);
  const rows = await db.prisma.delivery.findMany({
    where: { ...Object.fromEntries(given), tenantId: filter.tenantId, ...afterCursor(cursor) },
    orderBy: NEWEST_FIRST,
    take: limit + 1,
  });
  return toPage(rows, limit, view);
}

/** @throws RemitError not_found, also for another tenant's. `id` is a UUID. */
export async function getDelivery(
  db: Pick<Database, 'prisma'>,
  { tenantId, id }: { tenantId: string; id: string },
): Promise<DeliveryView> {
  const found = await db.prisma.delivery.findFirst({ where: { id, tenantId } });
  if (!found) throw new RemitError('not_found', 'there is no such delivery');
  return view(found);
}

/** The attempts of a delivery, first to last; as many as its schedule is long. @throws RemitError not_found. */
export async function listAttempts(
  db: Pick<Database, 'prisma'>,
  { tenantId, id }: { tenantId: string; id: string },
): Promise<AttemptView[]> {
  const found = await db.prisma.delivery.findFirst({
    where: { id, tenantId },
    select: { attemptLog: { orderBy: { attempt: 'asc' } } },
  });
  if (!found) throw new RemitError('not_found', 'there is no such delivery');
  return found.attemptLog.map(attemptView);
}
