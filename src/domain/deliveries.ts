import { RemitError } from '../contracts/errors';
import type { AttemptOutcome, DeliveryDeadLetter, DeliveryStatus } from '../contracts/webhooks';
import type { Delivery, DeliveryAttempt } from '../generated/prisma/client';
import type { Database } from '../platform/postgres';
import type { Keyring } from '../platform/secrets';
import {
  afterCursor,
  createdWithin,
  decodeCursor,
  encodeCursor,
  NEWEST_FIRST,
  toPage,
  type Page,
} from './pages';
import { headersContext, secretContext, type SubscriptionState } from './subscriptions';

// ---------------------------------------------------------------------------------------------------- attempts

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
export interface LoadedDelivery {
  id: string;
  tenantId: string;
  eventId: string;
  eventType: string;
  /** What is sent, byte for byte; null when the event is no longer kept. */
  body: string | null;
  subscriptionId: string;
  subscriptionState: SubscriptionState;
  url: string;
  status: DeliveryStatus;
  /** Attempts recorded so far, of all generations. */
  attempts: number;
  /** How often it was sent again after it had ended. */
  generation: number;
  /** Attempts before the present generation. */
  attemptsBefore: number;
  /** Another one when anything of the subscription has changed. */
  subscriptionVersion: number;
  /** What the last recorded attempt met; null before the first. */
  lastResult: AttemptOutcome | null;
  lastStatusCode: number | null;
  /** All of its attempts are its lane's: its subscription or type keeps the order, or there is a rate. */
  keepsLane: boolean;
  /** It waits in its subscription's lane. */
  inLane: boolean;
  /** Not before then; null when nobody said. */
  nextAttemptAt: Date | null;
  /** Until when the subscriber is left alone; in the past or null when it is not slowed down. */
  throttledUntil: Date | null;
  /** Above 0: it did not answer well lately; one attempt at a time is a probe. */
  throttleLevel: number;
  /** The span that published its event; null when that was not traced. */
  traceparent: string | null;
  /** Decrypts the secrets that are valid at a time, the new one first. @throws DecryptionError without the key. */
  secrets(at: Date): string[];
  /** Decrypts the subscription's own headers. @throws DecryptionError without the key. */
  headers(): Record<string, string>;
}

/** What of a subscription an attempt needs to know. */
export type AddressedSubscription = Pick<
  LoadedDelivery,
  | 'subscriptionId'
  | 'subscriptionState'
  | 'subscriptionVersion'
  | 'url'
  | 'throttledUntil'
  | 'throttleLevel'
  | 'secrets'
  | 'headers'
> & { ordered: boolean; ratePerSecond: number | null };

type AddressedRow = Omit<AddressedSubscription, 'secrets' | 'headers' | 'ordered' | 'ratePerSecond'> & {
  secretCiphertext: Buffer;
  previousSecretCiphertext: Buffer | null;
  previousSecretValidUntil: Date | null;
  olderSecretCiphertexts: Buffer[];
  olderSecretsValidUntil: Date[];
  headersCiphertext: Buffer | null;
};
type LoadedRow = Omit<LoadedDelivery, 'secrets' | 'headers'> & AddressedRow;

const SUBSCRIPTION_COLUMNS = `s.id AS "subscriptionId", s.state AS "subscriptionState", s.url,
       s.secret_ciphertext AS "secretCiphertext", s.version AS "subscriptionVersion",
       s.previous_secret_ciphertext AS "previousSecretCiphertext",
       s.previous_secret_valid_until AS "previousSecretValidUntil",
       s.older_secret_ciphertexts AS "olderSecretCiphertexts",
       s.older_secrets_valid_until AS "olderSecretsValidUntil",
       s.headers_ciphertext AS "headersCiphertext", s.throttled_until AS "throttledUntil",
       s.throttle_level AS "throttleLevel"`;
const LOADED_COLUMNS = `d.id, d.tenant_id AS "tenantId", d.event_id AS "eventId", d.event_type AS "eventType",
       d.status, d.attempts, d.generation, d.attempts_before AS "attemptsBefore", d.in_lane AS "inLane",
       d.next_attempt_at AS "nextAttemptAt", coalesce(keeps_lane(s.ordered, s.rate_limit_per_second, c), false) AS "keepsLane",
       ${SUBSCRIPTION_COLUMNS}`;

/** A keyring that remembers what it has decrypted, for the rows of one query. */
function decryptingOnce(keyring: Keyring): Pick<Keyring, 'decrypt'> {
  const known = new Map<string, string>();
  return {
    decrypt(ciphertext, context) {
      const key = `${context} ${Buffer.from(ciphertext).toString('latin1')}`;
      const plain = known.get(key) ?? keyring.decrypt(ciphertext, context);
      known.set(key, plain);
      return plain;
    },
  };
}

/** Puts what decrypts in the place of what is encrypted. */
function decrypting<Row extends AddressedRow>(row: Row, keyring: Pick<Keyring, 'decrypt'>) {
  const {
    secretCiphertext,
    previousSecretCiphertext: previous,
    previousSecretValidUntil: until,
    olderSecretCiphertexts: older,
    olderSecretsValidUntil: olderUntil,
    headersCiphertext,
    ...rest
  } = row;
  const context = secretContext(row.subscriptionId);
  return {
    ...rest,
    secrets: (at: Date) => [
      keyring.decrypt(secretCiphertext, context),
      ...(previous && until && until > at ? [keyring.decrypt(previous, context)] : []),
      ...older
        .filter((_, index) => olderUntil[index]! > at)
        .map((ciphertext) => keyring.decrypt(ciphertext, context)),
    ],
    headers: () =>
      headersCiphertext
        ? (JSON.parse(keyring.decrypt(headersCiphertext, headersContext(row.subscriptionId))) as Record<
            string,
            string
          >)
        : {},
  };
}

/**
 * Reads subscriptions for attempts. A secret is decrypted once, however many attempts use it.
 * @returns by id. @throws what the database throws in an outage.
 */
export async function loadAddressed(
  db: Pick<Database, 'pool'>,
  keyring: Keyring,
  ids: readonly string[],
): Promise<Map<string, AddressedSubscription>> {
  type Row = AddressedRow & Pick<AddressedSubscription, 'ordered' | 'ratePerSecond'>;
  const { rows } = await db.pool.query<Row>({
    name: 'load_addressed_subscriptions',
    text: `SELECT ${SUBSCRIPTION_COLUMNS}, s.ordered, s.rate_limit_per_second AS "ratePerSecond"
             FROM subscriptions s WHERE s.id = ANY($1::text[])`,
    values: [ids],
  });
  const once = decryptingOnce(keyring);
  return new Map(rows.map((row) => [row.subscriptionId, decrypting(row, once)]));
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
 * `after`.
 * @throws what the database throws in an outage.
 */
export async function loadPendingOfEvents(
  db: Pick<Database, 'pool'>,
  keyring: Keyring,
  { eventIds, after = '', limit }: { eventIds: readonly string[]; after?: string; limit: number },
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
                  CASE WHEN row_number() OVER (PARTITION BY d.event_id) = 1 THEN e.body END AS body,
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

/** How a delivery can end without an attempt. */
export type EndStatus = 'exhausted' | 'cancelled' | 'held';

export interface DeliveryEnd {
  deliveryId: string;
  status: EndStatus;
  reason: string;
  /** Of whoever ends it; one that was sent again since is left alone. Any, when left out. */
  generation?: number;
}

/**
 * Ends a pending delivery without another attempt. Idempotent: a finished one stays as it is. None is held whose
 * subscription gets events again: nobody would bring it back.
 * @returns the state that the delivery is in afterwards; undefined when it does not exist, or not in this generation.
 */
export async function finishDelivery(
  db: Pick<Database, 'pool'>,
  { deliveryId, status, reason, generation }: DeliveryEnd,
): Promise<DeliveryStatus | undefined> {
  const { rows } = await db.pool.query<{ status: DeliveryStatus }>({
    name: 'finish_delivery_of_generation',
    // The lock waits for a resume that is under way, and sees what it has done.
    text: `WITH resumed AS MATERIALIZED (
             SELECT s.state IN ('active', 'failing') AS it FROM subscriptions s
              WHERE $2 = 'held' AND s.id = (SELECT d.subscription_id FROM deliveries d WHERE d.id = $1) FOR SHARE),
           ends AS (SELECT NOT coalesce((SELECT it FROM resumed), false) AS it)
           UPDATE deliveries d
              SET finished_at = CASE WHEN d.status = 'pending' AND ends.it THEN now() ELSE finished_at END,
                  last_error = CASE WHEN d.status = 'pending' AND ends.it THEN $3 ELSE last_error END,
                  in_lane = d.in_lane AND NOT (d.status = 'pending' AND ends.it),
                  next_attempt_at = CASE WHEN NOT (d.status = 'pending' AND ends.it) THEN d.next_attempt_at END,
                  status = CASE WHEN d.status = 'pending' AND ends.it THEN $2 ELSE d.status END
             FROM ends WHERE id = $1 AND d.generation = coalesce($4::integer, d.generation) RETURNING status`,
    values: [deliveryId, status, reason, generation ?? null],
  });
  return rows[0]?.status;
}

/** Ends those of these deliveries that are pending and whose events are no longer kept. Idempotent. */
export async function endWithoutEvents(db: Pick<Database, 'pool'>, ids: readonly string[]): Promise<void> {
  await db.pool.query({
    name: 'end_without_events',
    text: `UPDATE deliveries d
              SET status = 'cancelled', finished_at = now(), last_error = 'the event is no longer kept',
                  in_lane = false, next_attempt_at = NULL
            WHERE d.id = ANY($1::uuid[]) AND d.status = 'pending'
              AND NOT EXISTS (SELECT FROM webhook_events e WHERE e.id = d.event_id)`,
    values: [ids],
  });
}

/** An exhausted delivery as its dead letter describes it; undefined when it or its event is no longer kept. */
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
    lastAttempt: last
      ? {
          ...{ attempt: last.attempt, startedAt: last.startedAt.toISOString(), durationMs: last.durationMs },
          ...{ result: last.result, statusCode: last.statusCode, error: last.error },
          responseBody: last.responseBody,
        }
      : null,
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
  /** As far as it is known. */
  nextAttemptAt: Date | null;
  waitsFor: WaitsFor | null;
  /** Of `order`: the delivery that comes first. */
  waitsForDeliveryId: string | null;
  createdAt: Date;
  finishedAt: Date | null;
}

/** What a pending delivery waits for: see the contract of Delivery. */
export type WaitsFor = 'time' | 'retry' | 'order' | 'rate' | 'rest' | 'place' | 'pause';
type Waits = Pick<DeliveryView, 'nextAttemptAt' | 'waitsFor' | 'waitsForDeliveryId'>;
const NO_WAIT: Waits = { nextAttemptAt: null, waitsFor: null, waitsForDeliveryId: null };

/** Tells of each delivery that is pending what it waits for. */
async function withWaits(
  db: Pick<Database, 'prisma'>,
  views: readonly Omit<DeliveryView, keyof Waits>[],
): Promise<DeliveryView[]> {
  const pending = views.filter(({ status }) => status === 'pending').map(({ id }) => id);
  const rows =
    pending.length === 0
      ? []
      : await db.prisma.$queryRaw<(Waits & { id: string })[]>`
          SELECT id, next_attempt_at AS "nextAttemptAt", waits_for AS "waitsFor", first_id AS "waitsForDeliveryId"
            FROM delivery_waits(${pending}::uuid[])`;
  const byId = new Map(rows.map(({ id, ...waits }) => [id, waits]));
  return views.map((each) => ({ ...each, ...(byId.get(each.id) ?? NO_WAIT) }));
}

function view(delivery: Delivery): Omit<DeliveryView, keyof Waits> {
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

/** Rows of deliveries as the API shows them, in the order given. */
export function viewDeliveries(
  db: Pick<Database, 'prisma'>,
  rows: readonly Delivery[],
): Promise<DeliveryView[]> {
  return withWaits(db, rows.map(view));
}

export interface AttemptView {
  attempt: number;
  startedAt: Date;
  durationMs: number;
  result: string;
  statusCode: number | null;
  error: string | null;
  responseBody: string | null;
  /** Of the request and the answer, masked; null where they were not kept. */
  url: string | null;
  requestHeaders: Record<string, string> | null;
  responseHeaders: Record<string, string> | null;
}

function attemptView(row: DeliveryAttempt, eventId: string): AttemptView {
  const { attempt, startedAt, durationMs, result, statusCode, error, responseBody, url } = row;
  const kept = row.requestHeaders as Record<string, string> | null;
  const timestamp = String(Math.floor(startedAt.getTime() / 1000));
  return {
    ...{ attempt, startedAt, durationMs, result, statusCode, error, responseBody, url },
    requestHeaders: kept && {
      'content-type': 'application/json',
      'webhook-id': eventId,
      'webhook-timestamp': timestamp,
      ...kept,
    },
    responseHeaders: row.responseHeaders as Record<string, string> | null,
  };
}

export interface DeliveryFilter {
  tenantId: string;
  subscriptionId?: string | undefined;
  eventId?: string | undefined;
  eventType?: string | undefined;
  status?: DeliveryStatus | undefined;
  /** Made from this moment on. */
  since?: Date | undefined;
  /** Made before this moment. */
  until?: Date | undefined;
  limit: number;
  cursor?: string | undefined;
}

/** A tenant's deliveries, newest first. @throws RemitError invalid_request on a malformed cursor. */
export async function listDeliveries(
  db: Pick<Database, 'prisma'>,
  { limit, cursor, since, until, ...filter }: DeliveryFilter,
): Promise<Page<DeliveryView>> {
  const given = Object.entries(filter).filter(([, value]) => value !== undefined);
  const rows = await db.prisma.delivery.findMany({
    where: {
      ...Object.fromEntries(given),
      tenantId: filter.tenantId,
      AND: [createdWithin({ since, until }), afterCursor(cursor)],
    },
    orderBy: NEWEST_FIRST,
    take: limit + 1,
  });
  const page = toPage(rows, limit, view);
  return { ...page, items: await withWaits(db, page.items) };
}

/** @throws RemitError not_found, also for another tenant's. `id` is a UUID. */
export async function getDelivery(
  db: Pick<Database, 'prisma'>,
  { tenantId, id }: { tenantId: string; id: string },
): Promise<DeliveryView> {
  const found = await db.prisma.delivery.findFirst({ where: { id, tenantId } });
  if (!found) throw new RemitError('not_found', 'there is no such delivery');
  return (await withWaits(db, [view(found)]))[0]!;
}

/**
 * The attempts of a delivery, first to last: as many as its schedule is long, for each time it was sent.
 * @throws RemitError not_found; invalid_request on a malformed cursor.
 */
export async function listAttempts(
  db: Pick<Database, 'prisma'>,
  {
    tenantId,
    id,
    limit,
    cursor,
  }: { tenantId: string; id: string; limit: number; cursor?: string | undefined },
): Promise<Page<AttemptView>> {
  const after = cursor === undefined ? 0 : Number(decodeCursor(cursor).id);
  const found = await db.prisma.delivery.findFirst({
    where: { id, tenantId },
    select: {
      eventId: true,
      attemptLog: { where: { attempt: { gt: after } }, orderBy: { attempt: 'asc' }, take: limit + 1 },
    },
  });
  if (!found) throw new RemitError('not_found', 'there is no such delivery');
  const items = found.attemptLog.slice(0, limit);
  const last = items.at(-1);
  const nextCursor =
    found.attemptLog.length > limit && last
      ? encodeCursor({ createdAt: last.startedAt, id: String(last.attempt) })
      : null;
  return { items: items.map((each) => attemptView(each, found.eventId)), nextCursor };
}

export interface FoundAttempt extends Pick<
  AttemptView,
  'attempt' | 'startedAt' | 'durationMs' | 'statusCode' | 'error'
> {
  deliveryId: string;
  eventId: string;
  subscriptionId: string;
  eventType: string;
  result: string;
}

export interface AttemptFilter {
  tenantId: string;
  subscriptionId?: string | undefined;
  eventType?: string | undefined;
  /** Failed: everything but delivered. */
  outcome?: 'delivered' | 'failed' | undefined;
  result?: AttemptOutcome | undefined;
  /** Begun from this moment on. */
  since?: Date | undefined;
  /** Begun before this moment. */
  until?: Date | undefined;
  limit: number;
  cursor?: string | undefined;
}

/** The query of a page of attempts; by the index of the subscription or tenant on the time, failures by their own. */
export function attemptsQuery(filter: AttemptFilter): { text: string; values: unknown[] } {
  const { tenantId, subscriptionId, eventType, outcome, result, since, until, limit, cursor } = filter;
  const values: unknown[] = [];
  const conditions: string[] = [];
  const where = (condition: (value: string) => string, value: unknown) => {
    if (value === undefined) return;
    values.push(value);
    conditions.push(condition(`$${values.length}`));
  };
  where((value) => `a.tenant_id = ${value}`, tenantId);
  where((value) => `a.subscription_id = ${value}`, subscriptionId);
  where((value) => `a.event_type = ${value}`, eventType);
  where((value) => `a.result = ${value}`, result);
  if (outcome === 'delivered') conditions.push(`a.result = 'delivered'`);
  // Literally, so that it is known to be the condition of the index.
  if (outcome === 'failed' || (result !== undefined && result !== 'delivered'))
    conditions.push(`a.result <> 'delivered'`);
  where((value) => `a.started_at >= ${value}`, since);
  where((value) => `a.started_at < ${value}`, until);
  if (cursor !== undefined) {
    const { createdAt, id } = decodeCursor(cursor);
    values.push(createdAt, id.slice(0, UUID_CHARS), Number(id.slice(UUID_CHARS + 1)));
    const [at, delivery, attempt] = [values.length - 2, values.length - 1, values.length];
    conditions.push(
      `(a.started_at, a.delivery_id, a.attempt) < ($${at}::timestamptz, $${delivery}::uuid, $${attempt}::integer)`,
    );
  }
  values.push(limit + 1);
  const text = `
    SELECT a.*, d.event_id AS "eventId" FROM (
      SELECT delivery_id AS "deliveryId", attempt, started_at AS "startedAt", duration_ms AS "durationMs", result,
             status_code AS "statusCode", error, subscription_id AS "subscriptionId", event_type AS "eventType"
        FROM delivery_attempts a WHERE ${conditions.join(' AND ')}
       ORDER BY a.started_at DESC, a.delivery_id DESC, a.attempt DESC LIMIT $${values.length}) AS a
      JOIN deliveries d ON d.id = a."deliveryId"
     ORDER BY a."startedAt" DESC, a."deliveryId" DESC, a.attempt DESC`;
  return { text, values };
}

const UUID_CHARS = 36;

/** A tenant's attempts across deliveries, newest first. @throws RemitError invalid_request on a malformed cursor. */
export async function findAttempts(
  { pool }: Pick<Database, 'pool'>,
  filter: AttemptFilter,
): Promise<Page<FoundAttempt>> {
  const { rows } = await pool.query<FoundAttempt>(attemptsQuery(filter));
  const places = rows.map((row) => ({
    id: `${row.deliveryId}-${row.attempt}`,
    createdAt: row.startedAt,
    row,
  }));
  return toPage(places, filter.limit, ({ row }) => row);
}
