import type { ExpirePaymentInput, ProviderEvent, SettleResult } from '../contracts/workflows';
import type { DeadLetterCode } from '../contracts/errors';
import { expiryEvent } from '../domain/payment-sweep';
import { settleProviderEvent, type SettleInput } from '../domain/payments';
import type { ActivityDeps } from './deps';

/** What an event that will never be applied is dead-lettered with. */
export interface DeadLetterInput {
  event: ProviderEvent;
  code: DeadLetterCode;
  message: string;
}

/** Durable steps of the payment workflow. */
export function createPaymentActivities({
  db,
  sendDeadLetter,
  deliveryPolicy,
  unknownTransactionWaitMs,
}: ActivityDeps) {
  async function settle(input: SettleInput): Promise<SettleResult> {
    const { deliveries, ...result } = await settleProviderEvent(db, input);
    const waitUntil =
      result.outcome === 'unknown_transaction'
        ? new Date(Date.parse(input.receivedAt) + unknownTransactionWaitMs).toISOString()
        : null;
    return {
      ...result,
      waitUntil,
      deliveries: deliveries.map((row) => deliveryPolicy(row, input.correlationId)),
    };
  }

  return {
    /** Applies a provider's event to its payment. Idempotent by the provider's event id. */
    async settlePayment({ source: _, ...event }: ProviderEvent): Promise<SettleResult> {
      return settle(event);
    },

    /** Expires a payment that got no terminal event in time; a held payout is released. Idempotent. */
    async expirePayment(input: ExpirePaymentInput): Promise<SettleResult> {
      return settle({
        ...input,
        ...expiryEvent(input.transactionId),
      });
    },

    /** Puts an event that can't be applied on its topic's DLQ. Repeating it may repeat the dead letter. */
    async deadLetterEvent({ event, code, message }: DeadLetterInput): Promise<void> {
      await sendDeadLetter(event.source, code, message);
    },
  };
}

export type PaymentActivities = ReturnType<typeof createPaymentActivities>;
