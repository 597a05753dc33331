import http from 'node:http';
import { randomUUID } from 'node:crypto';
import { allRoutes } from '../../../src/api/app';
import { topUp } from '../../../src/domain/accounts';
import { reconcile } from '../../../src/domain/reconciliation';
import type { Database } from '../../../src/platform/postgres';
import { paidOrder } from '../../support/disputes';
import { eventually, openTestDatabase } from '../../support/harness';
import { nameInMidWindow } from '../../support/limits';
import { CURRENCY, inspectLedger, SOUND, TENANT } from '../../support/money';
import { expectProblem, newUser, TestApi, type Reply } from './support';

const USER_RATE = 120;
const WINDOW_MS = 3_600_000;

let api: TestApi;
let db: Database;
beforeAll(async () => {
  api = await TestApi.withWorkers({
    API_RATE_LIMIT_REQUESTS: '20000',
    API_RATE_LIMIT_USER_REQUESTS: String(USER_RATE),
    API_RATE_LIMIT_WINDOW_MS: String(WINDOW_MS),
    WEBHOOK_REPLAYS_MAX_RUNNING: '1000',
    // Few enough that a burst would hold all of them.
    DATABASE_POOL_CONNECTIONS: '4',
  });
  db = openTestDatabase(api.space);
});
afterAll(async () => {
  await db?.close();
  await api?.stop();
});

const countOf = (replies: readonly Reply[]): Record<string, number> => {
  const counts: Record<string, number> = {};
  for (const { status } of replies) counts[status] = (counts[status] ?? 0) + 1;
  return counts;
};

describe('many who create at once', () => {
  const MANY = 150;
  const at = (times: number, one: (n: number) => Promise<Reply>) =>
    Promise.all(Array.from({ length: times }, (_, n) => one(n)));
  const name = () => `made.x${randomUUID().replaceAll('-', '')}`;
  const hook = { url: 'https://example.com/hook', eventTypes: ['*'] };
  const admin = { scopes: ['admin'] };

  it('subscriptions all get one', async () => {
    const replies = await at(MANY, () => api.operator('POST', '/api/v1/subscriptions', hook));
    expect(countOf(replies)).toEqual({ 201: MANY });
  }, 60_000);

  it('event types all get one, and of one name one of them does', async () => {
    const made = await at(MANY, () => api.withToken(admin, 'POST', '/api/v1/event-types', { name: name() }));
    expect(countOf(made)).toEqual({ 201: MANY });
    const same = await at(50, () =>
      api.withToken(admin, 'POST', '/api/v1/event-types', { name: 'made.same' }),
    );
    expect(countOf(same)).toEqual({ 201: 1, 409: 49 });
  }, 60_000);

  it('event configs all get one, and of one type one of them does', async () => {
    const config = (eventType: string) =>
      api.withToken(admin, 'POST', '/api/v1/event-configs', { eventType });
    expect(countOf(await at(MANY, () => config(name())))).toEqual({ 201: MANY });
    expect(countOf(await at(50, () => config('made.same')))).toEqual({ 201: 1, 409: 49 });
  }, 60_000);

  it('replays, accounts, orders, top-ups, payments, payouts and events never meet a 5xx', async () => {
    const { body } = await api.operator('POST', '/api/v1/subscriptions', hook);
    const { id: subscriptionId } = (body as { subscription: { id: string } }).subscription ?? body;
    const replay = { subscriptionId, kind: 'all', since: '2026-01-01T00:00:00Z' };
    expect(countOf(await at(40, () => api.operator('POST', '/api/v1/replays', replay)))).toEqual({ 202: 40 });

    const rich = newUser();
    expect(countOf(await at(50, () => api.asUser(rich, 'POST', '/accounts', {})))).toEqual({
      201: 1,
      409: 49,
    });
    await topUp(db, {
      ...{ tenantId: TENANT, userId: rich, currency: CURRENCY, amountMinor: 1_000_000n },
      ...{ correlationId: 'test', actor: 'test' },
    });
    const money = { amount: '1.00', currency: CURRENCY };
    const transaction = { ...money, userId: rich, provider: 'decard' };
    for (const [status, ask] of [
      [200, () => api.asUser(rich, 'POST', '/accounts/topup', money)],
      [201, () => api.asUser(rich, 'POST', '/orders', money)],
      [201, () => api.operator('POST', '/api/v1/payments', transaction)],
      [201, () => api.operator('POST', '/api/v1/payouts', transaction)],
    ] as [number, () => Promise<Reply>][])
      expect(countOf(await at(30, ask))).toEqual({ [status]: 30 });
    const publish = (id: string) =>
      api.operator('POST', '/api/v1/events', { id, type: 'made.same', data: {} });
    expect(countOf(await at(50, (n) => publish(`event-${n % 5}`)))).toEqual({ 202: 50 });
  }, 120_000);

  it('rotations and changes of one thing end as done, or as changed meanwhile', async () => {
    const { body } = await api.operator('POST', '/api/v1/subscriptions', hook);
    const { id } = (body as { subscription: { id: string } }).subscription ?? body;
    for (const ask of [
      () => api.operator('POST', `/api/v1/subscriptions/${id}/rotate-secret`, { overlapS: 60 }),
      () => api.operator('POST', `/api/v1/subscriptions/${id}/pause`),
      () => api.operator('POST', `/api/v1/subscriptions/${id}/resume`),
      () => api.operator('DELETE', `/api/v1/subscriptions/${id}`),
    ])
      for (const status of Object.keys(countOf(await at(40, ask)))) expect(Number(status)).toBeLessThan(500);
  }, 60_000);
});

describe('a balance beyond what can be kept', () => {
  const LARGEST = 9_223_372_036_854_775_807n;
  const rich = async (amountMinor: bigint) => {
    const userId = newUser();
    await api.asUser(userId, 'POST', '/accounts', { currency: CURRENCY });
    const booking = { tenantId: TENANT, userId, currency: CURRENCY, correlationId: 'test', actor: 'test' };
    if (amountMinor > 0n) await topUp(db, { ...booking, amountMinor });
    return userId;
  };

  it('refuses a top-up with 422, moves nothing, and takes the last one that fits', async () => {
    const userId = await rich(LARGEST - 100n);
    const more = (amount: string) =>
      api.asUser(userId, 'POST', '/accounts/topup', { amount, currency: CURRENCY });
    expectProblem(await more('1.01'), 422, 'unprocessable');
    expect(await more('1.00')).toMatchObject({ status: 200, body: { balance: '92233720368547758.07' } });
    expectProblem(await more('0.01'), 422, 'unprocessable');
    const balance = await api.asUser(userId, 'GET', `/accounts/balance?currency=${CURRENCY}`);
    expect(balance.body).toMatchObject({
      balance: '92233720368547758.07',
      available: '92233720368547758.07',
    });
  });

  it('refuses a refund with 422, which is made when there is room', async () => {
    const order = await paidOrder(db, 500n);
    await topUp(db, {
      ...{ tenantId: TENANT, userId: order.userId, currency: CURRENCY, amountMinor: LARGEST - 100n },
      ...{ correlationId: 'test', actor: 'test' },
    });
    const refund = (amount: string) => api.operator('POST', `/api/v1/orders/${order.id}/refunds`, { amount });
    expectProblem(await refund('5.00'), 422, 'unprocessable');
    expect((await refund('1.00')).status).toBe(201);
  }, 60_000);

  it('leaves statements, holds and the ledger’s totals readable, which are larger still', async () => {
    const userIds = await Promise.all([rich(LARGEST), rich(LARGEST), rich(LARGEST)]);
    const account = await db.prisma.account.findFirstOrThrow({ where: { userId: userIds[0] } });
    const statement = await api.operator('GET', `/api/v1/accounts/${account.id}/entries`);
    expect(statement.body).toMatchObject({ items: [{ balanceAfter: '92233720368547758.07' }] });
    const payout = { userId: userIds[0], provider: 'decard', amount: '9999999999999.99', currency: CURRENCY };
    for (let n = 0; n < 3; n++)
      expect((await api.operator('POST', '/api/v1/payouts', { ...payout, reserve: true })).status).toBe(201);
    expect((await api.operator('GET', '/api/v1/reconciliation')).body).toMatchObject({ clean: true });
    const { checks } = await reconcile(db, { maxFindings: 5, days: 1, timeoutMs: 60_000 });
    expect(checks.filter(({ found }) => found > 0)).toEqual([]);
    await eventually(async () => expect(await inspectLedger(db)).toEqual(SOUND));
  });
});

/** Header lines as they are: fetch would join them. */
function send(
  path: string,
  lines: [string, string][],
  body: string,
): Promise<{ status: number; text: string }> {
  const headers: Record<string, string[]> = {};
  for (const [name, value] of lines) (headers[name] ??= []).push(value);
  return new Promise((resolve, reject) => {
    const request = http.request(api.url + path, { method: 'POST', headers }, (response) => {
      let text = '';
      response.on('data', (chunk: Buffer) => (text += chunk.toString()));
      response.on('end', () => resolve({ status: response.statusCode ?? 0, text }));
    });
    request.on('error', reject);
    request.end(body);
  });
}

describe('a header that says one thing', () => {
  it.each([
    ...['Authorization', 'X-User-Id', 'Idempotency-Key', 'If-Match', 'Content-Type', 'X-Correlation-Id'],
    ...['webhook-id', 'webhook-timestamp', 'webhook-signature'],
  ])('such as %s is refused when it comes twice, equal or not', async (name) => {
    const routes = allRoutes().filter(({ method, path }) => method === 'post' && !path.includes('/:'));
    for (const { path } of routes)
      for (const second of ['one', 'two']) {
        const { status, text } = await send(
          path,
          [
            [name, 'one'],
            [name, second],
          ],
          '{}',
        );
        expect(status).toBe(400);
        expect(JSON.parse(text)).toMatchObject({
          code: 'invalid_request',
          errors: [{ message: 'must be sent once' }],
        });
      }
  });
});

describe('a user over its rate', () => {
  it('gets 429, and uses up nothing of what its tenant’s other users and operators have', async () => {
    const greedy = nameInMidWindow(newUser, WINDOW_MS, (user) => `${TENANT} ${user}`);
    const balance = (user: string) => api.asUser(user, 'GET', '/accounts/balance');
    const replies = await Promise.all(Array.from({ length: USER_RATE + 30 }, () => balance(greedy)));
    expect(countOf(replies)).toEqual({ 404: USER_RATE, 429: 30 });
    const refused = replies.find(({ status }) => status === 429)!;
    expectProblem(refused, 429, 'rate_limited');
    expect(Number(refused.headers.get('retry-after'))).toBeGreaterThan(0);
    const left = async (reply: Promise<Reply>) =>
      Number(/"tenant"; r=(\d+)/.exec((await reply).headers.get('ratelimit') ?? '')?.[1]);
    // Again where the tenant's own window ended meanwhile.
    await eventually(async () => {
      const before = await left(balance(newUser()));
      await Promise.all(Array.from({ length: 50 }, () => balance(greedy)));
      expect(await left(balance(newUser()))).toBe(before - 1);
    });
    expect((await api.operator('GET', '/api/v1/subscriptions')).status).toBe(200);
  });
});
