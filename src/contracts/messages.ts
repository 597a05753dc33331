import { stringify } from 'lossless-json';
import { z } from 'zod';
import { Currency, MajorAmount } from './money';
import { Timestamp } from './times';
import { TRACEPARENT } from './tracing';

/** Kafka messages. Amounts on the wire are in major units; strings where remit is the producer. */

export const PaymentType = z.enum(['payment', 'payout']);
export type PaymentType = z.infer<typeof PaymentType>;

/** What a provider says of a transaction. Terminal: success, failed, expired. */
export const ProviderStatus = z.enum(['pending', 'success', 'failed', 'expired']);
export type ProviderStatus = z.infer<typeof ProviderStatus>;

/** In examples: the payment or the order that a webhook is about. */
const EXAMPLE_ID = '3f6d2c1a-8b4e-4d57-9a10-5c2e7f9b6d31';

const Uuid = z.guid().transform((value) => value.toLowerCase());

/** A DeCard webhook, the shape of `seeds/1`; other fields that the provider adds are kept but mean nothing to us. */
export const DecardEvent = z
  .looseObject({
    provider: z.literal('decard'),
    transactionId: Uuid.meta({ description: 'id of the payment or payout', format: 'uuid' }),
    status: ProviderStatus,
    amount: MajorAmount,
    currency: Currency,
    type: PaymentType,
  })
  .meta({
    id: 'DecardEvent',
    example: {
      provider: 'decard',
      transactionId: EXAMPLE_ID,
      status: 'success',
      amount: 100,
      currency: 'TRY',
      type: 'payment',
    },
  });
export type DecardEvent = z.infer<typeof DecardEvent>;

/** A line of text that means somebody: PostgreSQL stores no NUL, and lone surrogates have no UTF-8 form. */
const line = z
  .string()
  .max(128)
  .regex(/^[^\u0000-\u001f\u007f-\u009f]*$/, { error: 'must not contain control characters' })
  .refine((text) => !/\p{Surrogate}/u.test(text), { error: 'must not contain lone surrogates' });

/**
 * A provider's text of any kind as a line that everything behind can hold: runs of blanks and control characters (line
 * ends, NUL) become one blank, halves of surrogate pairs U+FFFD, and it is cut to the length. Null when nothing is left.
 */
export function toLine(value: unknown, maxLength: number): string | null {
  if (value === undefined || value === null) return null;
  const text = typeof value === 'string' ? value : (stringify(value) ?? '');
  const line = text
    .replace(/\p{Surrogate}/gu, '\ufffd')
    .replace(/[\u0000-\u0020\u007f-\u009f]+/g, ' ')
    .trim();
  if (line === '') return null;
  if (line.length <= maxLength) return line;
  return `${line.slice(0, maxLength - 1).replace(/[\ud800-\udbff]$/, '')}…`;
}

/** Text of a provider that decides nothing: never a reason to refuse what it says about money. */
const providerLine = (maxLength: number) =>
  z
    .preprocess((value) => toLine(value, maxLength), z.string().nullable())
    .optional()
    .meta({
      type: ['string', 'number', 'null'],
      description: `Any text or code. Control characters become blanks, and it is cut after ${maxLength} characters`,
    });

/** A time of a provider that only informs: one that can't be read counts as left out. */
const providerTime = z
  .preprocess((value) => Timestamp.nullish().safeParse(value).data ?? null, z.string().nullable())
  .optional()
  .meta({ type: ['string', 'null'], format: 'date-time' });

const ProviderEventId = z
  .string()
  .regex(/^[\x21-\x7e]{1,256}$/, { error: 'must be 1 to 256 printable ASCII characters without spaces' })
  .meta({ description: 'The provider’s id of this event: the same again is a duplicate' });

/** How an order is paid: from its user's balance, at once, or by a provider, whose order webhook says so. */
export const PaymentMethod = z.enum(['balance', 'provider']);
export type PaymentMethod = z.infer<typeof PaymentMethod>;

/** A provider's word on an order: it collected the money for it, or could not. */
export const OrderWebhook = z
  .looseObject({
    provider_event_id: ProviderEventId,
    order_id: Uuid.meta({ format: 'uuid' }),
    user_id: line.min(1),
    status: ProviderStatus,
    amount: MajorAmount,
    currency: Currency,
  })
  .meta({
    id: 'OrderWebhook',
    example: {
      provider_event_id: 'evt_1001',
      order_id: EXAMPLE_ID,
      user_id: 'user123',
      status: 'success',
      amount: '50.00',
      currency: 'TRY',
    },
  });
export type OrderWebhook = z.infer<typeof OrderWebhook>;

/** What a provider says of a dispute. Terminal: won (the money stays here), lost, expired. */
export const DisputeStatus = z.enum(['opened', 'under_review', 'won', 'lost', 'expired']);
export type DisputeStatus = z.infer<typeof DisputeStatus>;

/** A provider's own id of a dispute. */
export const ProviderDisputeId = z
  .string()
  .regex(/^[A-Za-z0-9_-]{1,64}$/, { error: 'must be 1 to 64 of A-Z a-z 0-9 _ -' });

/**
 * A dispute's id in remit, also the id of its workflow and a part of paths: the provider's name, a dot and the provider's
 * id, as two providers may number alike. Chargebacks of `/webhooks/payments/chargebacks` keep the id that they give.
 */
export const DisputeId = z.string().regex(/^([a-z][a-z0-9-]{0,31}\.)?[A-Za-z0-9_-]{1,64}$/);

/** See DisputeId. */
export const disputeIdOf = (provider: string, id: string): string => `${provider}.${id}`;

/** A provider's chargeback of an order. */
export const ChargebackWebhook = z
  .looseObject({
    provider_event_id: ProviderEventId,
    order_id: Uuid.meta({ format: 'uuid' }),
    dispute_id: ProviderDisputeId.nullish().meta({
      description:
        'Without one, all chargebacks of the order that have none are one dispute, order-<order_id>',
    }),
    status: DisputeStatus,
    amount: MajorAmount.nullish().meta({ description: 'The whole order when left out' }),
    currency: Currency.nullish().meta({ description: 'Required with amount' }),
    reason: providerLine(500),
    evidence_due_by: providerTime.meta({
      type: ['string', 'null'],
      format: 'date-time',
      description:
        'Until when evidence can be sent, RFC 3339. Left out or not readable: as the server is configured',
    }),
  })
  .refine(({ amount, currency }) => !amount || Boolean(currency), {
    path: ['currency'],
    error: 'is required with amount',
  })
  .meta({
    id: 'ChargebackWebhook',
    example: {
      provider_event_id: 'evt_2001',
      order_id: EXAMPLE_ID,
      dispute_id: 'dp_1001',
      status: 'opened',
      amount: '50.00',
      currency: 'TRY',
      reason: 'not received',
    },
  });
export type ChargebackWebhook = z.infer<typeof ChargebackWebhook>;

/** What order and chargeback webhooks travel in. `payload` is the webhook as it came. */
export const Envelope = z
  .object({
    event_id: z.guid().meta({ description: 'of this message, for tracing', format: 'uuid' }),
    key: Uuid.meta({ description: 'the order id', format: 'uuid' }),
    type: z.enum(['order.webhook', 'dispute.webhook']),
    payload: z.record(z.string(), z.unknown()),
    timestamp: Timestamp.meta({ description: 'when remit got the webhook' }),
  })
  .meta({ id: 'Envelope' });
export type Envelope = z.infer<typeof Envelope>;

/** Asks the order bridge to pay an order from its user's balance; produced through the outbox. */
export const PaymentRequestEvent = z
  .object({
    event: z.literal('payment-request'),
    orderId: Uuid,
    userId: line.min(1),
    amount: z.string(),
    currency: Currency,
    requestedAt: Timestamp,
  })
  .meta({ id: 'PaymentRequestEvent' });
export type PaymentRequestEvent = z.infer<typeof PaymentRequestEvent>;

/** How an order's payment ended, whichever way it was to be paid. SUCCESS finishes the order, FAILED cancels it. */
export const PaymentStatusEvent = z
  .object({
    event: z.literal('payment-status'),
    orderId: Uuid,
    userId: z.string(),
    paymentMethod: PaymentMethod,
    status: z.enum(['SUCCESS', 'FAILED']),
    reason: z.string().nullable(),
    amount: z.string(),
    currency: Currency,
    decidedAt: Timestamp,
  })
  .meta({ id: 'PaymentStatusEvent' });
export type PaymentStatusEvent = z.infer<typeof PaymentStatusEvent>;

/** A state change of an aggregate, for analytics and other systems; keyed by aggregate id. */
export const DomainEvent = z
  .object({
    id: z.string(),
    type: z.string(),
    aggregate: z.enum(['payment', 'payout', 'order', 'dispute', 'account', 'subscription', 'reconciliation']),
    aggregateId: z.string(),
    tenantId: z.string(),
    occurredAt: Timestamp,
    correlationId: z.string().nullable(),
    data: z.record(z.string(), z.unknown()),
  })
  .meta({ id: 'DomainEvent' });
export type DomainEvent = z.infer<typeof DomainEvent>;

/** Kafka header names. Values are UTF-8 strings. */
export const HEADERS = {
  correlationId: 'remit-correlation-id',
  providerEventId: 'remit-provider-event-id',
  receivedAt: 'remit-received-at',
  /** The span that sent it (W3C), where that was traced: docs/tracing.md. */
  traceparent: TRACEPARENT,
  /** Which event of the body, from 0, where one holds several: each has a message. Left out, all of them are meant. */
  eventIndex: 'remit-event-index',
  deadLetter: {
    topic: 'remit-source-topic',
    partition: 'remit-source-partition',
    offset: 'remit-source-offset',
    lastOffset: 'remit-source-last-offset',
    errorCode: 'remit-error-code',
    errorMessage: 'remit-error-message',
    firstFailedAt: 'remit-first-failed-at',
    attempts: 'remit-attempts',
    /** Only on the dead letter of a message that could not be read any more: why. */
    lost: 'remit-source-lost',
  },
} as const;
