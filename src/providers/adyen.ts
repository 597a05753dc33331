import { createHmac, randomBytes, timingSafeEqual } from 'node:crypto';
import { z } from 'zod';
import type { DisputeStatus, PaymentType, ProviderStatus } from '../contracts/messages';
import { minorUnitExponent, parseMajorAmount } from '../contracts/money';
import { SignatureError, type Provider, type ProviderEvent, type SampleSubject } from './provider';
import {
  ExactInteger,
  minorFromProvider,
  parseReference,
  readJson,
  reference,
  type Reference,
} from './reading';

/**
 * Adyen. The merchant reference says what a notification is about: `payment:<id>`, `payout:<id>` or `order:<id>`.
 *
 * Each item of a body is signed by itself, and the signature covers eight of its fields and no others
 * (https://docs.adyen.com/development-resources/webhooks/secure-webhooks/verify-hmac-signatures). What moves money is read from
 * those alone.
 */

/** Where Adyen's decimals differ from ISO 4217. Source: https://docs.adyen.com/development-resources/currency-codes */
const DECIMALS: Readonly<Record<string, number>> = { CLP: 2, CVE: 0, IDR: 0, ISK: 2 };

const MAX_ITEMS = 100;

const Item = z.looseObject({
  eventCode: z.string().max(100),
  success: z.union([z.boolean(), z.enum(['true', 'false'])]).transform((value) => String(value) === 'true'),
  pspReference: z.string().regex(/^[A-Za-z0-9_-]{1,64}$/),
  originalReference: z.string().nullish(),
  merchantAccountCode: z.string().nullish(),
  merchantReference: z.string().nullish(),
  reason: z.string().nullish(),
  amount: z
    .looseObject({ value: ExactInteger.nullish(), currency: z.string().nullish() })
    .nullish()
    .transform((amount) => amount ?? {}),
  additionalData: z.record(z.string(), z.unknown()).nullish(),
});
type Item = z.infer<typeof Item>;

const Notification = z.looseObject({
  notificationItems: z
    .array(z.looseObject({ NotificationRequestItem: Item }))
    .min(1)
    .max(MAX_ITEMS),
});

type Outcome = Readonly<Record<string, { success: ProviderStatus; failure: ProviderStatus }>>;
/** A refused authorisation is not the end: the shopper may try again under the same reference. */
const PAYMENT: Outcome = {
  AUTHORISATION: { success: 'success', failure: 'pending' },
  CAPTURE_FAILED: { success: 'failed', failure: 'pending' },
  CANCELLATION: { success: 'failed', failure: 'pending' },
  TECHNICAL_CANCEL: { success: 'failed', failure: 'pending' },
  EXPIRE: { success: 'expired', failure: 'pending' },
  OFFER_CLOSED: { success: 'expired', failure: 'pending' },
};
const PAYOUT: Outcome = {
  PAYOUT_THIRDPARTY: { success: 'success', failure: 'failed' },
  PAYOUT_DECLINE: { success: 'failed', failure: 'pending' },
  PAYOUT_EXPIRE: { success: 'expired', failure: 'pending' },
};
/** By the event code, which is signed; `additionalData.disputeStatus` is not. */
const DISPUTE: Readonly<Record<string, DisputeStatus>> = {
  NOTIFICATION_OF_CHARGEBACK: 'opened',
  CHARGEBACK: 'opened',
  INFORMATION_SUPPLIED: 'under_review',
  CHARGEBACK_REVERSED: 'under_review',
  PREARBITRATION_WON: 'won',
  SECOND_CHARGEBACK: 'lost',
  PREARBITRATION_LOST: 'lost',
};

/** What the signature of an item covers, in Adyen's order. */
function signedText(item: Item): string {
  return [
    item.pspReference,
    item.originalReference ?? '',
    item.merchantAccountCode ?? '',
    item.merchantReference ?? '',
    item.amount.value ?? '',
    item.amount.currency ?? '',
    item.eventCode,
    String(item.success),
  ].join(':');
}

const signatureOf = (secret: string, text: string): Buffer =>
  createHmac('sha256', Buffer.from(secret, 'hex')).update(text).digest();

function matches(item: Item, secrets: readonly string[]): boolean {
  const given = item.additionalData?.['hmacSignature'];
  if (typeof given !== 'string') return false;
  const bytes = Buffer.from(given, 'base64');
  const text = signedText(item);
  return secrets.some((secret) => {
    const expected = signatureOf(secret, text);
    return bytes.length === expected.length && timingSafeEqual(bytes, expected);
  });
}

function eventOf(item: Item): ProviderEvent {
  const { eventCode, pspReference, success } = item;
  // Adyen repeats a notification under the same pspReference and eventCode; an outcome that changes is another event.
  const eventId = `${pspReference}:${eventCode}:${success}`;
  const unhandled = (reason: string): ProviderEvent => ({
    kind: 'unhandled',
    eventId,
    type: eventCode,
    reason,
  });
  const about = parseReference(item.merchantReference);
  const known = PAYMENT[eventCode] ?? PAYOUT[eventCode] ?? DISPUTE[eventCode];
  if (known === undefined) return unhandled('remit ignores this code');
  if (about === undefined) return unhandled('the merchant reference names nothing of remit’s');
  const { currency, value } = item.amount;
  if (!currency || value === null || value === undefined) return unhandled('it has no amount');
  const decimals = DECIMALS[currency] ?? exponentOrZero(currency);
  const amount = { amountMinor: minorFromProvider(value, currency, decimals, 'amount.value'), currency };

  if (DISPUTE[eventCode] !== undefined) {
    if (about.kind !== 'order') return unhandled('it disputes no order');
    if (!success) return unhandled('it did not succeed');
    return {
      kind: 'dispute',
      eventId,
      orderId: about.id,
      disputeId: pspReference,
      status: DISPUTE[eventCode],
      ...amount,
      reason: item.reason ?? null,
      evidenceDueBy: dueBy(item.additionalData?.['defensePeriodEndsAt']),
    };
  }
  const outcome = (about.kind === 'payout' ? PAYOUT : PAYMENT)[eventCode];
  if (outcome === undefined) return unhandled(`the code does not fit a reference of a ${about.kind}`);
  const status = success ? outcome.success : outcome.failure;
  return about.kind === 'order'
    ? { kind: 'order', eventId, orderId: about.id, userId: null, status, ...amount }
    : { kind: about.kind satisfies PaymentType, eventId, transactionId: about.id, status, ...amount };
}

/** minorFromProvider refuses what is no currency, with the field's name. */
function exponentOrZero(currency: string): number {
  try {
    return minorUnitExponent(currency);
  } catch {
    return 0;
  }
}

function dueBy(value: unknown): string | null {
  const ms = typeof value === 'string' ? Date.parse(value) : NaN;
  return Number.isNaN(ms) ? null : new Date(ms).toISOString();
}

function adyenAmount({ amount, currency }: SampleSubject): number {
  const exponent = minorUnitExponent(currency);
  const shift = (DECIMALS[currency] ?? exponent) - exponent;
  const minor = parseMajorAmount(amount, currency);
  return Number(shift >= 0 ? minor * 10n ** BigInt(shift) : minor / 10n ** BigInt(-shift));
}

const sample = (eventCode: string, success: boolean, kind: Reference['kind']) => (subject: SampleSubject) =>
  JSON.stringify({
    live: 'false',
    notificationItems: [
      {
        NotificationRequestItem: {
          additionalData: {},
          amount: { currency: subject.currency, value: adyenAmount(subject) },
          eventCode,
          eventDate: '2026-11-26T09:37:35+01:00',
          merchantAccountCode: 'RemitECOM',
          merchantReference: reference({ kind, id: subject.id }),
          originalReference: '',
          paymentMethod: 'mc',
          // A dispute's reference is the same in all of its notifications.
          pspReference:
            eventCode in DISPUTE
              ? `D${subject.id.replaceAll('-', '').slice(0, 15).toUpperCase()}`
              : subject.eventId,
          reason: success ? '' : 'Refused',
          success: String(success),
        },
      },
    ],
  });

export const adyen: Provider = {
  name: 'adyen',
  title: 'Adyen',
  documentation: 'https://docs.adyen.com/development-resources/webhooks',
  contentType: 'application/json',
  secret: {
    description: 'the HMAC key of the webhook (Developers → Webhooks → Security), 64 hexadecimal digits',
    schema: z.string().regex(/^[0-9A-Fa-f]{64}$/, { error: 'must be 64 hexadecimal digits' }),
    generate: () => randomBytes(32).toString('hex').toUpperCase(),
  },

  /** HMAC-SHA-256, base64, in each item. There is no signed time: what is replayed is found to be a duplicate. */
  verify({ body }, secrets) {
    const { notificationItems } = readJson(body, Notification);
    for (const [index, { NotificationRequestItem: item }] of notificationItems.entries())
      if (!matches(item, secrets))
        throw new SignatureError(`the hmacSignature of item ${index} does not match`);
    return {};
  },

  events: (body) =>
    readJson(body, Notification).notificationItems.map(({ NotificationRequestItem: item }) => eventOf(item)),

  acknowledgement: { status: 200, contentType: 'text/plain', body: '[accepted]' },

  samples: {
    'payment-authorised': {
      title: 'a payment was authorised',
      kind: 'payment',
      body: sample('AUTHORISATION', true, 'payment'),
    },
    'payment-cancelled': {
      title: 'a payment was cancelled',
      kind: 'payment',
      body: sample('CANCELLATION', true, 'payment'),
    },
    'order-authorised': {
      title: 'the payment of an order was authorised',
      kind: 'order',
      body: sample('AUTHORISATION', true, 'order'),
    },
    'payout-sent': {
      title: 'a payout was sent',
      kind: 'payout',
      body: sample('PAYOUT_THIRDPARTY', true, 'payout'),
    },
    'payout-failed': {
      title: 'a payout failed',
      kind: 'payout',
      body: sample('PAYOUT_THIRDPARTY', false, 'payout'),
    },
    chargeback: {
      title: 'a chargeback of an order',
      kind: 'dispute',
      body: sample('CHARGEBACK', true, 'order'),
    },
    'chargeback-won': {
      title: 'the dispute was won',
      kind: 'dispute',
      body: sample('PREARBITRATION_WON', true, 'order'),
    },
    'chargeback-lost': {
      title: 'a second chargeback: the dispute is lost',
      kind: 'dispute',
      body: sample('SECOND_CHARGEBACK', true, 'order'),
    },
    'report-available': {
      title: 'a report is ready: nothing that remit handles',
      kind: 'unhandled',
      body: sample('REPORT_AVAILABLE', true, 'payment'),
    },
  },

  sign(body, secret) {
    const notification = JSON.parse(body) as {
      notificationItems: { NotificationRequestItem: Record<string, unknown> }[];
    };
    for (const { NotificationRequestItem: item } of notification.notificationItems) {
      const signature = signatureOf(secret, signedText(Item.parse(item))).toString('base64');
      item['additionalData'] = { ...(item['additionalData'] as object), hmacSignature: signature };
    }
    return {
      headers: { 'content-type': 'application/json; charset=utf-8' },
      body: JSON.stringify(notification),
    };
  },
};
