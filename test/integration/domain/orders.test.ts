import { getAccount } from '../../../src/domain/accounts';
import { createOrder, getOrder, listOrders, payOrder, type OrderView } from '../../../src/domain/orders';
import { PaymentRequestEvent, PaymentStatusEvent } from '../../../src/contracts/messages';
import type { Database } from '../../../src/platform/postgres';
import { createTestSpace, openTestDatabase } from '../../support/harness';
import { CURRENCY, inspectLedger, SOUND, TENANT, userWith } from '../../support/money';

let db: Database;
beforeAll(async () => {
  db = openTestDatabase(await createTestSpace());
});
afterAll(async () => {
  expect(await inspectLedger(db)).toEqual(SOUND);
  await db.close();
});

const order = (userId: string, amountMinor: bigint) =>
  createOrder(db, {
    tenantId: TENANT,
    userId,
    amountMinor,
    currency: CURRENCY,
    description: 'Test order',
    correlationId: 'test',
  });
const pay = ({ id, userId, amountMinor, currency }: OrderView, changes = {}) =>
  payOrder(db, {
    orderId: id,
    userId,
    amountMinor: amountMinor.toString(),
    currency,
    correlationId: 'test',
    ...changes,
  });
const balance = async (userId: string) =>
  (await getAccount(db, { tenantId: TENANT, userId, currency: CURRENCY })).balanceMinor;
const messages = async (key: string, topic: string) =>
  (await db.prisma.outboxMessage.findMany({ where: { key, topic } })).map(
    ({ value }) => JSON.parse(value) as unknown,
  );

describe('an order', () => {
  it('is saved as NEW together with its payment request', async () => {
    const created = await order(await userWith(db), 5_000n);
    expect(created.status).toBe('NEW');
    const [request, ...more] = await messages(created.id, 'payment-request');
    expect(more).toEqual([]);
    expect(PaymentRequestEvent.parse(request)).toMatchObject({
      orderId: created.id,
      amount: '50.00',
      currency: 'TRY',
    });
  });

  it('is debited once and finished, however often it is paid at the same time', async () => {
    const userId = await userWith(db, 10_000n);
    const created = await order(userId, 5_000n);
    const results = await Promise.all(Array.from({ length: 16 }, () => pay(created)));
    expect(results.filter(({ outcome }) => outcome === 'applied')).toHaveLength(1);
    expect(results.every(({ status }) => status === 'FINISHED')).toBe(true);
    expect(await balance(userId)).toBe(5_000n);
    const statuses = await messages(created.id, 'payment-status');
    expect(statuses).toHaveLength(1);
    expect(PaymentStatusEvent.parse(statuses[0])).toMatchObject({
      status: 'SUCCESS',
      reason: null,
      amount: '50.00',
    });
  });

  it('is cancelled without funds, and nothing is taken', async () => {
    const userId = await userWith(db, 4_999n);
    const created = await order(userId, 5_000n);
    expect(await pay(created)).toMatchObject({
      outcome: 'applied',
      status: 'CANCELLED',
      failureCode: 'insufficient_funds',
    });
    expect(await balance(userId)).toBe(4_999n);
    const [status] = await messages(created.id, 'payment-status');
    expect(PaymentStatusEvent.parse(status)).toMatchObject({
      status: 'FAILED',
      reason: 'insufficient_funds',
    });
  });

  it('of a user without an account is cancelled with account_missing', async () => {
    const created = await order('nobody', 5_000n);
    expect(await pay(created)).toMatchObject({ status: 'CANCELLED', failureCode: 'account_missing' });
  });

  it('is not paid by a request that names another user, amount or currency', async () => {
    const userId = await userWith(db, 10_000n);
    const created = await order(userId, 5_000n);
    for (const changes of [{ userId: 'mallory' }, { amountMinor: '1' }, { currency: 'EUR' }])
      expect(await pay(created, changes)).toMatchObject({ outcome: 'event_conflict', status: 'NEW' });
    expect(await pay(created)).toMatchObject({ outcome: 'applied', status: 'FINISHED' });
    expect(await balance(userId)).toBe(5_000n);
  });

  it('races with others for the last money: as many are finished as the balance allows', async () => {
    const userId = await userWith(db, 1_000n);
    const orders = await Promise.all(Array.from({ length: 25 }, () => order(userId, 100n)));
    const results = await Promise.all(orders.map((each) => pay(each)));
    expect(results.filter(({ status }) => status === 'FINISHED')).toHaveLength(10);
    expect(results.filter(({ failureCode }) => failureCode === 'insufficient_funds')).toHaveLength(15);
    expect(await balance(userId)).toBe(0n);
  });

  it('is listed for its own user only, newest first', async () => {
    const userId = await userWith(db);
    const first = await order(userId, 1n);
    const second = await order(userId, 2n);
    const { items } = await listOrders(db, { tenantId: TENANT, userId, limit: 10 });
    expect(items.map(({ id }) => id)).toEqual([second.id, first.id]);
    await expect(getOrder(db, { tenantId: TENANT, userId: 'mallory', id: first.id })).rejects.toMatchObject({
      code: 'not_found',
    });
  });
});
