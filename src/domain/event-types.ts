import { RemitError } from '../contracts/errors';
import { isReservedEventType, RESERVED_EVENT_WORD } from '../contracts/webhooks';
import { Prisma, type EventType } from '../generated/prisma/client';
import type { Database } from '../platform/postgres';
import { recordChange, type Actor } from './audit';
import type { EventSchemas, JsonSchema } from './event-schemas';
import { afterCursor, NEWEST_FIRST, toPage, type Page } from './pages';
import { createWithinQuota, requireRoom } from './quota';
import { requireOneRow, requireVersion, type ExpectedVersions } from './versions';

/** A type of events that a tenant publishes. */
export interface EventTypeView {
  id: string;
  name: string;
  description: string;
  /** JSON Schema of the events' data; null: any object. */
  schema: JsonSchema | null;
  example: JsonSchema | null;
  version: number;
  createdAt: Date;
  updatedAt: Date;
}

function view({ tenantId: _, ...row }: EventType): EventTypeView {
  return { ...row, schema: row.schema as JsonSchema | null, example: row.example as JsonSchema | null };
}

export interface EventTypeFields {
  description: string;
  schema: JsonSchema | null;
  example: JsonSchema | null;
}

const cause = (name: string) => `event_type:${name}`;
const json = (value: JsonSchema | null) =>
  value === null ? Prisma.DbNull : (value as Prisma.InputJsonObject);
const stored = ({ description, schema, example }: EventTypeFields) => ({
  description,
  schema: json(schema),
  example: json(example),
});
const notFound = () => new RemitError('not_found', 'There is no such event type.');

/** @throws RemitError invalid_request that names schema or example, schema_too_complex. */
async function requireSound(
  schemas: EventSchemas,
  tenantId: string,
  { schema, example }: EventTypeFields,
): Promise<void> {
  const refuse = (errors: { path: string; message: string }[]) =>
    new RemitError('invalid_request', 'Some fields are not valid.', errors);
  if (schema === null) return;
  const { fault, errors } = await schemas.inspect(tenantId, schema, example);
  if (fault !== undefined) throw refuse([{ path: 'schema', message: fault }]);
  if (errors.length > 0)
    throw refuse(
      errors.map(({ path, message }) => ({ path: path === '' ? 'example' : `example.${path}`, message })),
    );
}

/**
 * Saves a new event type. Not idempotent: a second call is a conflict.
 * @throws RemitError conflict when the tenant has it; unprocessable when the name is kept for remit or the tenant has as
 *   many types as it may; invalid_request when schema or example are none; schema_too_complex.
 */
export async function createEventType(
  db: Pick<Database, 'prisma'>,
  schemas: EventSchemas,
  actor: Actor,
  { name, ...fields }: EventTypeFields & { name: string },
  maxPerTenant: number,
): Promise<EventTypeView> {
  if (isReservedEventType(name))
    throw new RemitError('unprocessable', 'Types that begin like this are remit’s own.', [
      { path: 'name', message: `${RESERVED_EVENT_WORD}.* is kept for events of remit itself` },
    ]);
  const { tenantId } = actor;
  await requireSound(schemas, tenantId, fields);
  try {
    return await createWithinQuota(db, 'event types', tenantId, async (tx) => {
      requireRoom('event types', await tx.eventType.count({ where: { tenantId } }), maxPerTenant);
      const created = await tx.eventType.create({ data: { tenantId, name, ...stored(fields) } });
      await recordChange(tx, actor, { action: 'event_type.created', cause: cause(name), after: fields });
      return view(created);
    });
  } catch (error) {
    if (error instanceof Prisma.PrismaClientKnownRequestError && error.code === 'P2002')
      throw new RemitError('conflict', `There is an event type ${name} already.`);
    throw error;
  }
}

/** @throws RemitError not_found, also for another tenant's. */
export async function getEventType(
  db: Pick<Database, 'prisma'>,
  { tenantId, name }: { tenantId: string; name: string },
): Promise<EventTypeView> {
  const found = await db.prisma.eventType.findUnique({ where: { tenantId_name: { tenantId, name } } });
  if (!found) throw notFound();
  return view(found);
}

/** A tenant's event types, newest first. @throws RemitError invalid_request on a malformed cursor. */
export async function listEventTypes(
  db: Pick<Database, 'prisma'>,
  { tenantId, limit, cursor }: { tenantId: string; limit: number; cursor?: string | undefined },
): Promise<Page<EventTypeView>> {
  const rows = await db.prisma.eventType.findMany({
    where: { tenantId, ...afterCursor(cursor) },
    orderBy: NEWEST_FIRST,
    take: limit + 1,
  });
  return toPage(rows, limit, view);
}

/**
 * Changes the given fields. Events that were published before are not checked again.
 * @throws RemitError not_found, precondition_failed, invalid_request when schema or example are none, schema_too_complex.
 */
export async function updateEventType(
  db: Pick<Database, 'prisma'>,
  schemas: EventSchemas,
  actor: Actor,
  {
    name,
    expected,
    changes,
  }: { name: string; expected: ExpectedVersions; changes: Partial<EventTypeFields> },
): Promise<EventTypeView> {
  const { tenantId } = actor;
  const before = await getEventType(db, { tenantId, name });
  requireVersion(expected, before.version);
  const { description, schema, example, version } = before;
  const old: EventTypeFields = { description, schema, example };
  const next: EventTypeFields = { ...old, ...changes };
  await requireSound(schemas, tenantId, next);
  return db.prisma.$transaction(async (tx) => {
    const { count } = await tx.eventType.updateMany({
      where: { tenantId, name, version },
      data: { ...stored(next), version: { increment: 1 }, updatedAt: new Date() },
    });
    requireOneRow(count);
    await recordChange(tx, actor, {
      action: 'event_type.updated',
      cause: cause(name),
      before: old,
      after: next,
    });
    return view(await tx.eventType.findUniqueOrThrow({ where: { tenantId_name: { tenantId, name } } }));
  });
}

/**
 * Deletes an event type: nothing of it can be published any more. Events, their deliveries and the type's config stay.
 * @throws RemitError not_found, precondition_failed.
 */
export async function deleteEventType(
  db: Pick<Database, 'prisma'>,
  actor: Actor,
  { name, expected }: { name: string; expected: ExpectedVersions },
): Promise<void> {
  const { tenantId } = actor;
  const { version, description, schema, example } = await getEventType(db, { tenantId, name });
  requireVersion(expected, version);
  await db.prisma.$transaction(async (tx) => {
    const { count } = await tx.eventType.deleteMany({ where: { tenantId, name, version } });
    requireOneRow(count);
    await recordChange(tx, actor, {
      action: 'event_type.deleted',
      cause: cause(name),
      before: { description, schema, example },
    });
  });
}
