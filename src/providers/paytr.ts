import { randomBytes } from 'node:crypto';
import { z } from 'zod';
import { parseMajorAmount } from '../contracts/money';
import { BodyError, SignatureError, type Provider, type ProviderEvent, type SampleSubject } from './provider';
import { minorFromProvider, readText } from './reading';
import { hmacSha256, sameText } from './signing';

/**
 * PayTR, which settles Turkish lira. Its notifications are forms, one for each payment, repeated until the answer is `OK`:
 * https://dev.paytr.com/en/iframe-api/iframe-api-2-adim
 *
 * `merchant_oid` may hold letters and digits only, so it is `payment<id>` or `order<id>`, the id without its dashes.
 */

const MERCHANT_OID = /^(payment|order)([0-9a-f]{8})([0-9a-f]{4})([0-9a-f]{4})([0-9a-f]{4})([0-9a-f]{12})$/i;

const Hundredths = z
  .string()
  .regex(/^\d{1,15}$/, { error: 'must be a whole number of hundredths' })
  .transform(Number);
const Form = z.object({
  merchant_oid: z.string().regex(/^[A-Za-z0-9]{1,64}$/),
  status: z.enum(['success', 'failed']),
  /** What the cardholder pays: with instalments more than the amount of the order. Signed. */
  total_amount: Hundredths,
  /** The amount of the order, as it was asked for. Not signed. */
  payment_amount: Hundredths.optional(),
  /** TL, USD, EUR, GBP, RUB; not signed, and compared with the payment's own. */
  currency: z.string().max(3).default('TL'),
  hash: z.string().max(100),
  failed_reason_msg: z.string().optional(),
});

/** @throws BodyError when the body is no form, or a field is missing, repeated or wrong. */
function readForm(body: Buffer): z.infer<typeof Form> {
  const form = new URLSearchParams(readText(body));
  for (const name of new Set(form.keys()))
    if (form.getAll(name).length > 1) throw new BodyError(name, 'is there more than once');
  const parsed = Form.safeParse(Object.fromEntries(form));
  if (parsed.success) return parsed.data;
  const [issue] = parsed.error.issues;
  throw new BodyError(issue?.path.join('.') ?? '', issue?.message ?? 'is not valid');
}

function splitSecret(secret: string): { key: string; salt: string } {
  const [key = '', salt = ''] = secret.split(':');
  return { key, salt };
}

function hashOf(secret: string, oid: string, status: string, total: string): string {
  const { key, salt } = splitSecret(secret);
  return hmacSha256(key, [`${oid}${salt}${status}${total}`], 'base64');
}

function eventOf(form: z.infer<typeof Form>): ProviderEvent {
  const { merchant_oid: oid, status, total_amount: total, payment_amount: asked } = form;
  const eventId = `${oid}:${status}`;
  const unhandled = (reason: string): ProviderEvent => ({ kind: 'unhandled', eventId, type: status, reason });
  const about = MERCHANT_OID.exec(oid);
  if (about === null) return unhandled('merchant_oid names nothing of remit’s');
  const [, kind, ...parts] = about;
  const id = parts.join('-').toLowerCase();
  if (status === 'success' && asked !== undefined && asked > total)
    throw new BodyError('payment_amount', 'is larger than total_amount, which is signed');
  const amount = asked ?? total;
  if (amount === 0) return unhandled('a failure without payment_amount says nothing to compare');
  const currency = form.currency === 'TL' ? 'TRY' : form.currency;
  const common = {
    eventId,
    status,
    amountMinor: minorFromProvider(
      amount,
      currency,
      2,
      asked === undefined ? 'total_amount' : 'payment_amount',
    ),
    currency,
  };
  return kind === 'payment'
    ? { kind: 'payment', transactionId: id, ...common }
    : { kind: 'order', orderId: id, userId: null, ...common };
}

const sample = (kind: string, status: 'success' | 'failed') => (subject: SampleSubject) => {
  const hundredths = String(parseMajorAmount(subject.amount, subject.currency));
  return new URLSearchParams({
    merchant_oid: `${kind}${subject.id.replaceAll('-', '')}`,
    status,
    total_amount: status === 'success' ? hundredths : '0',
    payment_amount: hundredths,
    payment_type: 'card',
    currency: subject.currency === 'TRY' ? 'TL' : subject.currency,
    test_mode: '0',
    ...(status === 'failed'
      ? { failed_reason_code: '6', failed_reason_msg: 'The customer left the page' }
      : {}),
  }).toString();
};

export const paytr: Provider = {
  name: 'paytr',
  title: 'PayTR',
  documentation: 'https://dev.paytr.com/en/iframe-api/iframe-api-2-adim',
  contentType: 'application/x-www-form-urlencoded',
  secret: {
    description:
      'merchant key and merchant salt (Information page of the merchant panel), with a colon between them',
    schema: z
      .string()
      .regex(/^[\x21-\x39\x3b-\x7e]{8,128}:[\x21-\x39\x3b-\x7e]{8,128}$/, { error: 'must be <key>:<salt>' }),
    generate: () => `${randomBytes(8).toString('hex')}:${randomBytes(8).toString('hex')}`,
  },

  /** `hash`: HMAC-SHA-256, base64, of merchant_oid, salt, status and total_amount. There is no signed time. */
  verify({ body }, secrets) {
    const form = new URLSearchParams(readText(body));
    const { hash } = readForm(body);
    const [oid, status, total] = ['merchant_oid', 'status', 'total_amount'].map(
      (name) => form.get(name) ?? '',
    );
    if (!secrets.some((secret) => sameText(hash, hashOf(secret, oid!, status!, total!))))
      throw new SignatureError('the hash does not match');
    return {};
  },

  events: (body) => [eventOf(readForm(body))],

  acknowledgement: { status: 200, contentType: 'text/plain', body: 'OK' },

  samples: {
    'payment-success': { title: 'a payment succeeded', kind: 'payment', body: sample('payment', 'success') },
    'payment-failed': { title: 'a payment failed', kind: 'payment', body: sample('payment', 'failed') },
    'order-success': { title: 'an order was paid', kind: 'order', body: sample('order', 'success') },
    'other-shop': {
      title: 'a payment of something else: nothing that remit handles',
      kind: 'unhandled',
      body: (subject) => sample('x', 'success')(subject),
    },
  },

  sign(body, secret) {
    const form = new URLSearchParams(body);
    const [oid, status, total] = ['merchant_oid', 'status', 'total_amount'].map(
      (name) => form.get(name) ?? '',
    );
    form.set('hash', hashOf(secret, oid!, status!, total!));
    return { headers: { 'content-type': 'application/x-www-form-urlencoded' }, body: form.toString() };
  },
};
