import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { getAccount } from '../../../src/domain/accounts';
import { expireOverdueOrders } from '../../../src/domain/order-expiry';
import { settleOrderEvent } from '../../../src/domain/order-webhooks';
import { createOrder, expireOrder, getOrder, type OrderView } from '../../../src/domain/orders';
import { reconcile } from '../../../src/domain/reconciliation';
import { saveExpiryPosition } from '../../../src/domain/expiry';
import { PaymentStatusEvent } from '../../../src/contracts/messages';
import type { Database } from '../../../src/platform/postgres';
import { createTestSpace, openTestDatabase } from '../../support/harness';
import {
  chargeback,
  eventTypes,
  moneyOfOrder,
  orderEventOf,
  paidOrder,
  payFromBalance,
  placeOrder,
  placeProviderOrder,
  settleOrder,
} from '../../support/disputes';
import { CURRENCY, inspectLedger, SOUND, TENANT, userWith } from '../../support/money';

let db: Database;
beforeAll(async () => {
  db = openTestDatabase(await createTestSpace());
});
afterAll(async () => {
  expect(await inspectLedger(db)).toEqual(SOUND);
  await db.close();
});

const now = ({ id, userId }: OrderView) => getOrder(db, { tenantId: TENANT, userId, id });
const balance = async (userId: string) =>
  (await getAccount(db, { tenantId: TENANT, userId, currency: CURRENCY })).balanceMinor;

describe('a provider that collected the money for a NEW order that it pays', () => {
  it('finishes it: the money goes from its clearing account to the revenue, past the user’s balance', async () => {
    const order = await placeProviderOrder(db, await userWith(db, 100n));
    expect(await settleOrder(db, order, 'success')).toMatchObject({ outcome: 'applied', status: 'FINISHED' });
    expect(await moneyOfOrder(db, order)).toEqual({ 'clearing:payments': -5_000, 'revenue:orders': 5_000 });
    expect(await balance(order.userId)).toBe(100n);
    expect(await eventTypes(db, order.id)).toEqual(['order.finished']);
    const [status] = await db.prisma.outboxMessage.findMany({
      where: { key: order.id, topic: 'payment-status' },
    });
    expect(PaymentStatusEvent.parse(JSON.parse(status!.value))).toMatchObject({
      status: 'SUCCESS',
      paymentMethod: 'provider',
    });
  });

  it('needs no account of the user', async () => {
    const order = await placeProviderOrder(db, 'nobody-with-an-account');
    expect(await settleOrder(db, order, 'success')).toMatchObject({ status: 'FINISHED' });
  });

  it('is applied once, however often the event comes at the same time', async () => {
    const order = await placeProviderOrder(db);
    const results = await Promise.all(
      Array.from({ length: 8 }, () => settleOrder(db, order, 'success', { providerEventId: order.id })),
    );
    expect(results.filter(({ outcome }) => outcome === 'applied')).toHaveLength(1);
    expect(results.filter(({ outcome }) => outcome === 'duplicate')).toHaveLength(7);
    expect(await moneyOfOrder(db, order)).toEqual({ 'clearing:payments': -5_000, 'revenue:orders': 5_000 });
  });
});

describe('an order that a provider pays', () => {
  it('asks for no payment from the balance, and says until when it waits', async () => {
    const order = await placeProviderOrder(db, await userWith(db, 5_000n));
    expect(order).toMatchObject({ status: 'NEW', paymentMethod: 'provider' });
    expect(order.expiresAt!.getTime() - order.createdAt.getTime()).toBe(86_400_000);
    expect(await db.prisma.outboxMessage.count({ where: { key: order.id } })).toBe(0);
  });

  it('is not debited when its payment is asked for all the same; that is refused and audited', async () => {
    const order = await placeProviderOrder(db, await userWith(db, 5_000n));
    const refusal = { outcome: 'payment_method_mismatch', status: 'NEW' };
    expect(await payFromBalance(db, order)).toMatchObject(refusal);
    expect(await settleOrder(db, order, 'success')).toMatchObject({ outcome: 'applied' });
    expect(await payFromBalance(db, order)).toMatchObject({ ...refusal, status: 'FINISHED' });
    expect(await balance(order.userId)).toBe(5_000n);
    expect(
      await db.prisma.auditRecord.count({
        where: { cause: `order:${order.id}`, action: 'payment_method_mismatch' },
      }),
    ).toBe(2);
  });

  it('finishes whenever its provider’s success comes, also before it was placed: 60 of 60', async () => {
    const users = await Promise.all(Array.from({ length: 6 }, () => userWith(db)));
    const finished = await Promise.all(
      Array.from({ length: 60 }, async (_, i) => {
        const order = {
          ...{ id: randomUUID(), tenantId: TENANT, userId: users[i % 6]!, amountMinor: 5_000n },
          ...{ currency: CURRENCY, description: '', paymentMethod: 'provider' as const },
        };
        const webhook = async () => {
          const event = orderEventOf(order as unknown as OrderView, 'success', {
            providerEventId: `race-${order.id}`,
          });
          // As its workflow does: again while the order is not known.
          for (;;) {
            const { outcome } = await settleOrderEvent(db, event);
            if (outcome !== 'unknown_order') return outcome;
          }
        };
        const created = createOrder(db, { ...order, expiresAfterMs: 60_000, correlationId: 'test' });
        const [outcome] = await Promise.all([webhook(), created]);
        return { outcome, status: (await now(order as unknown as OrderView)).status, id: order.id };
      }),
    );
    expect(finished).toEqual(finished.map(({ id }) => ({ outcome: 'applied', status: 'FINISHED', id })));
    for (const { id } of finished) expect(await eventTypes(db, id)).toEqual(['order.finished']);
  });

  it('can’t be made one that the balance pays, nor wait longer, by anybody', async () => {
    const order = await placeProviderOrder(db);
    for (const change of [
      `payment_method = 'balance', expires_at = NULL`,
      `expires_at = now() + interval '1 year'`,
    ])
      await expect(
        db.pool.query(`UPDATE orders SET ${change} WHERE id = $1`, [order.id]),
      ).rejects.toMatchObject({ code: '23001' });
  });
});

describe('a provider that could not collect', () => {
  it.each([
    ['failed', 'provider_declined'],
    ['expired', 'expired'],
  ] as const)('cancels a NEW order that it pays when it says %s', async (status, failureCode) => {
    const order = await placeProviderOrder(db, await userWith(db, 5_000n));
    expect(await settleOrder(db, order, status)).toMatchObject({
      outcome: 'applied',
      status: 'CANCELLED',
      failureCode,
    });
    expect(await eventTypes(db, order.id)).toEqual(['order.cancelled']);
    expect(await settleOrder(db, order, status)).toMatchObject({ outcome: 'duplicate' });
    expect(await balance(order.userId)).toBe(5_000n);
  });

  it.each(['failed', 'expired'] as const)(
    'has no say in an order that the balance pays: %s',
    async (status) => {
      const order = await placeOrder(db, await userWith(db, 5_000n));
      expect(await settleOrder(db, order, status)).toMatchObject({ outcome: 'noted', status: 'NEW' });
      expect(await payFromBalance(db, order)).toMatchObject({ outcome: 'applied', status: 'FINISHED' });
      expect(await settleOrder(db, order, status)).toMatchObject({ outcome: 'noted', status: 'FINISHED' });
    },
  );

  it('contradicts itself after it had collected; nothing changes, and it is audited', async () => {
    const order = await placeProviderOrder(db);
    await settleOrder(db, order, 'success');
    expect(await settleOrder(db, order, 'failed')).toMatchObject({
      outcome: 'contradiction',
      status: 'FINISHED',
    });
    expect(
      await db.prisma.auditRecord.count({ where: { cause: `order:${order.id}`, action: 'contradiction' } }),
    ).toBe(1);
  });

  it('and says pending is noted', async () => {
    const order = await placeProviderOrder(db);
    expect(await settleOrder(db, order, 'pending')).toMatchObject({ outcome: 'noted', status: 'NEW' });
    expect(await settleOrder(db, order, 'success')).toMatchObject({ outcome: 'applied' });
  });
});

describe('money that a provider collected for an order that it does not pay, or that was cancelled', () => {
  it('is the user’s, once, when the balance had paid', async () => {
    const order = await paidOrder(db);
    expect(await settleOrder(db, order, 'success')).toMatchObject({
      outcome: 'credited',
      status: 'FINISHED',
    });
    expect(await settleOrder(db, order, 'success')).toMatchObject({ outcome: 'duplicate' });
    expect(await balance(order.userId)).toBe(5_000n);
  });

  it('is the user’s before the balance has paid, too, and the balance still pays, perhaps with that money', async () => {
    const order = await placeOrder(db, await userWith(db));
    expect(await settleOrder(db, order, 'success')).toMatchObject({ outcome: 'credited', status: 'NEW' });
    expect(await settleOrder(db, order, 'success')).toMatchObject({ outcome: 'duplicate' });
    expect(await settleOrder(db, order, 'failed')).toMatchObject({ outcome: 'contradiction' });
    expect(await payFromBalance(db, order)).toMatchObject({ outcome: 'applied', status: 'FINISHED' });
    expect(await balance(order.userId)).toBe(0n);
    expect(await moneyOfOrder(db, order)).toEqual({ 'clearing:payments': -5_000, 'revenue:orders': 5_000 });
    expect(await eventTypes(db, order.id)).toEqual(['order.credited', 'order.finished']);
  });

  it('comes to the same money whichever is first, and none is lost', async () => {
    const orders = await Promise.all(
      Array.from({ length: 12 }, async () => placeOrder(db, await userWith(db, 5_000n))),
    );
    await Promise.all(
      orders.flatMap((order) => [settleOrder(db, order, 'success'), payFromBalance(db, order)]),
    );
    for (const order of orders) {
      expect((await now(order)).status).toBe('FINISHED');
      expect(await balance(order.userId)).toBe(5_000n);
      expect(await moneyOfOrder(db, order)).toEqual({
        'clearing:payments': -5_000,
        'revenue:orders': 5_000,
      });
    }
  });

  it('is the user’s when the order was cancelled, also when an account has to be opened for it', async () => {
    const order = await placeOrder(db, `new-${Date.now()}`);
    await payFromBalance(db, order);
    expect(await settleOrder(db, order, 'success')).toMatchObject({
      outcome: 'credited',
      status: 'CANCELLED',
    });
    expect(await balance(order.userId)).toBe(5_000n);
    expect(await eventTypes(db, order.id)).toEqual(['order.cancelled', 'order.credited']);
  });

  it('is the user’s when another attempt of the same provider had failed and cancelled the order', async () => {
    const order = await placeProviderOrder(db);
    await settleOrder(db, order, 'failed');
    expect(await settleOrder(db, order, 'success')).toMatchObject({
      outcome: 'credited',
      status: 'CANCELLED',
    });
    expect(await balance(order.userId)).toBe(5_000n);
  });

  it('can be disputed before the balance has paid: what is taken is the user’s, not the order’s', async () => {
    const order = await placeOrder(db, await userWith(db, 5_000n));
    await settleOrder(db, order, 'success');
    expect(await chargeback(db, order.id, 'lost')).toMatchObject({ outcome: 'applied', status: 'lost' });
    expect(await balance(order.userId)).toBe(5_000n);
    expect(await payFromBalance(db, order)).toMatchObject({ outcome: 'applied', status: 'FINISHED' });
    expect(await moneyOfOrder(db, order)).toEqual({ 'revenue:orders': 5_000, user: -5_000 });
  });
});

describe('an order that its provider does not pay in time', () => {
  const LIMITS = { graceMs: 0, maxRows: 10, maxDeliveries: 500 };
  const overdue = async (own: Database) => {
    const order = await placeOrder(own, await userWith(own), 5_000n, 'provider', 1);
    await sleep(5);
    return order;
  };

  it('is cancelled, once, and handed back until its step is saved', async () => {
    const own = openTestDatabase(await createTestSpace());
    const [first, second] = [await overdue(own), await overdue(own)];
    const [balancePays, waiting] = [
      await placeOrder(own, await userWith(own)),
      await placeProviderOrder(own),
    ];
    const step = await expireOverdueOrders(own, { ...LIMITS, maxRows: 1 });
    expect(step).toMatchObject({ expired: 1, position: { job: 'order-expiry', id: first.id } });
    expect(await expireOverdueOrders(own, { ...LIMITS, maxRows: 1 })).toMatchObject({
      expired: 0,
      position: step.position,
    });
    await saveExpiryPosition(own, step.position!);
    const last = await expireOverdueOrders(own, LIMITS);
    expect(last).toMatchObject({ expired: 1, position: { id: second.id } });
    await saveExpiryPosition(own, last.position!);
    expect(await expireOverdueOrders(own, LIMITS)).toMatchObject({ expired: 0, position: null });
    for (const { id, userId } of [first, second])
      expect(await getOrder(own, { tenantId: TENANT, userId, id })).toMatchObject({
        status: 'CANCELLED',
        failureCode: 'expired',
      });
    expect(await eventTypes(own, first.id)).toEqual(['order.cancelled']);
    for (const { id, userId } of [balancePays, waiting])
      expect((await getOrder(own, { tenantId: TENANT, userId, id })).status).toBe('NEW');
    expect(await expireOrder(own, waiting.id)).toMatchObject({ outcome: 'noted' });
    expect(await expireOrder(own, balancePays.id)).toMatchObject({ outcome: 'noted' });
    expect((await reconcile(own, { maxFindings: 5, days: 1, timeoutMs: 60_000 })).clean).toBe(true);
    await own.close();
  });

  it('credits the user when the provider collects after all; an expired that comes then is a contradiction', async () => {
    const order = await overdue(db);
    expect(await expireOrder(db, order.id)).toMatchObject({ outcome: 'applied' });
    expect(await settleOrder(db, order, 'expired')).toMatchObject({ outcome: 'duplicate' });
    expect(await settleOrder(db, order, 'success')).toMatchObject({
      outcome: 'credited',
      status: 'CANCELLED',
    });
    expect(await settleOrder(db, order, 'expired')).toMatchObject({ outcome: 'contradiction' });
    expect(await balance(order.userId)).toBe(5_000n);
  });

  it('is paid or expired, never both, when both happen at once', async () => {
    const orders = await Promise.all(Array.from({ length: 20 }, () => overdue(db)));
    await Promise.all(
      orders.flatMap((order) => [settleOrder(db, order, 'success'), expireOrder(db, order.id)]),
    );
    for (const order of orders) {
      const { status } = await now(order);
      const types = await eventTypes(db, order.id);
      expect(types).toEqual(
        status === 'FINISHED' ? ['order.finished'] : ['order.cancelled', 'order.credited'],
      );
      expect(await balance(order.userId)).toBe(status === 'FINISHED' ? 0n : 5_000n);
    }
  });
});

describe('an order webhook that can’t be right', () => {
  it('is refused when user, amount or currency differ, and moves nothing', async () => {
    const order = await placeProviderOrder(db);
    for (const [changes, outcome] of [
      [{ userId: 'mallory' }, 'user_mismatch'],
      [{ amountMinor: '4999' }, 'amount_mismatch'],
      [{ currency: 'EUR' }, 'amount_mismatch'],
    ] as const)
      expect(await settleOrder(db, order, 'success', changes)).toMatchObject({ outcome, status: 'NEW' });
    expect(await moneyOfOrder(db, order)).toEqual({});
    expect(await settleOrder(db, order, 'success')).toMatchObject({ outcome: 'applied' });
  });

  it('is a conflict when its event id was used with another body', async () => {
    const order = await placeProviderOrder(db);
    await settleOrder(db, order, 'pending', { providerEventId: 'one-id' });
    expect(await settleOrder(db, order, 'success', { providerEventId: 'one-id' })).toMatchObject({
      outcome: 'event_conflict',
      status: 'NEW',
    });
  });

  it('waits when the order is not known', async () => {
    const order = await placeOrder(db, 'someone');
    const unknown = { ...order, id: '00000000-0000-4000-8000-000000000000' };
    expect(await settleOrder(db, unknown, 'success')).toMatchObject({
      outcome: 'unknown_order',
      status: null,
    });
  });
});
