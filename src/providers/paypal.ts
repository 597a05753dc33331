import {
  createPrivateKey,
  createPublicKey,
  createSign,
  createVerify,
  generateKeyPairSync,
  randomBytes,
  X509Certificate,
  type KeyObject,
} from 'node:crypto';
import { crc32 } from 'node:zlib';
import { z } from 'zod';
import type { DisputeStatus, ProviderStatus } from '../contracts/messages';
import {
  SignatureError,
  type Provider,
  type ProviderEvent,
  type SampleSubject,
  type VerifyTools,
} from './provider';
import { minorFromMajor, parseReference, readJson, readValue, reference, type Reference } from './reading';
import { requiredHeader, requireFresh } from './signing';

/**
 * PayPal. `custom_id` of a purchase unit (in disputes `custom`), or `sender_item_id` of a payout item, says what a webhook
 * is about: `payment:<id>`, `order:<id>` or `payout:<id>`.
 *
 * The signature is PayPal's own, over id, time, webhook id and the CRC-32 of the body, and is checked here with PayPal's
 * certificate rather than by asking PayPal back: https://developer.paypal.com/api/rest/webhooks/rest/#link-selfverification
 */

const CERTIFICATE_HOSTS = new Set(['api.paypal.com', 'api.sandbox.paypal.com']);
const CERTIFICATE_PATH = /^\/v1\/notifications\/certs\/[A-Za-z0-9._-]{1,100}$/;

const Amount = z.looseObject({ value: z.string().max(40), currency_code: z.string().max(3) });
const Capture = z.looseObject({ amount: Amount, custom_id: z.string().nullish() });
const PayoutItem = z.looseObject({
  payout_item: z.looseObject({
    sender_item_id: z.string().nullish(),
    amount: z.looseObject({ value: z.string().max(40), currency: z.string().max(3) }),
  }),
});
const Dispute = z.looseObject({
  dispute_id: z.string().regex(/^[A-Za-z0-9_-]{1,64}$/),
  reason: z.string().nullish(),
  status: z.string().max(100),
  dispute_amount: Amount,
  dispute_outcome: z.looseObject({ outcome_code: z.string().nullish() }).nullish(),
  seller_response_due_date: z.string().nullish(),
  disputed_transactions: z
    .array(z.looseObject({ custom: z.string().nullish() }))
    .min(1)
    .max(100),
});
const PaypalEvent = z.looseObject({
  id: z.string().regex(/^[\x21-\x7e]{1,256}$/),
  event_type: z.string().max(200),
  resource: z.record(z.string(), z.unknown()),
});
type PaypalEvent = z.infer<typeof PaypalEvent>;

const CAPTURE_STATUS: Readonly<Record<string, ProviderStatus>> = {
  'PAYMENT.CAPTURE.PENDING': 'pending',
  'PAYMENT.CAPTURE.COMPLETED': 'success',
  'PAYMENT.CAPTURE.DENIED': 'failed',
  'PAYMENT.CAPTURE.DECLINED': 'failed',
};
const PAYOUT_STATUS: Readonly<Record<string, ProviderStatus>> = {
  'PAYMENT.PAYOUTS-ITEM.HELD': 'pending',
  'PAYMENT.PAYOUTS-ITEM.UNCLAIMED': 'pending',
  'PAYMENT.PAYOUTS-ITEM.SUCCEEDED': 'success',
  'PAYMENT.PAYOUTS-ITEM.BLOCKED': 'failed',
  'PAYMENT.PAYOUTS-ITEM.CANCELED': 'failed',
  'PAYMENT.PAYOUTS-ITEM.DENIED': 'failed',
  'PAYMENT.PAYOUTS-ITEM.FAILED': 'failed',
  'PAYMENT.PAYOUTS-ITEM.RETURNED': 'failed',
};
const OUTCOME: Readonly<Record<string, DisputeStatus>> = {
  RESOLVED_SELLER_FAVOUR: 'won',
  CANCELED_BY_BUYER: 'won',
  DENIED: 'won',
  // PayPal pays the buyer from its own money.
  RESOLVED_WITH_PAYOUT: 'won',
  RESOLVED_BUYER_FAVOUR: 'lost',
  ACCEPTED: 'lost',
};

/** A secret is PayPal's id of the webhook; with a key after the colon somebody plays PayPal, and the key verifies. */
function splitSecret(secret: string): { webhookId: string; played: KeyObject | undefined } {
  const [webhookId = '', key] = secret.split(':');
  if (key === undefined) return { webhookId, played: undefined };
  return {
    webhookId,
    played: createPrivateKey({ key: Buffer.from(key, 'base64'), format: 'der', type: 'pkcs8' }),
  };
}

/** @throws SignatureError unless the address is one of PayPal's certificates, before anything is fetched. */
function requireCertificateUrl(text: string): string {
  const url = URL.canParse(text) ? new URL(text) : undefined;
  const right =
    url?.protocol === 'https:' &&
    CERTIFICATE_HOSTS.has(url.host) &&
    url.username === '' &&
    url.search === '' &&
    CERTIFICATE_PATH.test(url.pathname);
  if (!right) throw new SignatureError('paypal-cert-url is not a certificate of PayPal’s');
  return url.href;
}

async function paypalKey(url: string, tools: VerifyTools): Promise<KeyObject> {
  const pem = await tools.fetchPem(url);
  const { nowMs } = tools;
  let certificate: X509Certificate;
  try {
    certificate = new X509Certificate(pem);
  } catch {
    throw new SignatureError('the certificate can’t be read');
  }
  if (nowMs < Date.parse(certificate.validFrom) || nowMs > Date.parse(certificate.validTo))
    throw new SignatureError('the certificate is not valid at this time');
  return certificate.publicKey;
}

const signedText = (id: string, time: string, webhookId: string, body: Buffer) =>
  `${id}|${time}|${webhookId}|${crc32(body)}`;

function eventOf(event: PaypalEvent): ProviderEvent {
  const { id: eventId, event_type: type, resource } = event;
  const unhandled = (reason: string): ProviderEvent => ({ kind: 'unhandled', eventId, type, reason });
  if (type in CAPTURE_STATUS) {
    const { amount, custom_id: custom } = read(Capture, resource);
    const about = parseReference(custom);
    if (about === undefined || about.kind === 'payout') return unhandled(NOT_OURS);
    const common = { eventId, status: CAPTURE_STATUS[type]!, ...moneyOf(amount) };
    return about.kind === 'payment'
      ? { kind: 'payment', transactionId: about.id, ...common }
      : { kind: 'order', orderId: about.id, userId: null, ...common };
  }
  if (type in PAYOUT_STATUS) {
    const { sender_item_id: item, amount } = read(PayoutItem, resource).payout_item;
    const about = parseReference(item);
    if (about?.kind !== 'payout') return unhandled(NOT_OURS);
    const money = moneyOf({ value: amount.value, currency_code: amount.currency });
    return { kind: 'payout', eventId, transactionId: about.id, status: PAYOUT_STATUS[type]!, ...money };
  }
  if (type.startsWith('CUSTOMER.DISPUTE.')) return disputeOf(eventId, type, read(Dispute, resource));
  return unhandled('remit ignores this type');
}

const NOT_OURS = 'its reference names nothing of remit’s';

function disputeOf(eventId: string, type: string, dispute: z.infer<typeof Dispute>): ProviderEvent {
  const about = dispute.disputed_transactions.map(({ custom }) => parseReference(custom)).find(Boolean);
  if (about?.kind !== 'order') return { kind: 'unhandled', eventId, type, reason: NOT_OURS };
  const status = disputeStatus(type, dispute);
  if (status === undefined)
    return { kind: 'unhandled', eventId, type, reason: 'remit does not know its outcome' };
  const dueMs = Date.parse(dispute.seller_response_due_date ?? '');
  return {
    kind: 'dispute',
    eventId,
    orderId: about.id,
    disputeId: dispute.dispute_id,
    status,
    ...moneyOf(dispute.dispute_amount),
    reason: dispute.reason ?? null,
    evidenceDueBy: Number.isNaN(dueMs) ? null : new Date(dueMs).toISOString(),
  };
}

function disputeStatus(type: string, dispute: z.infer<typeof Dispute>): DisputeStatus | undefined {
  if (type === 'CUSTOMER.DISPUTE.RESOLVED') return OUTCOME[dispute.dispute_outcome?.outcome_code ?? ''];
  return dispute.status === 'UNDER_REVIEW' ? 'under_review' : 'opened';
}

const read = <T extends z.ZodType>(schema: T, resource: Record<string, unknown>) =>
  readValue(resource, schema, 'resource');
const moneyOf = ({ value, currency_code: currency }: z.infer<typeof Amount>) => ({
  amountMinor: minorFromMajor(value, currency, 'resource.amount'),
  currency,
});

const sampleEvent = (
  type: string,
  resourceType: string,
  resource: Record<string, unknown>,
  eventId: string,
) =>
  JSON.stringify({
    id: `WH-${eventId}`,
    event_version: '1.0',
    create_time: '2026-11-26T08:37:35.123Z',
    resource_type: resourceType,
    event_type: type,
    summary: type,
    resource,
    links: [],
  });
const capture = (type: string, kind: Reference['kind']) => (subject: SampleSubject) =>
  sampleEvent(
    type,
    'capture',
    {
      id: subject.eventId,
      amount: { value: subject.amount, currency_code: subject.currency },
      custom_id: reference({ kind, id: subject.id }),
      status: type.split('.').at(-1),
    },
    subject.eventId,
  );
const payoutItem = (type: string) => (subject: SampleSubject) =>
  sampleEvent(
    type,
    'payouts_item',
    {
      payout_item_id: subject.eventId,
      payout_item: {
        recipient_type: 'EMAIL',
        receiver: 'somebody@example.com',
        sender_item_id: reference({ kind: 'payout', id: subject.id }),
        amount: { value: subject.amount, currency: subject.currency },
      },
    },
    subject.eventId,
  );
const dispute = (type: string, status: string, outcome?: string) => (subject: SampleSubject) =>
  sampleEvent(
    type,
    'dispute',
    {
      dispute_id: `PP-D-${subject.id.replaceAll('-', '').slice(0, 12)}`,
      reason: 'MERCHANDISE_OR_SERVICE_NOT_RECEIVED',
      status,
      dispute_amount: { value: subject.amount, currency_code: subject.currency },
      disputed_transactions: [{ custom: reference({ kind: 'order', id: subject.id }) }],
      ...(outcome ? { dispute_outcome: { outcome_code: outcome } } : {}),
    },
    subject.eventId,
  );

export const paypal: Provider = {
  name: 'paypal',
  title: 'PayPal',
  documentation: 'https://developer.paypal.com/api/rest/webhooks/',
  contentType: 'application/json',
  secret: {
    description: 'the id of the webhook in the app’s settings, which PayPal includes in its signature',
    schema: z
      .string()
      .regex(/^[A-Za-z0-9-]{8,64}(:[A-Za-z0-9+/=]{100,4000})?$/, { error: 'must be the id of a webhook' }),
    generate: () => {
      const { privateKey } = generateKeyPairSync('rsa', { modulusLength: 2_048 });
      const key = privateKey.export({ format: 'der', type: 'pkcs8' }).toString('base64');
      return `${randomBytes(8).toString('hex').toUpperCase()}:${key}`;
    },
  },

  async verify(webhook, secrets, tools) {
    const id = requiredHeader(webhook, 'paypal-transmission-id');
    const time = requiredHeader(webhook, 'paypal-transmission-time');
    const signature = Buffer.from(requiredHeader(webhook, 'paypal-transmission-sig'), 'base64');
    const certificateUrl = requireCertificateUrl(requiredHeader(webhook, 'paypal-cert-url'));
    if (requiredHeader(webhook, 'paypal-auth-algo').toUpperCase() !== 'SHA256WITHRSA')
      throw new SignatureError('paypal-auth-algo must be SHA256withRSA');
    const timeMs = Date.parse(time);
    if (Number.isNaN(timeMs)) throw new SignatureError('paypal-transmission-time is no time');
    requireFresh(Math.floor(timeMs / 1_000), tools);
    for (const secret of secrets) {
      const { webhookId, played } = splitSecret(secret);
      const key = played ? createPublicKey(played) : await paypalKey(certificateUrl, tools);
      const text = signedText(id, time, webhookId, webhook.body);
      if (createVerify('SHA256').update(text).verify(key, signature)) return {};
    }
    throw new SignatureError('the signature does not match');
  },

  events: (body) => [eventOf(readJson(body, PaypalEvent))],

  samples: {
    'payment-completed': {
      title: 'a capture of a payment is complete',
      kind: 'payment',
      body: capture('PAYMENT.CAPTURE.COMPLETED', 'payment'),
    },
    'payment-denied': {
      title: 'a capture of a payment was denied',
      kind: 'payment',
      body: capture('PAYMENT.CAPTURE.DENIED', 'payment'),
    },
    'order-completed': {
      title: 'a capture of an order is complete',
      kind: 'order',
      body: capture('PAYMENT.CAPTURE.COMPLETED', 'order'),
    },
    'payout-succeeded': {
      title: 'a payout arrived',
      kind: 'payout',
      body: payoutItem('PAYMENT.PAYOUTS-ITEM.SUCCEEDED'),
    },
    'payout-returned': {
      title: 'a payout came back',
      kind: 'payout',
      body: payoutItem('PAYMENT.PAYOUTS-ITEM.RETURNED'),
    },
    'dispute-created': {
      title: 'a buyer disputes an order',
      kind: 'dispute',
      body: dispute('CUSTOMER.DISPUTE.CREATED', 'OPEN'),
    },
    'dispute-won': {
      title: 'the dispute was resolved for the seller',
      kind: 'dispute',
      body: dispute('CUSTOMER.DISPUTE.RESOLVED', 'RESOLVED', 'RESOLVED_SELLER_FAVOUR'),
    },
    'dispute-lost': {
      title: 'the dispute was resolved for the buyer',
      kind: 'dispute',
      body: dispute('CUSTOMER.DISPUTE.RESOLVED', 'RESOLVED', 'RESOLVED_BUYER_FAVOUR'),
    },
    'plan-created': {
      title: 'a billing plan was made: nothing that remit handles',
      kind: 'unhandled',
      body: (subject) => sampleEvent('BILLING.PLAN.CREATED', 'plan', { id: subject.id }, subject.eventId),
    },
  },

  /** With a secret that has a key in it, as `generate` makes it. */
  sign(body, secret, nowMs) {
    const { webhookId, played } = splitSecret(secret);
    if (played === undefined)
      throw new Error('only PayPal can sign for this webhook id; the embedded stack has one with a key');
    const id = randomBytes(16).toString('hex');
    const time = new Date(nowMs).toISOString();
    const text = signedText(id, time, webhookId, Buffer.from(body));
    return {
      headers: {
        'content-type': 'application/json',
        'paypal-auth-algo': 'SHA256withRSA',
        'paypal-cert-url': 'https://api.paypal.com/v1/notifications/certs/CERT-360caa42-fca2a594-played',
        'paypal-transmission-id': id,
        'paypal-transmission-time': time,
        'paypal-transmission-sig': createSign('SHA256').update(text).sign(played, 'base64'),
      },
      body,
    };
  },
};
