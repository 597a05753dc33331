import type { ExpirePaymentInput, ProviderEvent, SettleResult } from '../contracts/workflows';
import { expiryEvent } from '../domain/payment-expiry';
import { settleProviderEvent, type SettleInput } from '../domain/payments';
import type { ActivityDeps } from './deps';

/** Durable steps of the payment workflow. */
export function createPaymentActivities({ db, unknownTransactionWaitMs, showsUsers }: ActivityDeps) {
  async function settle(input: SettleInput): Promise<SettleResult> {
    const result = await settleProviderEvent(db, input);
    const waitUntil =
      result.outcome === 'unknown_transaction'
        ? new Date(Date.parse(input.receivedAt) + unknownTransactionWaitMs).toISOString()
        : null;
    return { ...result, userId: showsUsers ? result.userId : null, waitUntil };
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
  };
}

export type PaymentActivities = ReturnType<typeof createPaymentActivities>;
