import { RemitError } from '../contracts/errors';
import { Prisma, type EventConfig } from '../generated/prisma/client';
import type { Database } from '../platform/postgres';
import { recordChange, type Actor } from './audit';
import { afterCursor, NEWEST_FIRST, toPage, type Page } from './pages';
import { createWithinQuota, requireRoom } from './quota';
import { requireOneRow, requireVersion, type ExpectedVersions } from './versions';

/** How events of one type are delivered; null is as the deployment is configured. */
export interface EventConfigFields {
  /** false: events are kept and delivered to nobody. */
  enabled: boolean;
  /** Pause before each attempt, in milliseconds; its length is the number of attempts. */
  scheduleMs: number[] | null;
  /** Longest attempt, in milliseconds. */
  timeoutMs: number | null;
  retentionDays: number | null;
  ordered: boolean;
}

export interface EventConfigView extends EventConfigFields {
  id: string;
  eventType: string;
  version: number;
  createdAt: Date;
  updatedAt: Date;
}

function view({ tenantId: _, scheduleMs, ...row }: EventConfig): EventConfigView {
  return { ...row, scheduleMs: scheduleMs.length > 0 ? scheduleMs.map(Number) : null };
}

const cause = (eventType: string) => `event_config:${eventType}`;
const stored = ({ scheduleMs, ...fields }: EventConfigFields) => ({
  ...fields,
  scheduleMs: (scheduleMs ?? []).map(BigInt),
});

/**
 * Saves the config of an event type, of remit's own or of the tenant's; the type need not exist yet. Not idempotent.
 * Holds for events from now on: deliveries that exist keep the schedule that they began with.
 * @throws RemitError conflict when there is one; unprocessable when the tenant has as many as it may.
 */
export async function createEventConfig(
  db: Pick<Database, 'prisma'>,
  actor: Actor,
  { eventType, ...fields }: EventConfigFields & { eventType: string },
  maxPerTenant: number,
): Promise<EventConfigView> {
  const { tenantId } = actor;
  try {
    return await createWithinQuota(db, 'event configs', tenantId, async (tx) => {
      requireRoom('event configs', await tx.eventConfig.count({ where: { tenantId } }), maxPerTenant);
      const created = await tx.eventConfig.create({ data: { tenantId, eventType, ...stored(fields) } });
      await recordChange(tx, actor, {
        action: 'event_config.created',
        cause: cause(eventType),
        after: fields,
      });
      return view(created);
    });
  } catch (error) {
    if (error instanceof Prisma.PrismaClientKnownRequestError && error.code === 'P2002')
      throw new RemitError('conflict', `There is a config of ${eventType} already.`);
    throw error;
  }
}

/** @throws RemitError not_found, also for another tenant's. */
export async function getEventConfig(
  db: Pick<Database, 'prisma'>,
  { tenantId, eventType }: { tenantId: string; eventType: string },
): Promise<EventConfigView> {
  const found = await db.prisma.eventConfig.findUnique({
    where: { tenantId_eventType: { tenantId, eventType } },
  });
  if (!found) throw new RemitError('not_found', 'There is no config of this event type.');
  return view(found);
}

/** A tenant's event configs, newest first. @throws RemitError invalid_request on a malformed cursor. */
export async function listEventConfigs(
  db: Pick<Database, 'prisma'>,
  { tenantId, limit, cursor }: { tenantId: string; limit: number; cursor?: string | undefined },
): Promise<Page<EventConfigView>> {
  const rows = await db.prisma.eventConfig.findMany({
    where: { tenantId, ...afterCursor(cursor) },
    orderBy: NEWEST_FIRST,
    take: limit + 1,
  });
  return toPage(rows, limit, view);
}

const fieldsOf = ({ enabled, scheduleMs, timeoutMs, retentionDays, ordered }: EventConfigFields) => ({
  enabled,
  scheduleMs,
  timeoutMs,
  retentionDays,
  ordered,
});

/** Changes the given fields. @throws RemitError not_found, precondition_failed. */
export async function updateEventConfig(
  db: Pick<Database, 'prisma'>,
  actor: Actor,
  {
    eventType,
    expected,
    changes,
  }: { eventType: string; expected: ExpectedVersions; changes: Partial<EventConfigFields> },
): Promise<EventConfigView> {
  const { tenantId } = actor;
  const before = await getEventConfig(db, { tenantId, eventType });
  requireVersion(expected, before.version);
  const old = fieldsOf(before);
  const next = { ...old, ...changes };
  return db.prisma.$transaction(async (tx) => {
    const { count } = await tx.eventConfig.updateMany({
      where: { tenantId, eventType, version: before.version },
      data: { ...stored(next), version: { increment: 1 }, updatedAt: new Date() },
    });
    requireOneRow(count);
    await recordChange(tx, actor, {
      action: 'event_config.updated',
      cause: cause(eventType),
      before: old,
      after: next,
    });
    const where = { tenantId_eventType: { tenantId, eventType } };
    return view(await tx.eventConfig.findUniqueOrThrow({ where }));
  });
}

/** Deletes a config: the type is delivered as the deployment is configured. @throws RemitError not_found, precondition_failed. */
export async function deleteEventConfig(
  db: Pick<Database, 'prisma'>,
  actor: Actor,
  { eventType, expected }: { eventType: string; expected: ExpectedVersions },
): Promise<void> {
  const { tenantId } = actor;
  const before = await getEventConfig(db, { tenantId, eventType });
  requireVersion(expected, before.version);
  await db.prisma.$transaction(async (tx) => {
    const { count } = await tx.eventConfig.deleteMany({
      where: { tenantId, eventType, version: before.version },
    });
    requireOneRow(count);
    await recordChange(tx, actor, {
      action: 'event_config.deleted',
      cause: cause(eventType),
      before: fieldsOf(before),
    });
  });
}
