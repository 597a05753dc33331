import { createHash, randomUUID } from 'node:crypto';
import { RemitError } from '../contracts/errors';
import type { PublishEvent } from '../contracts/events';
import { JsonText } from '../contracts/json';
import { HEADERS } from '../contracts/messages';
import { TRACEPARENT } from '../contracts/tracing';
import { TEST_EVENT_TYPE } from '../contracts/webhooks';
import { Coalescer } from '../platform/coalescer';
import { metrics } from '../platform/metrics';
import type { Database } from '../platform/postgres';
import { inTransaction } from '../platform/postgres-pool';
import { annotate, traceparentHere } from '../platform/tracing';
import type { Actor } from './audit';
import { requireNone, type PathOf } from './event-refusals';
import type { EventSchemas } from './event-schemas';
import { EventTypeCheck } from './event-type-check';
import { isRepetition, writeEvents, type Candidate, type Written } from './event-writes';

export interface Published {
  /** The webhook-id that subscribers will see. */
  id: string;
  clientId: string | null;
  type: string;
  /** It was published before, with the same content; nothing was written. */
  duplicate: boolean;
}

/** Rows that one statement writes. */
const BATCH_ROWS = 200;

/** A type that changes while events are checked by it is read again; one that changes all the time is not chased forever. */
const TRIES = 3;

type Publisher = Pick<Actor, 'tenantId' | 'correlationId'>;

/**
 * Publishes events: each row and its message for Kafka in one transaction. Requests that come at the same time share
 * statements. One for each process.
 */
export class EventPublisher {
  private readonly types: EventTypeCheck;
  private readonly writes: Coalescer<Candidate, Written | undefined>;

  constructor(
    private readonly db: Pick<Database, 'pool' | 'prisma'>,
    schemas: EventSchemas,
    /** KAFKA_MESSAGE_MAX_BYTES. */
    private readonly maxMessageBytes: number,
  ) {
    this.types = new EventTypeCheck(db.pool, schemas);
    this.writes = new Coalescer({
      maxItems: BATCH_ROWS,
      run: (candidates) => writeEvents(db.pool, candidates),
    });
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
    { subscriptionId, operationId }: { subscriptionId: string; operationId: string },
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
      const types = await this.types.requireValid(tenantId, events, pathOf, tries > 1);
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
