import { z } from 'zod';
import { cleanText, createdTime, Instant, isWellFormed, NO_CONTROLS, page, PageQuery } from './http';
import { Timestamp } from './times';
import {
  AttemptOutcome,
  DeliveryStatus,
  EventTypePattern,
  SubscriptionFilter,
  SubscriptionHeaders,
} from './webhooks';

/** How many secrets sign at the same time at most, the present one among them: as many signatures a webhook has. */
export const MAX_VALID_SECRETS = 5;

/** A secret that the client brings, so that its subscribers' code goes on verifying when it moves here. */
const OwnSecret = z
  .string()
  .max(100)
  .regex(/^whsec_(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$/, {
    error: 'must be whsec_ and base64',
  })
  .refine(
    (secret) => {
      const { length } = Buffer.from(secret.slice('whsec_'.length), 'base64');
      return length >= 24 && length <= 64;
    },
    { error: 'must have 24 to 64 bytes' },
  )
  .meta({ description: 'whsec_ and 24 to 64 bytes in base64; a random one when left out', writeOnly: true });

const SubscriptionUid = z
  .string()
  .regex(/^(?!sub_)[A-Za-z0-9_.-]{1,128}$/, {
    error: 'must be 1 to 128 letters, digits, _, . or -, and not begin with sub_',
  })
  .meta({ description: 'your own id of it, unique; may stand wherever its id does', example: 'customer-17' });

export const Labels = z
  .array(z.string().regex(/^[\w.:/-]{1,64}$/, { error: 'must be 1 to 64 letters, digits, _, ., :, / or -' }))
  .max(20)
  .meta({ description: 'to find it by', example: ['team:accounting'] });

const MAX_METADATA_KEYS = 50;
const Metadata = z
  .record(cleanText(64).min(1), cleanText(500))
  .refine((metadata) => Object.keys(metadata).length <= MAX_METADATA_KEYS, {
    error: `at most ${MAX_METADATA_KEYS} keys`,
  })
  .meta({ description: 'your own notes; stored and shown, otherwise unused', example: { plan: 'gold' } });

const subscriptionFields = {
  url: z
    .url({ protocol: /^https?$/, error: 'must be an http or https URL' })
    .max(2_048)
    .regex(NO_CONTROLS, { error: 'must not contain control characters' })
    .refine(isWellFormed, { error: 'must not contain lone surrogates' })
    .meta({ example: 'https://example.com/webhooks' }),
  eventTypes: z.array(EventTypePattern).min(1).max(50),
  description: cleanText(500),
  filter: SubscriptionFilter,
  headers: SubscriptionHeaders,
  rateLimitPerSecond: z
    .int()
    .min(1)
    .max(10_000)
    .nullable()
    .meta({ description: 'most attempts a second to this subscriber; null: no limit of its own' }),
  ordered: z.boolean().meta({
    description:
      'deliver in the order of the events, one at a time: an event waits until the one before is finished',
  }),
  uid: SubscriptionUid.nullable(),
  labels: Labels,
  metadata: Metadata,
};
export const CreateSubscriptionBody = z
  .strictObject({
    url: subscriptionFields.url,
    eventTypes: subscriptionFields.eventTypes,
    description: subscriptionFields.description.default(''),
    filter: subscriptionFields.filter.default([]),
    headers: subscriptionFields.headers.default({}),
    rateLimitPerSecond: subscriptionFields.rateLimitPerSecond.default(null),
    ordered: subscriptionFields.ordered.default(false),
    uid: subscriptionFields.uid.default(null),
    labels: subscriptionFields.labels.default([]),
    metadata: subscriptionFields.metadata.default({}),
    secret: OwnSecret.optional(),
    paused: z.boolean().default(false).meta({
      description:
        'create it paused: it gets nothing until it is resumed, which can send it everything since then',
    }),
  })
  .meta({
    id: 'CreateSubscription',
    example: {
      url: 'https://example.com/webhooks',
      eventTypes: ['remit.payment.*', 'remit.order.finished'],
      description: 'Accounting',
      filter: [{ path: 'currency', op: 'eq', value: 'TRY' }],
      headers: { 'x-team': 'accounting' },
    },
  });
export const UpdateSubscriptionBody = z
  .strictObject(subscriptionFields)
  .partial()
  .meta({
    id: 'UpdateSubscription',
    example: { eventTypes: ['remit.payment.*'], rateLimitPerSecond: 20, ordered: true },
  });

const SubscriptionState = z.enum(['active', 'failing', 'paused', 'disabled']);
export const SubscriptionsQuery = PageQuery.extend({
  state: SubscriptionState.optional(),
  uid: SubscriptionUid.optional(),
  label: Labels.element.optional(),
});

export const Subscription = z
  .object({
    id: z.string(),
    url: z.string(),
    eventTypes: z.array(z.string()),
    description: z.string(),
    filter: SubscriptionFilter,
    headerNames: z
      .array(z.string())
      .meta({ description: 'names of the custom headers; their values are not shown' }),
    rateLimitPerSecond: z.int().nullable(),
    ordered: z.boolean(),
    uid: z.string().nullable(),
    labels: z.array(z.string()),
    metadata: z.record(z.string(), z.string()),
    state: SubscriptionState,
    stateReason: z.string().nullable().meta({
      description:
        'why it is in this state: operator, gone (410), exhausted, or what the last attempt met; null while it is active',
    }),
    stateChangedAt: Instant,
    restsUntil: Instant.nullable().meta({
      description:
        'nothing is sent to the subscriber until then, as it answered 429, 502, 503, 504 or not at all; a new URL, or having deliveries tried now, ends it',
    }),
    waiting: z.int().optional().meta({
      description:
        'deliveries that wait in its lane, counted up to 10,000; only where one subscription is read',
    }),
    version: z.int(),
    createdAt: Instant,
    updatedAt: Instant,
  })
  .meta({ id: 'Subscription' });
const shownOnce = z
  .string()
  .meta({ description: 'signs the webhooks (Standard Webhooks, whsec_...); shown only here' });
export const SubscriptionCreated = Subscription.extend({ secret: shownOnce }).meta({
  id: 'SubscriptionCreated',
});
export const RotateSecretBody = z
  .strictObject({
    overlapS: z
      .int()
      .min(0)
      .max(7 * 86_400)
      .optional()
      .meta({
        description:
          'seconds for which the old secret signs alongside the new one. As the server is configured when left out, 24 hours by default. Secrets of earlier rotations keep their own time; 0, when one leaked, ends them all at once',
      }),
    secret: OwnSecret.optional(),
  })
  .meta({ id: 'RotateSecret', example: { overlapS: 3600 } });
export const SecretRotated = z
  .object({ secret: shownOnce, previousSecretValidUntil: Instant.nullable() })
  .meta({ id: 'SecretRotated' });
export const SubscriptionPage = page(Subscription, 'SubscriptionPage');

export const TestFilterBody = z
  .strictObject({ filter: SubscriptionFilter, limit: z.int().min(1).max(100).default(20) })
  .meta({ id: 'TestFilter', example: { filter: [{ path: 'currency', op: 'eq', value: 'TRY' }], limit: 20 } });
export const FilterTested = z
  .object({
    items: z
      .array(z.object({ id: z.string(), type: z.string(), createdAt: Instant, matches: z.boolean() }))
      .meta({ description: 'the newest events of the subscription’s types' }),
  })
  .meta({ id: 'FilterTested' });

export const DeliveriesQuery = PageQuery.extend({
  subscriptionId: cleanText(128).optional(),
  eventId: cleanText(128).optional(),
  eventType: cleanText(128).optional(),
  status: DeliveryStatus.optional(),
  ...createdTime,
});

const WaitsFor = z.enum(['time', 'retry', 'order', 'rate', 'rest', 'place', 'pause']).meta({
  description:
    'what a pending delivery waits for. time, retry: for its first or next attempt, by its schedule; order: for those that were published before it; rate: for its turn in the rate of the subscription; rest: nothing is sent to the subscriber for a while; place: for one of the attempts that are made at a time; pause: the subscription gets nothing. null while it is attempted, and when it is not pending',
});
export const Delivery = z
  .object({
    id: z.string(),
    eventId: z.string().meta({ description: 'the webhook-id header' }),
    subscriptionId: z.string(),
    eventType: z.string(),
    status: DeliveryStatus,
    attempts: z.int(),
    lastStatusCode: z.int().nullable(),
    lastError: z.string().nullable(),
    nextAttemptAt: Instant.nullable().meta({
      description: 'when it is attempted next, as far as that is known; null also when it is under way',
    }),
    waitsFor: WaitsFor.nullable(),
    waitsForDeliveryId: z
      .string()
      .nullable()
      .meta({ description: 'of order: the delivery that comes first' }),
    createdAt: Instant,
    finishedAt: Instant.nullable(),
  })
  .meta({ id: 'Delivery' });
export const DeliveryPage = page(Delivery, 'DeliveryPage');

export const DeliveryAttempt = z
  .object({
    attempt: z.int(),
    startedAt: Instant,
    durationMs: z.int(),
    result: z.string(),
    statusCode: z.int().nullable(),
    error: z.string().nullable(),
    url: z.string().nullable().meta({ description: 'where it was sent' }),
    requestHeaders: z.record(z.string(), z.string()).nullable().meta({
      description:
        'what was sent, but for headers of the connection. Values of the subscription’s own headers are ***, and of a signature only the beginning is shown. null where it was not kept',
    }),
    responseHeaders: z.record(z.string(), z.string()).nullable().meta({
      description:
        'of the answer, at most 4,096 bytes. Cookies and what else may be secret are ***. null where there was no answer, or its headers could not be read',
    }),
    responseBody: z
      .string()
      .nullable()
      .meta({ description: 'at most WEBHOOK_RESPONSE_MAX_BYTES; null when there was no answer' }),
  })
  .meta({ id: 'DeliveryAttempt' });
export const DeliveryAttempts = page(DeliveryAttempt, 'DeliveryAttempts');

export const AttemptsQuery = PageQuery.extend({
  subscriptionId: cleanText(128).optional(),
  eventType: cleanText(128).optional(),
  outcome: z.enum(['delivered', 'failed']).optional(),
  result: AttemptOutcome.optional().meta({ description: 'one of the results, where outcome is too coarse' }),
  since: Timestamp.optional().meta({ description: 'begun from then on' }),
  until: Timestamp.optional().meta({ description: 'begun before then' }),
});
export const FoundAttempt = z
  .object({
    deliveryId: z.string(),
    attempt: z.int(),
    eventId: z.string().meta({ description: 'the webhook-id header' }),
    subscriptionId: z.string(),
    eventType: z.string(),
    startedAt: Instant,
    durationMs: z.int(),
    result: AttemptOutcome,
    statusCode: z.int().nullable(),
    error: z.string().nullable(),
  })
  .meta({ id: 'FoundAttempt' });
export const FoundAttempts = page(FoundAttempt, 'FoundAttempts');
