import { RemitError } from '../contracts/errors';
import { isReservedEventType, RESERVED_EVENT_WORD } from '../contracts/webhooks';
import { Prisma, type EventType } from '../generated/prisma/client';
import type { Database } from '../platform/postgres';
import type { EventSchemas, JsonSchema } from './event-schemas';
import { versionedResource } from './versioned-resource';

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

interface Deps extends Pick<Database, 'prisma'> {
  schemas: EventSchemas;
}

const json = (value: JsonSchema | null) =>
  value === null ? Prisma.DbNull : (value as Prisma.InputJsonObject);
const stored = ({ description, schema, example }: EventTypeFields) => ({
  description,
  schema: json(schema),
  example: json(example),
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
 * Types of a tenant's events, with the JSON Schema of their data. Events that were published before a change are not
 * checked again; of a deleted type nothing can be published any more, and its events, their deliveries and its config stay.
 *
 * Creating one throws unprocessable when the name is kept for remit; creating and changing one throw invalid_request when
 * schema or example are none, and schema_too_complex.
 */
export const eventTypes = versionedResource<EventType, EventTypeView, EventTypeFields, Deps>({
  kind: 'event_type',
  plural: 'event types',
  view,
  fieldsOf: ({ description, schema, example }) => ({ description, schema, example }),
  notFound: () => new RemitError('not_found', 'There is no such event type.'),
  taken: (name) => new RemitError('conflict', `There is an event type ${name} already.`),
  async check({ schemas }, tenantId, name, fields) {
    if (isReservedEventType(name))
      throw new RemitError('unprocessable', 'Types that begin like this are remit’s own.', [
        { path: 'name', message: `${RESERVED_EVENT_WORD}.* is kept for events of remit itself` },
      ]);
    await requireSound(schemas, tenantId, fields);
  },
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
