import { createHmac, randomUUID } from 'node:crypto';
import { AccountBalance } from '../../../src/contracts/accounts';
import { Problem } from '../../../src/contracts/http';
import { newUser, TestApi } from './support';

/** How bodies are read, an amount in them above all: providers' and users' alike. */
let api: TestApi;
beforeAll(async () => {
  api = await TestApi.start();
});
afterAll(() => api?.stop());

type Sent = Promise<{ status: number; code: string | undefined; paths: string[] }>;

async function post(path: string, headers: Record<string, string>, body: Buffer): Sent {
  const response = await fetch(api.url + path, { method: 'POST', headers, body });
  const answer: unknown = await response.json();
  if (response.ok) return { status: response.status, code: undefined, paths: [] };
  const { code, errors } = Problem.parse(answer);
  return { status: response.status, code, paths: errors.map((error) => error.path) };
}

/** Signs bytes, which need not be text. */
function sign(bytes: Buffer, secret: string): Record<string, string> {
  const id = `msg_${randomUUID()}`;
  const timestamp = String(Math.floor(Date.now() / 1_000));
  const key = Buffer.from(secret.replace('whsec_', ''), 'base64');
  const signature = createHmac('sha256', key).update(`${id}.${timestamp}.`).update(bytes).digest('base64');
  return { 'webhook-id': id, 'webhook-timestamp': timestamp, 'webhook-signature': `v1,${signature}` };
}

const utf8 = (text: string) => Buffer.from(text);

/** A way in for an amount: sends it as JSON text, with more fields after it. */
const DOORS: Record<
  string,
  (amount: string, more?: string, encode?: (text: string) => Buffer, type?: string) => Sent
> = {
  'a provider’s webhook': (amount, more = '', encode = utf8, type = 'application/json') => {
    const text = `{"provider":"decard","transactionId":"${randomUUID()}","status":"success",${amount},"currency":"TRY","type":"payment"${more}}`;
    const bytes = encode(text);
    const headers = sign(bytes, api.space.config.PROVIDER_SECRET_DECARD!);
    return post('/webhooks/providers/decard', { ...headers, 'content-type': type }, bytes);
  },
  'an order’s webhook': (amount, more = '', encode = utf8, type = 'application/json') => {
    const text = `{"provider_event_id":"evt_1","order_id":"${randomUUID()}","user_id":"u","status":"success",${amount},"currency":"TRY"${more}}`;
    const bytes = encode(text);
    const headers = sign(bytes, api.space.config.ORDER_WEBHOOK_SECRET!);
    return post('/webhooks/payments/orders', { ...headers, 'content-type': type }, bytes);
  },
  'a top-up': async (amount, _more, encode = utf8, type = 'application/json') => {
    const user = newUser();
    await api.asUser(user, 'POST', '/accounts', { currency: 'TRY' });
    return post(
      '/accounts/topup',
      { 'x-user-id': user, 'content-type': type },
      encode(`{${amount},"currency":"TRY"}`),
    );
  },
};

describe.each(Object.keys(DOORS))('%s', (name) => {
  const send = DOORS[name]!;

  it.each([
    ['"amount":100'],
    ['"amount":100.00000000000000'],
    ['"amount":1e2'],
    ['"amount":"100.00"'],
    ['"\\u0061mount":100.0'],
    ['"amount":9999999999999.99'],
  ])('is taken with %s', async (amount) => {
    expect((await send(amount)).status).toBeLessThan(300);
  });

  it.each([
    ['"amount":100.000000000000000001'],
    ['"\\u0061mount":100.000000000000000001'],
    ['"amount":0.30000000000000004'],
    ['"amount":9007199254740993'],
    ['"amount":1E400'],
    ['"amount":-0'],
    ['"amount":0'],
  ])('is refused with %s, by its name', async (amount) => {
    expect(await send(amount)).toEqual({ status: 400, code: 'invalid_request', paths: ['amount'] });
  });

  it('is refused when it names its amount twice', async () => {
    expect(await send('"amount":100,"amount":200')).toMatchObject({ status: 400, code: 'invalid_json' });
  });

  it('is refused in any encoding but UTF-8', async () => {
    const hidden = '"amount":100.000000000000000001';
    expect(await send(hidden, '', (text) => Buffer.from(`\ufeff${text}`, 'utf16le'))).toMatchObject({
      status: 400,
      code: 'invalid_json',
    });
    expect(await send(hidden, '', (text) => Buffer.from(text, 'utf16le'))).toMatchObject({
      status: 400,
      code: 'invalid_json',
    });
    expect(await send('"amount":100', '', (text) => Buffer.from(`\ufeff${text}`))).toMatchObject({
      status: 400,
      code: 'invalid_json',
    });
    for (const charset of ['utf-16', 'UTF-16LE', 'utf-32', 'utf-7', 'latin1', '"iso-8859-1"'])
      expect(await send('"amount":100', '', undefined, `application/json; charset=${charset}`)).toMatchObject(
        {
          status: 415,
          code: 'unsupported_media_type',
        },
      );
    for (const charset of ['utf-8', '"UTF-8"', 'utf8'])
      expect(
        (await send('"amount":100', '', undefined, `application/json; charset=${charset}`)).status,
      ).toBeLessThan(300);
  });
});

it.each(['a provider’s webhook', 'an order’s webhook'])(
  '%s may hold any number beside its amount',
  async (name) => {
    const more = ',"fees":[{"amount":0.30000000000000004}],"id":123456789012345678901234567890,"x":1E400';
    expect((await DOORS[name]!('"amount":100', more)).status).toBe(202);
  },
);

it('what is topped up is what was written', async () => {
  const user = newUser();
  await api.asUser(user, 'POST', '/accounts', { currency: 'TRY' });
  for (const amount of ['0.10000000000000000', '8.69', '143.48', '1e-2', '"0.01"'])
    expect((await api.asUser(user, 'POST', '/accounts/topup', `{"amount":${amount}}`)).status).toBe(200);
  const { body } = await api.asUser(user, 'GET', '/accounts/balance');
  expect(AccountBalance.parse(body).balance).toBe('152.29');
});
