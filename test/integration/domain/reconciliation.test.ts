import { randomUUID } from 'node:crypto';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { ScheduleNotFoundError, type Client as TemporalClient, type Connection } from '@temporalio/client';
import { FORMER_SCHEDULES, SCHEDULES } from '../../../src/contracts/workflows';
import { createAccount, getAccount } from '../../../src/domain/accounts';
import { createOrder, getOrder, payOrder } from '../../../src/domain/orders';
import { DataRefusedError } from '../../../src/domain/conflicts';
import { expiryEvent, expireOverduePayments } from '../../../src/domain/payment-expiry';
import { createPayment, getPayment } from '../../../src/domain/payments';
import { unfinishedWork } from '../../../src/domain/unfinished-work';
import { reconcile } from '../../../src/domain/reconciliation';
import { saveExpiryPosition } from '../../../src/domain/expiry';
import { listEntries } from '../../../src/domain/statements';
import { metrics } from '../../../src/platform/metrics';
import type { Database } from '../../../src/platform/postgres';
import { ensureSchedules } from '../../../src/platform/schedules';
import { connectTemporal } from '../../../src/platform/temporal';
import { runReconcile } from '../../../src/operations/reconcile';
import { startWorker } from '../../../src/roles/worker';
import {
  createTestSpace,
  eventually,
  openOwnerDatabase,
  runRoles,
  type TestSpace,
} from '../../support/harness';
import {
  chargeback,
  paidOrder,
  placeOrder,
  placeProviderOrder,
  refund,
  settleOrder,
} from '../../support/disputes';
import { announce } from '../../support/deliveries';
import { CURRENCY, newTransaction, settle, TENANT, userWith } from '../../support/money';

const OPTIONS = { maxFindings: 5, days: 7, timeoutMs: 30_000 };
let space: TestSpace;
let db: Database;
/** Somebody has lived there; tests look at it tampered with, and leave it clean. */
let lives: Database;
let livingAccount: string;
beforeAll(async () => {
  space = await createTestSpace();
  db = openOwnerDatabase(space);
});
afterAll(() => db.close());

const key = (userId: string) => ({ tenantId: TENANT, userId, currency: CURRENCY });

async function someLife(on: Database): Promise<string> {
  const userId = await userWith(on, 10_000n);
  const order = await createOrder(on, {
    ...key(userId),
    amountMinor: 500n,
    description: '',
    correlationId: 'c',
  });
  await payOrder(on, {
    orderId: order.id,
    userId,
    amountMinor: '500',
    currency: CURRENCY,
    correlationId: 'c',
  });
  for (const [type, status] of [
    ['payment', 'success'],
    ['payment', 'failed'],
    ['payout', 'success'],
    ['payout', 'failed'],
  ] as const)
    await settle(on, await newTransaction(on, userId, type, 300n), status);
  await newTransaction(on, userId, 'payout', 200n);
  await newTransaction(on, userId, 'payout', 1_000_000n);
  await settle(on, await newTransaction(on, userId, 'payout', 1_000_000n, { reserve: false }), 'success');
  await newTransaction(on, userId, 'payment', 5n);
  await someOrders(on);
  return userId;
}

/** Refunds, disputes in each state, and what providers collected in time and too late. */
async function someOrders(on: Database): Promise<void> {
  await refund(on, (await paidOrder(on)).id, 1_000n);
  await refund(on, (await paidOrder(on)).id, null);
  for (const end of ['opened', 'under_review', 'won', 'lost', 'expired'] as const) {
    const { id } = await paidOrder(on);
    await chargeback(on, id, 'opened', { amountMinor: '2000', currency: CURRENCY });
    if (end !== 'opened') await chargeback(on, id, end);
  }
  const refunded = await paidOrder(on);
  await refund(on, refunded.id, 4_000n);
  await chargeback(on, refunded.id, 'opened');
  const collected = await placeProviderOrder(on);
  await settleOrder(on, collected, 'success');
  const late = await paidOrder(on);
  await settleOrder(on, late, 'success');
  await chargeback(on, late.id, 'opened', { amountMinor: '3000', currency: CURRENCY });
}

/** Runs what the database refuses, as a superuser with a grudge could. */
async function tamper(on: Database, sql: string): Promise<void> {
  const client = await on.pool.connect();
  try {
    await client.query('BEGIN');
    await client.query('SET LOCAL session_replication_role = replica');
    await client.query(sql);
    await client.query('COMMIT');
  } finally {
    client.release();
  }
}

/**
 * Has `look` see a tampered ledger and leaves it as it was: the same connection, in a transaction that is rolled back.
 * `$id` in the SQL is the account of somebody with a life.
 */
async function tampered(sql: string, look: (seen: Pick<Database, 'pool'>) => Promise<void>): Promise<void> {
  const client = await lives.pool.connect();
  const inside = {
    query: (...input: [string]) =>
      /^(BEGIN|COMMIT)/.test(input[0]) ? Promise.resolve() : client.query(...input),
    release: () => undefined,
  };
  try {
    await client.query('BEGIN');
    await client.query('SET LOCAL session_replication_role = replica');
    await client.query(sql.replace('$id', `'${livingAccount}'`));
    await look({ pool: { connect: () => Promise.resolve(inside) } as unknown as Database['pool'] });
  } finally {
    client.release(true);
  }
}

describe('reconciliation', () => {
  beforeAll(async () => {
    lives = openOwnerDatabase(await createTestSpace());
    livingAccount = (await getAccount(lives, key(await someLife(lives)))).id;
  });
  afterAll(() => lives.close());

  it('finds nothing where money went its ways, and counts the providers’ totals by day', async () => {
    await someLife(db);
    const result = await reconcile(db, OPTIONS);
    expect(result.checks.filter(({ found }) => found > 0)).toEqual([]);
    expect(result.clean).toBe(true);
    const payments = result.dailyTotals.filter(({ type }) => type === 'payment');
    expect(payments).toEqual([
      expect.objectContaining({ provider: 'decard', succeeded: 1, failed: 1, succeededMinor: 300n }),
    ]);
    expect(result.dailyTotals.find(({ type }) => type === 'payout')).toMatchObject({
      succeeded: 1,
      failed: 3,
    });
  });

  it.each([
    ['balances_vs_entries', `UPDATE accounts SET balance_minor = balance_minor + 1 WHERE id = $id`],
    [
      'entries_vs_journal',
      `INSERT INTO journal_transactions (tenant_id, kind, reference) VALUES ('default', 'x', 'x')`,
    ],
    ['balances_vs_audit', `UPDATE accounts SET version = version + 1 WHERE id = $id`],
    [
      'holds_vs_accounts',
      `UPDATE holds SET amount_minor = amount_minor + 1 WHERE status = 'held' AND account_id = $id`,
    ],
    [
      'holds_vs_payouts',
      `UPDATE payments SET status = 'succeeded', settled_at = now() WHERE status = 'pending' AND type = 'payout'`,
    ],
    [
      'payments_vs_journal',
      `UPDATE payments SET status = 'succeeded' WHERE type = 'payment' AND status = 'failed'`,
    ],
    ['events_vs_payments', `UPDATE provider_events SET outcome = 'noted' WHERE outcome = 'applied'`],
    [
      'payments_vs_expiry',
      `INSERT INTO job_positions (job, reached_at, reached_id) VALUES ('payment-expiry', now() + interval '1 year', gen_random_uuid())`,
    ],
    [
      'orders_vs_expiry',
      `UPDATE orders SET status = 'NEW' WHERE payment_method = 'provider';
       INSERT INTO job_positions (job, reached_at, reached_id) VALUES ('order-expiry', now() + interval '1 year', gen_random_uuid())`,
    ],
    ['orders_vs_attempts', `UPDATE orders SET status = 'NEW' WHERE status = 'FINISHED'`],
    ['orders_vs_attempts', `UPDATE payment_attempts SET method = 'balance' WHERE method = 'provider'`],
    [
      'attempts_vs_journal',
      `UPDATE ledger_entries SET amount_minor = amount_minor + 1 WHERE system_account = 'revenue:orders'`,
    ],
    [
      'provider_totals',
      `UPDATE ledger_entries SET amount_minor = amount_minor + 1 WHERE system_account = 'clearing:decard'`,
    ],
    ['collections_vs_journal', `UPDATE orders SET collected_as = NULL WHERE collected_as = 'account'`],
    ['collections_vs_journal', `UPDATE orders SET collected_as = 'account' WHERE collected_as = 'order'`],
    ['collections_vs_journal', `UPDATE provider_events SET outcome = 'noted' WHERE outcome = 'credited'`],
    ['refunds_vs_orders', 'UPDATE orders SET refunded_minor = refunded_minor - 1 WHERE refunded_minor > 0'],
    ['refunds_vs_orders', `UPDATE orders SET status = 'CANCELLED' WHERE refunded_minor > 0`],
    ['refunds_vs_orders', 'UPDATE refunds SET amount_minor = amount_minor * 10'],
    ['refunds_vs_journal', 'UPDATE refunds SET amount_minor = amount_minor + 1'],
    ['refunds_vs_journal', 'DELETE FROM refunds WHERE amount_minor = 1000'],
    ['refunds_vs_journal', `UPDATE journal_transactions SET kind = 'x' WHERE kind = 'refund'`],
    ['disputes_vs_orders', 'UPDATE orders SET disputed_minor = disputed_minor - 1 WHERE disputed_minor > 0'],
    ['disputes_vs_orders', `UPDATE orders SET status = 'FINISHED' WHERE status = 'CHARGED_BACK'`],
    ['disputes_vs_orders', `UPDATE disputes SET status = 'won' WHERE status = 'lost'`],
    ['disputes_vs_orders', `UPDATE orders SET status = 'CHARGED_BACK' WHERE status = 'FINISHED'`],
    [
      'disputes_vs_orders',
      `INSERT INTO disputes SELECT (jsonb_populate_record(d, jsonb_build_object('id', d.id || '-2'))).* FROM disputes d
        WHERE account_id IS NOT NULL`,
    ],
    [
      'disputes_vs_journal',
      `UPDATE disputes SET status = 'lost', closed_at = now() WHERE status = 'opened' AND covered_minor = 2000`,
    ],
    ['disputes_vs_journal', `DELETE FROM disputes WHERE status = 'won'`],
    [
      'disputes_vs_journal',
      'UPDATE disputes SET covered_minor = amount_minor WHERE covered_minor < amount_minor',
    ],
    [
      'order_totals',
      `UPDATE ledger_entries SET amount_minor = amount_minor + 1 WHERE system_account = 'disputes:held'`,
    ],
    ['order_totals', `UPDATE orders SET amount_minor = amount_minor + 1 WHERE status = 'FINISHED'`],
  ])('%s finds what was changed behind the ledger’s back', async (check, sql) => {
    await tampered(sql, async (seen) => {
      const { clean, checks } = await reconcile(seen, OPTIONS);
      expect(clean).toBe(false);
      const found = checks.find(({ name }) => name === check);
      expect(found?.found).toBeGreaterThan(0);
      expect(found?.findings.length).toBeLessThanOrEqual(OPTIONS.maxFindings);
      expect(found?.findings[0]?.subject).toMatch(/^\w+:/);
      // Another tenant sees nothing of it.
      const others = await reconcile(seen, { ...OPTIONS, tenantId: 'another' });
      expect(others.checks.filter(({ found: n }) => n > 0)).toEqual([]);
    });
  });

  it('counts all that it finds and lists the first of them', async () => {
    await tampered('UPDATE orders SET refunded_minor = 0 WHERE refunded_minor > 0', async (seen) => {
      const { checks } = await reconcile(seen, { ...OPTIONS, maxFindings: 2 });
      const result = checks.find(({ name }) => name === 'refunds_vs_orders');
      expect(result).toMatchObject({ found: 3 });
      expect(result?.findings).toHaveLength(2);
    });
  });

  it('by command says what it found in its exit code and its JSON', async () => {
    const own = await createTestSpace();
    const database = openOwnerDatabase(own);
    const lines: string[] = [];
    // As on a local installation, which is found by its endpoints file.
    const folder = await mkdtemp(path.join(tmpdir(), 'remit-reconcile-'));
    const endpoints = { postgres: own.config.DATABASE_URL };
    await writeFile(path.join(folder, 'endpoints.json'), JSON.stringify(endpoints), { mode: 0o600 });
    const run = (json: boolean) => runReconcile(folder, { json }, (line) => void lines.push(line));
    await someLife(database);
    expect(await run(true)).toBe(0);
    expect(JSON.parse(lines.pop()!)).toMatchObject({ clean: true, tenant: null });
    await tamper(database, 'UPDATE accounts SET balance_minor = balance_minor + 7');
    expect(await run(false)).toBe(1);
    expect(lines.join('\n')).toContain('balances_vs_entries: account:');
    await rm(folder, { recursive: true });
    await expect(run(false)).rejects.toThrow('no database is known');
    await database.close();
  });
});

describe('a statement', () => {
  it('pages through every entry once, newest first, and is its tenant’s alone', async () => {
    const userId = await userWith(db, 100n);
    const { id: accountId } = await getAccount(db, key(userId));
    for (let i = 0; i < 6; i++) await settle(db, await newTransaction(db, userId, 'payment', 10n), 'success');
    const seen = [];
    let cursor: string | undefined;
    do {
      const page = await listEntries(db, { tenantId: TENANT, accountId, limit: 3, cursor });
      seen.push(...page.items);
      cursor = page.nextCursor ?? undefined;
    } while (cursor);
    expect(seen.map(({ balanceAfterMinor }) => balanceAfterMinor)).toEqual([
      160n,
      150n,
      140n,
      130n,
      120n,
      110n,
      100n,
    ]);
    expect(seen.at(-1)).toMatchObject({ kind: 'top_up', amountMinor: 100n });
    await expect(listEntries(db, { tenantId: 'another', accountId, limit: 3 })).rejects.toMatchObject({
      code: 'not_found',
    });
  });
});

describe('what the database refuses', () => {
  const refuse = (sql: string) => expect(db.pool.query(sql)).rejects.toMatchObject({ code: '23001' });

  it('entries for a journal transaction that has its entries, or that another transaction made', async () => {
    await someLife(db);
    await refuse(`INSERT INTO ledger_entries (journal_id, system_account, currency, amount_minor)
                  SELECT max(id), 'a', 'TRY', 5 FROM journal_transactions UNION ALL SELECT max(id), 'b', 'TRY', -5 FROM journal_transactions`);
  });

  it('another end for what has ended, other terms, and balances without their version', async () => {
    await refuse(`UPDATE payments SET status = 'failed' WHERE status = 'succeeded'`);
    await refuse('UPDATE payments SET amount_minor = amount_minor + 1');
    await refuse(`UPDATE orders SET status = 'NEW' WHERE status = 'FINISHED'`);
    await refuse(`UPDATE orders SET status = 'CANCELLED' WHERE status = 'FINISHED'`);
    await refuse(`UPDATE orders SET status = 'FINISHED' WHERE status = 'CHARGED_BACK'`);
    await refuse(`UPDATE disputes SET status = 'won' WHERE status = 'lost'`);
    await refuse('UPDATE disputes SET amount_minor = amount_minor + 1');
    await refuse('UPDATE refunds SET amount_minor = amount_minor + 1');
    await refuse(`UPDATE holds SET status = 'held', resolved_at = NULL WHERE status = 'posted'`);
    await refuse('UPDATE accounts SET balance_minor = balance_minor + 1');
    for (const table of [
      'accounts',
      'holds',
      'payments',
      'orders',
      'payment_attempts',
      'disputes',
      'refunds',
    ])
      await refuse(`DELETE FROM ${table}`);
  });

  it('everything but adding to what is append-only, to the role of the application', async () => {
    const client = await db.moneyPool.connect();
    try {
      await client.query('SET ROLE remit_app');
      for (const table of [
        'ledger_entries',
        'journal_transactions',
        'audit_log',
        'provider_events',
        'payment_attempts',
        'refunds',
        'dispute_evidence',
      ])
        for (const sql of [
          `UPDATE ${table} SET created_at = now()`,
          `DELETE FROM ${table}`,
          `TRUNCATE ${table}`,
        ])
          await expect(client.query(sql)).rejects.toMatchObject({
            code: expect.stringMatching(/^(42501|42703)$/) as string,
          });
      const userId = `user-${randomUUID()}`;
      await createAccount(db, key(userId));
      const input = {
        ...key(userId),
        amountMinor: '5',
        reference: `top_up:${userId}`,
        actor: 'a',
        correlationId: 'c',
      };
      const { rows } = await client.query<{ top_up: unknown }>('SELECT top_up($1)', [JSON.stringify(input)]);
      expect(rows[0]?.top_up).toMatchObject({ outcome: 'ok' });
    } finally {
      await client.query('RESET ROLE');
      client.release();
    }
  });

  it('no column of the ledger is a float', async () => {
    const { rows } = await db.pool.query(
      `SELECT table_name, column_name FROM information_schema.columns
        WHERE table_schema = 'public' AND data_type IN ('real', 'double precision', 'money')`,
    );
    expect(rows).toEqual([]);
  });
});

describe('a payment of which its provider never says anything', () => {
  const overdue = async (on: Database, userId: string, type: 'payment' | 'payout') =>
    createPayment(on, {
      ...key(userId),
      type,
      provider: 'decard',
      amountMinor: 40n,
      reserve: true,
      expiresAfterMs: 1,
      correlationId: 'c',
      actor: 'a',
    });

  it('is expired by the scheduled job, once, in bounded steps, and what it held is released', async () => {
    const own = openOwnerDatabase(await createTestSpace());
    const userId = await userWith(own, 100n);
    const made = [
      await overdue(own, userId, 'payment'),
      await overdue(own, userId, 'payout'),
      await overdue(own, userId, 'payout'),
    ];
    const waiting = await newTransaction(own, userId, 'payment', 1n);
    expect(await expireOverduePayments(own, { graceMs: 60_000, maxRows: 10 })).toMatchObject({
      expired: 0,
      position: null,
    });

    const first = await eventually(async () => {
      const step = await expireOverduePayments(own, { graceMs: 0, maxRows: 2 });
      expect(step.position).not.toBeNull();
      return step;
    });
    expect(first.expired).toBe(2);
    // Cut off before its position was saved: the same payments again, and nothing twice.
    expect(await expireOverduePayments(own, { graceMs: 0, maxRows: 2 })).toMatchObject({
      expired: 0,
      position: first.position,
    });
    await saveExpiryPosition(own, first.position!);
    const second = await expireOverduePayments(own, { graceMs: 0, maxRows: 2 });
    expect(second.expired).toBe(1);
    await saveExpiryPosition(own, second.position!);
    expect(await expireOverduePayments(own, { graceMs: 0, maxRows: 2 })).toMatchObject({
      position: null,
    });
    for (const { id } of made)
      expect(await getPayment(own, { tenantId: TENANT, id })).toMatchObject({
        status: 'expired',
        failureCode: 'expired',
      });
    expect((await getPayment(own, { tenantId: TENANT, id: waiting.id })).status).toBe('pending');
    expect(await getAccount(own, key(userId))).toMatchObject({ balanceMinor: 100n, heldMinor: 0n });
    expect(expiryEvent(made[0]!.id).providerEventId).toBe(`remit expiry:${made[0]!.id}`);
    expect((await reconcile(own, OPTIONS)).clean).toBe(true);
    await own.close();
  });

  it('that the database refuses to expire holds up none behind it, and is found by reconciliation', async () => {
    const own = openOwnerDatabase(await createTestSpace());
    const broken = await userWith(own, 100n);
    const stuck = await overdue(own, broken, 'payout');
    const behind = await overdue(own, await userWith(own, 100n), 'payout');
    await newTransaction(own, await userWith(own, 100n), 'payment', 1n);
    // Releasing its hold would make what is held negative.
    await tamper(own, `UPDATE accounts SET held_minor = 0 WHERE user_id = '${broken}'`);
    const step = await eventually(async () => {
      const found = await expireOverduePayments(own, { graceMs: 0, maxRows: 10 });
      expect(found.position?.id).toBe(behind.id);
      return found;
    });
    expect(step.refused.map(({ id }) => id)).toEqual([stuck.id]);
    await saveExpiryPosition(own, step.position!);
    expect((await getPayment(own, { tenantId: TENANT, id: behind.id })).status).toBe('expired');
    expect((await getPayment(own, { tenantId: TENANT, id: stuck.id })).status).toBe('pending');
    const { checks } = await reconcile(own, OPTIONS);
    const found = checks.find(({ name }) => name === 'payments_vs_expiry');
    expect(found?.findings.map(({ subject }) => subject)).toEqual([`payout:${stuck.id}`]);
    await own.close();
  });

  it('waits, with all others, when the database refuses every one of several', async () => {
    const own = openOwnerDatabase(await createTestSpace());
    const broken = await userWith(own, 1_000n);
    for (let i = 0; i < 5; i++) await overdue(own, broken, 'payout');
    await tamper(own, `UPDATE accounts SET held_minor = 0 WHERE user_id = '${broken}'`);
    await eventually(async () => {
      const step = expireOverduePayments(own, { graceMs: 0, maxRows: 10 });
      await expect(step).rejects.toBeInstanceOf(DataRefusedError);
    });
    await own.close();
  });

  it('is expired by the schedule, which reconciles too and says so in its metric', async () => {
    const own = await createTestSpace({ temporal: true, topics: true, env: { EXPIRY_GRACE_MS: '0' } });
    const temporal: TemporalClient = await connectTemporal(own.config);
    const roles = await runRoles(own, (context) => startWorker(context, ['payments']));
    const database = openOwnerDatabase(own);
    try {
      const userId = await userWith(database, 100n);
      const payment = await overdue(database, userId, 'payout');
      const unpaid = await placeOrder(database, userId, 10n, 'provider', 1);
      const [former] = FORMER_SCHEDULES;
      await temporal.schedule.create({
        scheduleId: former,
        spec: { intervals: [{ every: '1d' }] },
        action: { type: 'startWorkflow', workflowType: 'housekeepingWorkflow', taskQueue: 'payments' },
      });
      expect(await ensureSchedules(temporal, own.config)).toEqual(Object.values(SCHEDULES));
      await expect(temporal.schedule.getHandle(former).describe()).rejects.toThrow(ScheduleNotFoundError);
      expect(await ensureSchedules(temporal, own.config)).toEqual([]);
      await temporal.schedule.getHandle(SCHEDULES.expiry).trigger();
      await eventually(async () => {
        expect((await getPayment(database, { tenantId: TENANT, id: payment.id })).status).toBe('expired');
        const order = await getOrder(database, { tenantId: TENANT, userId, id: unpaid.id });
        expect(order).toMatchObject({ status: 'CANCELLED', failureCode: 'expired' });
      });
      await tamper(database, 'UPDATE accounts SET balance_minor = balance_minor + 7');
      await temporal.schedule.getHandle(SCHEDULES.reconciliation).trigger();
      await eventually(async () => {
        const { values } = await metrics.reconciliationFindings.get();
        expect(values.find(({ labels }) => labels.check === 'balances_vs_entries')?.value).toBe(1);
      });
    } finally {
      for (const id of Object.values(SCHEDULES))
        await temporal.schedule
          .getHandle(id)
          .delete()
          .catch(() => undefined);
      await roles.stop();
      await database.close();
      await (temporal.connection as Connection).close();
    }
  });
});

describe('the first attempts of a state change', () => {
  it('are unfinished work once their message has left the outbox, and not before', async () => {
    const own = openOwnerDatabase(await createTestSpace());
    await own.prisma.subscription.create({
      data: {
        ...{ id: 'sub_told', tenantId: TENANT, url: 'https://subscriber.example/hook' },
        ...{ eventTypes: ['remit.payment.*'], secretCiphertext: Buffer.from('x') },
      },
    });
    const { eventId, deliveries } = await announce(own, { tenantId: TENANT });
    const unfinished = async () => {
      const ids: string[] = [];
      for await (const page of unfinishedWork(own, 'delivery')) ids.push(...page.map(({ id }) => id));
      return ids;
    };
    expect(await unfinished()).toEqual([]);
    await own.pool.query(`DELETE FROM outbox WHERE topic = 'events' AND key = $1`, [eventId]);
    expect(await unfinished()).toEqual(deliveries.map(({ deliveryId }) => deliveryId));
    await own.close();
  });
});
