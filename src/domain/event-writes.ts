import type { Pool, PoolClient } from 'pg';
import { parseKeeping, saySame, type JsonText } from '../contracts/json';
import { HEADERS } from '../contracts/messages';
import { TRACEPARENT } from '../contracts/tracing';

/** The rows of published events, and what was published before under the same ids. */

/** A row to be written, and what to answer for it. */
export interface Candidate {
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

/** What is stored under a candidate's id or client id. */
export interface Written {
  id: string;
  isNew: boolean;
  hash: string;
  body: string;
}

/**
 * Whether a candidate says what was said before: byte for byte, or at least the same type, timestamp and exact values, as of
 * a client that rewrites its JSON each time.
 */
export function isRepetition(
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
export async function writeEvents(
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
