import { z } from 'zod';
import { Currency, MajorAmount } from './money';

/** Kafka messages. Amounts on the wire are in major units; strings where remit is the producer. */

export const PaymentType = z.enum(['payment', 'payout']);
export type PaymentType = z.infer<typeof PaymentType>;

/** What a provider says of a transaction. Terminal: success, failed, expired. */
export const ProviderStatus = z.enum(['pending', 'success', 'failed', 'expired']);
export type ProviderStatus = z.infer<typeof ProviderStatus>;

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
  .meta({ id: 'DecardEvent' });
export type DecardEvent = z.infer<typeof DecardEvent>;

/** Asks the order bridge to pay an order from its user's balance; produced through the outbox. */
export const PaymentRequestEvent = z
  .object({
    event: z.literal('payment-request'),
    orderId: Uuid,
    userId: z.string().min(1),
    amount: z.string(),
    currency: Currency,
    requestedAt: z.iso.datetime(),
  })
  .meta({ id: 'PaymentRequestEvent' });
export type PaymentRequestEvent = z.infer<typeof PaymentRequestEvent>;

/** What became of a payment request. SUCCESS finishes the order, FAILED cancels it. */
export const PaymentStatusEvent = z
  .object({
    event: z.literal('payment-status'),
    orderId: Uuid,
    userId: z.string(),
    status: z.enum(['SUCCESS', 'FAILED']),
    reason: z.string().nullable(),
    amount: z.string(),
    currency: Currency,
    decidedAt: z.iso.datetime({ offset: true }),
  })
  .meta({ id: 'PaymentStatusEvent' });
export type PaymentStatusEvent = z.infer<typeof PaymentStatusEvent>;

/** A state change of an aggregate, for analytics and other systems; keyed by aggregate id. */
export const DomainEvent = z
  .object({
    id: z.string(),
    type: z.string(),
    aggregate: z.enum(['payment', 'payout', 'order', 'dispute', 'account', 'subscription']),
    aggregateId: z.string(),
    tenantId: z.string(),
    occurredAt: z.iso.datetime({ offset: true }),
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
  deadLetter: {
    topic: 'remit-source-topic',
    partition: 'remit-source-partition',
    offset: 'remit-source-offset',
    errorCode: 'remit-error-code',
    errorMessage: 'remit-error-message',
    firstFailedAt: 'remit-first-failed-at',
    attempts: 'remit-attempts',
  },
} as const;
