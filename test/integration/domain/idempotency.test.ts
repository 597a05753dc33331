import { randomUUID } from 'node:crypto';
import { allRoutes } from '../../../src/api/app';
import { claimKey, purgeKeys, releaseKey, storeAnswer, type KeyScope } from '../../../src/domain/idempotency';
import { createAccount, getAccount, topUp } from '../../../src/domain/accounts';
import { createOrder } from '../../../src/domain/orders';
import { createPayment } from '../../../src/domain/payments';
import { mintToken } from '../../../src/operations/token';
import { eventually } from '../../support/harness';
import { CURRENCY, TENANT, userWith } from '../../support/money';
import { expectProblem, newUser, TestApi, type Reply } from '../api/support';

let api: TestApi;
const db = () => api.running.context.database();
beforeAll(async () => {
  api = await TestApi.start({ IDEMPOTENCY_LEASE_MS: '100' });
});
afterAll(() => api.stop());

const post = (userId: string, path: string, body: unknown, key: string): Promise<Reply> =>
  api.call('POST', path, { 'x-user-id': userId, 'idempotency-key': key }, body);
const balance = async (userId: string) =>
  (await getAccount(db(), { tenantId: TENANT, userId, currency: CURRENCY })).balanceMinor;
const scope = (): KeyScope => ({
  tenantId: TENANT,
  subject: 'user:x',
  route: 'POST /orders',
  key: randomUUID(),
});
const LIMITS = { ttlMs: 86_400_000, leaseMs: 60_000 };

describe('a POST with an Idempotency-Key', () => {
  it('that is repeated gets the same answer and does nothing again', async () => {
    const user = newUser();
    const key = randomUUID();
    const first = await post(user, '/accounts', { currency: 'TRY' }, key);
    const again = await post(user, '/accounts', { currency: 'TRY' }, `"${key}"`);
    expect(first.status).toBe(201);
    expect(again).toMatchObject({ status: 201, body: first.body });
    expect(again.headers.get('location')).toBe(first.headers.get('location'));
    expect(first.headers.get('idempotency-replayed')).toBeNull();
    expect(again.headers.get('idempotency-replayed')).toBe('true');

    await post(user, '/accounts/topup', { amount: '5.00', currency: 'TRY' }, key);
    await post(user, '/accounts/topup', { amount: '5.00', currency: 'TRY' }, key);
    expect(await balance(user)).toBe(500n);
    const order = await post(user, '/orders', { amount: 1, currency: 'TRY' }, key);
    const same = await post(user, '/orders', { amount: 1, currency: 'TRY' }, key);
    expect(same.body).toEqual(order.body);
    expect(await db().prisma.order.count({ where: { userId: user } })).toBe(1);
    expect(
      await db().prisma.outboxMessage.count({
        where: { topic: 'payment-request', key: String((order.body as { id: string }).id) },
      }),
    ).toBe(1);
  });

  it('is refused with 422 when the key was used for another request, and untouched by other callers and routes', async () => {
    const [one, other] = [newUser(), newUser()];
    const key = randomUUID();
    await api.fund(one, '100.00');
    await api.fund(other, '100.00');
    expect((await post(one, '/accounts/topup', { amount: '1.00' }, key)).status).toBe(200);
    expectProblem(await post(one, '/accounts/topup', { amount: '2.00' }, key), 422, 'idempotency_key_reused');
    expect((await post(other, '/accounts/topup', { amount: '2.00' }, key)).status).toBe(200);
    expect((await post(one, '/orders', { amount: '2.00' }, key)).status).toBe(201);
    expect(await balance(one)).toBe(10_100n);
    expect(await balance(other)).toBe(10_200n);
  });

  it('executes once among many at the same time; the others are told to ask again', async () => {
    const user = newUser();
    await api.fund(user, '1.00');
    const key = randomUUID();
    const replies = await Promise.all(
      Array.from({ length: 20 }, () => post(user, '/accounts/topup', { amount: '1.00' }, key)),
    );
    expect(replies.filter(({ status }) => status === 200).length).toBeGreaterThanOrEqual(1);
    for (const reply of replies.filter(({ status }) => status !== 200)) {
      expectProblem(reply, 409, 'idempotency_in_progress');
      expect(reply.headers.get('retry-after')).toBe('1');
    }
    expect(await balance(user)).toBe(200n);
  });

  it('repeats a refusal too, and leaves the key unused when the request was not valid', async () => {
    const user = newUser();
    const key = randomUUID();
    const first = await post(user, '/accounts/topup', { amount: '1.00' }, key);
    expectProblem(first, 404, 'not_found');
    await api.fund(user, '1.00');
    const again = await post(user, '/accounts/topup', { amount: '1.00' }, key);
    expectProblem(again, 404, 'not_found');
    expect(again.headers.get('idempotency-replayed')).toBe('true');

    const fresh = randomUUID();
    expectProblem(await post(user, '/accounts/topup', { amount: 'x' }, fresh), 400, 'invalid_request');
    expect((await post(user, '/accounts/topup', { amount: '1.00' }, fresh)).status).toBe(200);
    expectProblem(await post(user, '/orders', { amount: 1 }, 'k'.repeat(256)), 400, 'invalid_request');
  });

  it('gives a subscriber the same secret again, and keeps it encrypted', async () => {
    const subscription = { url: 'http://127.0.0.1:9/hook', eventTypes: ['remit.order.*'] };
    const bearer = await mintToken(api.space.config, {
      subject: 'operator',
      scopes: ['write'],
      expiresInS: 300,
    });
    const token = (key: string) =>
      api.call(
        'POST',
        '/api/v1/subscriptions',
        { authorization: `Bearer ${bearer}`, 'idempotency-key': key },
        subscription,
      );
    const key = randomUUID();
    const first = await token(key);
    const again = await token(key);
    expect(first.status).toBe(201);
    expect(again.body).toEqual(first.body);
    const { secret } = first.body as { secret: string };
    const { rows } = await db().pool.query<{ answer: Buffer }>(
      'SELECT answer FROM idempotency_keys WHERE key = $1',
      [key],
    );
    expect(rows[0]?.answer.includes(secret)).toBe(false);
  });
});

describe('every POST of the API', () => {
  const posts = allRoutes().filter(({ method, access }) => method === 'post' && access !== 'public');

  it('takes an Idempotency-Key, and says so in the OpenAPI document; providers’ webhooks have event ids instead', async () => {
    const { body } = await api.call('GET', '/openapi.json');
    type Operation = { parameters?: { name: string; in: string }[]; responses: Record<string, unknown> };
    const { paths } = body as { paths: Record<string, Record<string, Operation>> };
    const takes = ({ parameters = [] }: Operation) =>
      parameters.some((parameter) => parameter.in === 'header' && parameter.name === 'Idempotency-Key');
    const documented = Object.entries(paths).flatMap(([path, methods]) =>
      Object.entries(methods).flatMap(([method, operation]) =>
        takes(operation) ? [`${method} ${path.replace(/[{](\w+)[}]/g, ':$1')}`] : [],
      ),
    );
    expect(documented.sort()).toEqual(posts.map(({ path }) => `post ${path}`).sort());
    expect(posts.length).toBeGreaterThan(20);
    const without = allRoutes().filter((route) => route.method === 'post' && !posts.includes(route));
    expect(without.map(({ path }) => path).sort()).toEqual([
      '/webhooks/payments/chargebacks',
      '/webhooks/payments/orders',
      '/webhooks/providers/:provider',
    ]);
  });

  it('repeats its first answer, whatever has become of the matter since', async () => {
    const token = await mintToken(api.space.config, { subject: 'o', scopes: ['write'], expiresInS: 300 });
    const send = (path: string, key: string, body?: unknown) =>
      api.call('POST', path, { authorization: `Bearer ${token}`, 'idempotency-key': key }, body);
    const made = await send('/api/v1/subscriptions', randomUUID(), {
      url: 'http://127.0.0.1:9/hook',
      eventTypes: ['remit.order.*'],
    });
    const { id } = made.body as { id: string };
    const [pause, resume] = [randomUUID(), randomUUID()];
    const path = `/api/v1/subscriptions/${id}`;
    const paused = await send(`${path}/pause`, pause);
    expect(paused).toMatchObject({ status: 200, body: { state: 'paused' } });
    const resumed = await send(`${path}/resume`, resume);
    expect(resumed).toMatchObject({ status: 200, body: { state: 'active' } });
    // Were it carried out again, it would be paused once more.
    const again = await send(`${path}/pause`, pause);
    expect(again).toMatchObject({ status: 200, body: paused.body });
    expect(again.headers.get('idempotency-replayed')).toBe('true');
    expectProblem(await send(`${path}/resume`, randomUUID()), 409, 'conflict');

    const evidence = randomUUID();
    const unknown = `/api/v1/disputes/dp-${randomUUID()}/evidence`;
    expectProblem(await send(unknown, evidence, { text: 'a' }), 404, 'not_found');
    expectProblem(await send(unknown, evidence, { text: 'b' }), 422, 'idempotency_key_reused');
    const repeated = await send(unknown, evidence, { text: 'a' });
    expectProblem(repeated, 404, 'not_found');
    expect(repeated.headers.get('idempotency-replayed')).toBe('true');
  });
});

describe('after a crash between the money and the answer', () => {
  it('the same key finds what was done and does not do it again', async () => {
    const user = await userWith(db(), 100n);
    const key = randomUUID();
    const path = '/accounts/topup';
    const body = { amount: '3.00', currency: 'TRY' };
    const first = await post(user, path, body, key);
    // As if the process had died before it stored the answer.
    await db().pool.query('UPDATE idempotency_keys SET answer = NULL, locked_until = now() WHERE key = $1', [
      key,
    ]);
    const again = await post(user, path, body, key);
    expect(again).toMatchObject({ status: 200, body: first.body });
    expect(await balance(user)).toBe(400n);
  });

  it('every creation is found again by its operation id', async () => {
    const user = await userWith(db(), 1_000n);
    const id = randomUUID();
    const key = { tenantId: TENANT, userId: user, currency: CURRENCY };
    const twice = async <T>(run: () => Promise<T>): Promise<[T, T]> => [await run(), await run()];
    const payment = {
      ...key,
      provider: 'decard',
      amountMinor: 400n,
      expiresAfterMs: 60_000,
      correlationId: 'c',
      actor: 'a',
    };

    for (const [a, b] of [
      await twice(() => createAccount(db(), { ...key, id, currency: 'EUR' })),
      await twice(() =>
        createOrder(db(), { ...key, id, amountMinor: 1n, description: '', correlationId: 'c' }),
      ),
      await twice(() => createPayment(db(), { ...payment, id, type: 'payment', reserve: false })),
    ])
      expect(b).toEqual(a);
    const payout = randomUUID();
    const [held, again] = await twice(() =>
      createPayment(db(), { ...payment, id: payout, type: 'payout', reserve: true }),
    );
    expect(again).toEqual(held);
    const topUps = await twice(() =>
      topUp(db(), { ...key, amountMinor: 7n, correlationId: 'c', actor: 'a', reference: id }),
    );
    expect(topUps[1].balanceMinor).toBe(1_007n);
    expect(topUps[1].heldMinor).toBe(400n);
    await expect(createAccount(db(), { ...key, id: randomUUID(), currency: 'EUR' })).rejects.toMatchObject({
      code: 'account_exists',
    });
  });

  it('many executions of one operation at the same time do it once', async () => {
    const user = await userWith(db(), 1_000n);
    const id = randomUUID();
    const key = { tenantId: TENANT, userId: user, currency: CURRENCY };
    await Promise.all(
      Array.from({ length: 12 }, (_, i) =>
        i % 2 === 0
          ? topUp(db(), { ...key, amountMinor: 5n, correlationId: 'c', actor: 'a', reference: id })
          : createPayment(db(), {
              ...key,
              id,
              type: 'payout',
              provider: 'decard',
              amountMinor: 300n,
              reserve: true,
              expiresAfterMs: 60_000,
              correlationId: 'c',
              actor: 'a',
            }),
      ),
    );
    expect(await getAccount(db(), key)).toMatchObject({ balanceMinor: 1_005n, heldMinor: 300n });
  });
});

describe('a key', () => {
  it('is executed by one claim until its lease ends, then under the same operation id', async () => {
    const own = scope();
    const first = await claimKey(db(), own, 'hash', { ...LIMITS, leaseMs: 150 });
    expect(first).toMatchObject({ state: 'execute', takenOver: false });
    expect(await claimKey(db(), own, 'hash', LIMITS)).toEqual({ state: 'in_progress' });
    expect(await claimKey(db(), own, 'other', LIMITS)).toEqual({ state: 'reused' });
    const second = await eventually(async () => {
      const claim = await claimKey(db(), own, 'hash', LIMITS);
      expect(claim.state).toBe('execute');
      return claim;
    }, 5_000);
    expect(second).toEqual({ ...first, takenOver: true });
  });

  it('is free at once when an execution failed on our side, and forever answered when it did not', async () => {
    const own = scope();
    const claim = await claimKey(db(), own, 'hash', LIMITS);
    if (claim.state !== 'execute') throw new Error(claim.state);
    await releaseKey(db(), own, claim.operationId);
    expect(await claimKey(db(), own, 'hash', LIMITS)).toEqual({ ...claim, takenOver: true });
    await storeAnswer(db(), own, claim.operationId, Buffer.from('answer'));
    await releaseKey(db(), own, claim.operationId);
    expect(await claimKey(db(), own, 'hash', LIMITS)).toEqual({
      state: 'replay',
      operationId: claim.operationId,
      answer: Buffer.from('answer'),
    });
  });

  it('is forgotten when it is too old, and purged in bounded steps', async () => {
    const own = [scope(), scope(), scope()];
    for (const each of own) await claimKey(db(), each, 'hash', LIMITS);
    await db().pool.query(
      `UPDATE idempotency_keys SET created_at = now() - interval '25 hours' WHERE key = ANY($1)`,
      [own.map(({ key }) => key)],
    );
    const claim = await claimKey(db(), own[0]!, 'another request', LIMITS);
    expect(claim).toMatchObject({ state: 'execute', takenOver: false });
    expect(await purgeKeys(db(), { ttlMs: LIMITS.ttlMs, maxRows: 1 })).toBe(1);
    expect(await purgeKeys(db(), { ttlMs: LIMITS.ttlMs, maxRows: 10 })).toBe(1);
    expect(await claimKey(db(), own[0]!, 'another request', LIMITS)).toEqual({ state: 'in_progress' });
  });
});
