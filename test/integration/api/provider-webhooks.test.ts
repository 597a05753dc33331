import { randomUUID } from 'node:crypto';
import type { KafkaMessage } from 'kafkajs';
import { HEADERS } from '../../../src/contracts/messages';
import { ConfigError, loadConfig } from '../../../src/platform/config';
import { createKafka, headersToStrings } from '../../../src/platform/kafka';
import { metrics } from '../../../src/platform/metrics';
import { paymentWebhookTopic } from '../../../src/platform/topics';
import { startApi } from '../../../src/roles/api';
import { sendProviderWebhook } from '../../../src/operations/send';
import { createTestSpace, eventually, runRoles, type TestSpace } from '../../support/harness';
import { expectProblem, TestApi } from './support';

let api: TestApi;
const queued: KafkaMessage[] = [];
let stopReading: () => Promise<void>;

/** Collects everything on the topic, as a bridge would read it. */
async function read(space: TestSpace): Promise<() => Promise<void>> {
  const consumer = createKafka(space.config, space.log).consumer({ groupId: `${space.name}.reader` });
  await consumer.connect();
  await consumer.subscribe({ topic: paymentWebhookTopic(space.config, 'decard'), fromBeginning: true });
  // eslint-disable-next-line @typescript-eslint/require-await -- kafkajs wants a promise
  await consumer.run({ eachMessage: async ({ message }) => void queued.push(message) });
  return () => consumer.disconnect();
}

beforeAll(async () => {
  api = await TestApi.start();
  stopReading = await read(api.space);
});
afterAll(async () => {
  await stopReading?.();
  await api?.stop();
});

const event = (changed: object = {}) => ({
  provider: 'decard',
  transactionId: randomUUID(),
  status: 'success',
  amount: 100,
  currency: 'TRY',
  type: 'payment',
  ...changed,
});
const withKey = (key: string) =>
  eventually(() => {
    const found = queued.filter((message) => message.key?.toString() === key);
    if (found.length === 0) throw new Error(`nothing with key ${key} yet`);
    return found;
  });

describe('a provider’s webhook', () => {
  it('is on the topic, byte for byte, when it is answered 202', async () => {
    const id = randomUUID();
    const body = `{ "provider":"decard",\n "transactionId": "${id.toUpperCase()}", "status":"success", "amount": 100.10,\t"currency":"TRY","type":"payment", "extra": {"ü": [1, null]} }`;
    const before = Date.now();
    const reply = await api.webhook(body, {
      ...api.sign(body, 'msg_1'),
      'x-correlation-id': 'from-decard-1',
    });
    expect(reply.status).toBe(202);
    expect(reply.body).toEqual({ accepted: true, correlationId: 'from-decard-1' });
    expect(reply.headers.get('x-correlation-id')).toBe('from-decard-1');
    const [message] = await withKey(id);
    expect(message?.value?.toString()).toBe(body);
    const headers = headersToStrings(message?.headers);
    expect(headers).toMatchObject({
      [HEADERS.correlationId]: 'from-decard-1',
      [HEADERS.providerEventId]: 'msg_1',
    });
    expect(Date.parse(headers[HEADERS.receivedAt]!)).toBeGreaterThanOrEqual(before);
  });

  it('is accepted as often as it is sent: the database judges duplicates', async () => {
    const sent = event();
    const body = JSON.stringify(sent);
    const headers = api.sign(body);
    for (let time = 0; time < 3; time += 1) expect((await api.webhook(body, headers)).status).toBe(202);
    await eventually(async () => expect(await withKey(sent.transactionId)).toHaveLength(3));
  });

  it('keeps each of many that come at once', async () => {
    const events = Array.from({ length: 200 }, () => event());
    const replies = await Promise.all(events.map((each) => api.webhook(JSON.stringify(each))));
    expect(replies.every((reply) => reply.status === 202)).toBe(true);
    for (const { transactionId } of events) expect(await withKey(transactionId)).toHaveLength(1);
  });

  it('can be sent by the command line client', async () => {
    const transactionId = randomUUID();
    const answer = await sendProviderWebhook({
      ...{ url: api.url, secret: api.space.config.PROVIDER_SECRET_DECARD, timeoutMs: 10_000 },
      ...{
        provider: 'decard',
        transactionId,
        status: 'success',
        amount: '12.50',
        currency: 'TRY',
        type: 'payout',
      },
    });
    expect(answer.status).toBe(202);
    const [message] = await withKey(transactionId);
    expect(JSON.parse(message!.value!.toString())).toMatchObject({ amount: 12.5, type: 'payout' });
    expect(headersToStrings(message!.headers)[HEADERS.providerEventId]).toBe(answer.id);
  });

  it('is refused without a valid signature, and nothing is queued', async () => {
    const sent = event();
    const body = JSON.stringify(sent);
    const good = api.sign(body);
    const late = new Date(Date.now() - 301_000);
    for (const headers of [
      {},
      { ...good, 'webhook-signature': '' },
      { ...good, 'webhook-id': 'msg_other' },
      { ...good, 'webhook-signature': good['webhook-signature']!.replace('v1,', 'v1a,') },
      api.sign(body, 'msg_late', late),
      api.sign(`${body} `),
    ]) {
      const reply = await api.call('POST', '/webhooks/providers/decard', headers, body);
      expectProblem(reply, 401, 'signature_invalid');
    }
    expect((await api.webhook(JSON.stringify(event()))).status).toBe(202);
    expect(queued.filter((message) => message.key?.toString() === sent.transactionId)).toEqual([]);
  });

  it.each([
    ['transactionId', { transactionId: 'x' }],
    ['transactionId', { transactionId: undefined }],
    ['status', { status: 'paid' }],
    ['amount', { amount: '1.234' }],
    ['amount', { amount: -1 }],
    ['amount', { amount: null }],
    ['amount', { amount: 1e21 }],
    ['currency', { currency: 'XYZ' }],
    ['type', { type: 'refund' }],
    ['provider', { provider: 'other' }],
  ])('is refused with a wrong %s: %j', async (path, changed) => {
    const problem = expectProblem(await api.webhook(JSON.stringify(event(changed))), 400, 'invalid_request');
    expect(problem.errors.map((error) => error.path)).toEqual([path]);
  });

  it('is refused when JSON would round its amount', async () => {
    const body = JSON.stringify(event()).replace('"amount":100', '"amount":99.99999999999999999');
    expect(expectProblem(await api.webhook(body), 400, 'invalid_request').errors[0]?.path).toBe('amount');
  });

  it.each(['', 'null', '[]', '"text"', '{', '{"amount":1}x', 'NaN', `${'['.repeat(30_000)}`])(
    'is refused when its body is %p',
    async (body) => {
      const reply = await api.webhook(body);
      expect(reply.status).toBe(400);
    },
  );

  it('is refused when its bytes are no UTF-8, too many, compressed, or of another type', async () => {
    const post = (body: string | Buffer, headers: Record<string, string>) =>
      fetch(`${api.url}/webhooks/providers/decard`, { method: 'POST', headers, body });
    const json = { 'content-type': 'application/json' };
    const text = JSON.stringify(event());
    expect((await post(text, { ...api.sign(text), 'content-type': 'text/plain' })).status).toBe(415);
    expect((await post(text, { ...api.sign(text), ...json, 'content-encoding': 'gzip' })).status).toBe(415);
    const large = JSON.stringify(event({ note: 'x'.repeat(api.space.config.API_BODY_LIMIT_BYTES) }));
    expect((await post(large, { ...api.sign(large), ...json })).status).toBe(413);
    expect((await post(Buffer.from([0x7b, 0xff, 0x7d]), { ...api.sign(''), ...json })).status).toBe(401);
  });

  it('of an unknown provider, or by another method, is not taken', async () => {
    const body = JSON.stringify(event());
    expectProblem(
      await api.call('POST', '/webhooks/providers/paypal', api.sign(body), body),
      404,
      'not_found',
    );
    const get = await api.call('GET', '/webhooks/providers/decard');
    expectProblem(get, 405, 'method_not_allowed');
    expect(get.headers.get('allow')).toBe('POST, OPTIONS');
  });

  it('is counted by its result', async () => {
    const { values } = await metrics.webhooksReceived.get();
    const results = new Map(values.map(({ labels, value }) => [labels.result, value]));
    for (const result of ['accepted', 'invalid', 'signature_invalid'])
      expect(results.get(result)).toBeGreaterThan(0);
  });
});

describe('a secret that is being changed', () => {
  it('and the one before both sign what is taken, at every door, and no third does', async () => {
    const secrets = [1, 2, 3].map((n) => `whsec_${Buffer.alloc(32, n).toString('base64')}`);
    const both = secrets.slice(0, 2).join(',');
    const changing = await TestApi.start({ PROVIDER_SECRET_DECARD: both, ORDER_WEBHOOK_SECRET: both });
    try {
      const money = { amount: '1.00', currency: 'TRY' };
      const orderId = randomUUID();
      const doors: [string, object][] = [
        [
          '/webhooks/providers/decard',
          { ...money, provider: 'decard', transactionId: orderId, status: 'success', type: 'payment' },
        ],
        [
          '/webhooks/payments/orders',
          { ...money, order_id: orderId, user_id: 'u', status: 'success', provider_event_id: 'e1' },
        ],
        [
          '/webhooks/payments/chargebacks',
          { ...money, order_id: orderId, status: 'opened', provider_event_id: 'e2' },
        ],
      ];
      for (const [path, event] of doors) {
        const body = JSON.stringify(event);
        const statuses: number[] = [];
        for (const secret of secrets) {
          const headers = changing.sign(body, undefined, undefined, secret);
          statuses.push((await changing.call('POST', path, headers, body)).status);
        }
        expect({ path, statuses }).toEqual({ path, statuses: [202, 202, 401] });
      }
    } finally {
      await changing.stop();
    }
    const three = { PROVIDER_SECRET_DECARD: secrets.join(',') };
    expect(() => loadConfig(three, [])).toThrow('PROVIDER_SECRET_DECARD');
  });
});

describe('without Kafka', () => {
  it('a webhook is answered 500 with a problem document, never 202', async () => {
    const space = await createTestSpace({ env: { KAFKA_PRODUCE_TIMEOUT_MS: '1500' } }); // its topics do not exist
    const running = await runRoles(space, startApi);
    try {
      const answer = await sendProviderWebhook({
        ...{ url: running.started.url, secret: space.config.PROVIDER_SECRET_DECARD, timeoutMs: 10_000 },
        ...{ provider: 'decard', transactionId: randomUUID(), status: 'success' },
        ...{ amount: '1', currency: 'TRY', type: 'payment' },
      });
      expect(answer.status).toBe(500);
      const problem = JSON.parse(answer.body) as { code: string; detail: string };
      expect(problem.code).toBe('not_queued');
      expect(problem.detail).not.toContain(space.config.KAFKA_BROKERS[0]);
    } finally {
      await running.stop();
    }
  });
});

describe('a secret that is not set', () => {
  it('keeps the API from starting, by name, unless unsigned webhooks are allowed', async () => {
    const space = await createTestSpace({ env: { PROVIDER_SECRET_DECARD: '' }, topics: true });
    const starting = runRoles(space, startApi);
    await expect(starting).rejects.toThrow(ConfigError);
    await expect(starting).rejects.toThrow('PROVIDER_SECRET_DECARD');
    const open = { ...space, config: { ...space.config, PROVIDER_SIGNATURES_REQUIRED: false } };
    const running = await runRoles(open, startApi);
    try {
      const answer = await sendProviderWebhook({
        ...{ url: running.started.url, timeoutMs: 10_000, provider: 'decard', transactionId: randomUUID() },
        ...{ status: 'failed', amount: '1', currency: 'TRY', type: 'payment' },
      });
      expect(answer.status).toBe(202);
    } finally {
      await running.stop();
    }
  });
});
