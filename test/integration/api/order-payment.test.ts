import { randomUUID } from 'node:crypto';
import type { z } from 'zod';
import { AccountBalance } from '../../../src/contracts/accounts';
import { Order as OrderSchema } from '../../../src/contracts/orders';
import { eventually, openTestDatabase } from '../../support/harness';
import { inspectLedger, SOUND } from '../../support/money';
import { expectProblem, newUser, TestApi } from './support';
import type { Database } from '../../../src/platform/postgres';

type Order = z.infer<typeof OrderSchema>;

let api: TestApi;
let db: Database;
beforeAll(async () => {
  api = await TestApi.withWorkers();
  db = openTestDatabase(api.space);
});
afterAll(async () => {
  await api?.stop();
  expect(await inspectLedger(db)).toEqual(SOUND);
  await db?.close();
});

const place = async (user: string, body: object) => {
  const reply = await api.asUser(user, 'POST', '/orders', body);
  expect(reply.status).toBe(201);
  return OrderSchema.parse(reply.body);
};
const read = async ({ id, userId }: Order) =>
  OrderSchema.parse((await api.asUser(userId, 'GET', `/orders/${id}`)).body);
const decided = (order: Order) =>
  eventually(async () => {
    const now = await read(order);
    expect(now.status).not.toBe('NEW');
    return now;
  });
const balance = async (user: string) =>
  AccountBalance.parse((await api.asUser(user, 'GET', '/accounts/balance')).body).balance;

/** What the order's provider says. */
async function webhook({ id, userId, amount, currency }: Order, status: string): Promise<void> {
  const said = { provider_event_id: randomUUID(), order_id: id, user_id: userId, status, amount, currency };
  const body = JSON.stringify(said);
  const secret = api.space.config.ORDER_WEBHOOK_SECRET;
  const headers = api.sign(body, undefined, undefined, secret);
  const reply = await api.call('POST', '/webhooks/payments/orders', headers, body);
  expect(reply.status).toBe(202);
}

/** What subscribers are told of orders, by type. */
async function told(orders: Order[]): Promise<Record<string, number>> {
  const { rows } = await db.pool.query<{ type: string; times: number }>(
    `SELECT type, count(*)::int AS times FROM webhook_events
      WHERE body::jsonb #>> '{data,id}' = ANY($1) GROUP BY type`,
    [orders.map(({ id }) => id)],
  );
  return Object.fromEntries(rows.map(({ type, times }) => [type, times]));
}

describe('POST /orders', () => {
  it('is paid from the balance when nothing else is said: an account, a top-up, an order', async () => {
    const user = newUser();
    await api.fund(user, '100.00');
    const order = await place(user, { amount: '50.00', description: 'Test order' });
    expect(order).toMatchObject({ status: 'NEW', paymentMethod: 'balance', expiresAt: null });
    expect(await decided(order)).toMatchObject({ status: 'FINISHED', paymentMethod: 'balance' });
    expect(await balance(user)).toBe('50.00');
  });

  it('with paymentMethod provider leaves the balance alone and waits for the provider’s webhook', async () => {
    const user = newUser();
    await api.fund(user, '100.00');
    const order = await place(user, {
      amount: '50.00',
      description: 'Test order',
      paymentMethod: 'provider',
    });
    expect(order).toMatchObject({ status: 'NEW', paymentMethod: 'provider' });
    const waitsMs = Date.parse(order.expiresAt!) - Date.parse(order.createdAt);
    expect(waitsMs).toBe(api.space.config.PAYMENT_EXPIRES_AFTER_MS);
    await webhook(order, 'pending');
    // What an order of the balance would have been told by now: another one is.
    await decided(await place(user, { amount: '1.00' }));
    expect(await read(order)).toMatchObject({ status: 'NEW' });
    await webhook(order, 'success');
    expect(await decided(order)).toMatchObject({ status: 'FINISHED', expiresAt: order.expiresAt });
    expect(await balance(user)).toBe('99.00');
    expect(await told([order])).toEqual({ 'remit.order.finished': 1 });
  });

  it('with paymentMethod provider is paid however soon the webhook comes: 40 of 40, none heard as cancelled', async () => {
    const users = Array.from({ length: 8 }, newUser);
    const orders = await Promise.all(
      Array.from({ length: 40 }, async (_, i) => {
        // No account, an empty one, or one with money: it is not asked.
        if (i % 8 === 1) await api.asUser(users[1]!, 'POST', '/accounts');
        const order = await place(users[i % 8]!, { amount: '50.00', paymentMethod: 'provider' });
        await webhook(order, 'success');
        return order;
      }),
    );
    for (const order of orders) expect(await decided(order)).toMatchObject({ status: 'FINISHED' });
    expect(await told(orders)).toEqual({ 'remit.order.finished': 40 });
  });

  it('with paymentMethod provider is cancelled when the provider could not collect', async () => {
    const order = await place(newUser(), { amount: '50.00', paymentMethod: 'provider' });
    await webhook(order, 'failed');
    expect(await decided(order)).toMatchObject({ status: 'CANCELLED', failureCode: 'provider_declined' });
  });

  it('is debited, and not cancelled, when a provider says that it could not collect what it was not asked for', async () => {
    const user = newUser();
    await api.fund(user, '50.00');
    const order = await place(user, { amount: '50.00' });
    await webhook(order, 'failed');
    expect(await decided(order)).toMatchObject({ status: 'FINISHED' });
    expect(await told([order])).toEqual({ 'remit.order.finished': 1 });
  });

  it('knows no other payment method', async () => {
    for (const paymentMethod of ['card', 'Provider', '', null, 1]) {
      const reply = await api.asUser(newUser(), 'POST', '/orders', { amount: '1.00', paymentMethod });
      expect(expectProblem(reply, 400, 'invalid_request').errors).toMatchObject([{ path: 'paymentMethod' }]);
    }
  });
});
