import { createHash, randomUUID } from 'node:crypto';
import { LRUCache } from 'lru-cache';
import type { Pool, PoolClient } from 'pg';
import { RemitError } from '../contracts/errors';
import type { PublishEvent } from '../contracts/events';
import { JsonText, parseKeeping, saySame } from '../contracts/json';
import { HEADERS } from '../contracts/messages';
import { TRACEPARENT } from '../contracts/tracing';
import { isReservedEventType, TEST_EVENT_TYPE } from '../contracts/webhooks';
import { Coalescer } from '../platform/coalescer';
import { metrics } from '../platform/metrics';
import type { Database } from '../platform/postgres';
import { isDatabaseUnavailable } from '../platform/postgres-errors';
import { inTransaction } from '../platform/postgres-pool';
import { annotate, traceparentHere } from '../platform/tracing';
import type { Actor } from './audit';
import type { EventSchemas, JsonSchema, TypedEvent } from './event-schemas';

export interface Published {
  /** The webhook-id that subscribers will see. */
  id: string;
  clientId: string | null;
  type: string;
  /** It was published before, with the same content; nothing was written. */
  duplicate: boolean;
}

/** Why an event can't be published, whoever sends it. */
export type EventFault =
  'unknown_event_type' | 'reserved_event_type' | 'schema_mismatch' | 'message_too_large';
interface Mistake {
  fault: EventFault;
  path: string;
  message: string;
}

/** An event will never be right as it is. */
export class EventRefused extends RemitError {
  /** Of the first event that has one. */
  readonly fault: EventFault;

  constructor(mistakes: readonly [Mistake, ...Mistake[]]) {
    super(
      'unprocessable',
      'The events can’t be published.',
      mistakes.map(({ path, message }) => ({ path, message })),
    );
    this.fault = mistakes[0].fault;
  }
}

/** @throws EventRefused when there is a mistake. */
function requireNone([first, ...others]: readonly Mistake[]): void {
  if (first) throw new EventRefused([first, ...others]);
}

/** Names a field of one of the events in an error. */
type PathOf = (index: number, field: string) => string;

/** A row to be written, and what to answer for it. */
interface Candidate {
  tenantId: string;
  correlationId: string;
  id: string;
  clientId: string | null;
  type: string;
  /** As subscribers get it. */
  body: string;
  /** What the publisher said: of type and timestamp (none when it gave none), and of its data's bytes. */
  hash: string;
  /** EventMessage of src/contracts/events.ts, as text. */
  message: string;
  timestamp: string | null;
  data: string;
  onlySubscriptionId: string | null;
  /** The version of the type that it was checked by; null: of none, such as a test. */
  typeId: string | null;
  typeVersion: number | null;
  /** The span in which it is published. */
  traceparent: string | null;
  /** Where its client id was in the request, for an error. */
  idPath: string;
}

/** Rows that one statement writes or looks up. */
const BATCH_ROWS = 200;

/** Event types that are remembered, and characters of their schemas. */
const MAX_TYPES = 10_000;
const MAX_TYPES_CHARACTERS = 16_000_000;
/** A type that changes while events are checked by it is read again; one that changes all the time is not chased forever. */
const TRIES = 3;

const mayBeOneItems = (error: unknown) => !isDatabaseUnavailable(error);

type Publisher = Pick<Actor, 'tenantId' | 'correlationId'>;

/**
 * Publishes events: each row and its message for Kafka in one transaction. Requests that come at the same time share
 * statements. One for each API process.
 */
export class EventPublisher {
  private readonly types: Coalescer<{ tenantId: string; name: string }, EventTypeRow | undefined>;
  /** What was read last: nothing is written by a version that no longer holds. */
  private readonly lastTypes = new LRUCache<string, EventTypeRow>({
    max: MAX_TYPES,
    maxSize: MAX_TYPES_CHARACTERS,
    sizeCalculation: ({ schema }) => 200 + (schema === null ? 0 : JSON.stringify(schema).length),
  });
  private readonly writes: Coalescer<Candidate, Written | undefined>;

  constructor(
    private readonly db: Pick<Database, 'pool' | 'prisma'>,
    private readonly schemas: EventSchemas,
    /** KAFKA_MESSAGE_MAX_BYTES. */
    private readonly maxMessageBytes: number,
  ) {
    const sharing = { maxItems: BATCH_ROWS, mayBeOneItems };
    this.types = new Coalescer({ ...sharing, run: (wanted) => lookUpTypes(db.pool, wanted) });
    this.writes = new Coalescer({ ...sharing, run: (candidates) => writeEvents(db.pool, candidates) });
  }

  /**
   * Publishes all of the events or none. Idempotent by client id within the tenant: the same id with the same content is
   * answered as a duplicate and writes nothing. Events without an id are new each time, unless they come under the
   * operation id of an earlier call.
   * @throws EventRefused (unprocessable) when a type is unknown, remit's own, the data does not satisfy its schema, or an
   *   event is larger than the message that carries it may be; RemitError schema_too_complex when its data can't be checked in time;
   *   conflict when a client id was used with other content.
   */
  async publish(
    { tenantId, correlationId }: Publisher,
    events: readonly PublishEvent[],
    {
      operationId = randomUUID(),
      pathOf = (_index, field) => field,
    }: { operationId?: string; pathOf?: PathOf } = {},
  ): Promise<Published[]> {
    const candidates = events.map((event, index) =>
      candidateOf({ tenantId, correlationId }, eventId(operationId, index), event, pathOf(index, 'id')),
    );
    annotate(() => ({ 'remit.tenant_id': tenantId, 'remit.event_id': candidates[0]?.id }));
    requireFitting(candidates, { correlationId, maxBytes: this.maxMessageBytes, pathOf });
    const firsts = firstOfEachId(candidates);
    const written = await this.writeValid(tenantId, events, candidates, firsts, pathOf);
    const answers = candidates.map((candidate) => {
      const first = firsts.get(candidate)!;
      const { id, isNew } = written.get(first)!;
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
   * @throws RemitError not_found; conflict while the subscription gets nothing.
   */
  async publishTest(
    { tenantId, correlationId }: Publisher,
    { subscriptionId, operationId = randomUUID() }: { subscriptionId: string; operationId?: string },
  ): Promise<Published> {
    const subscription = await this.db.prisma.subscription.findFirst({
      where: { id: subscriptionId, tenantId, state: { not: 'deleted' } },
      select: { state: true },
    });
    if (!subscription) throw new RemitError('not_found', 'There is no such subscription.');
    if (subscription.state !== 'active' && subscription.state !== 'failing')
      throw new RemitError('conflict', `The subscription is ${subscription.state} and gets nothing.`);
    const data = JsonText.of({ subscriptionId, message: 'A test event of remit.' });
    const event = { type: TEST_EVENT_TYPE, data };
    const candidate = candidateOf({ tenantId, correlationId }, eventId(operationId, 0), event, 'id');
    await this.write([{ ...candidate, onlySubscriptionId: subscriptionId }]);
    metrics.eventsPublished.inc({ outcome: 'accepted' });
    return { id: candidate.id, clientId: null, type: TEST_EVENT_TYPE, duplicate: false };
  }

  /** Writes the first of each id, checked by the types as they are in the moment of writing. */
  private async writeValid(
    tenantId: string,
    events: readonly PublishEvent[],
    candidates: readonly Candidate[],
    firsts: ReadonlyMap<Candidate, Candidate>,
    pathOf: PathOf,
  ): Promise<Map<Candidate, Written>> {
    for (let tries = 1; ; tries += 1) {
      const types = await this.requireValid(tenantId, events, pathOf, tries > 1);
      for (const candidate of candidates) {
        const { id, version } = types.get(candidate.type)!;
        candidate.typeId = id;
        candidate.typeVersion = version;
      }
      try {
        return await this.write([...new Set(firsts.values())]);
      } catch (error) {
        if (!(error instanceof NotWrittenError) || tries === TRIES) throw error;
      }
    }
  }

  /** Several events of one request are a transaction of their own: all or none. */
  private async write(candidates: readonly Candidate[]): Promise<Map<Candidate, Written>> {
    const [only] = candidates;
    if (candidates.length === 1 && only)
      return new Map([[only, accepted(only, await this.writes.add(only))]]);
    return inTransaction(this.db.pool, async (client) => {
      const written = await writeEvents(client, candidates);
      return new Map(
        candidates.map((candidate, index) => [candidate, accepted(candidate, written[index])] as const),
      );
    });
  }

  /** Types must exist, be the tenant's own, and allow the data. All mistakes of a batch are named. */
  private async requireValid(
    tenantId: string,
    events: readonly PublishEvent[],
    pathOf: PathOf,
    reread: boolean,
  ): Promise<Map<string, EventTypeRow>> {
    const byName = new Map<string, EventTypeRow>();
    let remembered = false;
    await Promise.all(
      [...new Set(events.map(({ type }) => type))].map(async (name) => {
        const key = `${tenantId} ${name}`;
        const last = reread ? undefined : this.lastTypes.get(key);
        remembered ||= last !== undefined;
        const type = last ?? (await this.types.add({ tenantId, name }));
        if (!type) return void this.lastTypes.delete(key);
        if (!last) this.lastTypes.set(key, type);
        byName.set(name, type);
      }),
    );
    const toCheck: { index: number; event: TypedEvent }[] = [];
    const errors = events.flatMap(({ type, data }, index): Mistake[] => {
      const path = pathOf(index, 'type');
      if (isReservedEventType(type))
        return [{ fault: 'reserved_event_type', path, message: 'is emitted by remit alone' }];
      const known = byName.get(type);
      if (!known) return [{ fault: 'unknown_event_type', path, message: 'there is no such event type' }];
      if (known.schema !== null)
        toCheck.push({
          index,
          event: { key: `${known.id}:${known.version}`, schema: known.schema, data },
        });
      return [];
    });
    const checked = await this.schemas.check(
      tenantId,
      toCheck.map(({ event }) => event),
      (n) => pathOf(toCheck[n]!.index, 'data'),
    );
    for (const [n, { index }] of toCheck.entries())
      for (const { path, message } of checked[n]!)
        errors.push({
          fault: 'schema_mismatch',
          path: pathOf(index, path === '' ? 'data' : `data.${path}`),
          message,
        });
    // What was remembered may no longer hold: nobody is refused by it.
    if (errors.length > 0 && remembered) return this.requireValid(tenantId, events, pathOf, true);
    requireNone(errors);
    return byName;
  }
}

interface EventTypeRow {
  tenantId: string;
  name: string;
  id: string;
  version: number;
  schema: JsonSchema | null;
}

async function lookUpTypes(
  pool: Pick<Pool, 'query'>,
  wanted: readonly { tenantId: string; name: string }[],
): Promise<(EventTypeRow | undefined)[]> {
  const { rows } = await pool.query<EventTypeRow>({
    name: 'look_up_event_types',
    text: `SELECT t.tenant_id AS "tenantId", t.name, t.id, t.version, t.schema FROM event_types t
             JOIN (SELECT DISTINCT * FROM unnest($1::text[], $2::text[]) AS w (tenant_id, name)) AS w USING (tenant_id, name)`,
    values: [wanted.map(({ tenantId }) => tenantId), wanted.map(({ name }) => name)],
  });
  return wanted.map(({ tenantId, name }) =>
    rows.find((row) => row.tenantId === tenantId && row.name === name),
  );
}

/**
 * What the bridge would only dead-letter is not accepted: its key, value and headers are counted as there. A body within
 * its limit may still be too large, as the message has more around it.
 */
function requireFitting(
  candidates: readonly Candidate[],
  { correlationId, maxBytes, pathOf }: { correlationId: string; maxBytes: number; pathOf: PathOf },
): void {
  const traceparent = traceparentHere();
  const headers = HEADERS.correlationId + correlationId + (traceparent ? TRACEPARENT + traceparent : '');
  const tooLarge = candidates
    .map(({ id, message }, index) => ({ index, bytes: Buffer.byteLength(id + message + headers) }))
    .filter(({ bytes }) => bytes > maxBytes);
  requireNone(
    tooLarge.map(({ index, bytes }) => ({
      fault: 'message_too_large',
      path: pathOf(index, 'data'),
      message: `makes a message of ${bytes} bytes, more than ${maxBytes}`,
    })),
  );
}

/** The id of the nth event of an operation: the same when the operation is repeated. */
function eventId(operationId: string, index: number): string {
  if (index === 0) return `evt_${operationId.replaceAll('-', '')}`;
  return `evt_${createHash('sha256').update(`${operationId}:${index}`).digest('hex').slice(0, 32)}`;
}

function candidateOf(
  { tenantId, correlationId }: Publisher,
  id: string,
  { id: givenId, type, data, timestamp }: PublishEvent,
  idPath: string,
): Candidate {
  const clientId = givenId ?? null;
  const at = new Date(timestamp ?? Date.now()).toISOString();
  const given = timestamp === undefined ? null : at;
  // The data stays the publisher's text; the rest is ours.
  const rest = `"type":${JSON.stringify(type)},"timestamp":"${at}","data":${data.text}}`;
  return {
    tenantId,
    correlationId,
    id,
    clientId,
    type,
    body: `{${rest}`,
    hash: `${sha256(JSON.stringify([type, given]))}.${sha256(data.text)}`,
    message: `${JSON.stringify({ id, tenantId, clientId }).slice(0, -1)},${rest}`,
    timestamp: given,
    data: data.text,
    onlySubscriptionId: null,
    typeId: null,
    typeVersion: null,
    traceparent: traceparentHere() ?? null,
    idPath,
  };
}

const sha256 = (text: string): string => createHash('sha256').update(text).digest('hex');

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
      if (!isRepetition(candidate, first)) throw clash(candidate);
      byClientId.set(candidate.clientId, first);
      return [candidate, first];
    }),
  );
}

/** What is stored under a candidate's id or client id. */
interface Written {
  id: string;
  isNew: boolean;
  hash: string;
  body: string;
}

/**
 * Whether a candidate says what was said before: byte for byte, or at least the same type, timestamp and exact values, as of
 * a client that rewrites its JSON each time.
 */
function isRepetition(
  { hash, type, timestamp, data }: Candidate,
  earlier: Pick<Written, 'hash' | 'body'>,
): boolean {
  if (hash === earlier.hash) return true;
  const [head, ofData] = earlier.hash.split('.');
  if (ofData !== undefined && head !== hash.split('.')[0]) return false;
  const body = parseKeeping(earlier.body, ['data']) as { type: string; timestamp: string; data: JsonText };
  // Of events of the former version it is not known whether they came with a timestamp.
  if (body.type !== type || (timestamp !== null && body.timestamp !== timestamp)) return false;
  return saySame(body.data.text, data);
}

/** The type was changed since the event was checked by it, or an event of the same id has just been deleted. */
class NotWrittenError extends RemitError {
  constructor() {
    super('unavailable', 'The event or its type is just being changed; try again.');
  }
}

/** @throws RemitError conflict when its client id was used with other content; NotWrittenError. */
function accepted(candidate: Candidate, written: Written | undefined): Written {
  if (!written) throw new NotWrittenError();
  if (!isRepetition(candidate, written)) throw clash(candidate);
  return written;
}

const COLUMNS = [
  'tenantId',
  'correlationId',
  'id',
  'clientId',
  'type',
  'body',
  'hash',
  'message',
  'onlySubscriptionId',
  'typeId',
  'typeVersion',
  'traceparent',
] as const;

/**
 * Numbered in the order given, which is the order of publication. Written in the order of tenants and client ids, so that
 * two publications of the same ids wait for each other in one order.
 */
async function writeEvents(
  client: Pick<Pool | PoolClient, 'query'>,
  candidates: readonly Candidate[],
): Promise<(Written | undefined)[]> {
  const { rows: inserted } = await (client as Pool).query<{ id: string }>({
    name: 'publish_events',
    text: `WITH given AS MATERIALIZED (
             SELECT g.*, nextval('webhook_events_sequence_seq') AS sequence
               FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[],
                           $8::text[], $9::text[], $10::uuid[], $11::integer[], $12::text[])
               WITH ORDINALITY AS g (tenant_id, correlation_id, id, client_id, type, body, hash, message,
                                     only_subscription_id, type_id, type_version, traceparent, n)),
           held AS MATERIALIZED (
             SELECT t.id, t.version FROM event_types t WHERE t.id = ANY($10::uuid[])),
           inserted AS (
             INSERT INTO webhook_events (id, tenant_id, type, body, correlation_id, source, client_id, payload_hash,
                                         only_subscription_id, fanned_out_at, sequence, traceparent)
             SELECT id, tenant_id, type, body, correlation_id, 'api', client_id, hash, only_subscription_id, NULL, sequence, traceparent
               FROM given
              WHERE type_id IS NULL OR (type_id, type_version) IN (SELECT h.id, h.version FROM held h)
              ORDER BY tenant_id, client_id, n
             ON CONFLICT DO NOTHING
             RETURNING id),
           announced AS (
             INSERT INTO outbox (topic, key, value, headers)
             SELECT 'events', g.id, g.message, jsonb_strip_nulls(jsonb_build_object('${HEADERS.correlationId}', g.correlation_id, '${TRACEPARENT}', g.traceparent))
               FROM given g JOIN inserted USING (id) ORDER BY g.n)
           SELECT id FROM inserted`,
    values: COLUMNS.map((name) => candidates.map((candidate) => candidate[name])),
  });
  const isNew = new Set(inserted.map(({ id }) => id));
  const known = candidates.filter(({ id }) => !isNew.has(id));
  const earlier = known.length === 0 ? [] : await findEarlier(client, known);
  return candidates.map(({ tenantId, id, clientId, hash, body }) => {
    if (isNew.has(id)) return { id, hash, body, isNew: true };
    const found = earlier.find(
      (row) => row.tenantId === tenantId && (clientId === null ? row.id === id : row.clientId === clientId),
    );
    return found && { id: found.id, hash: found.hash, body: found.body, isNew: false };
  });
}

type EarlierRow = Pick<Candidate, 'tenantId' | 'id' | 'clientId' | 'hash' | 'body'>;

/** A statement of its own: what another transaction has just committed is not in the snapshot of the one before. */
async function findEarlier(client: Pick<Pool, 'query'>, known: readonly Candidate[]): Promise<EarlierRow[]> {
  const { rows } = await client.query<EarlierRow>({
    name: 'find_earlier_events',
    text: `SELECT e.tenant_id AS "tenantId", e.id, e.client_id AS "clientId", e.payload_hash AS hash, e.body
             FROM webhook_events e
             JOIN unnest($1::text[], $2::text[]) AS k (tenant_id, client_id)
               ON e.tenant_id = k.tenant_id AND e.client_id = k.client_id
           UNION
           SELECT e.tenant_id, e.id, e.client_id, e.payload_hash, e.body FROM webhook_events e
            WHERE e.id = ANY($3)`,
    values: [
      known.map(({ tenantId }) => tenantId),
      known.map(({ clientId }) => clientId),
      known.map(({ id }) => id),
    ],
  });
  return rows;
}
