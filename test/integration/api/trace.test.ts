import { randomUUID } from 'node:crypto';
import { Writable } from 'node:stream';
import pino from 'pino';
import { WebhookReceiver } from '../../../src/demo/receiver';
import { startApi } from '../../../src/roles/api';
import { startBridge } from '../../../src/roles/bridge';
import { startRelay } from '../../../src/roles/relay';
import { sendProviderWebhook } from '../../../src/operations/send';
import { mintToken } from '../../../src/operations/token';
import { startWorker } from '../../../src/roles/worker';
import {
  createTestSpace,
  eventually,
  runRoles,
  type RunningRoles,
  type TestSpace,
} from '../../support/harness';
import { CURRENCY } from '../../support/money';

type Line = Record<string, unknown> & { msg: string };

/** The log as it is by default, of all roles in this process. */
const lines: Line[] = [];
const log = pino(
  { level: 'info' },
  new Writable({
    write(chunk: Buffer, _encoding, done) {
      lines.push(JSON.parse(chunk.toString()) as Line);
      done();
    },
  }),
);
const receiver = new WebhookReceiver();
let space: TestSpace;
let running: RunningRoles<{ url: string }>;
let token: string;
let secret: string;

beforeAll(async () => {
  space = await createTestSpace({ topics: true, temporal: true });
  running = await runRoles({ ...space, log }, async (context) => {
    const api = await startApi(context);
    await Promise.all([startBridge(context), startWorker(context), startRelay(context)]);
    return api;
  });
  token = await mintToken(space.config, { subject: 'client', scopes: ['read', 'write'], expiresInS: 600 });
  const url = await receiver.listen();
  ({ secret } = (await call('/api/v1/subscriptions', { url, eventTypes: ['*'] })) as { secret: string });
  receiver.verifyWith(secret);
}, 180_000);
afterAll(async () => {
  await receiver.close();
  await running?.stop();
}, 60_000);

async function call(path: string, body: unknown, headers: Record<string, string> = {}): Promise<unknown> {
  const response = await fetch(running.started.url + path, {
    method: 'POST',
    headers: { 'content-type': 'application/json', authorization: `Bearer ${token}`, ...headers },
    body: JSON.stringify(body),
  });
  const answer: unknown = await response.json();
  expect({ path, ok: response.ok, answer }).toMatchObject({ ok: true });
  return answer;
}

const of = (correlationId: string) => lines.filter((line) => line['correlationId'] === correlationId);

describe('one correlation id in the default log', () => {
  it('follows an order from its HTTP request through Kafka and its decision to the delivery', async () => {
    const user = { 'x-user-id': `user-${randomUUID()}` };
    await call('/accounts', { currency: CURRENCY }, user);
    await call(
      '/accounts/topup',
      { amount: '100.00', currency: CURRENCY },
      { ...user, 'x-correlation-id': 'c-topup' },
    );
    await call(
      '/orders',
      { amount: '10.00', currency: CURRENCY },
      { ...user, 'x-correlation-id': 'c-order' },
    );
    // The last: that the event's message is done with.
    await eventually(() =>
      expect(of('c-order').filter(({ msg }) => msg === 'message handed on')).toHaveLength(2),
    );

    // An operation on a balance is a line, and not only a row of the audit log.
    expect(of('c-topup')).toEqual([
      expect.objectContaining({
        msg: 'operation on a balance',
        operation: 'top_up',
        outcome: 'ok',
        userId: user['x-user-id'],
        amountMinor: '10000',
        currency: CURRENCY,
        durationMs: expect.any(Number) as number,
      }),
      expect.objectContaining({ msg: 'request', method: 'POST', route: '/accounts/topup', status: 200 }),
    ]);
    const told = of('c-order');
    expect(told).toEqual(
      expect.arrayContaining([
        expect.objectContaining({ msg: 'request', route: '/orders', status: 201 }),
        expect.objectContaining({ msg: 'message handed on', topic: space.config.TOPIC_PAYMENT_REQUEST }),
        expect.objectContaining({
          msg: 'operation on a balance',
          operation: 'pay_order',
          outcome: 'applied',
          amountMinor: '1000',
        }),
        expect.objectContaining({ msg: 'delivery attempt', result: 'delivered' }),
      ]),
    );
    // Sober: one line a step.
    expect(told).toHaveLength(5);
  });

  it('follows a provider’s webhook to its delivery', async () => {
    const userId = `user-${randomUUID()}`;
    await call('/accounts', { currency: CURRENCY }, { 'x-user-id': userId });
    const { id } = (await call('/api/v1/payments', {
      ...{ userId, provider: 'decard', amount: '5.00', currency: CURRENCY },
    })) as { id: string };
    await sendProviderWebhook({
      ...{ url: running.started.url, secret: space.config.PROVIDER_SECRET_DECARD, provider: 'decard' },
      ...{ transactionId: id, status: 'success', amount: '5.00', currency: CURRENCY, type: 'payment' },
      ...{ id: `msg-${id}`, timeoutMs: 15_000 },
    });
    await eventually(() =>
      expect(
        lines.some(
          ({ msg, transactionId, outcome }) =>
            msg === 'operation on a balance' && transactionId === id && outcome === 'applied',
        ),
      ).toBe(true),
    );
    const settled = lines.find(({ transactionId }) => transactionId === id)!;
    await eventually(() =>
      expect(of(String(settled['correlationId'])).map(({ msg }) => msg)).toEqual([
        'request',
        'message handed on',
        'operation on a balance',
        'delivery attempt',
        'message handed on',
      ]),
    );
  });

  it('never has a secret in it', () => {
    const text = JSON.stringify(lines);
    const { PROVIDER_SECRET_DECARD, AUTH_JWT_SECRET, ENCRYPTION_KEY, DATABASE_URL } = space.config;
    for (const each of [
      ...[token, secret, PROVIDER_SECRET_DECARD!, AUTH_JWT_SECRET!, ENCRYPTION_KEY!],
      new URL(DATABASE_URL).password,
    ])
      expect(text).not.toContain(each);
  });
});
