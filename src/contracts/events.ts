import { z } from 'zod';
import { cleanText, createdTime, Instant, page, PageQuery, TenantId } from './http';
import { JsonText, keptTextFault } from './json';
import { Timestamp } from './times';
import { Delivery } from './subscriptions';
import { versionedContract } from './versioned';
import { DeliveryStatus, EventTypeName } from './webhooks';

/**
 * The event platform over HTTP and on Kafka: event types, how each is delivered, published events, and the audit log.
 */

/** Deeper JSON is refused: everything that walks it, here and at subscribers, may recurse. */
const JSON_MAX_DEPTH = 32;
const HOUR_MS = 3_600_000;
const JSON_OBJECT = { type: 'object', additionalProperties: true } as const;

/**
 * Why a parsed JSON value can't be stored and sent on; undefined when it can. PostgreSQL's jsonb takes no NUL and no
 * half of a surrogate pair, and what overflows a double came out of JSON.parse as Infinity, which has no JSON form.
 */
export function jsonFault(value: unknown, depth = 0): string | undefined {
  if (depth > JSON_MAX_DEPTH) return `must not be nested deeper than ${JSON_MAX_DEPTH} levels`;
  if (typeof value === 'string')
    return value.includes('\u0000') || /\p{Surrogate}/u.test(value)
      ? 'must not contain NUL characters or lone surrogates'
      : undefined;
  if (typeof value === 'number') return Number.isFinite(value) ? undefined : 'has a number that is too large';
  if (typeof value !== 'object' || value === null) return undefined;
  for (const [key, each] of Object.entries(value)) {
    if (key === '__proto__') return 'must not contain __proto__';
    const fault = jsonFault(key) ?? jsonFault(each, depth + 1);
    if (fault !== undefined) return fault;
  }
  return undefined;
}

/** A JSON object of any content. Kept as it was parsed: zod's records would drop or rename keys. */
const jsonObject = (description: string, example: object) =>
  z
    .custom<Record<string, unknown>>(
      (value) => typeof value === 'object' && value !== null && !Array.isArray(value),
      { error: 'must be a JSON object' },
    )
    .superRefine((value, context) => {
      const message = jsonFault(value);
      if (message !== undefined) context.addIssue({ code: 'custom', message });
    })
    .meta({ ...JSON_OBJECT, description, example });

/** The same, or null. The document has to be told: what it says of an object's type would hold for null too. */
const jsonObjectOrNull = (description: string, example: object) =>
  jsonObject(description, example)
    .nullable()
    .meta({ type: ['object', 'null'], additionalProperties: true, description, example });

/** A JSON object of any content that is handed on as it was written (`parseKeeping`). */
const keptObject = (description: string, example: object) =>
  z
    .custom<JsonText>(
      (json) =>
        json instanceof JsonText &&
        typeof json.value === 'object' &&
        json.value !== null &&
        !Array.isArray(json.value),
      { error: 'must be a JSON object' },
    )
    .superRefine(({ text }, context) => {
      const message = keptTextFault(text, JSON_MAX_DEPTH);
      if (message !== undefined) context.addIssue({ code: 'custom', message });
    })
    .meta({ ...JSON_OBJECT, description, example });

// ---------------------------------------------------------------------------------------------------- event types

const DATA_EXAMPLE = { total: '10.50', currency: 'EUR' };

const eventTypeFields = {
  description: cleanText(1_000),
  schema: jsonObjectOrNull(
    'JSON Schema (2020-12) of the events’ data. References within the document only; recursion has to descend into the data. Null: any object',
    { type: 'object', properties: { total: { type: 'string' } }, required: ['total'] },
  ),
  example: jsonObjectOrNull('Data of an example event; it must satisfy the schema', DATA_EXAMPLE),
};
export const eventTypeContract = versionedContract('EventType', {
  key: 'name',
  fields: eventTypeFields,
  defaults: { description: '', schema: null, example: null },
  answered: {
    description: z.string(),
    schema: z.record(z.string(), z.unknown()).nullable(),
    example: z.record(z.string(), z.unknown()).nullable(),
  },
  examples: {
    create: {
      name: 'invoice.paid',
      description: 'An invoice was paid in full',
      schema: {
        type: 'object',
        properties: { total: { type: 'string' }, currency: { type: 'string' } },
        required: ['total'],
      },
      example: DATA_EXAMPLE,
    },
    update: { description: 'An invoice was paid, in full or in part' },
  },
});
export const EventType = eventTypeContract.one;
export const EventTypePage = eventTypeContract.page;

// ---------------------------------------------------------------------------------------------------- event configs

const eventConfigFields = {
  enabled: z.boolean().meta({ description: 'false: events of this type are kept but delivered to nobody' }),
  scheduleMs: z
    .array(
      z
        .int()
        .min(0)
        .max(7 * 24 * HOUR_MS),
    )
    .min(1)
    .max(50)
    .nullable()
    .meta({
      description:
        'pause before each attempt in milliseconds; its length is the number of attempts. Null: as the server is configured',
    }),
  timeoutMs: z
    .int()
    .min(100)
    .max(60_000)
    .nullable()
    .meta({ description: 'longest attempt in milliseconds. Null: as the server is configured' }),
  retentionDays: z.int().min(1).max(3_650).nullable().meta({
    description: 'events and their deliveries are kept this long. Null: as the server is configured',
  }),
  ordered: z
    .boolean()
    .meta({ description: 'deliver this type in order to every subscription, not only to ordered ones' }),
};
export const eventConfigContract = versionedContract('EventConfig', {
  key: 'eventType',
  fields: eventConfigFields,
  defaults: { enabled: true, scheduleMs: null, timeoutMs: null, retentionDays: null, ordered: false },
  answered: {
    enabled: z.boolean(),
    scheduleMs: z.array(z.int()).nullable(),
    timeoutMs: z.int().nullable(),
    retentionDays: z.int().nullable(),
    ordered: z.boolean(),
  },
  examples: {
    create: {
      eventType: 'invoice.paid',
      enabled: true,
      scheduleMs: [0, 5_000, 300_000],
      timeoutMs: 10_000,
      retentionDays: 30,
      ordered: false,
    },
    update: { timeoutMs: 5_000, ordered: true },
  },
});
export const EventConfig = eventConfigContract.one;
export const EventConfigPage = eventConfigContract.page;

// ---------------------------------------------------------------------------------------------------- events

/** The publisher's own id of an event: what makes publishing it again harmless. */
export const ClientEventId = z
  .string()
  .regex(/^[\x21-\x7e]{1,200}$/, { error: 'must be 1 to 200 printable ASCII characters without spaces' })
  .meta({
    description:
      'The publisher’s own id, unique within the tenant. The same id with the same content is the same event; with other content it is a conflict',
  });

export const PublishEventBody = z
  .strictObject({
    id: ClientEventId.optional(),
    type: EventTypeName,
    timestamp: Timestamp.optional().meta({ description: 'when it happened; now when left out' }),
    data: keptObject(
      'What subscribers get as data, byte for byte as it is here; it must satisfy the type’s schema',
      DATA_EXAMPLE,
    ),
  })
  .meta({ id: 'PublishEvent', example: { type: 'invoice.paid', data: DATA_EXAMPLE } });
export type PublishEvent = z.output<typeof PublishEventBody>;

export const PublishBatchBody = z
  .strictObject({
    events: z
      .array(PublishEventBody)
      .min(1)
      .max(1_000)
      .meta({ description: 'all of them are taken, or none; at most EVENTS_BATCH_MAX_EVENTS of the server' }),
  })
  .meta({
    id: 'PublishBatch',
    example: {
      events: [
        { type: 'invoice.paid', data: DATA_EXAMPLE },
        { type: 'invoice.paid', data: { total: '7.25', currency: 'EUR' } },
      ],
    },
  });

export const PublishedEvent = z
  .object({
    id: z.string().meta({ description: 'the webhook-id that subscribers see' }),
    clientId: z.string().nullable(),
    type: z.string(),
    duplicate: z.boolean().meta({ description: 'it had been published before; nothing is sent again' }),
  })
  .meta({ id: 'PublishedEvent' });
export const PublishedBatch = z.object({ items: z.array(PublishedEvent) }).meta({ id: 'PublishedBatch' });

const eventFields = {
  id: z.string(),
  clientId: z.string().nullable(),
  source: z
    .enum(['remit', 'api'])
    .meta({ description: 'api: published by the tenant, over HTTP or on Kafka' }),
  type: z.string(),
  timestamp: Instant,
  createdAt: Instant,
  fannedOutAt: Instant.nullable().meta({ description: 'since when all its deliveries exist; null: not yet' }),
};
export const Event = z.object(eventFields).meta({ id: 'Event' });
export const EventPage = page(Event, 'EventPage');
export const EventDetail = z
  .object({
    ...eventFields,
    data: z.record(z.string(), z.unknown()).meta({ description: 'byte for byte as it was published' }),
    deliveryCounts: z.record(DeliveryStatus, z.int()),
    deliveries: z
      .array(Delivery)
      .meta({ description: 'the newest, at most a page; all of them: GET /api/v1/deliveries?eventId=' }),
  })
  .meta({ id: 'EventDetail' });
export const EventsQuery = PageQuery.extend({
  type: cleanText(128).optional(),
  clientId: cleanText(200).optional(),
  source: z.enum(['remit', 'api']).optional(),
  ...createdTime,
});

/** An event that is stored and waits to be handed out, on the topic `events`, keyed by its id. */
export const EventMessage = z
  .looseObject({
    id: z.string().regex(/^[\w-]{1,64}$/),
    tenantId: z.string().min(1).max(64),
    clientId: z.string().nullable(),
    type: z.string().min(1).max(200),
    timestamp: Timestamp,
    data: keptObject('as it was published', DATA_EXAMPLE),
  })
  .meta({ id: 'EventMessage' });
export type EventMessage = z.infer<typeof EventMessage>;

/**
 * An event that somebody else publishes by putting it on the topic `events`: what POST /api/v1/events takes, with the
 * tenant. It has no `id`, which is remit's.
 */
export const PublishMessage = z
  .strictObject({
    tenantId: TenantId.meta({ description: 'whose event it is; the type must be one of this tenant' }),
    clientId: ClientEventId.meta({
      description:
        'The publisher’s own id, unique within the tenant: what makes a repeated message harmless. The same as `id` of POST /api/v1/events',
    }),
    type: EventTypeName,
    timestamp: Timestamp.optional().meta({ description: 'when it happened; when it was stored if left out' }),
    data: keptObject(
      'What subscribers get as data, byte for byte as it is here; it must satisfy the type’s schema',
      DATA_EXAMPLE,
    ),
  })
  .meta({
    id: 'PublishMessage',
    example: { tenantId: 'default', clientId: 'invoice-7', type: 'invoice.paid', data: DATA_EXAMPLE },
  });
export type PublishMessage = z.output<typeof PublishMessage>;

// ---------------------------------------------------------------------------------------------------- audit

export const AuditQuery = PageQuery.extend({
  kind: z.enum(['money', 'configuration']).optional().meta({
    description: 'money: operations on balances; configuration: everything else that was changed or refused',
  }),
  actor: cleanText(200).optional(),
  action: cleanText(100).optional(),
  cause: cleanText(300)
    .optional()
    .meta({ description: 'what it was about, such as subscription:sub_… or payment:…' }),
  ...createdTime,
});

const Minor = z
  .string()
  .regex(/^-?\d+$/)
  .nullable()
  .meta({ description: 'minor units' });
export const AuditRecord = z
  .object({
    id: z.string(),
    at: Instant,
    actor: z.string(),
    action: z.string(),
    cause: z.string(),
    accountId: z.string().nullable(),
    balanceBeforeMinor: Minor,
    balanceAfterMinor: Minor,
    heldBeforeMinor: Minor,
    heldAfterMinor: Minor,
    correlationId: z.string().nullable(),
    details: z
      .unknown()
      .meta({ description: 'before and after of a changed configuration; the event of a refused one' }),
  })
  .meta({ id: 'AuditRecord' });
export const AuditPage = page(AuditRecord, 'AuditPage');
