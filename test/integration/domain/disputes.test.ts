import { randomUUID } from 'node:crypto';
import { getAccount } from '../../../src/domain/accounts';
import { expireDispute, getDispute, listDisputes, submitEvidence } from '../../../src/domain/disputes';
import { getOrder, type OrderView } from '../../../src/domain/orders';
import { disputeIdOf, type DisputeStatus } from '../../../src/contracts/messages';
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

const disputeOf = ({ id }: OrderView) => getDispute(db, { tenantId: TENANT, id: `order-${id}` });
const statusOf = async ({ id, userId }: OrderView) =>
  (await getOrder(db, { tenantId: TENANT, userId, id })).status;
const balance = async (userId: string) =>
  (await getAccount(db, { tenantId: TENANT, userId, currency: CURRENCY })).balanceMinor;
const evidence = (disputeId: string, text = 'They got it.') =>
  submitEvidence(db, {
    disputeId,
    hash: text,
    evidence: { text, documents: [] },
    actor: 'test',
    correlationId: 'test',
  });
const yesterday = () => new Date(Date.now() - 86_400_000).toISOString();

describe('a chargeback of a paid order', () => {
  it('holds its money, which a won dispute gives back', async () => {
    const order = await paidOrder(db);
    expect(await chargeback(db, order.id, 'opened')).toMatchObject({
      outcome: 'applied',
      status: 'opened',
      evidenceDueAt: expect.any(String) as string,
    });
    expect(await moneyOfOrder(db, order)).toEqual({ 'disputes:held': 5_000, user: -5_000 });
    expect(await chargeback(db, order.id, 'won')).toMatchObject({ outcome: 'applied', status: 'won' });
    expect(await moneyOfOrder(db, order)).toEqual({ 'revenue:orders': 5_000, user: -5_000 });
    expect(await statusOf(order)).toBe('FINISHED');
    expect(await eventTypes(db, `order-${order.id}`)).toEqual(['dispute.opened', 'dispute.won']);
  });

  it('hands its money to the provider when it is lost, and the order is charged back', async () => {
    const order = await paidOrder(db);
    await chargeback(db, order.id, 'opened');
    expect(await chargeback(db, order.id, 'lost')).toMatchObject({ outcome: 'applied', status: 'lost' });
    expect(await moneyOfOrder(db, order)).toEqual({ 'clearing:payments': 5_000, user: -5_000 });
    expect(await statusOf(order)).toBe('CHARGED_BACK');
    expect(await eventTypes(db, order.id)).toEqual(['order.finished', 'order.charged_back']);
  });

  it('leaves nothing anywhere when the provider that paid takes it back', async () => {
    const order = await placeProviderOrder(db);
    await settleOrder(db, order, 'success');
    await chargeback(db, order.id, 'opened');
    await chargeback(db, order.id, 'lost');
    expect(await moneyOfOrder(db, order)).toEqual({});
  });

  it('may be of a part: the order is charged back with that part', async () => {
    const order = await paidOrder(db);
    await chargeback(db, order.id, 'opened', { amountMinor: '2000', currency: CURRENCY });
    await chargeback(db, order.id, 'lost');
    expect(await moneyOfOrder(db, order)).toEqual({
      'clearing:payments': 2_000,
      'revenue:orders': 3_000,
      user: -5_000,
    });
    expect(await statusOf(order)).toBe('CHARGED_BACK');
  });

  it('opens and ends the dispute at once when its end is the first that is heard of it', async () => {
    const order = await paidOrder(db);
    expect(await chargeback(db, order.id, 'lost')).toMatchObject({ outcome: 'applied', status: 'lost' });
    expect(await eventTypes(db, `order-${order.id}`)).toEqual(['dispute.opened', 'dispute.lost']);
    expect(await chargeback(db, order.id, 'opened')).toMatchObject({ outcome: 'noted', status: 'lost' });
    expect(await moneyOfOrder(db, order)).toEqual({ 'clearing:payments': 5_000, user: -5_000 });
  });

  it('is audited with who and why', async () => {
    const order = await paidOrder(db);
    await chargeback(db, order.id, 'opened');
    await chargeback(db, order.id, 'won');
    const rows = await db.prisma.auditRecord.findMany({
      where: { cause: `dispute:order-${order.id}` },
      orderBy: { id: 'asc' },
    });
    expect(rows.map(({ action, actor }) => [action, actor])).toEqual([
      ['dispute_opened', 'provider:payments'],
      ['dispute_won', 'provider:payments'],
    ]);
  });
});

describe('a chargeback that comes twice', () => {
  it('is applied once, however often the same event comes at the same time', async () => {
    const order = await paidOrder(db);
    const results = await Promise.all(
      Array.from({ length: 8 }, () => chargeback(db, order.id, 'opened', { providerEventId: order.id })),
    );
    expect(results.filter(({ outcome }) => outcome === 'applied')).toHaveLength(1);
    expect(results.filter(({ outcome }) => outcome === 'duplicate')).toHaveLength(7);
    expect(await moneyOfOrder(db, order)).toEqual({ 'disputes:held': 5_000, user: -5_000 });
  });

  it('as two events of one dispute is a duplicate, and with another amount a mismatch', async () => {
    const order = await paidOrder(db);
    await chargeback(db, order.id, 'opened', { amountMinor: '2000', currency: CURRENCY });
    expect(await chargeback(db, order.id, 'opened')).toMatchObject({ outcome: 'duplicate' });
    expect(await chargeback(db, order.id, 'lost', { amountMinor: '2001', currency: CURRENCY })).toMatchObject(
      { outcome: 'amount_mismatch', status: 'opened' },
    );
    expect(await moneyOfOrder(db, order)).toMatchObject({ 'disputes:held': 2_000 });
  });

  it('with the same event id and another body is a conflict', async () => {
    const order = await paidOrder(db);
    await chargeback(db, order.id, 'opened', { providerEventId: 'dispute-id-1' });
    expect(await chargeback(db, order.id, 'won', { providerEventId: 'dispute-id-1' })).toMatchObject({
      outcome: 'event_conflict',
      status: 'opened',
    });
  });

  it('as two disputes of one order holds the order’s money once: the rest is a loss', async () => {
    const order = await paidOrder(db);
    const [first, second] = [`a-${randomUUID()}`, `b-${randomUUID()}`];
    await chargeback(db, order.id, 'opened', {
      disputeId: first,
      amountMinor: '4000',
      currency: CURRENCY,
    });
    await chargeback(db, order.id, 'opened', { disputeId: second });
    expect(await moneyOfOrder(db, order, [first, second])).toEqual({
      'disputes:held': 9_000,
      'losses:disputes': -4_000,
      user: -5_000,
    });
    expect(await getDispute(db, { tenantId: TENANT, id: second })).toMatchObject({ uncoveredMinor: 4_000n });
    await chargeback(db, order.id, 'won', { disputeId: second });
    await chargeback(db, order.id, 'won', { disputeId: first });
    expect(await moneyOfOrder(db, order, [first, second])).toEqual({ 'revenue:orders': 5_000, user: -5_000 });
  });
});

describe('a chargeback that does not fit', () => {
  it('larger than the order, or in another currency, is refused and moves nothing', async () => {
    const order = await paidOrder(db);
    for (const changes of [
      { amountMinor: '5001', currency: CURRENCY },
      { amountMinor: '5000', currency: 'EUR' },
      { currency: 'EUR' },
    ])
      expect(await chargeback(db, order.id, 'opened', changes)).toMatchObject({
        outcome: 'amount_mismatch',
        status: null,
      });
    expect(await moneyOfOrder(db, order)).toEqual({ 'revenue:orders': 5_000, user: -5_000 });
  });

  it('before its order, or before the order is paid, waits and is applied then', async () => {
    expect(await chargeback(db, randomUUID(), 'opened')).toMatchObject({ outcome: 'unknown_order' });
    const order = await placeOrder(db, await userWith(db, 5_000n));
    const event = { providerEventId: randomUUID() };
    expect(await chargeback(db, order.id, 'opened', event)).toMatchObject({ outcome: 'order_not_paid' });
    await payFromBalance(db, order);
    expect(await chargeback(db, order.id, 'opened', event)).toMatchObject({ outcome: 'applied' });
  });

  it('of an order that was cancelled without money has nothing to dispute', async () => {
    const order = await placeOrder(db, await userWith(db));
    await payFromBalance(db, order);
    expect(await chargeback(db, order.id, 'opened')).toMatchObject({ outcome: 'order_not_paid' });
  });

  it('with the id of another order’s dispute is refused', async () => {
    const [order, other] = [await paidOrder(db), await paidOrder(db)];
    await chargeback(db, order.id, 'opened');
    expect(await chargeback(db, other.id, 'lost', { disputeId: `order-${order.id}` })).toMatchObject({
      outcome: 'dispute_mismatch',
      status: null,
    });
    expect((await disputeOf(order)).status).toBe('opened');
  });

  it('of another provider with the id of a dispute decides nothing of it', async () => {
    const order = await paidOrder(db);
    await chargeback(db, order.id, 'opened');
    expect(await chargeback(db, order.id, 'won', { provider: 'stripe' })).toMatchObject({
      outcome: 'dispute_mismatch',
      status: null,
    });
    expect((await disputeOf(order)).status).toBe('opened');
  });

  it('may have the number that another provider gave to a dispute of another order', async () => {
    const orders = [await paidOrder(db), await paidOrder(db)];
    const number = randomUUID().slice(0, 8);
    const events = ['stripe', 'paypal'].map((provider) => ({
      provider,
      disputeId: disputeIdOf(provider, number),
    }));
    for (const [i, event] of events.entries())
      expect(await chargeback(db, orders[i]!.id, 'opened', event)).toMatchObject({ outcome: 'applied' });
    expect(await chargeback(db, orders[0]!.id, 'lost', events[0])).toMatchObject({ status: 'lost' });
    const { status, provider } = await db.prisma.dispute.findUniqueOrThrow({
      where: { id: `paypal.${number}` },
    });
    expect({ status, provider }).toEqual({ status: 'opened', provider: 'paypal' });
  });

  it('that opens one dispute for two orders at once does so for one of them; the other is refused, not an error', async () => {
    for (let i = 0; i < 10; i++) {
      const orders = [await paidOrder(db), await paidOrder(db)];
      const disputeId = `both-${orders[0]!.id}`;
      const results = await Promise.all(orders.map(({ id }) => chargeback(db, id, 'opened', { disputeId })));
      expect(results.map(({ outcome }) => outcome).sort()).toEqual(['applied', 'dispute_mismatch']);
    }
  });
});

describe('a chargeback after a refund', () => {
  it('holds what the order still has, and the rest as a loss; lost, both go to the provider', async () => {
    const order = await paidOrder(db);
    await refund(db, order.id, 3_000n);
    await chargeback(db, order.id, 'opened');
    expect(await moneyOfOrder(db, order)).toEqual({
      'disputes:held': 5_000,
      'losses:disputes': -3_000,
      user: -2_000,
    });
    await chargeback(db, order.id, 'lost');
    expect(await moneyOfOrder(db, order)).toEqual({
      'clearing:payments': 5_000,
      'losses:disputes': -3_000,
      user: -2_000,
    });
    expect(await statusOf(order)).toBe('CHARGED_BACK');
    const [audit] = await db.prisma.auditRecord.findMany({
      where: { cause: `dispute:order-${order.id}`, action: 'dispute_opened_uncovered' },
    });
    expect(audit?.details).toMatchObject({ uncovered: '30.00' });
  });

  it('of everything is a loss that a won dispute undoes', async () => {
    const order = await paidOrder(db);
    await refund(db, order.id, null);
    await chargeback(db, order.id, 'opened');
    expect(await moneyOfOrder(db, order)).toEqual({ 'disputes:held': 5_000, 'losses:disputes': -5_000 });
    await chargeback(db, order.id, 'won');
    expect(await moneyOfOrder(db, order)).toEqual({});
  });
});

describe('a chargeback of money that had gone to the user’s account', () => {
  const paidTwice = async () => {
    const order = await paidOrder(db);
    await settleOrder(db, order, 'success');
    return order;
  };

  it('is held from that account, and the order, paid from the balance, stays finished', async () => {
    const order = await paidTwice();
    await chargeback(db, order.id, 'opened');
    expect(await balance(order.userId)).toBe(0n);
    await chargeback(db, order.id, 'lost');
    expect(await moneyOfOrder(db, order)).toEqual({ 'revenue:orders': 5_000, user: -5_000 });
    expect(await statusOf(order)).toBe('FINISHED');
    expect(await eventTypes(db, order.id)).toEqual(['order.finished', 'order.credited']);
  });

  it('comes back to that account when it is won', async () => {
    const order = await paidTwice();
    await chargeback(db, order.id, 'opened');
    await chargeback(db, order.id, 'won');
    expect(await balance(order.userId)).toBe(5_000n);
  });

  it('is a loss when the user has spent it, undone when it is won', async () => {
    const order = await paidTwice();
    await payFromBalance(db, await placeOrder(db, order.userId, 1n));
    await chargeback(db, order.id, 'opened');
    expect(await balance(order.userId)).toBe(4_999n);
    expect(await disputeOf(order)).toMatchObject({ uncoveredMinor: 5_000n });
    expect(await moneyOfOrder(db, order)).toMatchObject({ 'losses:disputes': -5_000 });
    await chargeback(db, order.id, 'won');
    expect(await moneyOfOrder(db, order)).toEqual({ 'clearing:payments': -5_000, 'revenue:orders': 5_000 });
  });
});

describe('a dispute that ended', () => {
  it.each<[DisputeStatus, DisputeStatus, string]>([
    ['won', 'won', 'duplicate'],
    ['lost', 'lost', 'duplicate'],
    ['won', 'lost', 'contradiction'],
    ['won', 'expired', 'contradiction'],
    ['lost', 'won', 'contradiction'],
    ['expired', 'won', 'contradiction'],
    ['expired', 'lost', 'noted'],
    ['lost', 'expired', 'noted'],
    ['won', 'opened', 'noted'],
    ['lost', 'under_review', 'noted'],
  ])('%s and is then said to be %s: %s, and nothing changes', async (first, then, outcome) => {
    const order = await paidOrder(db);
    await chargeback(db, order.id, 'opened');
    await chargeback(db, order.id, first);
    const before = await moneyOfOrder(db, order);
    expect(await chargeback(db, order.id, then)).toMatchObject({ outcome, status: first });
    expect(await moneyOfOrder(db, order)).toEqual(before);
    const flagged = { cause: `dispute:order-${order.id}`, action: 'contradiction' };
    expect(await db.prisma.auditRecord.count({ where: flagged })).toBe(outcome === 'contradiction' ? 1 : 0);
  });
});

describe('evidence', () => {
  it('puts the dispute under review, once', async () => {
    const order = await paidOrder(db);
    const id = `order-${order.id}`;
    await chargeback(db, order.id, 'opened');
    expect(await evidence(id)).toEqual({ outcome: 'ok', status: 'under_review' });
    expect(await evidence(id)).toEqual({ outcome: 'duplicate', status: 'under_review' });
    expect(await evidence(id, 'Something else.')).toMatchObject({ outcome: 'already_submitted' });
    expect((await disputeOf(order)).evidence).toMatchObject({ evidence: { text: 'They got it.' } });
    expect(await eventTypes(db, id)).toEqual(['dispute.opened', 'dispute.under_review']);
    expect(await expireDispute(db, id)).toMatchObject({ outcome: 'noted', status: 'under_review' });
    expect(await chargeback(db, order.id, 'won')).toMatchObject({ outcome: 'applied', status: 'won' });
  });

  it('is taken while the provider reviews the dispute already, once and until it was due', async () => {
    const [order, overdue] = [await paidOrder(db), await paidOrder(db)];
    const id = `order-${order.id}`;
    await chargeback(db, order.id, 'under_review');
    expect(await evidence(id)).toEqual({ outcome: 'ok', status: 'under_review' });
    expect(await evidence(id)).toEqual({ outcome: 'duplicate', status: 'under_review' });
    expect(await evidence(id, 'Something else.')).toMatchObject({ outcome: 'already_submitted' });
    expect(await eventTypes(db, id)).toEqual(['dispute.opened', 'dispute.under_review']);
    expect((await disputeOf(order)).evidence).toMatchObject({ evidence: { text: 'They got it.' } });
    await chargeback(db, overdue.id, 'under_review', { evidenceDueBy: yesterday() });
    expect(await evidence(`order-${overdue.id}`)).toMatchObject({ outcome: 'too_late' });
  });

  it('is too late after its time, and after the end', async () => {
    const [overdue, ended] = [await paidOrder(db), await paidOrder(db)];
    await chargeback(db, overdue.id, 'opened', { evidenceDueBy: yesterday() });
    expect(await evidence(`order-${overdue.id}`)).toMatchObject({ outcome: 'too_late' });
    await chargeback(db, ended.id, 'lost');
    expect(await evidence(`order-${ended.id}`)).toMatchObject({ outcome: 'too_late', status: 'lost' });
    expect(await evidence('unknown')).toEqual({ outcome: 'unknown_dispute', status: null });
  });

  it('and expiry at the same time: one of them wins, and the money follows', async () => {
    for (let i = 0; i < 10; i++) {
      const order = await paidOrder(db);
      const id = `order-${order.id}`;
      const evidenceDueBy = new Date(Date.now() + 60).toISOString();
      await chargeback(db, order.id, 'opened', { evidenceDueBy });
      await new Promise((resolve) => setTimeout(resolve, 55 + i));
      const [submitted] = await Promise.all([evidence(id), expireDispute(db, id)]);
      await expireDispute(db, id);
      const { status } = await disputeOf(order);
      expect(status).toBe(submitted.outcome === 'ok' ? 'under_review' : 'expired');
      expect(await moneyOfOrder(db, order)).toMatchObject(
        status === 'expired' ? { 'clearing:payments': 5_000 } : { 'disputes:held': 5_000 },
      );
    }
  });
});

describe('a dispute without evidence', () => {
  it('expires when it was due, not before, and once', async () => {
    const [early, due] = [await paidOrder(db), await paidOrder(db)];
    await chargeback(db, early.id, 'opened');
    expect(await expireDispute(db, `order-${early.id}`)).toMatchObject({
      outcome: 'noted',
      status: 'opened',
      evidenceDueAt: expect.any(String) as string,
    });
    await chargeback(db, due.id, 'opened', { evidenceDueBy: yesterday() });
    const results = await Promise.all(Array.from({ length: 4 }, () => expireDispute(db, `order-${due.id}`)));
    expect(results.map(({ outcome }) => outcome).sort()).toEqual([
      'applied',
      'duplicate',
      'duplicate',
      'duplicate',
    ]);
    expect(await moneyOfOrder(db, due)).toEqual({ 'clearing:payments': 5_000, user: -5_000 });
    expect(await statusOf(due)).toBe('CHARGED_BACK');
    expect(await eventTypes(db, `order-${due.id}`)).toEqual(['dispute.opened', 'dispute.expired']);
  });

  it('writes the deliveries of its end, and asks for them, so that subscribers hear of it', async () => {
    await db.prisma.subscription.create({
      data: {
        id: 'sub_of_ends',
        tenantId: TENANT,
        url: 'https://subscriber.example/',
        eventTypes: ['remit.dispute.expired', 'remit.order.charged_back'],
        secretCiphertext: Buffer.from(''),
      },
    });
    const due = await paidOrder(db);
    await chargeback(db, due.id, 'opened', { evidenceDueBy: yesterday() });
    expect(await expireDispute(db, `order-${due.id}`)).toMatchObject({ outcome: 'applied' });
    const { rows } = await db.pool.query<{ type: string }>(
      `SELECT d.event_type AS type FROM deliveries d JOIN outbox o ON o.topic = 'events' AND o.key = d.event_id
        WHERE d.subscription_id = 'sub_of_ends' ORDER BY 1`,
    );
    expect(rows.map(({ type }) => type)).toEqual(['remit.dispute.expired', 'remit.order.charged_back']);
  });
});

describe('disputes', () => {
  it('are listed for their own tenant, by order and status', async () => {
    const order = await paidOrder(db);
    await chargeback(db, order.id, 'opened');
    const list = (filter: object) =>
      listDisputes(db, { tenantId: TENANT, limit: 5, orderId: order.id, ...filter });
    expect((await list({})).items).toMatchObject([{ id: `order-${order.id}`, amountMinor: 5_000n }]);
    expect((await list({ status: 'won' })).items).toEqual([]);
    expect((await list({ tenantId: 'other' })).items).toEqual([]);
    await expect(getDispute(db, { tenantId: 'other', id: `order-${order.id}` })).rejects.toMatchObject({
      code: 'not_found',
    });
  });

  it('together with refunds can never take more of an order than was paid: the database refuses it', async () => {
    const order = await paidOrder(db);
    await expect(
      db.pool.query('UPDATE orders SET refunded_minor = 3000, disputed_minor = 2001 WHERE id = $1', [
        order.id,
      ]),
    ).rejects.toThrow('not_more_than_paid');
  });
});
