import { RemitError } from '../contracts/errors';
import { parseKeeping, type JsonText } from '../contracts/json';
import { DeliveryStatus, type WebhookBody } from '../contracts/webhooks';
import type { WebhookEvent } from '../generated/prisma/client';
import type { Database } from '../platform/postgres';
import { listDeliveries, type DeliveryView } from './deliveries';
import { afterCursor, createdWithin, NEWEST_FIRST, toPage, type Page } from './pages';

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
