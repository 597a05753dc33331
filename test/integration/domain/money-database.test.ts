import { randomUUID } from 'node:crypto';
import { getAccount, topUp } from '../../../src/domain/accounts';
import { FAILURES } from '../../../src/contracts/workflows';
import { ConflictsExhaustedError, DataRefusedError } from '../../../src/domain/money-transaction';
import { loadConfig, type Config } from '../../../src/platform/config';
import { metrics } from '../../../src/platform/metrics';
import { inTransaction } from '../../../src/platform/postgres-pool';
import type { Database } from '../../../src/platform/postgres';
import { createTestSpace, eventually, openTestDatabase, type TestSpace } from '../../support/harness';
import { withDatabase } from '../../support/shared-stack';
import { TcpProxy } from '../../support/tcp-proxy';
import { chargeback, paidOrder } from '../../support/disputes';
import {
  CURRENCY,
  inspectLedger,
  newTransaction,
  settle,
  SOUND,
  TENANT,
  userWith,
} from '../../support/money';

let space: TestSpace;
const opened: Database[] = [];
const open = (config: Partial<Config> = {}): Database => {
  const db = openTestDatabase({ ...space, config: { ...space.config, ...config } });
  opened.push(db);
  return db;
};
beforeAll(async () => {
  space = await createTestSpace();
});
afterAll(() => Promise.all(opened.map((db) => db.close())));

const book = (db: Database, userId: string, reference: string = randomUUID()) =>
  topUp(db, {
    tenantId: TENANT,
    userId,
    currency: CURRENCY,
    amountMinor: 5n,
    reference,
    correlationId: 'c',
    actor: 'a',
  });

describe('a money transaction', () => {
  it('that meets nothing but conflicts is given up after its deadline, and counts them', async () => {
    const db = open({
      MONEY_RETRY_MAX_ATTEMPTS: 1_000,
      MONEY_RETRY_DEADLINE_MS: 300,
      MONEY_RETRY_CAP_MS: 50,
    });
    const userId = await userWith(db);
    const [{ source } = { source: '' }] = (
      await db.pool.query<{ source: string }>(`SELECT pg_get_functiondef('top_up'::regproc) AS source`)
    ).rows;
    const conflicts = async () =>
      (await metrics.moneyConflicts.get()).values.find(({ labels }) => labels.operation === 'top_up')
        ?.value ?? 0;
    const before = await conflicts();
    const define = (sql: string) => withDatabase(space.ownerUrl, (client) => client.query(sql));
    await define(`CREATE OR REPLACE FUNCTION top_up(p jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
      BEGIN RAISE EXCEPTION 'lost' USING ERRCODE = 'serialization_failure'; END $$`);
    try {
      // Two that share a transaction, then fight alone: the deadline is each one's own.
      const results = await Promise.allSettled([book(db, userId), book(db, userId), book(db, userId)]);
      for (const result of results) {
        expect(result.status).toBe('rejected');
        expect((result as PromiseRejectedResult).reason).toBeInstanceOf(ConflictsExhaustedError);
        expect(String((result as PromiseRejectedResult).reason)).toMatch(/for 300 ms|300 ms for its turn/);
      }
      const met = (await conflicts()) - before;
      expect(met).toBeGreaterThan(1);
      expect(met).toBeLessThan(1_000);
    } finally {
      await define(source);
    }
    await book(db, userId);
    expect(await inspectLedger(db)).toEqual(SOUND);
  });

  it('whose data the database refuses says so, and is not tried again', async () => {
    const db = open();
    const order = await paidOrder(db);
    const refused = await chargeback(db, order.id, 'opened', {
      evidenceDueBy: '+010000-01-01T04:59:59.000Z',
    }).catch((error: unknown) => error);
    expect(refused).toBeInstanceOf(DataRefusedError);
    expect(refused).toMatchObject({
      name: FAILURES.dataRefused,
      code: expect.stringMatching(/^22/) as string,
    });
    expect(String(refused)).toContain('settle_dispute_event');
    expect(await chargeback(db, order.id, 'opened')).toMatchObject({ outcome: 'applied' });
  });

  it('that would take a balance beyond a bigint is refused, and moves nothing', async () => {
    const own = await createTestSpace();
    const db = openTestDatabase(own);
    opened.push(db);
    const userId = await userWith(db);
    const key = { tenantId: TENANT, userId, currency: CURRENCY };
    const almost = 2n ** 63n - 3n;
    await db.pool.query('UPDATE accounts SET balance_minor = $2, version = version + 1 WHERE user_id = $1', [
      userId,
      almost,
    ]);
    await expect(book(db, userId)).rejects.toMatchObject({
      code: 'unprocessable',
      message: 'The balance would be larger than an account can hold.',
    });
    // Its workflow dead-letters the provider's event.
    const payment = await newTransaction(db, userId, 'payment', 5n);
    await expect(settle(db, payment, 'success')).rejects.toMatchObject({
      name: FAILURES.dataRefused,
      code: '22003',
    });
    expect((await getAccount(db, key)).balanceMinor).toBe(almost);
    expect(await db.prisma.journalTransaction.count()).toBe(0);
  });

  it('on a connection that is silently dead fails in time, and the next one gets through', async () => {
    const way = await TcpProxy.toUrl(space.config.DATABASE_URL);
    const db = open({
      DATABASE_URL: way.through(space.config.DATABASE_URL),
      DATABASE_POOL_CONNECTIONS: 1,
      DATABASE_MONEY_POOL_CONNECTIONS: 1,
      DATABASE_STATEMENT_TIMEOUT_MS: 1_000,
      DATABASE_ANSWER_TIMEOUT_MS: 1_500,
    });
    try {
      const userId = await userWith(db, 10n);
      way.lose();
      const reference = randomUUID();
      await expect(book(db, userId, reference)).rejects.toThrow(/timeout/i);
      await eventually(() => book(db, userId, reference), 30_000);
      await book(db, userId, reference);
      const key = { tenantId: TENANT, userId, currency: CURRENCY };
      expect((await getAccount(db, key)).balanceMinor).toBe(15n);
      await expect(db.check()).resolves.toBeUndefined();
      await expect(db.checkMoney()).resolves.toBeUndefined();
    } finally {
      way.close();
    }
  });

  it('on connections to a server that is a standby since a failover is refused, and then gets through on new ones', async () => {
    const db = open({ DATABASE_POOL_CONNECTIONS: 2, DATABASE_MONEY_POOL_CONNECTIONS: 2 });
    const userId = await userWith(db, 10n);
    const key = { tenantId: TENANT, userId, currency: CURRENCY };
    const refused = expect.objectContaining({ code: '25006' }) as Error;
    for (const pool of [db.pool, db.moneyPool]) {
      const clients = await Promise.all([pool.connect(), pool.connect()]);
      for (const client of clients) {
        await client.query('SET default_transaction_read_only = on');
        client.release();
      }
    }
    const reference = randomUUID();
    await expect(book(db, userId, reference)).rejects.toEqual(refused);
    await eventually(() => book(db, userId, reference), 30_000);
    // In a transaction that takes its ROLLBACK, and in Prisma.
    const write = () => inTransaction(db.pool, (client) => client.query('DELETE FROM outbox WHERE false'));
    const touch = () =>
      db.prisma.subscription.updateMany({ where: { id: randomUUID() }, data: { description: '' } });
    await expect(touch()).rejects.toThrow(/read-only transaction/);
    await eventually(touch, 30_000);
    const client = await db.pool.connect();
    await client.query('SET default_transaction_read_only = on');
    client.release();
    await expect(write()).rejects.toEqual(refused);
    await eventually(write, 30_000);
    expect((await getAccount(db, key)).balanceMinor).toBe(15n);
  });
});

describe('a transaction of a process that hangs', () => {
  it('is ended by the server, and what it had locked is free', async () => {
    const hanging = open({ DATABASE_STATEMENT_TIMEOUT_MS: 400, DATABASE_ANSWER_TIMEOUT_MS: 500 });
    const other = open();
    const take = 'SELECT pg_try_advisory_xact_lock(4711) AS taken';
    for (const pool of [hanging.pool, hanging.moneyPool]) {
      const client = await pool.connect();
      await client.query('BEGIN');
      await client.query(take);
      await eventually(async () => {
        expect((await other.pool.query<{ taken: boolean }>(take)).rows).toEqual([{ taken: true }]);
      }, 30_000);
      await expect(client.query('COMMIT')).rejects.toThrow();
      client.release(true);
    }
    await expect(hanging.check()).resolves.toBeUndefined();
  });
});

describe('readiness', () => {
  it('says so when the connections for money are not SERIALIZABLE', async () => {
    const db = open({ DATABASE_MONEY_POOL_CONNECTIONS: 1 });
    await db.checkMoney();
    const client = await db.moneyPool.connect();
    await client.query(
      'SET default_transaction_isolation = DEFAULT; SET default_transaction_isolation = "read committed"',
    );
    client.release();
    await expect(db.checkMoney()).rejects.toThrow('read committed, not serializable');
    await expect(db.check()).resolves.toBeUndefined();
  });

  it('wants the server to give up a statement before we give up the connection', () => {
    const config = loadConfig({ DATABASE_STATEMENT_TIMEOUT_MS: '20000' }, []);
    expect(config.DATABASE_ANSWER_TIMEOUT_MS).toBeGreaterThan(20_000);
  });
});
