import { randomUUID } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { topUp } from '../../../src/domain/accounts';
import { createSubscription } from '../../../src/domain/subscriptions';
import { VERSION } from '../../../src/platform/project';
import { migratePostgres } from '../../../src/platform/postgres-migrations';
import type { Database } from '../../../src/platform/postgres';
import { createKeyring } from '../../../src/platform/secrets';
import {
  calledFrom,
  catalogFunctions,
  catalogTables,
  PROJECT,
  sourceText,
  withoutRetired,
  type CatalogFunction,
  type CatalogTables,
} from '../../support/database-catalog';
import { pendingOf, recordAttempt } from '../../support/deliveries';
import { payFromBalance, placeOrder, refund } from '../../support/disputes';
import { createTestSpace, openTestDatabase, type TestSpace } from '../../support/harness';
import {
  CURRENCY,
  inspectLedger,
  newTransaction,
  settle,
  SOUND,
  TENANT,
  userWith,
} from '../../support/money';
import { PrismaFolder } from '../../support/prisma-folder';
import { withDatabase } from '../../support/shared-stack';

/** What the roles of the last release call and read; written when a release is made (docs/database.md). */
interface Released {
  version: string;
  /** Arguments and result, by function. */
  functions: Record<string, string>;
  /** Type, by table and column. */
  tables: Record<string, Record<string, string>>;
}
const RELEASED = path.join(PROJECT, 'prisma', 'released.json');

let space: TestSpace;
beforeAll(async () => {
  space = await createTestSpace();
});

interface Present {
  functions: CatalogFunction[];
  tables: CatalogTables;
}
const signatures = (functions: readonly CatalogFunction[]) =>
  Object.fromEntries(functions.map((each) => [each.name, `(${each.arguments}) -> ${each.returns}`]));
const types = (tables: CatalogTables): Released['tables'] =>
  Object.fromEntries(
    Object.entries(tables).map(([table, columns]) => [
      table,
      Object.fromEntries(Object.entries(columns).map(([column, { type }]) => [column, type])),
    ]),
  );

async function writeReleased({ functions, tables }: Present): Promise<void> {
  const called = signatures(calledFrom(await sourceText(), functions));
  const used = Object.fromEntries(
    Object.entries(types(tables)).map(([table, columns]) => [table, withoutRetired(table, columns)]),
  );
  const text = JSON.stringify({ version: VERSION, functions: called, tables: used }, null, 2);
  writeFileSync(RELEASED, `${text}\n`);
}

describe('what the roles of the last release call and read', () => {
  let released: Released;
  let now: Present;
  beforeAll(async () => {
    now = await withDatabase(space.ownerUrl, async (client) => ({
      functions: await catalogFunctions(client),
      tables: await catalogTables(client),
    }));
    if (process.env['REMIT_WRITE_RELEASED'] === '1') await writeReleased(now);
    released = JSON.parse(readFileSync(RELEASED, 'utf8')) as Released;
  });

  it('is still there: every function under the same signature', () => {
    expect(signatures(now.functions)).toMatchObject(released.functions);
    expect(Object.keys(released.functions).length).toBeGreaterThan(15);
  });

  it('is still there: every table and column, with the same type', () => {
    expect(types(now.tables)).toMatchObject(released.tables);
  });

  it('can be left out by it where it is new: a column that must be given would fail its inserts', () => {
    const demanded = Object.entries(released.tables).flatMap(([table, columns]) =>
      Object.entries(now.tables[table] ?? {})
        .filter(([column, { optional }]) => !(column in columns) && !optional)
        .map(([column]) => `${table}.${column}`),
    );
    expect(demanded).toEqual([]);
  });
});

/** How often the next version is migrated to while the former one works. */
const REVISIONS = 4;
const USERS = 6;

/** One user's life: each round moves money in every way, and writes a delivery's attempt. */
async function live(db: Database, userId: string): Promise<void> {
  await topUp(db, {
    ...{ tenantId: TENANT, userId, currency: CURRENCY, amountMinor: 100n },
    ...{ reference: randomUUID(), actor: 'test', correlationId: 'test' },
  });
  const order = await placeOrder(db, userId, 70n);
  const paid = await payFromBalance(db, order);
  expect(paid).toMatchObject({ outcome: 'applied', status: 'FINISHED' });
  expect(await refund(db, order.id, 20n)).toMatchObject({ outcome: 'ok' });
  const payment = await newTransaction(db, userId, 'payment', 30n);
  expect(await settle(db, payment, 'success')).toMatchObject({ outcome: 'applied', status: 'succeeded' });
  const payout = await newTransaction(db, userId, 'payout', 50n);
  expect(await settle(db, payout, 'success')).toMatchObject({ outcome: 'applied', status: 'succeeded' });
  const { webhookEventId } = await db.prisma.paymentAttempt.findUniqueOrThrow({
    where: { orderId: order.id },
  });
  for (const { deliveryId } of await pendingOf(db, webhookEventId!))
    await recordAttempt(db, {
      ...{
        deliveryId,
        attempt: 1,
        startedAt: new Date(),
        durationMs: 1,
        result: 'delivered',
        statusCode: 200,
      },
      ...{ error: null, responseBody: null, status: 'delivered', gone: false, slowDown: false },
      ...{ retryAfterMs: null, nextAttemptAt: null, correlationId: 'test' },
    });
}

describe('migrating to the next version while the former one works', () => {
  let db: Database;
  beforeAll(() => void (db = openTestDatabase(space)));
  afterAll(() => db.close());

  it('fails no call and loses nothing, with every function, trigger and some tables changed', async () => {
    const next = await PrismaFolder.copy('99.0.0');
    await createSubscription(db, createKeyring(space.config), {
      ...{
        tenantId: TENANT,
        url: 'http://127.0.0.1:1/',
        eventTypes: ['remit.order.finished'],
        description: '',
      },
      ...{ allowedPrivateCidrs: space.config.WEBHOOK_ALLOWED_PRIVATE_CIDRS, maxPerTenant: 10 },
    });
    const users = await Promise.all(Array.from({ length: USERS }, () => userWith(db)));
    let working = true;
    const rounds = users.map(async (userId) => {
      for (let round = 0; ; round++) {
        if (!working) return round;
        await live(db, userId);
      }
    });

    const migrated = (async () => {
      for (let revision = 1; revision <= REVISIONS; revision++) {
        await next.changeFunctions((sql) =>
          sql.replaceAll(
            /^(BEGIN|CREATE OR REPLACE FUNCTION .* LANGUAGE sql .*\$\$)$/gm,
            `$1\n  -- revision ${revision}`,
          ),
        );
        await next.write(
          'functions/triggers.sql',
          `${await next.read('functions/triggers.sql')}-- ${revision}\n`,
        );
        await next.addMigration(
          `29990101000000_revision_${revision}`,
          `ALTER TABLE orders ADD COLUMN later_${revision} text; ALTER TABLE accounts ADD COLUMN later_${revision} integer NOT NULL DEFAULT 1;`,
        );
        const { applied } = await migratePostgres(space.ownerUrl, next);
        expect(applied.length).toBeGreaterThan(15);
      }
    })().finally(() => (working = false));
    const [counts] = await Promise.all([Promise.all(rounds), migrated]);
    await next.remove();

    const total = counts.reduce((sum, count) => sum + count, 0);
    process.stderr.write(
      `    ${total} rounds of ${USERS} users while ${REVISIONS} versions were migrated to\n`,
    );
    expect(total).toBeGreaterThan(USERS);
    const { rows } = await db.pool.query<Record<string, string>>(
      `SELECT (SELECT count(*) FROM orders WHERE status = 'FINISHED') AS paid, (SELECT count(*) FROM refunds) AS refunded,
              (SELECT count(*) FROM payments WHERE status = 'succeeded') AS settled,
              (SELECT count(*) FROM deliveries WHERE status = 'delivered') AS delivered,
              (SELECT sum(balance_minor) FROM accounts) AS balance`,
    );
    expect(rows[0]).toEqual({
      ...{ paid: `${total}`, refunded: `${total}`, settled: `${2 * total}`, delivered: `${total}` },
      balance: `${30 * total}`,
    });
    expect(await inspectLedger(db)).toEqual(SOUND);
    const sources = await withDatabase(space.ownerUrl, catalogFunctions);
    const stale = sources.filter(
      ({ source }) => /^BEGIN$/m.test(source) && !source.includes(`revision ${REVISIONS}`),
    );
    expect(stale.map(({ name }) => name)).toEqual([]);
  });
});
