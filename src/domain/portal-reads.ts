import { RemitError } from '../contracts/errors';
import type { DeliveryStatus } from '../contracts/webhooks';
import type { Database } from '../platform/postgres';
import { viewDeliveries, type DeliveryFilter, type DeliveryView } from './deliveries';
import { dataOf, eventView, noDeliveries, type EventDetailView, type EventView } from './events';
import { decodeCursor, toPage, type Page } from './pages';

/** What subscribers see of their tenant: what some of its subscriptions have got, and nothing else. */

export interface PortalScope {
  tenantId: string;
  /** Few: a link has at most PORTAL_SUBSCRIPTIONS_MAX. */
  subscriptionIds: readonly string[];
}

export type PortalFilter = PortalScope &
  Pick<DeliveryFilter, 'eventType' | 'status' | 'since' | 'until' | 'limit' | 'cursor'>;

/** Deliveries newest first, `limit + 1` of them, as the index of each subscription gives them. */
async function newest(
  { pool }: Pick<Database, 'pool'>,
  filter: PortalFilter,
  onePerEvent: boolean,
): Promise<{ id: string; eventId: string; createdAt: Date }[]> {
  const { tenantId, subscriptionIds, status, eventType, since, until, limit, cursor } = filter;
  const after = cursor === undefined ? undefined : decodeCursor(cursor);
  const { rows } = await pool.query<{ id: string; eventId: string; createdAt: Date }>(
    `SELECT f.id, f.event_id AS "eventId", f.created_at AS "createdAt"
       FROM unnest($1::text[]) AS s (id)
      CROSS JOIN LATERAL (
        SELECT d.id, d.event_id, d.created_at FROM deliveries d
         WHERE d.subscription_id = s.id AND d.tenant_id = $2
           AND ($3::text IS NULL OR d.status = $3) AND ($4::text IS NULL OR d.event_type = $4)
           AND ($5::timestamptz IS NULL OR d.created_at >= $5) AND ($6::timestamptz IS NULL OR d.created_at < $6)
           AND ($7::timestamptz IS NULL OR (d.created_at, d.id) < ($7, $8::uuid))
           AND (NOT $9 OR NOT EXISTS (
             SELECT FROM deliveries later
              WHERE later.event_id = d.event_id AND later.subscription_id = ANY($1)
                AND ($6::timestamptz IS NULL OR later.created_at < $6)
                AND (later.created_at, later.id) > (d.created_at, d.id)))
         ORDER BY d.created_at DESC, d.id DESC LIMIT $10) AS f
      ORDER BY f.created_at DESC, f.id DESC LIMIT $10`,
    [
      ...[subscriptionIds, tenantId, status ?? null, eventType ?? null, since ?? null, until ?? null],
      ...[after?.createdAt ?? null, after?.id ?? null, onePerEvent, limit + 1],
    ],
  );
  return rows;
}

/** Deliveries to these subscriptions, newest first. @throws RemitError invalid_request on a malformed cursor. */
export async function listPortalDeliveries(db: Database, filter: PortalFilter): Promise<Page<DeliveryView>> {
  const found = await newest(db, filter, false);
  const { items, nextCursor } = toPage(found, filter.limit, ({ id }) => id);
  const rows = await db.prisma.delivery.findMany({ where: { id: { in: items } } });
  const byId = new Map(rows.map((row) => [row.id, row]));
  return {
    items: await viewDeliveries(
      db,
      items.flatMap((id) => byId.get(id) ?? []),
    ),
    nextCursor,
  };
}

/** Events that these subscriptions got, newest first, each once. @throws RemitError invalid_request on a malformed cursor. */
export async function listPortalEvents(db: Database, filter: PortalFilter): Promise<Page<EventView>> {
  const found = await newest(db, filter, true);
  const { items, nextCursor } = toPage(found, filter.limit, ({ eventId }) => eventId);
  const rows = await db.prisma.webhookEvent.findMany({ where: { id: { in: items } } });
  const byId = new Map(rows.map((row) => [row.id, row]));
  return { items: items.flatMap((id) => byId.get(id) ?? []).map(eventView), nextCursor };
}

/** An event with its deliveries to these subscriptions. @throws RemitError not_found when none of them got it. */
export async function getPortalEvent(
  { prisma }: Pick<Database, 'prisma'>,
  { tenantId, subscriptionIds, id }: PortalScope & { id: string },
): Promise<EventDetailView> {
  const rows = await prisma.delivery.findMany({
    where: { tenantId, eventId: id, subscriptionId: { in: [...subscriptionIds] } },
    orderBy: { subscriptionId: 'asc' },
  });
  const event = rows.length === 0 ? null : await prisma.webhookEvent.findUnique({ where: { id } });
  if (event?.tenantId !== tenantId) throw new RemitError('not_found', 'There is no such event.');
  const deliveryCounts = noDeliveries();
  for (const { status } of rows) deliveryCounts[status as DeliveryStatus]++;
  const deliveries = await viewDeliveries({ prisma }, rows);
  return { ...eventView(event), data: dataOf(event), deliveryCounts, deliveries };
}

/** @throws RemitError not_found unless the delivery is to one of these subscriptions. `id` is a UUID. */
export async function requirePortalDelivery(
  { prisma }: Pick<Database, 'prisma'>,
  { tenantId, subscriptionIds, id }: PortalScope & { id: string },
): Promise<void> {
  const found = await prisma.delivery.findFirst({
    where: { id, tenantId, subscriptionId: { in: [...subscriptionIds] } },
    select: { id: true },
  });
  if (!found) throw new RemitError('not_found', 'There is no such delivery.');
}
