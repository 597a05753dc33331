import { Webhook } from 'standardwebhooks';
import { Webhook as SvixWebhook } from 'svix';
import { newWebhookSecret, signWebhook } from '../../../src/webhooks/signature';

const SECRET = 'whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw';
const vector = {
  id: 'msg_p5jXN8AQM9LWM0D4loKWxJek',
  at: new Date(1_614_265_330_000),
  body: '{"test": 2432232314}',
  secrets: [SECRET],
};
const now = { ...vector, at: new Date() };
const headersOf = (webhook: typeof vector) => ({ ...signWebhook(webhook) });

describe('Standard Webhooks signatures', () => {
  test('reproduce the vector of the specification', () => {
    expect(signWebhook(vector)).toEqual({
      'webhook-id': 'msg_p5jXN8AQM9LWM0D4loKWxJek',
      'webhook-timestamp': '1614265330',
      'webhook-signature': 'v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=',
    });
  });

  test('are verified by the standardwebhooks package', () => {
    const secret = newWebhookSecret();
    const body = JSON.stringify({ type: 'payment.succeeded', data: { name: 'Zoë 💸 \u2028' } });
    expect(new Webhook(secret).verify(body, headersOf({ ...now, body, secrets: [secret] }))).toEqual(
      JSON.parse(body),
    );
  });

  test('are verified by the svix package', () => {
    const secret = newWebhookSecret();
    const body = JSON.stringify({ type: 'payment.succeeded', data: { name: 'Zoë 💸' } });
    const headers = headersOf({ ...now, body, secrets: [newWebhookSecret(), secret] });
    expect(new SvixWebhook(secret).verify(body, headers)).toEqual(JSON.parse(body));
    expect(() => new SvixWebhook(newWebhookSecret()).verify(body, headers)).toThrow(/signature/i);
    expect(() => new SvixWebhook(secret).verify(`${body} `, headers)).toThrow(/signature/i);
  });

  test('of two secrets are both there, and each verifies', () => {
    const secrets = [newWebhookSecret(), newWebhookSecret()];
    const headers = headersOf({ ...now, secrets });
    expect(headers['webhook-signature'].split(' ')).toHaveLength(2);
    for (const secret of secrets) expect(() => new Webhook(secret).verify(now.body, headers)).not.toThrow();
  });

  test.each([
    ['the body has one more space', (h: Record<string, string>) => h, `${now.body} `],
    ['the id is another', (h: Record<string, string>) => ({ ...h, 'webhook-id': 'msg_other' }), now.body],
    [
      'the timestamp is moved',
      (h: Record<string, string>) => ({
        ...h,
        'webhook-timestamp': String(Number(h['webhook-timestamp']) + 1),
      }),
      now.body,
    ],
    [
      'the timestamp is no number',
      (h: Record<string, string>) => ({ ...h, 'webhook-timestamp': 'hello' }),
      now.body,
    ],
    [
      'the signature is empty',
      (h: Record<string, string>) => ({ ...h, 'webhook-signature': 'v1,' }),
      now.body,
    ],
    [
      'the signature is cut',
      (h: Record<string, string>) => ({
        ...h,
        'webhook-signature': h['webhook-signature']?.slice(0, -4) ?? '',
      }),
      now.body,
    ],
    [
      'the signature has another version',
      (h: Record<string, string>) => ({
        ...h,
        'webhook-signature': h['webhook-signature']?.replace('v1,', 'v2,') ?? '',
      }),
      now.body,
    ],
  ])('are refused when %s', (_, change, body) => {
    expect(() => new Webhook(SECRET).verify(body, change(headersOf(now)))).toThrow();
  });

  test.each([301, -301])('are refused when the clocks are %i seconds apart', (seconds) => {
    const headers = headersOf({ ...now, at: new Date(Date.now() + seconds * 1_000) });
    expect(() => new Webhook(SECRET).verify(now.body, headers)).toThrow('timestamp');
  });

  test('of another secret are refused', () => {
    expect(() => new Webhook(newWebhookSecret()).verify(now.body, headersOf(now))).toThrow();
  });

  test.each([[[]], [['']], [['whsec_']], [['whsec_c2hvcnQ=']], [[SECRET.slice(6)]], [[SECRET, 'whsec_!!!']]])(
    'are not made with the secrets %j',
    (secrets) => {
      expect(() => signWebhook({ ...now, secrets })).toThrow(/secret/);
    },
  );

  test('new secrets have 32 random bytes', () => {
    const secrets = Array.from({ length: 100 }, newWebhookSecret);
    expect(new Set(secrets).size).toBe(100);
    for (const secret of secrets) {
      expect(secret).toMatch(/^whsec_[A-Za-z0-9+/]{43}=$/);
      expect(Buffer.from(secret.slice(6), 'base64')).toHaveLength(32);
    }
  });
});
