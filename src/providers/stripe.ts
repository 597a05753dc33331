import { randomBytes } from 'node:crypto';
import { z } from 'zod';
import type { DisputeStatus, ProviderStatus } from '../contracts/messages';
import { minorUnitExponent, parseMajorAmount } from '../contracts/money';
import { SignatureError, type Provider, type ProviderEvent, type SampleSubject } from './provider';
import {
  ExactInteger,
  minorFromProvider,
  parseReference,
  readJson,
  readValue,
  reference,
  type Reference,
} from './reading';
import { hmacSha256, requiredHeader, requireFresh, sameText } from './signing';

/**
 * Stripe. What a webhook is about stands in the metadata that remit's caller gave the PaymentIntent, Payout or Dispute:
 * `remit: "payment:<id>"`, `"payout:<id>"` or `"order:<id>"`.
 */

/**
 * Stripe counts these otherwise than ISO 4217 does. ISK and UGX have no decimals any more and are still sent with two;
 * MGA has none at Stripe. Source: https://docs.stripe.com/currencies#special-cases
 */
const DECIMALS: Readonly<Record<string, number>> = { ISK: 2, UGX: 2, MGA: 0 };

const MAX_SIGNATURES = 16;

const Metadata = z.record(z.string(), z.string()).nullish();
const Money = { currency: z.string().length(3).toUpperCase() };
const PaymentIntent = z.looseObject({
  amount: ExactInteger,
  amount_received: ExactInteger.nullish(),
  ...Money,
  metadata: Metadata,
});
const Payout = z.looseObject({ amount: ExactInteger, ...Money, metadata: Metadata });
const Dispute = z.looseObject({
  id: z.string().regex(/^[A-Za-z0-9_-]{1,64}$/),
  amount: ExactInteger,
  ...Money,
  status: z.string(),
  reason: z.string().nullish(),
  evidence_details: z.looseObject({ due_by: ExactInteger.nullish() }).nullish(),
  metadata: Metadata,
});
const StripeEvent = z.looseObject({
  id: z.string().regex(/^[\x21-\x7e]{1,256}$/),
  type: z.string().max(200),
  data: z.looseObject({ object: z.record(z.string(), z.unknown()) }),
});
type StripeEvent = z.infer<typeof StripeEvent>;

/** A failed attempt is not the end: the same PaymentIntent can be paid with another card. Cancelling it is. */
const PAYMENT_STATUS: Readonly<Record<string, ProviderStatus>> = {
  'payment_intent.processing': 'pending',
  'payment_intent.payment_failed': 'pending',
  'payment_intent.succeeded': 'success',
  'payment_intent.canceled': 'failed',
};
const PAYOUT_STATUS: Readonly<Record<string, ProviderStatus>> = {
  'payout.created': 'pending',
  'payout.paid': 'success',
  'payout.failed': 'failed',
  'payout.canceled': 'failed',
};
/** Of a Dispute. `warning_…`: an inquiry, no money is held yet. */
const DISPUTE_STATUS: Readonly<Record<string, DisputeStatus>> = {
  needs_response: 'opened',
  under_review: 'under_review',
  won: 'won',
  lost: 'lost',
};

/** Splits `t=1492774577,v1=5257a8…,v1=…`. */
function parseSignatureHeader(header: string): { atS: number; signatures: string[] } {
  const pairs = header.split(',', MAX_SIGNATURES + 1).map((part) => part.trim().split('='));
  const at = pairs.find(([name]) => name === 't')?.[1] ?? '';
  if (!/^[1-9]\d{0,14}$/.test(at)) throw new SignatureError('stripe-signature has no time (t=)');
  return {
    atS: Number(at),
    signatures: pairs.filter(([name]) => name === 'v1').map(([, value]) => value ?? ''),
  };
}

function eventOf(event: StripeEvent): ProviderEvent {
  const { id: eventId, type, data } = event;
  const unhandled = (reason: string): ProviderEvent => ({ kind: 'unhandled', eventId, type, reason });
  const about = parseReference((Metadata.safeParse(data.object['metadata']).data ?? {})['remit']);
  if (type in PAYMENT_STATUS) return paymentEvent(event, PAYMENT_STATUS[type]!, about) ?? unhandled(NOT_OURS);
  if (type in PAYOUT_STATUS) return payoutEvent(event, PAYOUT_STATUS[type]!, about) ?? unhandled(NOT_OURS);
  if (type.startsWith('charge.dispute.'))
    return disputeEvent(event, about) ?? unhandled('it names no order of remit’s, or is an inquiry');
  return unhandled('remit ignores this type');
}

const NOT_OURS = 'its metadata names nothing of remit’s';

function paymentEvent(
  { id: eventId, data }: StripeEvent,
  status: ProviderStatus,
  about: Reference | undefined,
): ProviderEvent | undefined {
  if (about === undefined || about.kind === 'payout') return undefined;
  const intent = readObject(PaymentIntent, data.object);
  const { currency } = intent;
  const amount = status === 'success' ? (intent.amount_received ?? intent.amount) : intent.amount;
  const common = { eventId, status, currency, amountMinor: minorOf(amount, currency) };
  return about.kind === 'payment'
    ? { kind: 'payment', transactionId: about.id, ...common }
    : { kind: 'order', orderId: about.id, userId: null, ...common };
}

function payoutEvent(
  { id: eventId, data }: StripeEvent,
  status: ProviderStatus,
  about: Reference | undefined,
): ProviderEvent | undefined {
  if (about?.kind !== 'payout') return undefined;
  const { amount, currency } = readObject(Payout, data.object);
  return {
    kind: 'payout',
    eventId,
    transactionId: about.id,
    status,
    currency,
    amountMinor: minorOf(amount, currency),
  };
}

function disputeEvent(
  { id: eventId, data }: StripeEvent,
  about: Reference | undefined,
): ProviderEvent | undefined {
  if (about?.kind !== 'order') return undefined;
  const dispute = readObject(Dispute, data.object);
  const status = DISPUTE_STATUS[dispute.status];
  if (status === undefined) return undefined;
  const dueBy = dispute.evidence_details?.due_by;
  return {
    kind: 'dispute',
    eventId,
    orderId: about.id,
    disputeId: dispute.id,
    status,
    amountMinor: minorOf(dispute.amount, dispute.currency),
    currency: dispute.currency,
    reason: dispute.reason ?? null,
    evidenceDueBy: dueBy ? new Date(dueBy * 1_000).toISOString() : null,
  };
}

const readObject = <T extends z.ZodType>(schema: T, object: Record<string, unknown>) =>
  readValue(object, schema, 'data.object');

const decimalsOf = (currency: string) => DECIMALS[currency] ?? minorUnitExponent(currency);
const minorOf = (amount: number, currency: string) =>
  minorFromProvider(amount, currency, DECIMALS[currency] ?? safeExponent(currency), 'data.object.amount');

/** minorFromProvider refuses what is no currency, with the field's name. */
function safeExponent(currency: string): number {
  try {
    return minorUnitExponent(currency);
  } catch {
    return 0;
  }
}

/** Stripe's amount of a sample, a whole number. */
function stripeAmount({ amount, currency }: SampleSubject): number {
  const minor = parseMajorAmount(amount, currency);
  const shift = decimalsOf(currency) - minorUnitExponent(currency);
  return Number(shift >= 0 ? minor * 10n ** BigInt(shift) : minor / 10n ** BigInt(-shift));
}

function sampleBody(
  type: string,
  object: Record<string, unknown>,
  kind: Reference['kind'],
  subject: SampleSubject,
): string {
  return JSON.stringify({
    id: `evt_${subject.eventId}`,
    object: 'event',
    api_version: '2026-08-27.basil',
    created: 1_795_000_000,
    livemode: false,
    pending_webhooks: 1,
    request: { id: null, idempotency_key: null },
    type,
    data: {
      object: {
        ...object,
        amount: stripeAmount(subject),
        currency: subject.currency.toLowerCase(),
        metadata: { remit: reference({ kind, id: subject.id }) },
      },
    },
  });
}

const intent = (type: string, kind: 'payment' | 'order') => (subject: SampleSubject) =>
  sampleBody(
    type,
    {
      id: `pi_${subject.eventId}`,
      object: 'payment_intent',
      amount_received: type === 'payment_intent.succeeded' ? stripeAmount(subject) : 0,
      status: type === 'payment_intent.succeeded' ? 'succeeded' : 'canceled',
    },
    kind,
    subject,
  );
const payout = (type: string, status: string) => (subject: SampleSubject) =>
  sampleBody(type, { id: `po_${subject.eventId}`, object: 'payout', status }, 'payout', subject);
const dispute = (type: string, status: string) => (subject: SampleSubject) =>
  sampleBody(
    type,
    {
      id: `dp_${subject.id.replaceAll('-', '')}`,
      object: 'dispute',
      reason: 'product_not_received',
      status,
      evidence_details: { due_by: 1_796_000_000, has_evidence: false, past_due: false, submission_count: 0 },
    },
    'order',
    subject,
  );

export const stripe: Provider = {
  name: 'stripe',
  title: 'Stripe',
  documentation: 'https://docs.stripe.com/webhooks',
  contentType: 'application/json',
  secret: {
    description: 'the signing secret of the webhook endpoint (Developers → Webhooks), whsec_…',
    schema: z
      .string()
      .regex(/^whsec_[\x21-\x7e]{16,256}$/, { error: 'must be whsec_ and 16 to 256 characters' }),
    generate: () => `whsec_${randomBytes(24).toString('hex')}`,
  },

  /** `Stripe-Signature: t=<time>,v1=<hex>`: HMAC-SHA-256 of `<time>.<body>`, keyed by the secret as text. */
  verify(webhook, secrets, tools) {
    const { atS, signatures } = parseSignatureHeader(requiredHeader(webhook, 'stripe-signature'));
    const expected = secrets.map((secret) => hmacSha256(secret, [`${atS}.`, webhook.body], 'hex'));
    if (!signatures.some((given) => expected.some((each) => sameText(given, each))))
      throw new SignatureError('no v1 signature matches');
    requireFresh(atS, tools);
    return {};
  },

  events: (body) => [eventOf(readJson(body, StripeEvent))],

  samples: {
    'payment-succeeded': {
      title: 'a PaymentIntent of a payment succeeded',
      kind: 'payment',
      body: intent('payment_intent.succeeded', 'payment'),
    },
    'payment-canceled': {
      title: 'a PaymentIntent of a payment was cancelled',
      kind: 'payment',
      body: intent('payment_intent.canceled', 'payment'),
    },
    'order-paid': {
      title: 'a PaymentIntent of an order succeeded',
      kind: 'order',
      body: intent('payment_intent.succeeded', 'order'),
    },
    'payout-paid': { title: 'a payout arrived', kind: 'payout', body: payout('payout.paid', 'paid') },
    'payout-failed': { title: 'a payout failed', kind: 'payout', body: payout('payout.failed', 'failed') },
    'dispute-created': {
      title: 'a cardholder disputes an order',
      kind: 'dispute',
      body: dispute('charge.dispute.created', 'needs_response'),
    },
    'dispute-won': {
      title: 'the dispute was won',
      kind: 'dispute',
      body: dispute('charge.dispute.closed', 'won'),
    },
    'dispute-lost': {
      title: 'the dispute was lost',
      kind: 'dispute',
      body: dispute('charge.dispute.closed', 'lost'),
    },
    'charge-refunded': {
      title: 'a charge was refunded at Stripe: nothing that remit handles',
      kind: 'unhandled',
      body: (subject) =>
        sampleBody('charge.refunded', { id: `ch_${subject.eventId}`, object: 'charge' }, 'payment', subject),
    },
  },

  sign(body, secret, nowMs) {
    const atS = Math.floor(nowMs / 1_000);
    return {
      headers: {
        'content-type': 'application/json; charset=utf-8',
        'stripe-signature': `t=${atS},v1=${hmacSha256(secret, [`${atS}.`, body], 'hex')}`,
      },
      body,
    };
  },
};
