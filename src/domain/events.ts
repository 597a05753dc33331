import { z } from 'zod';
import { RemitError } from '../contracts/errors';
import { parseKeeping, type JsonText } from '../contracts/json';
import { DeliveryStatus, type WebhookBody } from '../contracts/webhooks';
import type { WebhookEvent } from '../generated/prisma/client';
import type { Database } from '../platform/postgres';
import { listDeliveries, type DeliveryView } from './deliveries';
import { afterCursor, createdWithin, NEWEST_FIRST, toPage, type Page } from './pages';

// ---------------------------------------------------------------------------------------------------- fan-out

/** Pass `next` as `after` to go on; null when all are written. */
const FanOutStep = z.object({ next: z.string().nullable() }).nullable();

/**
 * Writes delivery rows of a published event for up to `limit` matching subscriptions after `after` ('' at first).
 * Idempotent: a repeated call writes nothing twice. Undefined when the event does not exist.
 * @throws what the database throws in an outage.
 */
export async function fanOutEvent(
  db: Pick<Database, 'pool'>,
  { eventId, after, limit }: { eventId: string; after: string; limit: number },
): Promise<{ next: string | null } | undefined> {
  const { rows } = await db.pool.query<{ result: unknown }>({
    name: 'fan_out_event',
    text: 'SELECT fan_out_event($1, $2, $3) AS result',
    values: [eventId, after, limit],
  });
  return FanOutStep.parse(rows[0]?.result) ?? undefined;
}

/**
 * The first step of handing out several events at once: see fanOutEvent.
 * @returns for each event where its next step begins, null when all of its deliveries are written; events that do not
 *   exist are missing.
 * @throws what the database throws in an outage.
 */
export async function fanOutEvents(
  db: Pick<Database, 'pool'>,
  { eventIds, limit }: { eventIds: readonly string[]; limit: number },
): Promise<Map<string, string | null>> {
  const { rows } = await db.pool.query<{ event_id: string; next: string | null }>({
    name: 'fan_out_events',
    text: 'SELECT event_id, next FROM fan_out_events($1, $2)',
    values: [eventIds, limit],
  });
  return new Map(rows.map(({ event_id, next }) => [event_id, next]));
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

export function eventView(event: WebhookEvent): EventView {
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
  return toPage(rows, limit, eventView);
}

export interface EventDetailView extends EventView {
  /** JSON text, as it was published. */
  data: string;
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
  const deliveryCounts = noDeliveries();
  for (const { status, _count } of groups) deliveryCounts[status as DeliveryStatus] = _count._all;
  return { ...eventView(event), data: dataOf(event), deliveryCounts, deliveries: page.items };
}

/** The data of an event, as it was published. */
export function dataOf({ body }: Pick<WebhookEvent, 'body'>): string {
  return (parseKeeping(body, ['data']) as { data: JsonText }).data.text;
}

/** A count of 0 for each status. */
export const noDeliveries = (): Record<DeliveryStatus, number> =>
  Object.fromEntries(DeliveryStatus.options.map((status) => [status, 0])) as Record<DeliveryStatus, number>;
