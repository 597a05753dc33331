import { RemitError } from '../contracts/errors';
import type { DeliveryStatus } from '../contracts/webhooks';
import type { Delivery } from '../generated/prisma/client';
import type { Database } from '../platform/postgres';
import { afterCursor, createdWithin, NEWEST_FIRST, toPage, type Page } from './pages';

/** Deliveries as the API shows them. */

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
