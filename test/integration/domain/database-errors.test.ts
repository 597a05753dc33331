import { setTimeout as sleep } from 'node:timers/promises';
import type { Database } from '../../../src/platform/postgres';
import { isDatabaseUnavailable } from '../../../src/platform/postgres-errors';
import { inTransaction, withClient } from '../../../src/platform/postgres-pool';
import { createTestSpace, openTestDatabase, type TestSpace } from '../../support/harness';
import { withDatabase } from '../../support/shared-stack';

let space: TestSpace;
let db: Database;
beforeAll(async () => {
  space = await createTestSpace();
  db = openTestDatabase({ ...space, config: { ...space.config, DATABASE_POOL_CONNECTIONS: 1 } });
});
afterAll(() => db?.close());

const errorOf = (promise: Promise<unknown>): Promise<unknown> =>
  promise.then(
    () => undefined,
    (error: unknown) => error,
  );

const raise = (code: string) => `DO $$ BEGIN RAISE EXCEPTION 'of a test' USING ERRCODE = '${code}'; END $$`;
const terminateOthers = () =>
  withDatabase(space.ownerUrl, (client) =>
    client.query(
      `SELECT pg_terminate_backend(pid) FROM pg_stat_activity
        WHERE datname = current_database() AND pid <> pg_backend_pid() AND application_name = 'remit'`,
    ),
  );

describe('an error of PostgreSQL', () => {
  it.each([
    ...['08006', '25006', '28P01', '3D000', '40001', '40P01', '53100', '53200', '53300', '55P03'],
    ...['57014', '57P01', '57P02', '57P03', '57P04', '58030'],
  ])(
    '%s says that the database can’t be used now, by pg, by Prisma and in its transactions',
    async (code) => {
      const sql = raise(code);
      const errors = await Promise.all(
        [
          db.pool.query(sql),
          db.moneyPool.query(sql),
          db.prisma.$executeRawUnsafe(sql),
          db.prisma.$transaction((tx) => tx.$executeRawUnsafe(sql)),
          inTransaction(db.pool, (client) => client.query(sql)),
        ].map(errorOf),
      );
      expect(errors.map((error) => isDatabaseUnavailable(error))).toEqual(errors.map(() => true));
    },
  );

  it.each(['22003', '23505', '23514', '42P01', '42501', 'P0001', 'XX000'])(
    '%s does not: somebody has to look at it',
    async (code) => {
      for (const error of [
        await errorOf(db.pool.query(raise(code))),
        await errorOf(db.prisma.$executeRawUnsafe(raise(code))),
      ]) {
        expect(error).toBeDefined();
        expect(isDatabaseUnavailable(error)).toBe(false);
      }
    },
  );

  it('that ends a statement or a transaction of ours in time counts among them', async () => {
    const config = {
      ...{ ...space.config, DATABASE_POOL_CONNECTIONS: 1, DATABASE_CONNECT_TIMEOUT_MS: 200 },
      ...{ DATABASE_STATEMENT_TIMEOUT_MS: 300, DATABASE_ANSWER_TIMEOUT_MS: 600 },
    };
    const tight = openTestDatabase({ ...space, config });
    try {
      const errors = [
        await errorOf(tight.pool.query('SELECT pg_sleep(5)')),
        await errorOf(tight.prisma.$queryRawUnsafe('SELECT pg_sleep(5)::text')),
        await errorOf(tight.prisma.$transaction(() => sleep(1_500))),
        ...(await withClient(tight.pool, () =>
          Promise.all([
            errorOf(tight.pool.query('SELECT 1')),
            errorOf(tight.prisma.account.count()),
            errorOf(tight.prisma.$transaction((tx) => tx.account.count())),
          ]),
        )),
      ];
      expect(errors.map((error) => isDatabaseUnavailable(error))).toEqual(errors.map(() => true));
      // Nobody who gave up waiting keeps the one connection.
      expect((await tight.pool.query('SELECT 1')).rowCount).toBe(1);
      expect(await tight.prisma.$transaction((tx) => tx.account.count())).toBe(0);
    } finally {
      await tight.close();
    }
  });
});

describe('a connection that is checked out', () => {
  it('may break between two statements: the next one fails, nothing else does', async () => {
    const broken = await errorOf(
      withClient(db.pool, async (client) => {
        await client.query('SELECT 1');
        await terminateOthers();
        await sleep(200);
        await client.query('SELECT 1');
      }),
    );
    expect(isDatabaseUnavailable(broken)).toBe(true);
    const within = await errorOf(
      db.prisma.$transaction(async (tx) => {
        await tx.account.count();
        await terminateOthers();
        await sleep(200);
        await tx.account.count();
      }),
    );
    expect(isDatabaseUnavailable(within)).toBe(true);
    await db.check();
  });

  it('in a transaction is kept when what runs in it refuses, and given up when it breaks', async () => {
    const pid = () =>
      db.pool.query<{ pid: number }>('SELECT pg_backend_pid() AS pid').then(({ rows }) => rows[0]!.pid);
    const before = await pid();
    await expect(inTransaction(db.pool, () => Promise.reject(new Error('refused')))).rejects.toThrow(
      'refused',
    );
    expect(await pid()).toBe(before);
    await expect(
      inTransaction(db.pool, async (client) => {
        await client.query('SELECT no_such_column').catch(() => undefined);
      }),
    ).rejects.toThrow('rolled back');
    await expect(
      withClient(db.pool, async (client) => {
        await client.query('BEGIN');
        throw new Error('in the middle');
      }),
    ).rejects.toThrow('in the middle');
    expect(await pid()).not.toBe(before);
  });
});
