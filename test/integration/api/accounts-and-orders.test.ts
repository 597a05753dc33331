import { AccountBalance, Account } from '../../../src/contracts/accounts';
import { Order, OrderPage } from '../../../src/contracts/orders';
import { HEADERS } from '../../../src/contracts/messages';
import { withDatabase } from '../../support/shared-stack';
import { expectProblem, newUser, TestApi } from './support';

let api: TestApi;
beforeAll(async () => {
  api = await TestApi.start();
});
afterAll(() => api?.stop());

describe('accounts', () => {
  it('open empty, in the default currency, once', async () => {
    const user = newUser();
    const opened = await api.asUser(user, 'POST', '/accounts');
    expect(opened.status).toBe(201);
    expect(Account.parse(opened.body)).toMatchObject({
      userId: user,
      currency: 'TRY',
      balance: '0.00',
      held: '0.00',
    });
    expect(opened.headers.get('location')).toBe('/accounts/balance?currency=TRY');
    expectProblem(await api.asUser(user, 'POST', '/accounts'), 409, 'account_exists');
    expectProblem(await api.asUser(user, 'POST', '/accounts', {}), 409, 'account_exists');
    expect((await api.asUser(user, 'POST', '/accounts', { currency: 'JPY' })).status).toBe(201);
  });

  it('open once when asked twice at the same time', async () => {
    const user = newUser();
    const replies = await Promise.all(Array.from({ length: 8 }, () => api.asUser(user, 'POST', '/accounts')));
    expect(replies.map((reply) => reply.status).sort()).toEqual([201, ...Array<number>(7).fill(409)]);
  });

  it('take money in major units, exactly, as number or string', async () => {
    const user = newUser();
    await api.asUser(user, 'POST', '/accounts');
    for (const [amount, balance] of [
      ['100.00', '100.00'],
      [0.1, '100.10'],
      ['0.2', '100.30'],
      [7, '107.30'],
    ]) {
      const reply = await api.asUser(user, 'POST', '/accounts/topup', { amount });
      expect(reply.status).toBe(200);
      expect(AccountBalance.parse(reply.body)).toEqual({
        userId: user,
        currency: 'TRY',
        balance,
        available: balance,
        held: '0.00',
      });
    }
    const read = await api.asUser(user, 'GET', '/accounts/balance');
    expect(AccountBalance.parse(read.body).balance).toBe('107.30');
  });

  it('lose no top-up when many come at once', async () => {
    const user = newUser();
    await api.asUser(user, 'POST', '/accounts');
    const replies = await Promise.all(
      Array.from({ length: 20 }, () => api.asUser(user, 'POST', '/accounts/topup', { amount: '0.05' })),
    );
    expect(replies.every((reply) => reply.status === 200)).toBe(true);
    expect((await api.asUser(user, 'GET', '/accounts/balance')).body).toMatchObject({ balance: '1.00' });
  });

  it.each([
    '-1',
    '0',
    0,
    '1.001',
    1.001,
    '1e3',
    '',
    'abc',
    null,
    true,
    [],
    {},
    1e300,
    '99999999999999999999',
    '100,00',
    undefined,
  ])('refuse the amount %p and name it', async (amount) => {
    const problem = expectProblem(
      await api.asUser('anybody', 'POST', '/accounts/topup', { amount }),
      400,
      'invalid_request',
    );
    expect(problem.errors.map(({ path }) => path)).toEqual(['amount']);
  });

  it('refuse an amount that JSON would round', async () => {
    const reply = await api.asUser('anybody', 'POST', '/accounts/topup', '{"amount": 100.00000000000000001}');
    expect(expectProblem(reply, 400, 'invalid_request').errors[0]?.path).toBe('amount');
  });

  it('that do not exist have no balance and take no money', async () => {
    const user = newUser();
    expectProblem(await api.asUser(user, 'GET', '/accounts/balance'), 404, 'not_found');
    expectProblem(await api.asUser(user, 'POST', '/accounts/topup', { amount: 1 }), 404, 'not_found');
    await api.asUser(user, 'POST', '/accounts');
    expectProblem(await api.asUser(user, 'GET', '/accounts/balance?currency=EUR'), 404, 'not_found');
  });

  it('belong to the user of the request, and without one there is nothing', async () => {
    expectProblem(await api.call('GET', '/accounts/balance'), 401, 'unauthenticated');
    expectProblem(await api.call('POST', '/accounts'), 401, 'unauthenticated');
    const problem = expectProblem(
      await api.call('GET', '/accounts/balance', { 'x-user-id': 'x'.repeat(129) }),
      400,
      'invalid_request',
    );
    expect(problem.errors[0]?.path).toBe('X-User-Id');
  });
});

describe('orders', () => {
  it('are placed as NEW, with their payment request in the outbox of the same transaction', async () => {
    const user = newUser();
    const reply = await api.call(
      'POST',
      '/orders',
      { 'x-user-id': user, 'x-correlation-id': 'order-test-1' },
      { amount: '50.00', description: 'Test order — ünïcode 🎁' },
    );
    expect(reply.status).toBe(201);
    const order = Order.parse(reply.body);
    expect(order).toMatchObject({
      userId: user,
      amount: '50.00',
      currency: 'TRY',
      description: 'Test order — ünïcode 🎁',
      status: 'NEW',
      failureCode: null,
      decidedAt: null,
    });
    expect(reply.headers.get('location')).toBe(`/orders/${order.id}`);
    const { rows } = await withDatabase(api.space.env['DATABASE_URL']!, (client) =>
      client.query<{ topic: string; value: string; headers: Record<string, string> }>(
        'SELECT topic, value, headers FROM outbox WHERE key = $1',
        [order.id],
      ),
    );
    expect(rows).toHaveLength(1);
    expect(rows[0]?.topic).toBe('payment-request');
    expect(JSON.parse(rows[0]!.value)).toMatchObject({ orderId: order.id, userId: user, amount: '50.00' });
    expect(rows[0]?.headers[HEADERS.correlationId]).toBe('order-test-1');
  });

  it('are read by their user only; an id that is none is simply not there', async () => {
    const [owner, other] = [newUser(), newUser()];
    const { body } = await api.asUser(owner, 'POST', '/orders', { amount: 1 });
    const { id } = Order.parse(body);
    expect((await api.asUser(owner, 'GET', `/orders/${id}`)).body).toEqual(body);
    expect((await api.asUser(owner, 'GET', `/orders/${id.toUpperCase()}`)).body).toEqual(body);
    for (const path of [id, 'not-an-id', '0', `${id}0`, '%00', `'--`, '..%2f..', '%F0%9F%8E%81'])
      expectProblem(
        await api.asUser(path === id ? other : owner, 'GET', `/orders/${path}`),
        404,
        'not_found',
      );
    expectProblem(await api.asUser(owner, 'GET', '/orders/%ff'), 400, 'invalid_request');
  });

  it('are listed page by page, newest first, each exactly once', async () => {
    const user = newUser();
    const placed: string[] = [];
    for (let index = 0; index < 7; index += 1)
      placed.push(
        Order.parse((await api.asUser(user, 'POST', '/orders', { amount: 1, description: `${index}` })).body)
          .id,
      );
    const seen: string[] = [];
    let cursor: string | null = null;
    do {
      const reply = await api.asUser(user, 'GET', `/orders?limit=3${cursor ? `&cursor=${cursor}` : ''}`);
      const page = OrderPage.parse(reply.body);
      expect(page.items.length).toBeLessThanOrEqual(3);
      seen.push(...page.items.map((order) => order.id));
      cursor = page.nextCursor;
    } while (cursor);
    expect([...seen].sort()).toEqual([...placed].sort());
    expect((await api.asUser(newUser(), 'GET', '/orders')).body).toEqual({ items: [], nextCursor: null });
  });

  it.each([
    'limit=0',
    'limit=x',
    'limit=1&limit=2',
    'cursor=',
    'cursor=abc',
    'cursor=%00',
    'colour=red',
    '__proto__=1',
  ])('are not listed for ?%s', async (query) => {
    expectProblem(await api.asUser('anybody', 'GET', `/orders?${query}`), 400, 'invalid_request');
  });

  it.each([
    ['a control character', { amount: 1, description: 'a\u0000b' }, 'description'],
    ['a lone surrogate', { amount: 1, description: '\ud800' }, 'description'],
    ['too much text', { amount: 1, description: 'x'.repeat(1_001) }, 'description'],
    ['an unknown field', { amount: 1, price: 1 }, 'price'],
    ['a prototype key', '{"amount":1,"__proto__":{"admin":true}}', '__proto__'],
    ['an unknown currency', { amount: 1, currency: 'XYZ' }, 'currency'],
    ['a currency in lower case', { amount: 1, currency: 'try' }, 'currency'],
    ['nothing', {}, 'amount'],
    ['an array', [], 'body'],
  ])('are refused with %s, naming the field', async (_name, body, path) => {
    const problem = expectProblem(
      await api.asUser('anybody', 'POST', '/orders', body),
      400,
      'invalid_request',
    );
    expect(problem.errors.map((error) => error.path)).toContain(path);
  });
});
