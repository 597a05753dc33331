import { randomUUID } from 'node:crypto';
import { getAccount } from '../../../src/domain/accounts';
import { EventMessage } from '../../../src/contracts/events';
import { parseKeeping } from '../../../src/contracts/json';
import { expiryEvent } from '../../../src/domain/payment-expiry';
import { createPayment, getPayment, listPayments, settleProviderEvent } from '../../../src/domain/payments';
import { metrics } from '../../../src/platform/metrics';
import type { Database } from '../../../src/platform/postgres';
import { createTestSpace, openTestDatabase, type TestSpace } from '../../support/harness';
import { withDatabase } from '../../support/shared-stack';
import {
  CURRENCY,
  eventOf,
  inspectLedger,
  newTransaction,
  settle,
  SOUND,
  TENANT,
  userWith,
} from '../../support/money';

const INSUFFICIENT_PRIVILEGE = '42501';

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

const money = async (userId: string) => {
  const { balanceMinor, heldMinor } = await getAccount(db, { tenantId: TENANT, userId, currency: CURRENCY });
  return { balanceMinor, heldMinor };
};

/** What the alert EndedStateContradicted looks at. */
const contradictions = async (type: string) => {
  const { values } = await metrics.providerEvents.get();
  const counted = values.filter(({ labels }) => labels.outcome === 'contradiction' && labels.type === type);
  return counted.reduce((sum, { value }) => sum + value, 0);
};

describe('a payout that is created again under its id', () => {
  it.each(['failed', 'expired', 'success'] as const)('is answered as it is when it was %s', async (end) => {
    const userId = await userWith(db, 10_000n);
    const create = (id: string) =>
      createPayment(db, {
        id,
        tenantId: TENANT,
        type: 'payout',
        provider: 'decard',
        userId,
        amountMinor: 4_000n,
        currency: CURRENCY,
        reserve: true,
        expiresAfterMs: 86_400_000,
        correlationId: 'test',
        actor: 'test',
      });
    const payout = await create(randomUUID());
    const { status } = await settle(db, payout, end);
    const before = await money(userId);
    expect(await create(payout.id)).toMatchObject({ id: payout.id, status });
    expect(await money(userId)).toEqual(before);
  });
});

describe('a payment', () => {
  it('credits its user once, however often and under whatever ids success is reported', async () => {
    const userId = await userWith(db);
    const payment = await newTransaction(db, userId, 'payment', 10_000n);
    expect(await settle(db, payment, 'success')).toMatchObject({ outcome: 'applied', status: 'succeeded' });
    expect(await settle(db, payment, 'success')).toMatchObject({ outcome: 'duplicate', status: 'succeeded' });
    expect(await settle(db, payment, 'success', { providerEventId: randomUUID() })).toMatchObject({
      outcome: 'duplicate',
    });
    expect(await money(userId)).toEqual({ balanceMinor: 10_000n, heldMinor: 0n });
  });

  it.each(['failed', 'expired'] as const)('moves nothing when it is reported %s', async (status) => {
    const userId = await userWith(db, 500n);
    const payment = await newTransaction(db, userId, 'payment', 10_000n);
    expect(await settle(db, payment, status)).toMatchObject({ outcome: 'applied', status });
    expect(await money(userId)).toEqual({ balanceMinor: 500n, heldMinor: 0n });
  });

  it('notes a pending event and says when the payment expires', async () => {
    const payment = await newTransaction(db, await userWith(db), 'payment', 10_000n);
    const result = await settle(db, payment, 'pending');
    expect(result).toMatchObject({
      outcome: 'noted',
      status: 'pending',
      expiresAt: payment.expiresAt.toISOString(),
    });
  });

  it('keeps its first terminal state and records a later contradiction', async () => {
    const userId = await userWith(db);
    const payment = await newTransaction(db, userId, 'payment', 10_000n);
    await settle(db, payment, 'failed');
    expect(await settle(db, payment, 'success')).toMatchObject({
      outcome: 'contradiction',
      status: 'failed',
    });
    expect(await money(userId)).toEqual({ balanceMinor: 0n, heldMinor: 0n });
    const flagged = await db.prisma.auditRecord.findMany({ where: { cause: `payment:${payment.id}` } });
    expect(flagged.map(({ action }) => action)).toEqual(['contradiction']);
  });

  it.each(['payment', 'payout'] as const)(
    'a %s that succeeds after we have expired it stays expired, and is flagged once for an operator',
    async (type) => {
      const userId = await userWith(db, 500n);
      const { id, ...rest } = await newTransaction(db, userId, type, 500n);
      const expiry = { ...eventOf({ id, ...rest }, 'expired'), ...expiryEvent(id) };
      expect(await settleProviderEvent(db, expiry)).toMatchObject({ outcome: 'applied', status: 'expired' });
      const before = await contradictions(type);
      for (const outcome of ['contradiction', 'duplicate'])
        expect(await settle(db, { id, ...rest }, 'success')).toMatchObject({ outcome, status: 'expired' });
      expect((await contradictions(type)) - before).toBe(1);
      expect(await money(userId)).toEqual({ balanceMinor: 500n, heldMinor: 0n });
      const flagged = await db.prisma.auditRecord.findMany({
        where: { cause: `${type}:${id}`, action: 'contradiction' },
      });
      expect(flagged).toHaveLength(1);
      expect(flagged[0]).toMatchObject({
        actor: 'provider:decard',
        details: { status: 'success', providerEventId: `${id}:success` },
      });
    },
  );

  it('that has ended is not contradicted by our own expiry, whose timer may run at the same time', async () => {
    const payment = await newTransaction(db, await userWith(db), 'payment', 5n);
    await settle(db, payment, 'success');
    const before = await contradictions('payment');
    const expiry = { ...eventOf(payment, 'expired'), ...expiryEvent(payment.id) };
    for (const outcome of ['noted', 'duplicate'])
      expect(await settleProviderEvent(db, expiry)).toMatchObject({ outcome, status: 'succeeded' });
    expect(await contradictions('payment')).toBe(before);
  });

  it('is not touched by an event with another amount, currency or type', async () => {
    const userId = await userWith(db);
    const payment = await newTransaction(db, userId, 'payment', 10_000n);
    expect(await settle(db, payment, 'success', { amountMinor: '9999' })).toMatchObject({
      outcome: 'amount_mismatch',
    });
    expect(await settle(db, payment, 'success', { currency: 'EUR' })).toMatchObject({
      outcome: 'amount_mismatch',
    });
    expect(await settle(db, payment, 'success', { type: 'payout' })).toMatchObject({
      outcome: 'type_mismatch',
    });
    expect(await settle(db, payment, 'success')).toMatchObject({ outcome: 'applied' });
    expect(await money(userId)).toEqual({ balanceMinor: 10_000n, heldMinor: 0n });
  });

  it('treats one provider event id with two bodies as a conflict, not as a duplicate', async () => {
    const userId = await userWith(db);
    const payment = await newTransaction(db, userId, 'payment', 10_000n);
    const other = await newTransaction(db, userId, 'payment', 10_000n);
    await settle(db, payment, 'success', { providerEventId: `same-${payment.id}` });
    const changed = { providerEventId: `same-${payment.id}` };
    expect(await settle(db, other, 'success', changed)).toMatchObject({
      outcome: 'event_conflict',
      status: 'pending',
    });
    expect(
      await settle(db, payment, 'success', { ...changed, amountMinor: '1', payloadHash: 'x' }),
    ).toMatchObject({
      outcome: 'event_conflict',
    });
    expect(await money(userId)).toEqual({ balanceMinor: 10_000n, heldMinor: 0n });
  });

  it('that nobody knows is reported as unknown, and nothing is stored', async () => {
    const payment = await newTransaction(db, await userWith(db), 'payment', 1n);
    const transactionId = randomUUID();
    expect(
      await settle(db, payment, 'success', { transactionId, providerEventId: transactionId }),
    ).toMatchObject({
      outcome: 'unknown_transaction',
      status: null,
    });
    expect(await db.prisma.providerEvent.count({ where: { transactionId } })).toBe(0);
  });

  it('announces its end once, in the transaction that settles it', async () => {
    const payment = await newTransaction(db, await userWith(db), 'payment', 12_345n);
    await settle(db, payment, 'success');
    await settle(db, payment, 'success');
    const rows = await db.prisma.outboxMessage.findMany({ where: { key: payment.id } });
    expect(rows.map(({ topic }) => topic)).toEqual(['domain.events']);
    expect(JSON.parse(rows[0]!.value)).toMatchObject({
      type: 'payment.succeeded',
      aggregateId: payment.id,
      data: {
        id: payment.id,
        amount: '123.45',
        currency: 'TRY',
        status: 'succeeded',
        userId: payment.userId,
      },
    });
  });

  it('writes one delivery for each active subscription of its tenant that matches, also after a repeated settle', async () => {
    const subscribe = (
      id: string,
      eventTypes: string[],
      changes: { tenantId?: string; state?: string } = {},
    ) =>
      db.prisma.subscription.create({
        data: {
          id,
          tenantId: TENANT,
          url: 'https://example.com',
          eventTypes,
          secretCiphertext: Buffer.from('x'),
          ...changes,
        },
      });
    await subscribe('sub_exact', ['remit.payment.succeeded']);
    await subscribe('sub_wild', ['remit.payment.*']);
    await subscribe('sub_other_type', ['remit.payment.failed', 'remit.payout.*']);
    await subscribe('sub_paused', ['*'], { state: 'paused' });
    await subscribe('sub_foreign', ['*'], { tenantId: 'another' });
    const payment = await newTransaction(db, await userWith(db), 'payment', 100n);
    const told = async () => {
      const { rows } = await db.pool.query<{ subscription: string }>(
        `SELECT d.subscription_id AS subscription FROM deliveries d
           JOIN outbox o ON o.topic = 'events' AND o.key = d.event_id
           JOIN provider_events p ON p.webhook_event_id = d.event_id
          WHERE p.transaction_id = $1 ORDER BY 1`,
        [payment.id],
      );
      return rows.map(({ subscription }) => subscription);
    };
    await settle(db, payment, 'success');
    expect(await told()).toEqual(['sub_exact', 'sub_wild']);
    expect(await settle(db, payment, 'success')).toMatchObject({ outcome: 'duplicate' });
    expect(await told()).toEqual(['sub_exact', 'sub_wild']);
  });
});

describe('a payout', () => {
  it('holds its money when it is requested and takes it on success', async () => {
    const userId = await userWith(db, 10_000n);
    const payout = await newTransaction(db, userId, 'payout', 4_000n);
    expect(await money(userId)).toEqual({ balanceMinor: 10_000n, heldMinor: 4_000n });
    expect(await settle(db, payout, 'success')).toMatchObject({ outcome: 'applied', status: 'succeeded' });
    expect(await money(userId)).toEqual({ balanceMinor: 6_000n, heldMinor: 0n });
  });

  it.each(['failed', 'expired'] as const)('releases its hold when it is reported %s', async (status) => {
    const userId = await userWith(db, 10_000n);
    const payout = await newTransaction(db, userId, 'payout', 4_000n);
    expect(await settle(db, payout, status)).toMatchObject({ outcome: 'applied', status });
    expect(await money(userId)).toEqual({ balanceMinor: 10_000n, heldMinor: 0n });
  });

  it('comes back failed with insufficient_funds when it can not be reserved', async () => {
    const userId = await userWith(db, 3_999n);
    const payout = await newTransaction(db, userId, 'payout', 4_000n);
    expect(payout).toMatchObject({ status: 'failed', failureCode: 'insufficient_funds' });
    expect(await money(userId)).toEqual({ balanceMinor: 3_999n, heldMinor: 0n });
  });

  it('that can not be reserved sends its event on the way that starts its deliveries', async () => {
    const userId = await userWith(db, 3_999n);
    const payout = await newTransaction(db, userId, 'payout', 4_000n);
    const rows = await db.prisma.outboxMessage.findMany({ where: { topic: 'events' } });
    const messages = rows.map(({ value }) => EventMessage.parse(parseKeeping(value, ['data'])));
    const message = messages.find(({ data }) => (data.value as { id: string }).id === payout.id);
    expect(message?.type).toBe('remit.payout.failed');
    expect(message?.data.value).toMatchObject({ failureCode: 'insufficient_funds' });
    expect(await db.prisma.webhookEvent.count({ where: { id: message?.id ?? '' } })).toBe(1);
  });

  it('can not spend what another payout holds', async () => {
    const userId = await userWith(db, 5_000n);
    await newTransaction(db, userId, 'payout', 4_000n);
    expect(await newTransaction(db, userId, 'payout', 1_001n)).toMatchObject({
      failureCode: 'insufficient_funds',
    });
    expect(await newTransaction(db, userId, 'payout', 1_000n)).toMatchObject({ status: 'pending' });
  });

  it('without a hold checks the funds itself, and fails as a business outcome', async () => {
    const userId = await userWith(db, 5_000n);
    const rich = await newTransaction(db, userId, 'payout', 5_000n, { reserve: false });
    const poor = await newTransaction(db, userId, 'payout', 1n, { reserve: false });
    expect(await settle(db, rich, 'success')).toMatchObject({ outcome: 'applied', status: 'succeeded' });
    expect(await settle(db, poor, 'success')).toMatchObject({
      outcome: 'applied',
      status: 'failed',
      failureCode: 'insufficient_funds',
    });
    expect(await money(userId)).toEqual({ balanceMinor: 0n, heldMinor: 0n });
  });
});

describe('payments under concurrency', () => {
  it('apply each of 64 simultaneous copies of one event once', async () => {
    const userId = await userWith(db);
    const payment = await newTransaction(db, userId, 'payment', 700n);
    const results = await Promise.all(Array.from({ length: 64 }, () => settle(db, payment, 'success')));
    expect(results.filter(({ outcome }) => outcome === 'applied')).toHaveLength(1);
    expect(await money(userId)).toEqual({ balanceMinor: 700n, heldMinor: 0n });
  });

  it('lose no update when 64 payments of one user settle at the same time', async () => {
    const userId = await userWith(db);
    const payments = await Promise.all(
      Array.from({ length: 64 }, () => newTransaction(db, userId, 'payment', 100n)),
    );
    await Promise.all(payments.map((payment) => settle(db, payment, 'success')));
    expect(await money(userId)).toEqual({ balanceMinor: 6_400n, heldMinor: 0n });
  });

  it('never spend more than there is when payouts race for it', async () => {
    const userId = await userWith(db, 1_000n);
    const payouts = await Promise.all(
      Array.from({ length: 32 }, () => newTransaction(db, userId, 'payout', 100n)),
    );
    expect(payouts.filter(({ status }) => status === 'pending')).toHaveLength(10);
    await Promise.all(
      payouts.filter(({ status }) => status === 'pending').map((payout) => settle(db, payout, 'success')),
    );
    expect(await money(userId)).toEqual({ balanceMinor: 0n, heldMinor: 0n });
  });
});

describe('reading payments', () => {
  it('pages through all of a tenant’s payments without gaps or repeats', async () => {
    const userId = await userWith(db);
    const made = await Promise.all(
      Array.from({ length: 7 }, () => newTransaction(db, userId, 'payment', 1n)),
    );
    const seen: string[] = [];
    let cursor: string | undefined;
    do {
      const page = await listPayments(db, { tenantId: TENANT, userId, limit: 3, cursor });
      expect(page.items.length).toBeLessThanOrEqual(3);
      seen.push(...page.items.map(({ id }) => id));
      cursor = page.nextCursor ?? undefined;
    } while (cursor);
    expect(seen.sort()).toEqual(made.map(({ id }) => id).sort());
  });

  it('hides another tenant’s payment', async () => {
    const payment = await newTransaction(db, await userWith(db), 'payment', 1n);
    await expect(getPayment(db, { tenantId: 'another', id: payment.id })).rejects.toMatchObject({
      code: 'not_found',
    });
  });
});

describe('the ledger itself', () => {
  it('refuses entries that do not sum to zero', async () => {
    const insert = `INSERT INTO ledger_entries (journal_id, system_account, currency, amount_minor)
                    VALUES (1, 'clearing:test', 'TRY', 5), (1, 'revenue:test', 'TRY', -4)`;
    await expect(db.pool.query(insert)).rejects.toMatchObject({ code: '23514' });
  });

  it.each(['ledger_entries', 'journal_transactions', 'audit_log', 'provider_events'])(
    'never rewrites %s',
    async (table) => {
      for (const sql of [`DELETE FROM ${table}`, `TRUNCATE ${table}`]) {
        await expect(db.pool.query(sql)).rejects.toMatchObject({ code: INSUFFICIENT_PRIVILEGE });
        // Not even for who owns the tables.
        await expect(withDatabase(space.ownerUrl, (owner) => owner.query(sql))).rejects.toThrow(
          'append-only',
        );
      }
    },
  );

  it('moves money only in a SERIALIZABLE transaction', async () => {
    const payment = await newTransaction(db, await userWith(db), 'payment', 1n);
    const call = db.pool.query('SELECT settle_provider_event($1::jsonb)', [
      JSON.stringify(eventOf(payment, 'success')),
    ]);
    await expect(call).rejects.toThrow('SERIALIZABLE');
  });
});
