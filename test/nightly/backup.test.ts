import { rmSync } from 'node:fs';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { startEmbeddedStack } from '../../src/embedded/stack';
import { Archive } from '../../src/operations/backup/archive';
import type { BackupReport } from '../../src/operations/backup/backup';
import { mintToken } from '../../src/operations/token';
import { createLogger } from '../../src/platform/logging';
import { openDatabase, type Database } from '../../src/platform/postgres';
import { postJson, signedHeaders, successWebhook } from '../support/callers';
import { eventually } from '../support/harness';
import { CURRENCY, inspectLedger, newTransaction, SOUND, userWith } from '../support/money';
import { noteResult } from '../support/nightly';
import { subscriber, type Subscriber } from '../support/subscriber';
import { unfinished } from '../support/unfinished';
import { LocalRemit } from './local-remit';

/**
 * The restore drill of docs/backup.md: a remit with traffic, a base backup and its log, a time T, more traffic; then its
 * PostgreSQL is destroyed and restored to T, against the Kafka and Temporal that have survived.
 */

/** Of each kind of work, in each of the three phases. */
const N = 40;
const SETTLED_MS = 120_000;
const remit = new LocalRemit({
  UNKNOWN_TRANSACTION_WAIT_MS: '5000',
  WEBHOOK_SCHEDULE_MS: '0,500,1000,2000,4000,8000',
});
const backups = path.join(remit.top, 'backups');

const heard = new Map<string, number>();
let told: Subscriber;

let operator: Record<string, string>;
let userId: string;

beforeAll(async () => {
  await remit.start();
  const token = await mintToken(remit.config, { subject: 'operator', scopes: ['admin'], expiresInS: 3_600 });
  operator = { authorization: `Bearer ${token}` };
  told = await subscriber((response, { headers }) => {
    const id = String(headers['webhook-id']);
    heard.set(id, (heard.get(id) ?? 0) + 1);
    response.writeHead(204).end();
  });
  await call('/api/v1/event-types', { name: 'parcel.sent' });
  await call('/api/v1/subscriptions', { url: told.url, eventTypes: ['*'] });
  userId = await userWith(remit.db, 100_000_000n);
}, 300_000);
afterAll(async () => {
  await told?.close();
  await remit.remove();
}, 90_000);

async function call(route: string, body: unknown, headers = operator): Promise<{ id: string }> {
  const { status, body: answer } = await postJson(remit.endpoints.api + route, body, headers);
  expect({ route, status, answer, ok: status < 300 }).toMatchObject({ ok: true });
  return answer as { id: string };
}

const times = <T>(make: (index: number) => Promise<T>): Promise<T[]> =>
  Promise.all(Array.from({ length: N }, (_, index) => make(index)));
const newPayment = () => newTransaction(remit.db, userId, 'payment', 100n);
const reported = async ({ id }: { id: string }): Promise<void> => {
  const { status } = await successWebhook(remit.endpoints.api, remit.config, id);
  expect(status).toBe(202);
};
const newOrder = () => call('/orders', { amount: '2.00', currency: CURRENCY }, { 'x-user-id': userId });
const newEvent = (number: number) => call('/api/v1/events', { type: 'parcel.sent', data: { number } });
const disputed = async ({ id }: { id: string }): Promise<void> => {
  const body = {
    ...{
      provider_event_id: `opened-${id}`,
      order_id: id,
      status: 'opened',
      amount: '1.00',
      currency: CURRENCY,
    },
    evidence_due_by: new Date(Date.now() + 3_600_000).toISOString(),
  };
  const headers = signedHeaders(remit.config.ORDER_WEBHOOK_SECRET!, JSON.stringify(body));
  await call('/webhooks/payments/chargebacks', body, headers);
};

/** Nothing is on its way: what is pending waits for its provider. */
const settled = (waiting: number): Promise<void> =>
  eventually(
    async () => {
      const { disputes: _, ...left } = await unfinished(remit.db);
      expect(left).toEqual({ outbox: 0, orders: 0, payments: waiting, events: 0, deliveries: 0 });
    },
    SETTLED_MS,
    300,
  );

/** What is decided, and what everybody has. */
async function decisions(db: Database) {
  const rows = async (sql: string) => (await db.pool.query(sql)).rows as Record<string, unknown>[];
  return {
    payments: await rows('SELECT id, status FROM payments ORDER BY id'),
    orders: await rows('SELECT id, status, disputed_minor FROM orders ORDER BY id'),
    disputes: await rows('SELECT id, status FROM disputes ORDER BY id'),
    balances: await rows('SELECT id, balance_minor, held_minor, version FROM accounts ORDER BY id'),
    movements: await rows('SELECT kind, reference FROM journal_transactions ORDER BY reference'),
    events: await rows(`SELECT id, type FROM webhook_events ORDER BY id`),
    deliveries: await rows('SELECT id, status FROM deliveries ORDER BY id'),
  };
}
type Decisions = Awaited<ReturnType<typeof decisions>>;
const counted = (of: Decisions) =>
  Object.fromEntries(Object.entries(of).map(([name, rows]) => [name, rows.length]));

/** The restored database alone, before anything else of remit runs. */
async function restored(): Promise<Decisions> {
  const stack = await startEmbeddedStack({
    ...{ dataDir: remit.dataDir, parts: ['postgres'], ports: 'free', outside: {}, searchAttributes: {} },
    report: () => undefined,
  });
  const config = { ...remit.config, DATABASE_URL: stack.endpoints.postgres };
  const db = openDatabase(config, createLogger(config, 'test'));
  try {
    expect(await inspectLedger(db)).toEqual(SOUND);
    return await decisions(db);
  } finally {
    await db.close();
    await stack.stop();
  }
}

function report(what: string, counts: Record<string, unknown>): void {
  noteResult(`${what}: ${JSON.stringify(counts)}`);
}

it('a destroyed PostgreSQL is restored to a time, and Kafka, Temporal and providers bring back what they know of', async () => {
  // Before the backup.
  await Promise.all([
    times(newPayment).then((made) => Promise.all(made.map(reported))),
    times(newOrder),
    times(newEvent),
  ]);
  await settled(0);
  const follower = remit.spawn('backup', backups, '--follow');
  await eventually(() => expect(follower.output()).toContain('each was read again'), 60_000, 200);

  // Between the backup and T; some of it waits for its provider.
  const waiting = await times(newPayment);
  const [orders] = await Promise.all([
    times(newOrder),
    times(newEvent),
    times(newPayment).then((made) => Promise.all(made.map(reported))),
  ]);
  await settled(N);
  await sleep(50);
  const { rows } = await remit.db.pool.query<{ at: Date }>('SELECT clock_timestamp() AS at');
  const at = rows[0]!.at;
  const then = await decisions(remit.db);
  await sleep(50);

  // After T: what providers say of what was there at T, and what only the database and its callers know of.
  await Promise.all([...waiting.map(reported), ...orders.slice(0, N / 2).map(disputed)]);
  const [late, lateOrders] = await Promise.all([
    times(newPayment).then(async (made) => {
      await Promise.all(made.map(reported));
      return made;
    }),
    times(newOrder),
    times(newEvent),
  ]);
  await settled(0);
  const before = await decisions(remit.db);
  const lostAt = new Date();
  await eventually(async () =>
    expect(new Date((await (await Archive.open(backups)).received())!.at).getTime()).toBeGreaterThan(
      at.getTime(),
    ),
  );

  // The disaster.
  await remit.kill();
  follower.child.kill('SIGKILL');
  rmSync(path.join(remit.dataDir, 'postgres'), { recursive: true });
  const restoring = Date.now();
  const done = await remit.run('restore', backups, '--to', at.toISOString(), '--yes');
  expect(done).toMatchObject({ code: 0 });
  const restoredInMs = Date.now() - restoring;
  expect(await restored()).toEqual(then);

  // remit on it.
  await remit.start();
  expect(remit.printed()).toContain(`PostgreSQL was restored to ${at.toISOString()}`);
  await settled(0);
  const backInMs = Date.now() - restoring;
  const after = await decisions(remit.db);
  // Each payment, order and dispute that was there at T is decided as it was before the disaster.
  const kept = <T extends Record<string, unknown>>(all: T[], known: Set<unknown>) =>
    all.filter(({ id }) => known.has(id));
  const atT = {
    payments: new Set(then.payments.map(({ id }) => id)),
    orders: new Set(then.orders.map(({ id }) => id)),
  };
  await eventually(async () => {
    const now = await decisions(remit.db);
    expect(now.payments).toEqual(kept(before.payments, atT.payments));
    expect(now.orders).toEqual(kept(before.orders, atT.orders));
    expect(now.disputes).toEqual(before.disputes);
  }, SETTLED_MS);

  // Providers repeat what they are not sure of: nothing moves twice.
  const once = await decisions(remit.db);
  await Promise.all(waiting.map(reported));
  await sleep(2_000);
  await settled(0);
  expect((await decisions(remit.db)).movements).toEqual(once.movements);
  expect(await inspectLedger(remit.db)).toEqual(SOUND);

  // What only the database knew of is named.
  await eventually(async () => {
    const letters = await remit.run('dlq', 'ls');
    for (const code of ['unknown_transaction', 'unknown_order', 'unknown_event'])
      expect(letters.output).toContain(code);
  }, 60_000);
  const named = async (topic: string): Promise<string> =>
    (await remit.run('dlq', 'show', topic, '--values', '--limit', '1000')).output;
  const [unknownPayments, unknownOrders] = await Promise.all([
    eventually(
      async () => {
        const text = await named('payment.webhook.decard');
        for (const { id } of late) expect(text).toContain(id);
        return late.length;
      },
      90_000,
      1_000,
    ),
    eventually(
      async () => {
        const text = await named('payment-request');
        for (const { id } of lateOrders) expect(text).toContain(id);
        return lateOrders.length;
      },
      90_000,
      1_000,
    ),
  ]);
  const reconciled = await remit.run('reconcile', '--json', '--margin', '0');
  const { checks } = JSON.parse(reconciled.output.split('\n').find((line) => line.startsWith('{'))!) as {
    checks: { name: string; found: number }[];
  };
  expect(checks.filter(({ found }) => found > 0)).toEqual([]);

  // And it is backed up again, on its new timeline.
  expect(await remit.run('backup', backups)).toMatchObject({ code: 0 });
  const verified = await remit.run('backup', 'verify', backups, '--json');
  expect(verified).toMatchObject({ code: 0 });
  const { backups: listed, verified: read } = JSON.parse(verified.output) as BackupReport;
  expect(listed.map(({ timeline }) => timeline)).toEqual([1, 2]);

  report('at T', counted(then));
  report('before the disaster', counted(before));
  report('after the restore and start', counted(after));
  report('came again from Kafka', {
    paymentsSettled: waiting.length,
    disputesOpened: after.disputes.length,
    movements: after.movements.length - then.movements.length,
  });
  report('named by dead letters, to be made again by their callers', {
    payments: unknownPayments,
    orders: unknownOrders,
    events: N,
  });
  report('twice', {
    movements: 0,
    webhooksRepeatedUnderTheirId: [...heard.values()].filter((n) => n > 1).length,
  });
  report('how long', {
    sinceT: `${((lostAt.getTime() - at.getTime()) / 1_000).toFixed(1)} s of work`,
    restoredInS: restoredInMs / 1_000,
    backInS: backInMs / 1_000,
    verified: read,
  });
}, 600_000);
