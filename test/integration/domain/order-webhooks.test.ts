import { getAccount } from '../../../src/domain/accounts';
import { getOrder, type OrderView } from '../../../src/domain/orders';
import { PaymentStatusEvent } from '../../../src/contracts/messages';
import type { Database } from '../../../src/platform/postgres';
import { createTestSpace, openTestDatabase } from '../../support/harness';
import {
  eventTypes,
  moneyOfOrder,
  paidOrder,
  payFromBalance,
  placeOrder,
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

describe('a provider that collected the money for a NEW order', () => {
  it('finishes it: the money goes from its clearing account to the revenue, past the user’s balance', async () => {
    const order = await placeOrder(db, await userWith(db, 100n));
    expect(await settleOrder(db, order, 'success')).toMatchObject({ outcome: 'applied', status: 'FINISHED' });
    expect(await moneyOfOrder(db, order)).toEqual({ 'clearing:payments': -5_000, 'revenue:orders': 5_000 });
    expect(await balance(order.userId)).toBe(100n);
    expect(await eventTypes(db, order.id)).toEqual(['order.finished']);
    const [status] = await db.prisma.outboxMessage.findMany({
      where: { key: order.id, topic: 'payment-status' },
    });
    expect(PaymentStatusEvent.parse(JSON.parse(status!.value))).toMatchObject({ status: 'SUCCESS' });
  });

  it('needs no account of the user', async () => {
    const order = await placeOrder(db, 'nobody-with-an-account');
    expect(await settleOrder(db, order, 'success')).toMatchObject({ status: 'FINISHED' });
  });

  it('leaves nothing for the payment request that comes later', async () => {
    const order = await placeOrder(db, await userWith(db, 5_000n));
    await settleOrder(db, order, 'success');
    expect(await payFromBalance(db, order)).toMatchObject({ outcome: 'duplicate', status: 'FINISHED' });
    expect(await balance(order.userId)).toBe(5_000n);
  });

  it('is applied once, however often the event comes at the same time', async () => {
    const order = await placeOrder(db, await userWith(db));
    const results = await Promise.all(
      Array.from({ length: 8 }, () => settleOrder(db, order, 'success', { providerEventId: order.id })),
    );
    expect(results.filter(({ outcome }) => outcome === 'applied')).toHaveLength(1);
    expect(results.filter(({ outcome }) => outcome === 'duplicate')).toHaveLength(7);
    expect(await moneyOfOrder(db, order)).toEqual({ 'clearing:payments': -5_000, 'revenue:orders': 5_000 });
  });

  it('and the balance decide the order once between them, and no money is lost', async () => {
    const orders = await Promise.all(
      Array.from({ length: 12 }, async () => placeOrder(db, await userWith(db, 5_000n))),
    );
    await Promise.all(
      orders.flatMap((order) => [settleOrder(db, order, 'success'), payFromBalance(db, order)]),
    );
    for (const order of orders) {
      expect((await now(order)).status).toBe('FINISHED');
      // Either the provider alone paid, or the balance did and the provider's money came to the account.
      expect(await balance(order.userId)).toBe(5_000n);
      expect(await moneyOfOrder(db, order)).toMatchObject({
        'clearing:payments': -5_000,
        'revenue:orders': 5_000,
      });
    }
  });
});

describe('a provider that could not collect', () => {
  it.each([
    ['failed', 'provider_declined'],
    ['expired', 'expired'],
  ] as const)('cancels a NEW order when it says %s', async (status, failureCode) => {
    const order = await placeOrder(db, await userWith(db, 5_000n));
    expect(await settleOrder(db, order, status)).toMatchObject({
      outcome: 'applied',
      status: 'CANCELLED',
      failureCode,
    });
    expect(await eventTypes(db, order.id)).toEqual(['order.cancelled']);
    expect(await settleOrder(db, order, status)).toMatchObject({ outcome: 'duplicate' });
    expect(await payFromBalance(db, order)).toMatchObject({ outcome: 'duplicate', status: 'CANCELLED' });
    expect(await balance(order.userId)).toBe(5_000n);
  });

  it('changes nothing of an order that the balance paid', async () => {
    const order = await paidOrder(db);
    expect(await settleOrder(db, order, 'failed')).toMatchObject({ outcome: 'noted', status: 'FINISHED' });
  });

  it('contradicts itself after it had collected; nothing changes, and it is audited', async () => {
    const order = await placeOrder(db, await userWith(db));
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
    const order = await placeOrder(db, await userWith(db));
    expect(await settleOrder(db, order, 'pending')).toMatchObject({ outcome: 'noted', status: 'NEW' });
    expect(await settleOrder(db, order, 'success')).toMatchObject({ outcome: 'applied' });
  });
});

describe('money that a provider collected for an order that was decided without it', () => {
  it('is the user’s, once, when the balance had paid', async () => {
    const order = await paidOrder(db);
    expect(await settleOrder(db, order, 'success')).toMatchObject({
      outcome: 'credited',
      status: 'FINISHED',
    });
    expect(await settleOrder(db, order, 'success')).toMatchObject({ outcome: 'duplicate' });
    expect(await balance(order.userId)).toBe(5_000n);
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
    const order = await placeOrder(db, await userWith(db));
    await settleOrder(db, order, 'failed');
    expect(await settleOrder(db, order, 'success')).toMatchObject({
      outcome: 'credited',
      status: 'CANCELLED',
    });
    expect(await balance(order.userId)).toBe(5_000n);
  });
});

describe('an order webhook that can’t be right', () => {
  it('is refused when user, amount or currency differ, and moves nothing', async () => {
    const order = await placeOrder(db, await userWith(db));
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
    const order = await placeOrder(db, await userWith(db));
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
