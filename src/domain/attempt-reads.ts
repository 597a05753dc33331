import { RemitError } from '../contracts/errors';
import type { AttemptOutcome } from '../contracts/webhooks';
import type { DeliveryAttempt } from '../generated/prisma/client';
import type { Database } from '../platform/postgres';
import { decodeCursor, encodeCursor, toPage, type Page } from './pages';

/** Attempts as the API shows them: of one delivery, and across deliveries. */

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
function attemptsQuery(filter: AttemptFilter): { text: string; values: unknown[] } {
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
