import { randomUUID } from 'node:crypto';
import { getAccount } from '../../../src/domain/accounts';
import { getOrderMoney, listRefunds } from '../../../src/domain/refunds';
import type { OrderView } from '../../../src/domain/orders';
import type { Database } from '../../../src/platform/postgres';
import {
  chargeback,
  eventTypes,
  moneyOfOrder,
  paidOrder,
  payFromBalance,
  placeOrder,
  placeProviderOrder,
  refund,
  settleOrder,
} from '../../support/disputes';
import { createTestSpace, eventually, openTestDatabase, type TestSpace } from '../../support/harness';
import { CURRENCY, inspectLedger, SOUND, TENANT, userWith } from '../../support/money';
import { withDatabase } from '../../support/shared-stack';

let space: TestSpace;
let db: Database;
beforeAll(async () => {
  space = await createTestSpace();
  db = openTestDatabase(space);
});
afterAll(async () => {
  expect(await inspectLedger(db)).toEqual(SOUND);
  await db.close();
});

const balance = async ({ userId }: OrderView) =>
  (await getAccount(db, { tenantId: TENANT, userId, currency: CURRENCY })).balanceMinor;
const left = async ({ id }: OrderView) =>
  (await getOrderMoney(db, { tenantId: TENANT, orderId: id })).refundableMinor;

describe('a refund', () => {
  it('gives parts and then the rest back to the balance, and never more than was paid', async () => {
    const order = await paidOrder(db, 5_000n);
    expect(await refund(db, order.id, 2_000n)).toMatchObject({ outcome: 'ok', refundableMinor: '3000' });
    expect(await refund(db, order.id, 3_001n)).toMatchObject({ outcome: 'exceeds', refundableMinor: '3000' });
    expect(await refund(db, order.id, null)).toMatchObject({ outcome: 'ok', refundableMinor: '0' });
    expect(await refund(db, order.id, null)).toMatchObject({ outcome: 'exceeds' });
    expect(await balance(order)).toBe(5_000n);
    expect(await moneyOfOrder(db, order)).toEqual({});
    expect(await eventTypes(db, order.id)).toEqual(['order.finished', 'order.refunded', 'order.refunded']);
    const { items } = await listRefunds(db, { tenantId: TENANT, orderId: order.id, limit: 10 });
    expect(items.map(({ amountMinor }) => amountMinor)).toEqual([3_000n, 2_000n]);
  });

  it('is one refund, however often its id comes at the same time', async () => {
    const order = await paidOrder(db, 5_000n);
    const id = randomUUID();
    const results = await Promise.all(Array.from({ length: 8 }, () => refund(db, order.id, 5_000n, id)));
    expect(results.filter(({ outcome }) => outcome === 'ok')).toHaveLength(1);
    expect(results.filter(({ outcome }) => outcome === 'duplicate')).toHaveLength(7);
    expect(await balance(order)).toBe(5_000n);
  });

  it('races with others for what is left: the sum is what was paid', async () => {
    const order = await paidOrder(db, 1_000n);
    const results = await Promise.all(Array.from({ length: 16 }, () => refund(db, order.id, 300n)));
    expect(results.filter(({ outcome }) => outcome === 'ok')).toHaveLength(3);
    expect(await balance(order)).toBe(900n);
    expect(await left(order)).toBe(100n);
  });

  it('of an order that a provider paid goes to the balance, and opens the account that is missing', async () => {
    const order = await placeProviderOrder(db, `new-${randomUUID()}`);
    await settleOrder(db, order, 'success');
    expect(await refund(db, order.id, null)).toMatchObject({ outcome: 'ok' });
    expect(await balance(order)).toBe(5_000n);
    expect(await moneyOfOrder(db, order)).toEqual({ 'clearing:payments': -5_000, user: 5_000 });
  });

  it('is refused for an order that is not paid, not known or another tenant’s', async () => {
    const order = await placeOrder(db, await userWith(db));
    expect(await refund(db, order.id, 1n)).toMatchObject({ outcome: 'not_paid', refundId: null });
    expect(await refund(db, randomUUID(), 1n)).toMatchObject({ outcome: 'unknown_order' });
    await expect(getOrderMoney(db, { tenantId: 'other', orderId: order.id })).rejects.toMatchObject({
      code: 'not_found',
    });
  });

  it('leaves alone what an open dispute holds and what a lost one took', async () => {
    const order = await paidOrder(db, 5_000n);
    await chargeback(db, order.id, 'opened', { amountMinor: '4000', currency: CURRENCY });
    expect(await refund(db, order.id, 1_001n)).toMatchObject({ outcome: 'exceeds', refundableMinor: '1000' });
    await chargeback(db, order.id, 'lost');
    expect(await refund(db, order.id, 1_001n)).toMatchObject({ outcome: 'exceeds', refundableMinor: '1000' });
    expect(await refund(db, order.id, null)).toMatchObject({ outcome: 'ok' });
    expect(await balance(order)).toBe(1_000n);
  });

  it('can have what a won dispute gave back', async () => {
    const order = await paidOrder(db, 5_000n);
    await chargeback(db, order.id, 'opened');
    expect(await refund(db, order.id, 1n)).toMatchObject({ outcome: 'exceeds', refundableMinor: '0' });
    await chargeback(db, order.id, 'won');
    expect(await refund(db, order.id, null)).toMatchObject({ outcome: 'ok' });
    expect(await balance(order)).toBe(5_000n);
  });

  it('of many orders of one user at once: each is given, and none gets into a deadlock', async () => {
    const userId = await userWith(db, 24_000n);
    const orders = await Promise.all(
      Array.from({ length: 24 }, async () => {
        const order = await placeOrder(db, userId, 1_000n);
        await payFromBalance(db, order);
        return order;
      }),
    );
    const results = await Promise.all(orders.map(({ id }) => refund(db, id, null)));
    expect(results.map(({ outcome }) => outcome)).toEqual(orders.map(() => 'ok'));
    expect(await balance(orders[0]!)).toBe(24_000n);
  });

  it('waits for another one of the same user before it refers to the account', async () => {
    const userId = await userWith(db, 2_000n);
    const orders = [await placeOrder(db, userId, 1_000n), await placeOrder(db, userId, 1_000n)];
    for (const order of orders) await payFromBalance(db, order);
    const holder = await db.pool.connect();
    try {
      // Lets a reference to the account be checked, but not the account be changed.
      await holder.query('BEGIN');
      await holder.query('SELECT FROM accounts WHERE user_id = $1 FOR NO KEY UPDATE', [userId]);
      const calls = orders.map(({ id }) =>
        db.moneyPool
          .query('SELECT refund_order($1)', [
            JSON.stringify({ refundId: randomUUID(), tenantId: TENANT, orderId: id, actor: 'test' }),
          ])
          .then(
            () => 'refunded',
            (error: unknown) => (error as { code: string }).code,
          ),
      );
      await eventually(async () => {
        const { rows } = await db.pool.query<{ waiting: number }>(
          `SELECT count(*)::int AS waiting FROM pg_stat_activity
            WHERE datname = current_database() AND wait_event_type = 'Lock' AND query LIKE '%refund_order%'
              AND pid <> pg_backend_pid()`,
        );
        expect(rows[0]?.waiting).toBe(2);
      });
      await holder.query('COMMIT');
      // A conflict that is run again at once; a deadlock (40P01) would have been noticed after a second.
      expect((await Promise.all(calls)).sort()).toEqual(['40001', 'refunded']);
    } finally {
      holder.release();
    }
  });

  it('is never rewritten', async () => {
    const order = await paidOrder(db);
    await refund(db, order.id, null);
    const rewrite = { text: 'UPDATE refunds SET amount_minor = 1 WHERE order_id = $1', values: [order.id] };
    await expect(db.pool.query(rewrite)).rejects.toThrow('permission denied');
    // Not even by who owns the tables.
    await expect(withDatabase(space.ownerUrl, (owner) => owner.query(rewrite))).rejects.toThrow(
      'append-only',
    );
  });
});
