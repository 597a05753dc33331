import { randomUUID } from 'node:crypto';
import { hmacValidator } from '@adyen/api-library';
import Stripe from 'stripe';
import { Webhook } from 'standardwebhooks';
import { adyen } from '../../../src/providers/adyen';
import { decard } from '../../../src/providers/decard';
import { paypal } from '../../../src/providers/paypal';
import { paytr } from '../../../src/providers/paytr';
import { SignatureError, type VerifyTools } from '../../../src/providers/provider';
import { stripe } from '../../../src/providers/stripe';

/** Signatures against the providers' own libraries and the vectors of their documentation. */

const tools: VerifyTools = {
  nowMs: Date.now(),
  toleranceS: 300,
  fetchPem: () => Promise.reject(new Error('nothing may be fetched')),
};
const subject = { id: randomUUID(), userId: 'u', amount: '10.00', currency: 'EUR', eventId: 'E1' };

describe('Stripe', () => {
  const secret = stripe.secret.generate();
  const body = stripe.samples['payment-succeeded']!.body(subject);

  test('takes what Stripe’s library signs, with former signatures beside it', () => {
    const header = Stripe.webhooks.generateTestHeaderString({ payload: body, secret });
    const headers = { 'stripe-signature': `${header},v1=${'0'.repeat(64)},v0=abc` };
    expect(stripe.verify({ headers, body: Buffer.from(body) }, [secret], tools)).toEqual({});
  });

  test('signs what Stripe’s library takes', () => {
    const signed = stripe.sign(body, secret, Date.now());
    const event = Stripe.webhooks.constructEvent(signed.body, signed.headers['stripe-signature']!, secret);
    expect(event.type).toBe('payment_intent.succeeded');
  });

  test.each([['t=1'], ['v1=abc'], ['t=x,v1=abc'], [''], ['t=1,t=2'], ['garbage']])(
    'refuses the header %j',
    (header) => {
      const webhook = { headers: { 'stripe-signature': header }, body: Buffer.from(body) };
      expect(() => stripe.verify(webhook, [secret], tools)).toThrow(SignatureError);
    },
  );
});

describe('Adyen', () => {
  // From the documentation of the HMAC signature, and the tests of Adyen's libraries.
  const KEY = '44782DEF547AAA06C910C43932B1EB0C71FC68D9D0C057550C48EC2ACF6BA056';
  const documented = {
    pspReference: '7914073381342284',
    originalReference: '',
    merchantAccountCode: 'TestMerchant',
    merchantReference: 'TestPayment-1407325143704',
    amount: { value: 1130, currency: 'EUR' },
    eventCode: 'AUTHORISATION',
    success: 'true',
    additionalData: { hmacSignature: 'coqCmt/IZ4E3CzPvMY8zTjQVL5hYJUiBRg8UU+iCWo0=' },
  };
  const bodyOf = (item: object) =>
    Buffer.from(JSON.stringify({ live: 'false', notificationItems: [{ NotificationRequestItem: item }] }));

  test('takes the documented notification, and counts what is not about remit as unhandled', () => {
    expect(adyen.verify({ headers: {}, body: bodyOf(documented) }, [KEY], tools)).toEqual({});
    expect(adyen.events(bodyOf(documented))).toMatchObject([{ kind: 'unhandled', type: 'AUTHORISATION' }]);
  });

  test.each(['pspReference', 'merchantReference', 'merchantAccountCode', 'eventCode', 'success'])(
    'refuses it when %s was changed',
    (field) => {
      const changed = { ...documented, [field]: field === 'success' ? 'false' : 'other' };
      expect(() => adyen.verify({ headers: {}, body: bodyOf(changed) }, [KEY], tools)).toThrow(
        SignatureError,
      );
    },
  );

  test('signs what Adyen’s library takes', () => {
    const secret = adyen.secret.generate();
    const { body } = adyen.sign(adyen.samples['chargeback']!.body(subject), secret, Date.now());
    const { notificationItems } = JSON.parse(body) as {
      notificationItems: { NotificationRequestItem: never }[];
    };
    const validator = new hmacValidator();
    expect(validator.validateHMAC(notificationItems[0]!.NotificationRequestItem, secret)).toBe(true);
  });

  test('one item of several that is not signed refuses them all; signed ones are one event each', () => {
    const secret = adyen.secret.generate();
    const item = (reference: string) =>
      (
        JSON.parse(adyen.samples['payment-authorised']!.body({ ...subject, eventId: reference })) as {
          notificationItems: object[];
        }
      ).notificationItems[0];
    const { body } = adyen.sign(
      JSON.stringify({ live: 'false', notificationItems: [item('A1'), item('A2')] }),
      secret,
      Date.now(),
    );
    expect(adyen.verify({ headers: {}, body: Buffer.from(body) }, [secret], tools)).toEqual({});
    expect(adyen.events(Buffer.from(body)).map(({ eventId }) => eventId)).toEqual([
      'A1:AUTHORISATION:true',
      'A2:AUTHORISATION:true',
    ]);
    const broken = body.replace('"A2"', '"A3"');
    expect(() => adyen.verify({ headers: {}, body: Buffer.from(broken) }, [secret], tools)).toThrow(/item 1/);
  });
});

describe('PayPal', () => {
  const secret = paypal.secret.generate();
  const signed = paypal.sign(paypal.samples['payment-completed']!.body(subject), secret, Date.now());
  const webhook = (headers: Record<string, string> = {}) => ({
    headers: { ...signed.headers, ...headers },
    body: Buffer.from(signed.body),
  });

  test.each([
    'http://api.paypal.com/v1/notifications/certs/CERT-1',
    'https://api.paypal.com.evil.example/v1/notifications/certs/CERT-1',
    'https://evil.example/v1/notifications/certs/CERT-1',
    'https://api.paypal.com@evil.example/v1/notifications/certs/CERT-1',
    'https://api.paypal.com:8443/v1/notifications/certs/CERT-1',
    'https://api.paypal.com/v1/notifications/certs/../../../cert.pem',
    'https://api.paypal.com/v1/oauth2/token',
    'not a url',
  ])('never fetches the certificate %s', async (url) => {
    const [id] = secret.split(':');
    await expect(paypal.verify(webhook({ 'paypal-cert-url': url }), [id!], tools)).rejects.toThrow(
      /not a certificate of PayPal/,
    );
  });

  test('fetches PayPal’s certificate where the secret is a webhook id alone, and refuses one that is none', async () => {
    const [id] = secret.split(':');
    const fetched: string[] = [];
    const fetching: VerifyTools = { ...tools, fetchPem: (url) => (fetched.push(url), Promise.resolve('x')) };
    await expect(paypal.verify(webhook(), [id!], fetching)).rejects.toThrow(/can’t be read/);
    expect(fetched).toEqual(['https://api.paypal.com/v1/notifications/certs/CERT-360caa42-fca2a594-played']);
  });

  test('refuses another algorithm and another webhook id', async () => {
    await expect(paypal.verify(webhook({ 'paypal-auth-algo': 'none' }), [secret], tools)).rejects.toThrow(
      SignatureError,
    );
    const otherId = secret.replace(/^[^:]+/, 'AAAAAAAAAAAAAAAA');
    await expect(paypal.verify(webhook(), [otherId], tools)).rejects.toThrow(/does not match/);
  });
});

describe('PayTR', () => {
  test('takes the hash as its documentation computes it, and reads TL as TRY', () => {
    const body = paytr.sign(
      paytr.samples['payment-success']!.body({ ...subject, currency: 'TRY', amount: '34.56' }),
      'MAGAZA_KEY:MAGAZA_SALT',
      0,
    ).body;
    expect(body).toContain('currency=TL');
    expect(paytr.verify({ headers: {}, body: Buffer.from(body) }, ['MAGAZA_KEY:MAGAZA_SALT'], tools)).toEqual(
      {},
    );
    expect(paytr.events(Buffer.from(body))).toMatchObject([
      { kind: 'payment', transactionId: subject.id, status: 'success', amountMinor: 3_456n, currency: 'TRY' },
    ]);
  });

  test('with instalments the amount of the order counts, never more than what was signed', () => {
    const form = (total: string, asked: string) =>
      Buffer.from(
        new URLSearchParams({
          merchant_oid: `payment${subject.id.replaceAll('-', '')}`,
          status: 'success',
          total_amount: total,
          payment_amount: asked,
          currency: 'TL',
          hash: 'x',
        }).toString(),
      );
    expect(paytr.events(form('11000', '10000'))).toMatchObject([{ amountMinor: 10_000n }]);
    expect(() => paytr.events(form('10000', '11000'))).toThrow(/larger than total_amount/);
  });

  test('a field that is there twice is refused', () => {
    expect(() => paytr.events(Buffer.from('status=success&status=failed'))).toThrow(/more than once/);
  });
});

describe('DeCard', () => {
  test('takes what the Standard Webhooks library signs, and names the event by its webhook-id', () => {
    const secret = decard.secret.generate();
    const body = decard.samples['payment-success']!.body(subject);
    const at = new Date();
    const headers = {
      'webhook-id': 'msg_1',
      'webhook-timestamp': String(Math.floor(at.getTime() / 1_000)),
      'webhook-signature': `v1a,abc ${new Webhook(secret).sign('msg_1', at, body)}`,
    };
    const verified = decard.verify({ headers, body: Buffer.from(body) }, [secret], tools);
    expect(verified).toEqual({ webhookId: 'msg_1' });
    expect(decard.events(Buffer.from(body), 'msg_1')).toMatchObject([{ eventId: 'msg_1' }]);
    expect(decard.events(Buffer.from(body))).toMatchObject([{ eventId: `${subject.id}:payment:success` }]);
  });
});
