import { DecardEvent } from '../contracts/messages';
import { minorUnitExponent } from '../contracts/money';
import type { PaymentType, ProviderStatus } from '../contracts/messages';
import { BodyError, type Provider, type SampleSubject } from './provider';
import { minorFromMajor, parseBody, readValue } from './reading';
import { signStandardWebhook, standardWebhooksSecret, verifyStandardWebhook } from './standard-webhooks';

/** DeCard, whose events are those of the founding documents; it signs as Standard Webhooks say. */

const sample = (type: PaymentType, status: ProviderStatus) => (subject: SampleSubject) =>
  JSON.stringify({
    provider: 'decard',
    transactionId: subject.id,
    status,
    // As DeCard sends it: a number, where one is exact.
    amount: minorUnitExponent(subject.currency) <= 3 ? Number(subject.amount) : subject.amount,
    currency: subject.currency,
    type,
  });

export const decard: Provider = {
  name: 'decard',
  title: 'DeCard',
  documentation: 'https://www.standardwebhooks.com',
  contentType: 'application/json',
  secret: standardWebhooksSecret,
  body: DecardEvent,

  verify: (webhook, secrets, tools) => ({ webhookId: verifyStandardWebhook(webhook, secrets, tools) }),

  events(body, webhookId) {
    const json = parseBody(body);
    const named = (json as { provider?: unknown } | null)?.provider;
    if (typeof named === 'string' && named !== 'decard')
      throw new BodyError(
        'provider',
        `the event is of ${named.slice(0, 100)}, not of decard`,
        'unknown_provider',
      );
    const event = readValue(json, DecardEvent);
    const { transactionId, type, status, amount, currency } = event;
    const amountMinor = minorFromMajor(String(amount), currency);
    return [
      {
        kind: type,
        eventId: webhookId ?? `${transactionId}:${type}:${status}`,
        transactionId,
        status,
        amountMinor,
        currency,
        // Without an id of the provider's, a repetition may carry other extras (a time, a count of attempts): what it says
        // of the transaction is what counts.
        ...(webhookId === undefined ? {} : { content: { ...event, amount: String(amountMinor) } }),
      },
    ];
  },

  samples: {
    'payment-success': { title: 'a payment succeeded', kind: 'payment', body: sample('payment', 'success') },
    'payment-failed': { title: 'a payment failed', kind: 'payment', body: sample('payment', 'failed') },
    'payment-expired': { title: 'a payment expired', kind: 'payment', body: sample('payment', 'expired') },
    'payout-success': { title: 'a payout arrived', kind: 'payout', body: sample('payout', 'success') },
    'payout-failed': { title: 'a payout failed', kind: 'payout', body: sample('payout', 'failed') },
  },

  sign: signStandardWebhook,
};
