import { randomUUID } from 'node:crypto';
import { getAccount, topUp } from '../../../src/domain/accounts';
import { getDispute } from '../../../src/domain/disputes';
import { getOrder, type OrderView } from '../../../src/domain/orders';
import { reconcile } from '../../../src/domain/reconciliation';
import type { DisputeStatus } from '../../../src/contracts/messages';
import type { Database } from '../../../src/platform/postgres';
import { chargeback, moneyOfOrder, paidOrder, refund, settleOrder } from '../../support/disputes';
import { createTestSpace, openTestDatabase } from '../../support/harness';
import { CURRENCY, inspectLedger, SOUND, TENANT } from '../../support/money';

let db: Database;
beforeAll(async () => {
  db = openTestDatabase(await createTestSpace());
});
afterAll(async () => {
  expect(await inspectLedger(db)).toEqual(SOUND);
  await db.close();
});

const statusOf = async ({ id, userId }: OrderView) =>
  (await getOrder(db, { tenantId: TENANT, userId, id })).status;
const balance = async (userId: string) =>
  (await getAccount(db, { tenantId: TENANT, userId, currency: CURRENCY })).balanceMinor;

describe('several disputes of money that had gone to the user’s account', () => {
  const twoOf = async () => {
    const order = await paidOrder(db);
    await settleOrder(db, order, 'success');
    // What the user has besides is none of the disputes' business.
    await topUp(db, {
      tenantId: TENANT,
      userId: order.userId,
      currency: CURRENCY,
      amountMinor: 20_000n,
      correlationId: 'test',
      actor: 'test',
    });
    return { order, ids: [`a-${randomUUID()}`, `b-${randomUUID()}`] as const };
  };
  const open = (order: OrderView, disputeId: string, amountMinor: string) =>
    chargeback(db, order.id, 'opened', { disputeId, amountMinor, currency: CURRENCY });

  it('take from that account together no more than the provider had brought it', async () => {
    const { order, ids } = await twoOf();
    await open(order, ids[0], '5000');
    await open(order, ids[1], '5000');
    expect(await balance(order.userId)).toBe(20_000n);
    expect(await moneyOfOrder(db, order, [...ids])).toMatchObject({ 'losses:disputes': -5_000 });
    for (const disputeId of ids) await chargeback(db, order.id, 'lost', { disputeId });
    expect(await balance(order.userId)).toBe(20_000n);
    expect(await statusOf(order)).toBe('FINISHED');
  });

  it('share it; what is won goes back to where it came from', async () => {
    const { order, ids } = await twoOf();
    await open(order, ids[0], '3000');
    await open(order, ids[1], '4000');
    expect(await balance(order.userId)).toBe(20_000n);
    expect(await getDispute(db, { tenantId: TENANT, id: ids[1] })).toMatchObject({ uncoveredMinor: 2_000n });
    await chargeback(db, order.id, 'won', { disputeId: ids[1] });
    expect(await balance(order.userId)).toBe(22_000n);
    expect(await moneyOfOrder(db, order, [...ids])).not.toHaveProperty('losses:disputes');
    await chargeback(db, order.id, 'won', { disputeId: ids[0] });
    expect(await balance(order.userId)).toBe(25_000n);
  });

  it('may take again what one that was won gave back', async () => {
    const { order, ids } = await twoOf();
    await open(order, ids[0], '5000');
    await chargeback(db, order.id, 'won', { disputeId: ids[0] });
    await open(order, ids[1], '5000');
    expect(await balance(order.userId)).toBe(20_000n);
    expect(await moneyOfOrder(db, order, [...ids])).not.toHaveProperty('losses:disputes');
  });

  it('opened at the same time share it all the same', async () => {
    const { order, ids } = await twoOf();
    await Promise.all(ids.map((id) => open(order, id, '5000')));
    expect(await balance(order.userId)).toBe(20_000n);
  });
});

describe('a dispute of an order that the balance paid, and the collection that it disputes', () => {
  /** What became of it, whichever was heard first. */
  const outcome = async (steps: ((order: OrderView) => Promise<unknown>)[]) => {
    const order = await paidOrder(db);
    for (const step of steps) await step(order);
    const checks = (await reconcile(db, { maxFindings: 3, days: 1, timeoutMs: 60_000 })).checks;
    expect(checks.filter(({ found }) => found > 0)).toEqual([]);
    return { money: await moneyOfOrder(db, order), balance: await balance(order.userId) };
  };
  const collected = (order: OrderView) => settleOrder(db, order, 'success');
  const said =
    (status: DisputeStatus, amountMinor = '5000') =>
    (order: OrderView) =>
      chargeback(db, order.id, status, { amountMinor, currency: CURRENCY });
  const refunded = (order: OrderView) => refund(db, order.id, null);

  it.each<[string, DisputeStatus[], string]>([
    ['lost', ['lost'], '5000'],
    ['lost in part', ['lost'], '2000'],
    ['won', ['won'], '5000'],
    ['open', ['opened'], '5000'],
    ['opened, then lost', ['opened', 'lost'], '5000'],
    ['opened, then won', ['opened', 'won'], '3000'],
  ])('come to the same money in every order: %s', async (_what, statuses, amount) => {
    const steps = statuses.map((status) => said(status, amount));
    const first = await outcome([collected, ...steps]);
    for (let i = 1; i <= steps.length; i++)
      expect(await outcome([...steps.slice(0, i), collected, ...steps.slice(i)])).toEqual(first);
  });

  it('come to the same after a refund, which had left the dispute uncovered', async () => {
    expect(await outcome([refunded, said('lost'), collected])).toEqual(
      await outcome([refunded, collected, said('lost')]),
    );
  });

  it('leave an order that was charged back before as it is, with its revenue again', async () => {
    const order = await paidOrder(db);
    await said('lost')(order);
    expect(await collected(order)).toMatchObject({ outcome: 'credited', status: 'CHARGED_BACK' });
    expect(await moneyOfOrder(db, order)).toEqual({ 'revenue:orders': 5_000, user: -5_000 });
    expect(await collected(order)).toMatchObject({ outcome: 'duplicate' });
    expect(await refunded(order)).toMatchObject({ outcome: 'ok' });
    expect(await balance(order.userId)).toBe(5_000n);
  });

  it('at the same time end the same, too', async () => {
    for (let i = 0; i < 10; i++) {
      const order = await paidOrder(db);
      await Promise.all([said('lost')(order), collected(order)]);
      expect(await moneyOfOrder(db, order)).toEqual({ 'revenue:orders': 5_000, user: -5_000 });
    }
  });
});
