import { z } from 'zod';

/**
 * State changes that remit tells subscribers of, under its prefix (`WEBHOOK_EVENT_TYPES`), and other systems on
 * `domain.events`, where there are no others and no prefix. prisma/functions/events.sql has them too.
 */
export const OWN_EVENT_TYPES = [
  'payment.succeeded',
  'payment.failed',
  'payment.expired',
  'payout.succeeded',
  'payout.failed',
  'order.finished',
  'order.cancelled',
  'order.refunded',
  'order.charged_back',
  'dispute.opened',
  'dispute.won',
  'dispute.lost',
  'dispute.expired',
  'subscription.failing',
  'subscription.paused',
  'subscription.disabled',
  'subscription.recovered',
  'reconciliation.differs',
  'reconciliation.clean',
] as const;

/** The first word of every type that remit itself emits to subscribers, and of nobody else's (ADR 0025). */
export const RESERVED_EVENT_WORD = 'remit';

/** What subscribers see of remit's own. */
export const WEBHOOK_EVENT_TYPES: readonly string[] = OWN_EVENT_TYPES.map(
  (type) => `${RESERVED_EVENT_WORD}.${type}`,
);

/** State changes that other systems learn of on `domain.events`, and that subscribers are not told of. */
export const INTERNAL_EVENT_TYPES = ['order.credited', 'dispute.under_review'] as const;

/** A webhook's body: `{type, timestamp, data}` of the Standard Webhooks specification. */
export const WebhookBody = z
  .object({
    type: z.string(),
    timestamp: z.iso.datetime({ offset: true }),
    data: z.record(z.string(), z.unknown()),
  })
  .meta({ id: 'WebhookBody' });
export type WebhookBody = z.infer<typeof WebhookBody>;

const SEGMENT = '[A-Za-z0-9_-]+';

/**
 * A full event type, or one with wildcards: `*` stands for one segment, at the end for one or more (`invoice.*`,
 * `tenant.*.created`), alone for every type.
 */
export const EventTypePattern = z
  .string()
  .max(128)
  .regex(new RegExp(`^(${SEGMENT}|\\*)(\\.(${SEGMENT}|\\*))*$`), {
    error: 'an event type such as invoice.paid, or with * for a segment: invoice.*, a.*.c, *',
  })
  .meta({ example: 'invoice.*' });

/** A full event type: segments of A-Z a-z 0-9 _ - with dots between them. Case counts. */
export const EventTypeName = z
  .string()
  .max(128)
  .regex(new RegExp(`^${SEGMENT}(\\.${SEGMENT})*$`), {
    error: 'must be segments of A-Z a-z 0-9 _ - with dots between them, such as invoice.paid',
  })
  .meta({ example: 'invoice.paid' });

/** The type of a test event, which goes to one subscription alone. */
export const TEST_EVENT_TYPE = `${RESERVED_EVENT_WORD}.webhook.test`;

/**
 * Whether a type is remit's own, or may become so: nobody else can make a subscriber believe in a payment. In any case of
 * letters, as subscribers may compare without it.
 */
export function isReservedEventType(type: string): boolean {
  return type.split('.', 1)[0]?.toLowerCase() === RESERVED_EVENT_WORD;
}

const FilterScalar = z.union([
  z
    .string()
    .max(500)
    .refine((text) => !text.includes('\u0000') && !/\p{Surrogate}/u.test(text), {
      error: 'must not contain NUL characters or lone surrogates',
    }),
  z.number(),
  z.boolean(),
  z.null(),
]);
const FilterPath = z
  .string()
  .max(200)
  .regex(/^[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+){0,15}$/, {
    error: 'a dotted path such as customer.country or items.0.sku',
  })
  .meta({ description: 'where in the event’s data', example: 'customer.country' });

/**
 * Which events of the types a subscription wants, by their data: every condition must hold. Evaluated in the database
 * (filter_matches) where the deliveries are written, and nowhere else.
 */
export const SubscriptionFilter = z
  .array(
    z.union([
      z.strictObject({ path: FilterPath, op: z.enum(['eq', 'ne']), value: FilterScalar }),
      z.strictObject({
        path: FilterPath,
        op: z.enum(['in', 'nin']),
        value: z.array(FilterScalar).min(1).max(50),
      }),
      z.strictObject({
        path: FilterPath,
        op: z.enum(['gt', 'gte', 'lt', 'lte']),
        value: z.union([FilterScalar.options[0], z.number()]),
      }),
      z.strictObject({ path: FilterPath, op: z.literal('prefix'), value: FilterScalar.options[0] }),
      z.strictObject({ path: FilterPath, op: z.literal('exists'), value: z.boolean() }),
    ]),
  )
  .max(20)
  .meta({
    description:
      'Conditions on the event’s data, all of which must hold; none: every event. gt, gte, lt and lte compare as numbers when both sides are numbers or decimal strings such as "100.00", else as text; a path that does not exist fails all but ne, nin and exists=false',
  });
export type SubscriptionFilter = z.infer<typeof SubscriptionFilter>;

/** Headers that belong to the connection, to the body or to the signature: a subscription can't set them. */
const FORBIDDEN_HEADERS = new Set([
  ...['connection', 'keep-alive', 'proxy-authenticate', 'proxy-authorization', 'proxy-connection', 'te'],
  ...['trailer', 'transfer-encoding', 'upgrade', 'host', 'expect', 'date', 'via', 'forwarded'],
  ...['content-length', 'content-type', 'content-encoding', 'content-range', 'accept-encoding', 'user-agent'],
]);
const FORBIDDEN_PREFIXES = ['webhook-', 'svix-', 'x-forwarded-', 'sec-'];

/** Custom headers of a subscription. Kept in lower case, encrypted, and never shown again. */
export const SubscriptionHeaders = z
  .record(
    z
      .string()
      .max(100)
      .regex(/^[A-Za-z0-9][A-Za-z0-9-]*$/, { error: 'must be a header name of letters, digits and -' })
      .refine((name) => !FORBIDDEN_HEADERS.has(name.toLowerCase()), { error: 'this header can’t be set' })
      .refine((name) => !FORBIDDEN_PREFIXES.some((prefix) => name.toLowerCase().startsWith(prefix)), {
        error: 'this header can’t be set',
      }),
    z
      .string()
      .max(2_000)
      .regex(/^[\x21-\x7e](?:[\x20-\x7e]*[\x21-\x7e])?$/, {
        error: 'must be printable ASCII without spaces around it',
      }),
  )
  .refine((headers) => Object.keys(headers).length <= 20, { error: 'at most 20 headers' })
  .refine(
    (headers) =>
      new Set(Object.keys(headers).map((name) => name.toLowerCase())).size === Object.keys(headers).length,
    { error: 'a header is given twice' },
  )
  .meta({
    description:
      'sent with every webhook, at most 20; encrypted at rest and never shown. Not those of HTTP or of the signature',
  });

/**
 * Delivery states. `pending` covers waiting and retrying; the others end a delivery until somebody sends it again.
 * `held`: its subscription was paused or disabled; a resume brings it back.
 */
export const DeliveryStatus = z.enum(['pending', 'delivered', 'exhausted', 'cancelled', 'held']);
export type DeliveryStatus = z.infer<typeof DeliveryStatus>;

/** What became of one HTTP request to a subscriber. Everything but `delivered` is a failure that is retried. */
export const AttemptOutcome = z.enum([
  'delivered',
  'http_error',
  'timeout',
  'refused_address',
  'dns_error',
  'tls_error',
  'network_error',
]);
export type AttemptOutcome = z.infer<typeof AttemptOutcome>;

/** A delivery that was given up, on the DLQ: what was to be sent where, and what the last attempt met. */
export const DeliveryDeadLetter = z
  .object({
    delivery: z.object({
      id: z.string(),
      tenantId: z.string(),
      eventId: z.string().meta({ description: 'the webhook-id header' }),
      subscriptionId: z.string(),
      eventType: z.string(),
      url: z.string(),
      attempts: z.int(),
      createdAt: z.iso.datetime(),
      finishedAt: z.iso.datetime(),
    }),
    event: z.object({
      id: z.string(),
      type: z.string(),
      body: z.string().meta({ description: 'byte for byte what was sent' }),
    }),
    lastAttempt: z
      .object({
        attempt: z.int(),
        startedAt: z.iso.datetime(),
        durationMs: z.int(),
        result: z.string(),
        statusCode: z.int().nullable(),
        error: z.string().nullable(),
        responseBody: z.string().nullable(),
      })
      .nullable(),
  })
  .meta({ id: 'DeliveryDeadLetter' });
export type DeliveryDeadLetter = z.infer<typeof DeliveryDeadLetter>;
