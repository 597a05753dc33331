import { randomUUID } from 'node:crypto';
import { AccountBalance } from '../../../src/contracts/accounts';
import { Payment, PaymentPage } from '../../../src/contracts/payments';
import { expectProblem, newUser, TestApi } from './support';

let api: TestApi;
beforeAll(async () => {
  api = await TestApi.start({ PAYMENT_EXPIRES_AFTER_MS: '3600000' });
});
afterAll(() => api?.stop());

const payment = (userId: string, changed: object = {}) => ({
  userId,
  amount: '100.00',
  currency: 'TRY',
  provider: 'decard',
  ...changed,
});

describe('payments and payouts', () => {
  it('are created pending, with the id that the provider reports on', async () => {
    const user = newUser();
    await api.fund(user, '1.00');
    const reply = await api.operator('POST', '/api/v1/payments', payment(user));
    expect(reply.status).toBe(201);
    const created = Payment.parse(reply.body);
    expect(created).toMatchObject({ ...payment(user), type: 'payment', status: 'pending', settledAt: null });
    expect(Date.parse(created.expiresAt) - Date.parse(created.createdAt)).toBeGreaterThan(3_590_000);
    expect(reply.headers.get('location')).toBe(`/api/v1/payments/${created.id}`);
    expect((await api.operator('GET', `/api/v1/payments/${created.id}`)).body).toEqual(reply.body);
  });

  it('hold a payout’s money at once', async () => {
    const user = newUser();
    await api.fund(user, '150.00');
    const reply = await api.operator('POST', '/api/v1/payouts', payment(user));
    expect(Payment.parse(reply.body)).toMatchObject({ type: 'payout', status: 'pending' });
    const { body } = await api.asUser(user, 'GET', '/accounts/balance');
    expect(AccountBalance.parse(body)).toMatchObject({
      balance: '150.00',
      available: '50.00',
      held: '100.00',
    });
    const second = await api.operator('POST', '/api/v1/payouts', payment(user));
    expect(second.status).toBe(201);
    expect(Payment.parse(second.body)).toMatchObject({ status: 'failed', failureCode: 'insufficient_funds' });
    const unreserved = await api.operator('POST', '/api/v1/payouts', payment(user, { reserve: false }));
    expect(Payment.parse(unreserved.body)).toMatchObject({ status: 'pending', failureCode: null });
  });

  it('never hold more than there is, however many come at once', async () => {
    const user = newUser();
    await api.fund(user, '300.00');
    const replies = await Promise.all(
      Array.from({ length: 10 }, () => api.operator('POST', '/api/v1/payouts', payment(user))),
    );
    const states = replies.map((reply) => Payment.parse(reply.body).status);
    expect(states.filter((state) => state === 'pending')).toHaveLength(3);
    expect(states.filter((state) => state === 'failed')).toHaveLength(7);
  });

  it('need an account of the user in the currency', async () => {
    for (const path of ['/api/v1/payments', '/api/v1/payouts']) {
      const problem = expectProblem(
        await api.operator('POST', path, payment(newUser())),
        422,
        'account_missing',
      );
      expect(problem.detail).toContain('TRY');
    }
  });

  it('are two lists: a payout is not found below payments', async () => {
    const user = newUser();
    await api.fund(user, '500.00');
    const { body } = await api.operator('POST', '/api/v1/payouts', payment(user));
    const { id } = Payment.parse(body);
    expectProblem(await api.operator('GET', `/api/v1/payments/${id}`), 404, 'not_found');
    expect((await api.operator('GET', `/api/v1/payouts/${id}`)).status).toBe(200);
    for (const unknown of [randomUUID(), 'x', '%00'])
      expectProblem(await api.operator('GET', `/api/v1/payouts/${unknown}`), 404, 'not_found');
  });

  it('are filtered and paged', async () => {
    const user = newUser();
    await api.fund(user, '250.00');
    for (let index = 0; index < 4; index += 1) await api.operator('POST', '/api/v1/payouts', payment(user));
    const list = async (query: string) =>
      PaymentPage.parse((await api.operator('GET', `/api/v1/payouts?userId=${user}${query}`)).body);
    expect((await list('')).items).toHaveLength(4);
    expect((await list('&status=pending')).items).toHaveLength(2);
    expect((await list('&status=failed')).items).toHaveLength(2);
    const first = await list('&limit=3');
    const rest = await list(`&limit=3&cursor=${first.nextCursor}`);
    expect(new Set([...first.items, ...rest.items].map((item) => item.id)).size).toBe(4);
    expect(rest.nextCursor).toBeNull();
    expectProblem(await api.operator('GET', '/api/v1/payouts?status=paid'), 400, 'invalid_request');
  });

  it('of one tenant are not there for another', async () => {
    const user = newUser();
    await api.fund(user, '500.00');
    const { id } = Payment.parse((await api.operator('POST', '/api/v1/payments', payment(user))).body);
    const stranger = { tenant: 'other' };
    expectProblem(await api.withToken(stranger, 'GET', `/api/v1/payments/${id}`), 404, 'not_found');
    const list = await api.withToken(stranger, 'GET', `/api/v1/payments?userId=${user}`);
    expect(PaymentPage.parse(list.body).items).toEqual([]);
    expectProblem(
      await api.withToken(stranger, 'POST', '/api/v1/payments', payment(user)),
      422,
      'account_missing',
    );
  });

  it('need a token with the right scope', async () => {
    const body = payment(newUser());
    expectProblem(await api.call('POST', '/api/v1/payments', {}, body), 401, 'unauthenticated');
    expectProblem(await api.asUser('user', 'GET', '/api/v1/payments'), 401, 'unauthenticated');
    expectProblem(
      await api.withToken({ scopes: ['read'] }, 'POST', '/api/v1/payments', body),
      403,
      'forbidden',
    );
    expectProblem(await api.withToken({ scopes: ['write'] }, 'GET', '/api/v1/payments'), 403, 'forbidden');
    expect((await api.withToken({ scopes: ['admin'] }, 'GET', '/api/v1/payments')).status).toBe(200);
    const challenge = await api.call('GET', '/api/v1/payments');
    expect(challenge.headers.get('www-authenticate')).toContain('Bearer');
  });

  it.each([
    ['provider', { provider: 'nobody' }],
    ['userId', { userId: '' }],
    ['userId', { userId: 'a\u0000b' }],
    ['amount', { amount: '1.234' }],
    ['currency', { currency: undefined }],
    ['status', { status: 'succeeded' }],
    ['reserve', { reserve: true }],
  ])('name the field %s of %j', async (path, changed) => {
    const reply = await api.operator('POST', '/api/v1/payments', payment('user', changed));
    expect(expectProblem(reply, 400, 'invalid_request').errors.map((error) => error.path)).toEqual([path]);
  });
});
