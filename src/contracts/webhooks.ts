import { z } from 'zod';

/** Event types that remit itself emits to subscribers (DESIGN, "Webhooks out"). */
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
] as const;
export type OwnEventType = (typeof OWN_EVENT_TYPES)[number];

/** A webhook's body: `{type, timestamp, data}` of the Standard Webhooks specification. */
export const WebhookBody = z
  .object({
    type: z.string(),
    timestamp: z.iso.datetime({ offset: true }),
    data: z.record(z.string(), z.unknown()),
  })
  .meta({ id: 'WebhookBody' });
export type WebhookBody = z.infer<typeof WebhookBody>;

/** A full event type (`payment.succeeded`) or a wildcard at a dot (`payment.*`, `*`). */
export const EventTypePattern = z
  .string()
  .max(128)
  .regex(/^(\*|[a-z0-9_]+(\.[a-z0-9_]+)*(\.\*)?)$/, {
    error: 'an event type such as payment.succeeded, payment.* or *',
  });

/** Delivery states. `pending` covers waiting and retrying; the others are terminal. */
export const DeliveryStatus = z.enum(['pending', 'delivered', 'exhausted', 'cancelled']);
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
