import { createHash, randomUUID } from 'node:crypto';
import type { PoolClient } from 'pg';
import stringify from 'safe-stable-stringify';
import { z } from 'zod';
import { RemitError } from '../contracts/errors';
import type { EventMessage, PublishEvent } from '../contracts/events';
import { HEADERS } from '../contracts/messages';
import {
  DeliveryStatus,
  isReservedEventType,
  TEST_EVENT_TYPE,
  type WebhookBody,
} from '../contracts/webhooks';
import type { WebhookEvent } from '../generated/prisma/client';
import { metrics } from '../platform/metrics';
import type { Database } from '../platform/postgres';
import { inTransaction } from '../platform/postgres-pool';
import type { Actor } from './audit';
import type { EventSchemas, JsonSchema, TypedEvent } from './event-schemas';
import { listDeliveries, type DeliveryView } from './deliveries';
import { afterCursor, createdWithin, NEWEST_FIRST, toPage, type Page } from './pages';
import { DeliveryRows, type DeliveryRow } from './payments';

// ---------------------------------------------------------------------------------------------------- publishing

export interface Published {
  /** The webhook-id that subscribers will see. */
  id: string;
  clientId: string | null;
  type: string;
  /** It was published before, with the same content; nothing was written. */
  duplicate: boolean;
}

/** Names a field of one of the events in an error. */
type PathOf = (index: number, field: string) => string;

/** A row to be written, and what to answer for it. */
interface Candidate {
  id: string;
  clientId: string | null;
  type: string;
  body: string;
  hash: string;
  message: string;
  onlySubscriptionId: string | null;
  /** Where its client id was in the request, for an error. */
  idPath: string;
}

/**
 * Publishes events: each row and its message for Kafka in one transaction, all of them or none. Idempotent by client id
 * within the tenant: the same id with the same content is answered as a duplicate and writes nothing. Events without an
 * id are new each time, unless they come under the operation id of an earlier call.
 * @throws RemitError unprocessable when a type is unknown, remit's own, the data does not satisfy its schema, or an event
 *   is larger than the message that carries it may be; schema_too_complex when its data can't be checked in time; conflict
 *   when a client id was used with other content.
 */
export async function publishEvents(
  db: Pick<Database, 'pool' | 'prisma'>,
  schemas: EventSchemas,
  { tenantId, correlationId }: Pick<Actor, 'tenantId' | 'correlationId'>,
  events: readonly PublishEvent[],
  {
    operationId = randomUUID(),
    pathOf = (_index, field) => field,
    maxMessageBytes,
  }: { operationId?: string; pathOf?: PathOf; /** KAFKA_MESSAGE_MAX_BYTES. */ maxMessageBytes: number },
): Promise<Published[]> {
  await requireValid(db, schemas, tenantId, events, pathOf);
  const candidates = events.map((event, index) =>
    candidateOf(tenantId, eventId(operationId, index), event, pathOf(index, 'id')),
  );
  requireFitting(candidates, { correlationId, maxBytes: maxMessageBytes, pathOf });
  const firsts = firstOfEachId(candidates);
  const written = await inTransaction(db.pool, async (client) =>
    writeEvents(client, { tenantId, correlationId }, [...new Set(firsts.values())]),
  );
  const answers = candidates.map((candidate) => {
    const first = firsts.get(candidate)!;
    const { id, isNew } = written.get(first.id)!;
    return {
      id,
      clientId: candidate.clientId,
      type: candidate.type,
      duplicate: !isNew || first !== candidate,
    };
  });
  const duplicates = answers.filter((answer) => answer.duplicate).length;
  metrics.eventsPublished.inc({ outcome: 'duplicate' }, duplicates);
  metrics.eventsPublished.inc({ outcome: 'accepted' }, answers.length - duplicates);
  return answers;
}

/**
 * Publishes a test event for one subscription alone, whatever its types and filter. Idempotent by its operation id.
 * @throws RemitError not_found.
 */
export async function publishTestEvent(
  db: Pick<Database, 'pool' | 'prisma'>,
  { tenantId, correlationId }: Pick<Actor, 'tenantId' | 'correlationId'>,
  { subscriptionId, operationId = randomUUID() }: { subscriptionId: string; operationId?: string },
): Promise<Published> {
  const subscription = await db.prisma.subscription.findFirst({
    where: { id: subscriptionId, tenantId, state: { not: 'deleted' } },
    select: { state: true },
  });
  if (!subscription) throw new RemitError('not_found', 'There is no such subscription.');
  if (subscription.state !== 'active' && subscription.state !== 'failing')
    throw new RemitError('conflict', `The subscription is ${subscription.state} and gets nothing.`);
  const data = { subscriptionId, message: 'A test event of remit.' };
  const candidate = candidateOf(
    ...([tenantId, eventId(operationId, 0), { type: TEST_EVENT_TYPE, data }, 'id', subscriptionId] as const),
  );
  await inTransaction(db.pool, (client) => writeEvents(client, { tenantId, correlationId }, [candidate]));
  metrics.eventsPublished.inc({ outcome: 'accepted' });
  return { id: candidate.id, clientId: null, type: TEST_EVENT_TYPE, duplicate: false };
}

/** Types must exist, be the tenant's own, and allow the data. All mistakes of a batch are named. */
async function requireValid(
  db: Pick<Database, 'prisma'>,
  schemas: EventSchemas,
  tenantId: string,
  events: readonly PublishEvent[],
  pathOf: PathOf,
): Promise<void> {
  const names = [...new Set(events.map(({ type }) => type))];
  const types = await db.prisma.eventType.findMany({ where: { tenantId, name: { in: names } } });
  const byName = new Map(types.map((type) => [type.name, type]));
  const toCheck: { index: number; event: TypedEvent }[] = [];
  const errors = events.flatMap(({ type, data }, index) => {
    const path = pathOf(index, 'type');
    if (isReservedEventType(type)) return [{ path, message: 'is emitted by remit alone' }];
    const known = byName.get(type);
    if (!known) return [{ path, message: 'there is no such event type' }];
    if (known.schema !== null)
      toCheck.push({
        index,
        event: { key: `${known.id}:${known.version}`, schema: known.schema as JsonSchema, data },
      });
    return [];
  });
  const checked = await schemas.check(
    tenantId,
    toCheck.map(({ event }) => event),
    (n) => pathOf(toCheck[n]!.index, 'data'),
  );
  for (const [n, { index }] of toCheck.entries())
    for (const { path, message } of checked[n]!)
      errors.push({ path: pathOf(index, path === '' ? 'data' : `data.${path}`), message });
  if (errors.length > 0) throw new RemitError('unprocessable', 'The events can’t be published.', errors);
}

/**
 * What the bridge would only dead-letter is not accepted: its key, value and headers are counted as there. A body within
 * its limit may still be too large, as numbers such as 1e20 are written out.
 */
function requireFitting(
  candidates: readonly Candidate[],
  { correlationId, maxBytes, pathOf }: { correlationId: string; maxBytes: number; pathOf: PathOf },
): void {
  const headers = HEADERS.correlationId + correlationId;
  const errors = candidates
    .map(({ id, message }, index) => ({ index, bytes: Buffer.byteLength(id + message + headers) }))
    .filter(({ bytes }) => bytes > maxBytes)
    .map(({ index, bytes }) => ({
      path: pathOf(index, 'data'),
      message: `makes a message of ${bytes} bytes, more than ${maxBytes}`,
    }));
  if (errors.length > 0) throw new RemitError('unprocessable', 'The events can’t be published.', errors);
}

/** The id of the nth event of an operation: the same when the operation is repeated. */
function eventId(operationId: string, index: number): string {
  if (index === 0) return `evt_${operationId.replaceAll('-', '')}`;
  return `evt_${createHash('sha256').update(`${operationId}:${index}`).digest('hex').slice(0, 32)}`;
}

function candidateOf(
  tenantId: string,
  id: string,
  { id: givenId, type, data, timestamp }: PublishEvent,
  idPath: string,
  onlySubscriptionId: string | null = null,
): Candidate {
  const clientId = givenId ?? null;
  const at = timestamp === undefined ? new Date() : new Date(timestamp);
  const body: WebhookBody = { type, timestamp: at.toISOString(), data };
  const message: EventMessage = { id, tenantId, clientId, ...body };
  return {
    id,
    clientId,
    type,
    body: JSON.stringify(body),
    // What the publisher said: a timestamp that was made here is none of it.
    hash: createHash('sha256')
      .update(stringify({ type, data, timestamp: timestamp === undefined ? null : at.toISOString() }) ?? '')
      .digest('hex'),
    message: JSON.stringify(message),
    onlySubscriptionId,
    idPath,
  };
}

const clash = ({ idPath }: Candidate) =>
  new RemitError('conflict', 'The id was used for an event with other content.', [
    { path: idPath, message: 'was used for an event with other content' },
  ]);

/** A batch may name an id twice: the second is a duplicate of the first, or a conflict. */
function firstOfEachId(candidates: readonly Candidate[]): Map<Candidate, Candidate> {
  const byClientId = new Map<string, Candidate>();
  return new Map(
    candidates.map((candidate) => {
      if (candidate.clientId === null) return [candidate, candidate];
      const first = byClientId.get(candidate.clientId) ?? candidate;
      if (first.hash !== candidate.hash) throw clash(candidate);
      byClientId.set(candidate.clientId, first);
      return [candidate, first];
    }),
  );
}

/** In the order of client ids, so that two publications of the same ids wait for each other in one order. */
async function writeEvents(
  client: PoolClient,
  { tenantId, correlationId }: { tenantId: string; correlationId: string },
  candidates: readonly Candidate[],
): Promise<Map<string, { id: string; isNew: boolean }>> {
  const headers = JSON.stringify({ [HEADERS.correlationId]: correlationId });
  const { rows: inserted } = await client.query<{ id: string }>({
    name: 'publish_events',
    text: `WITH given AS (
             SELECT * FROM unnest($3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[], $9::text[])
               WITH ORDINALITY AS g (id, client_id, type, body, hash, message, only_subscription_id, n)),
           inserted AS (
             INSERT INTO webhook_events (id, tenant_id, type, body, correlation_id, source, client_id, payload_hash,
                                         only_subscription_id, fanned_out_at)
             SELECT id, $1, type, body, $2, 'api', client_id, hash, only_subscription_id, NULL
               FROM given ORDER BY client_id, n
             ON CONFLICT DO NOTHING
             RETURNING id),
           announced AS (
             INSERT INTO outbox (topic, key, value, headers)
             SELECT 'events', g.id, g.message, $10::jsonb FROM given g JOIN inserted USING (id) ORDER BY g.n)
           SELECT id FROM inserted`,
    values: [
      tenantId,
      correlationId,
      ...(['id', 'clientId', 'type', 'body', 'hash', 'message', 'onlySubscriptionId'] as const).map((name) =>
        candidates.map((candidate) => candidate[name]),
      ),
      headers,
    ],
  });
  const written = new Map(inserted.map(({ id }) => [id, { id, isNew: true }]));
  const known = candidates.filter(({ id }) => !written.has(id));
  if (known.length === 0) return written;
  // A statement of its own: what another transaction has just committed is not in the snapshot of the one above.
  const { rows: earlier } = await client.query<{
    id: string;
    client_id: string | null;
    payload_hash: string;
  }>(
    `SELECT id, client_id, payload_hash FROM webhook_events WHERE tenant_id = $1 AND client_id = ANY($2)
      UNION SELECT id, client_id, payload_hash FROM webhook_events WHERE tenant_id = $1 AND id = ANY($3)`,
    [tenantId, known.map(({ clientId }) => clientId), known.map(({ id }) => id)],
  );
  const byName = new Map(earlier.flatMap((row) => [[row.id, row] as const, [row.client_id, row] as const]));
  for (const candidate of known) {
    const found = byName.get(candidate.clientId ?? candidate.id);
    if (!found) throw new RemitError('unavailable', 'The event is just being deleted; try again.');
    if (found.payload_hash !== candidate.hash) throw clash(candidate);
    written.set(candidate.id, { id: found.id, isNew: false });
  }
  return written;
}

// ---------------------------------------------------------------------------------------------------- fan-out

const FanOut = z.object({ deliveries: DeliveryRows, next: z.string().nullable() }).nullable();

/** The deliveries of one step of a fan-out, and where the next step begins. */
export interface FanOutStep {
  /** Those that are not finished: written now, or by an earlier try. */
  deliveries: DeliveryRow[];
  /** Pass it as `after`; null when all are written. */
  next: string | null;
}

/**
 * Writes delivery rows of a published event for up to `limit` matching subscriptions after `after` ('' at first).
 * Idempotent: a repeated call writes nothing twice. Undefined when the event does not exist.
 * @throws what the database throws in an outage.
 */
export async function fanOutEvent(
  db: Pick<Database, 'pool'>,
  { eventId, after, limit }: { eventId: string; after: string; limit: number },
): Promise<FanOutStep | undefined> {
  const { rows } = await db.pool.query<{ result: unknown }>({
    name: 'fan_out_event',
    text: 'SELECT fan_out_event($1, $2, $3) AS result',
    values: [eventId, after, limit],
  });
  return FanOut.parse(rows[0]?.result) ?? undefined;
}

// ---------------------------------------------------------------------------------------------------- reads for the API

export interface EventView {
  id: string;
  clientId: string | null;
  source: 'remit' | 'api';
  type: string;
  /** When it happened, as subscribers are told. */
  timestamp: string;
  createdAt: Date;
  fannedOutAt: Date | null;
}

function view(event: WebhookEvent): EventView {
  const { id, clientId, type, createdAt, fannedOutAt } = event;
  const { timestamp } = JSON.parse(event.body) as WebhookBody;
  return {
    id,
    clientId,
    source: event.source as EventView['source'],
    type,
    timestamp,
    createdAt,
    fannedOutAt,
  };
}

export interface EventFilter {
  tenantId: string;
  type?: string | undefined;
  clientId?: string | undefined;
  source?: EventView['source'] | undefined;
  /** Stored from this moment on. */
  since?: Date | undefined;
  /** Stored before this moment. */
  until?: Date | undefined;
  limit: number;
  cursor?: string | undefined;
}

/** A tenant's events, remit's own and published ones, newest first. @throws RemitError invalid_request on a malformed cursor. */
export async function listEvents(
  db: Pick<Database, 'prisma'>,
  filter: EventFilter,
): Promise<Page<EventView>> {
  const { tenantId, type, clientId, source, since, until, limit, cursor } = filter;
  const rows = await db.prisma.webhookEvent.findMany({
    where: {
      tenantId,
      ...(type !== undefined && { type }),
      ...(clientId !== undefined && { clientId }),
      ...(source !== undefined && { source }),
      AND: [createdWithin({ since, until }), afterCursor(cursor)],
    },
    orderBy: NEWEST_FIRST,
    take: limit + 1,
  });
  return toPage(rows, limit, view);
}

export interface EventDetailView extends EventView {
  data: Record<string, unknown>;
  deliveryCounts: Record<DeliveryStatus, number>;
  /** The newest, at most as many as asked for. */
  deliveries: DeliveryView[];
}

/** An event with its newest deliveries. @throws RemitError not_found, also for another tenant's. */
export async function getEvent(
  db: Pick<Database, 'prisma'>,
  { tenantId, id, maxDeliveries }: { tenantId: string; id: string; maxDeliveries: number },
): Promise<EventDetailView> {
  // One snapshot: counts and deliveries must not contradict each other.
  const { event, groups, page } = await db.prisma.$transaction(
    async (tx) => ({
      event: await tx.webhookEvent.findFirst({ where: { id, tenantId } }),
      groups: await tx.delivery.groupBy({
        by: ['status'],
        where: { eventId: id, tenantId },
        _count: { _all: true },
      }),
      page: await listDeliveries(
        { prisma: tx as Database['prisma'] },
        { tenantId, eventId: id, limit: maxDeliveries },
      ),
    }),
    { isolationLevel: 'RepeatableRead' },
  );
  if (!event) throw new RemitError('not_found', 'There is no such event.');
  const deliveryCounts = Object.fromEntries(DeliveryStatus.options.map((status) => [status, 0])) as Record<
    DeliveryStatus,
    number
  >;
  for (const { status, _count } of groups) deliveryCounts[status as DeliveryStatus] = _count._all;
  const { data } = JSON.parse(event.body) as WebhookBody;
  return { ...view(event), data, deliveryCounts, deliveries: page.items };
}
