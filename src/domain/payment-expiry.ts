import type { Database } from '../platform/postgres';
import { settleProviderEvent } from './payments';
import { expireStep, type Overdue, type ExpiryLimits, type OverdueStep, type OverdueRows } from './expiry';

interface OverduePayment extends Overdue {
  provider: string;
  type: 'payment' | 'payout';
  status: string;
  amount_minor: string;
  currency: string;
}

/**
 * Payments and payouts that are long overdue and that no workflow expired, because no event of theirs ever came. Goes
 * through settle_provider_event under the same event id as the workflow's own expiry: whichever comes second is a
 * duplicate.
 */
const PAYMENTS: OverdueRows<OverduePayment> = {
  job: 'payment-expiry',
  sql: `SELECT id, expires_at AS at, provider, type, status, amount_minor, currency, correlation_id FROM payments
         WHERE (expires_at, id) > ($1::timestamptz, $2::uuid) AND expires_at <= now() - $3 * interval '1 millisecond'
         ORDER BY expires_at, id LIMIT $4`,
  async expire(db, { id, provider, type, status, amount_minor: amountMinor, currency }, correlationId) {
    if (status !== 'pending') return undefined;
    return settleProviderEvent(db, {
      ...expiryEvent(id),
      provider,
      type,
      amountMinor,
      currency,
      correlationId,
    });
  },
};

/**
 * One bounded step of expiring payments that no workflow expired (`expireStep`). What the database refuses is found by the
 * reconciliation check `payments_vs_expiry`.
 * @throws DataRefusedError when the database refuses every one of several payments.
 */
export function expireOverduePayments(db: Database, limits: ExpiryLimits): Promise<OverdueStep> {
  return expireStep(db, PAYMENTS, limits);
}

/** What expires a payment, whoever finds it overdue: one event id, so that it happens once. */
export function expiryEvent(transactionId: string) {
  return {
    transactionId,
    status: 'expired' as const,
    // The space keeps it apart from every id that a provider can send.
    providerEventId: `remit expiry:${transactionId}`,
    payloadHash: 'expiry',
    receivedAt: new Date().toISOString(),
    actor: 'system:expiry',
  };
}
