import { z } from 'zod';
import { cleanText, createdTime, Instant, isWellFormed, NO_CONTROLS, page, PageQuery } from './http';
import { DeliveryStatus, EventTypePattern, SubscriptionFilter, SubscriptionHeaders } from './webhooks';

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
    paused: z.boolean().default(false).meta({
      description: 'make it paused: it gets nothing until it is resumed, which can bring it all since then',
    }),
  })
  .meta({
    id: 'CreateSubscription',
    example: {
      url: 'https://example.com/webhooks',
      eventTypes: ['payment.*', 'order.finished'],
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
    example: { eventTypes: ['payment.*'], rateLimitPerSecond: 20, ordered: true },
  });

const SubscriptionState = z.enum(['active', 'failing', 'paused', 'disabled']);
export const SubscriptionsQuery = PageQuery.extend({ state: SubscriptionState.optional() });

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
    state: SubscriptionState,
    stateReason: z.string().nullable().meta({
      description:
        'why it is in this state: operator, gone (410), exhausted, or what the last attempt met; null while it is active',
    }),
    stateChangedAt: Instant,
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
          'seconds for which the old secret signs beside the new one; 0 when it leaked. As the server is configured when left out, 24 hours by default. A secret from an earlier rotation ends at once',
      }),
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
  subscriptionId: cleanText(64).optional(),
  eventId: cleanText(128).optional(),
  eventType: cleanText(128).optional(),
  status: DeliveryStatus.optional(),
  ...createdTime,
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
    responseBody: z.string().nullable(),
  })
  .meta({ id: 'DeliveryAttempt' });
export const DeliveryAttempts = page(DeliveryAttempt, 'DeliveryAttempts');
