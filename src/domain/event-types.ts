import { RemitError } from '../contracts/errors';
import { isReservedEventType, RESERVED_EVENT_WORD } from '../contracts/webhooks';
import { Prisma, type EventType } from '../generated/prisma/client';
import type { Database } from '../platform/postgres';
import type { Actor } from './audit';
import type { EventSchemas, JsonSchema } from './event-schemas';
import { versionedResource } from './versioned-resource';
import type { ExpectedVersions } from './versions';

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

const json = (value: JsonSchema | null) =>
  value === null ? Prisma.DbNull : (value as Prisma.InputJsonObject);
const stored = ({ description, schema, example }: EventTypeFields) => ({
  description,
  schema: json(schema),
  example: json(example),
});

const resource = versionedResource<EventType, EventTypeView, EventTypeFields>({
  kind: 'event_type',
  plural: 'event types',
  view,
  fieldsOf: ({ description, schema, example }) => ({ description, schema, example }),
  notFound: () => new RemitError('not_found', 'There is no such event type.'),
  taken: (name) => new RemitError('conflict', `There is an event type ${name} already.`),
  table: {
    count: (tx, tenantId) => tx.eventType.count({ where: { tenantId } }),
    find: (tx, tenantId, name) => tx.eventType.findUnique({ where: { tenantId_name: { tenantId, name } } }),
    page: (tx, where, newestFirst) => tx.eventType.findMany({ where, ...newestFirst }),
    create: (tx, tenantId, name, fields) =>
      tx.eventType.create({ data: { tenantId, name, ...stored(fields) } }),
    update: (tx, { key: name, ...row }, fields) =>
      tx.eventType.updateMany({
        where: { ...row, name },
        data: { ...stored(fields), version: { increment: 1 }, updatedAt: new Date() },
      }),
    remove: (tx, { key: name, ...row }) => tx.eventType.deleteMany({ where: { ...row, name } }),
  },
});

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
async function createEventType(
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
  await requireSound(schemas, actor.tenantId, fields);
  return resource.create(db, actor, name, fields, maxPerTenant);
}

/**
 * Changes the given fields. Events that were published before are not checked again.
 * @throws RemitError not_found, precondition_failed, invalid_request when schema or example are none, schema_too_complex.
 */
function updateEventType(
  db: Pick<Database, 'prisma'>,
  schemas: EventSchemas,
  actor: Actor,
  change: { key: string; expected: ExpectedVersions; changes: Partial<EventTypeFields> },
): Promise<EventTypeView> {
  return resource.update(db, actor, change, (next) => requireSound(schemas, actor.tenantId, next));
}

/** Of a deleted type nothing can be published any more; its events, their deliveries and its config stay. */
export const eventTypes = {
  get: resource.get,
  list: resource.list,
  remove: resource.remove,
  create: createEventType,
  update: updateEventType,
} as const;
