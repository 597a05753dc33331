import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { EventMessage } from '../../../src/contracts/events';
import { parseKeeping } from '../../../src/contracts/json';
import { DomainEvent, PaymentStatusEvent } from '../../../src/contracts/messages';
import {
  INTERNAL_EVENT_TYPES,
  OWN_EVENT_TYPES,
  WEBHOOK_EVENT_TYPES,
  WebhookBody,
} from '../../../src/contracts/webhooks';
import { ReconciliationEventData } from '../../../src/contracts/reconciliation';
import type { AttemptRecord } from '../../../src/domain/attempt-records';
import { expireDispute } from '../../../src/domain/disputes';
import { operateSubscription } from '../../../src/domain/subscription-health';
import type { Reconciliation } from '../../../src/domain/reconciliation';
import { keepRun } from '../../../src/domain/reconciliation-runs';
import { createSubscription } from '../../../src/domain/subscriptions';
import type { Database } from '../../../src/platform/postgres';
import { PROJECT_ROOT } from '../../../src/platform/project';
import { createKeyring } from '../../../src/platform/secrets';
import { pendingOf, recordAttempt } from '../../support/deliveries';
import {
  chargeback,
  paidOrder,
  payFromBalance,
  placeOrder,
  refund,
  settleOrder,
} from '../../support/disputes';
import { createTestSpace, openOwnerDatabase, openTestDatabase, type TestSpace } from '../../support/harness';
import { withDatabase } from '../../support/shared-stack';
import { newTransaction, settle, TENANT, userWith } from '../../support/money';

let space: TestSpace;
let db: Database;
beforeAll(async () => {
  space = await createTestSpace();
  db = openTestDatabase(space);
});
afterAll(() => db.close());

const listed = async (fn: string) => {
  const { rows } = await db.pool.query<{ types: string[] }>(`SELECT ${fn}() AS types`);
  return rows[0]?.types.sort();
};

/** Everything that happens to payments and payouts. */
async function settlements(): Promise<void> {
  const user = await userWith(db, 1_000n);
  for (const status of ['success', 'failed', 'expired'] as const) {
    await settle(db, await newTransaction(db, user, 'payment', 10n), status);
    await settle(db, await newTransaction(db, user, 'payout', 10n), status);
  }
  await newTransaction(db, user, 'payout', 1_000_000n);
}

/** Everything that happens to orders and their disputes. */
async function ordersAndDisputes(): Promise<void> {
  await payFromBalance(db, await placeOrder(db, await userWith(db)));
  const decided = await placeOrder(db, await userWith(db));
  await payFromBalance(db, decided);
  await settleOrder(db, decided, 'success');
  await refund(db, (await paidOrder(db)).id, 10n);
  for (const ends of ['won', 'lost'] as const) {
    const { id } = await paidOrder(db);
    for (const status of ['opened', 'under_review', ends] as const) await chargeback(db, id, status);
  }
  const late = await paidOrder(db);
  await chargeback(db, late.id, 'opened', { evidenceDueBy: new Date(Date.now() - 1_000).toISOString() });
  await expireDispute(db, `order-${late.id}`);
}

/** Everything that happens to a subscription: by its subscriber's answers, and by an operator. */
async function subscriptionHealth(): Promise<void> {
  const { subscription } = await createSubscription(db, createKeyring(space.config), {
    ...{
      tenantId: TENANT,
      url: 'http://127.0.0.1:1/',
      eventTypes: ['remit.payment.failed'],
      description: '',
    },
    ...{ allowedPrivateCidrs: space.config.WEBHOOK_ALLOWED_PRIVATE_CIDRS, maxPerTenant: 10 },
  });
  const attempt = async (result: AttemptRecord['result'], gone = false) => {
    const payment = await newTransaction(db, await userWith(db), 'payment', 10n);
    await settle(db, payment, 'failed');
    const { webhookEventId } = await db.prisma.providerEvent.findFirstOrThrow({
      where: { transactionId: payment.id, outcome: 'applied' },
    });
    const [delivery] = await pendingOf(db, webhookEventId!);
    const status = result === 'delivered' ? 'delivered' : 'exhausted';
    await recordAttempt(db, {
      ...{ deliveryId: delivery!.deliveryId, attempt: 1, startedAt: new Date(), durationMs: 1 },
      ...{ result, statusCode: 500, error: null, responseBody: null, status, gone, slowDown: false },
      ...{ retryAfterMs: null, nextAttemptAt: null, correlationId: 'test' },
    });
  };
  const by = { tenantId: TENANT, actor: 'test', correlationId: 'test' };
  await attempt('http_error');
  await attempt('delivered');
  await operateSubscription(db, by, subscription.id, 'pause');
  await operateSubscription(db, by, subscription.id, 'resume');
  await attempt('http_error', true);
}

/** A scheduled run that finds something, one that finds the same and more, and one that finds nothing. */
async function reconciliations(): Promise<void> {
  for (const differing of [['a'], ['a'], ['a', 'b'], ['b'], [], []])
    await keepRun(db, runWith(differing), { startedBy: 'schedule', operatorTenant: TENANT });
}
const runWith = (differing: readonly string[]): Reconciliation => ({
  ...{ clean: differing.length === 0, at: new Date(), tenantId: null, dailyTotals: [] },
  checks: ['a', 'b'].map((name) => ({
    ...{ name, rule: `${name} holds`, durationMs: 1 },
    found: differing.includes(name) ? 2 : 0,
    findings: differing.includes(name) ? [{ subject: 'account:of-a-user', detail: 'secret' }] : [],
  })),
});

describe('the event types of remit itself', () => {
  it('are the same in SQL and in the contracts', async () => {
    expect(await listed('own_event_types')).toEqual([...OWN_EVENT_TYPES].sort());
    expect(await listed('internal_event_types')).toEqual([...INTERNAL_EVENT_TYPES].sort());
  });

  it('are all that is emitted, and all are emitted, in messages that keep their contracts', async () => {
    await settlements();
    await ordersAndDisputes();
    await subscriptionHealth();
    await reconciliations();
    const { rows } = await db.pool.query<{ topic: string; value: string }>('SELECT topic, value FROM outbox');
    const texts = (topic: string) => rows.filter((row) => row.topic === topic).map(({ value }) => value);
    const of = (topic: string) => texts(topic).map((value) => JSON.parse(value) as unknown);
    const emitted = of('domain.events').map((value) => DomainEvent.parse(value).type);
    expect([...new Set(emitted)].sort()).toEqual([...OWN_EVENT_TYPES, ...INTERNAL_EVENT_TYPES].sort());
    expect(texts('events').map((value) => EventMessage.parse(parseKeeping(value, ['data'])).type)).toEqual(
      expect.arrayContaining([
        'remit.payment.failed',
        'remit.subscription.paused',
        'remit.subscription.recovered',
      ]),
    );
    for (const value of of('payment-status')) PaymentStatusEvent.parse(value);
    const { rows: events } = await db.pool.query<{ type: string; body: string }>(
      'SELECT type, body FROM webhook_events',
    );
    for (const { type, body } of events) expect(WebhookBody.parse(JSON.parse(body)).type).toBe(type);
    expect([...new Set(events.map(({ type }) => type))].sort()).toEqual([...WEBHOOK_EVENT_TYPES].sort());
  });

  it('tell the operator once of each difference that reconciliation finds, and of its end, but not whose it is', async () => {
    const { rows } = await db.pool.query<{ type: string; body: string; tenant: string }>(
      `SELECT type, body, tenant_id AS tenant FROM webhook_events WHERE type LIKE 'remit.reconciliation.%' ORDER BY sequence`,
    );
    const told = rows.map(({ type, body, tenant }) => ({
      ...{ type, tenant },
      data: ReconciliationEventData.strict().parse((JSON.parse(body) as WebhookBody).data),
    }));
    const of = (...names: string[]) => names.map((name) => ({ name, rule: `${name} holds`, found: 2 }));
    expect(told).toMatchObject([
      { type: 'remit.reconciliation.differs', tenant: TENANT, data: { found: 2, checks: of('a') } },
      { type: 'remit.reconciliation.differs', tenant: TENANT, data: { found: 4, checks: of('a', 'b') } },
      { type: 'remit.reconciliation.clean', tenant: TENANT, data: { found: 0, checks: [] } },
    ]);
    expect(JSON.stringify(rows)).not.toMatch(/of-a-user|secret/);
  });

  it('say nothing of a run of one tenant, or by hand', async () => {
    const count = async () =>
      (await db.pool.query(`SELECT FROM webhook_events WHERE type LIKE 'remit.reconciliation.%'`)).rowCount;
    const before = await count();
    await keepRun(
      db,
      { ...runWith(['a']), tenantId: TENANT },
      { startedBy: 'schedule', operatorTenant: TENANT },
    );
    await keepRun(db, runWith(['a']), { startedBy: 'somebody' });
    expect(await count()).toBe(before);
  });

  it('are the only ones that the database lets pass', async () => {
    const owner = openOwnerDatabase(space);
    try {
      await expect(
        owner.pool.query(`SELECT announce_event('evt_1', 'default', 'order.lost', 'order', '1', '{}', NULL)`),
      ).rejects.toThrow('order.lost is not a type of event that remit emits');
    } finally {
      await owner.close();
    }
  });
});

describe('the patterns of a subscription', () => {
  it.each([
    ['*', 'a.b.c', true],
    ['a.b.c', 'a.b.c', true],
    ['a.b.c', 'A.b.c', false],
    ['a.*', 'a.b', true],
    ['a.*', 'a.b.c', true],
    ['a.*', 'a', false],
    ['a.*', 'ab.c', false],
    ['a.*.c', 'a.b.c', true],
    ['a.*.c', 'a.b-1_X.c', true],
    ['a.*.c', 'a.b.b.c', false],
    ['a.*.c', 'a.c', false],
    ['a.*.c', 'axb.c', false],
    ['*.c', 'a.c', true],
    ['*.c', 'a.b.c', false],
    ['a.*.*', 'a.b', false],
    ['a.*.*', 'a.b.c.d', true],
    ['*.*.c.*', 'a.b.c.d.e', true],
    ['*.*.c.*', 'a.b.c', false],
  ])('%s of %s: %s', async (pattern, type, wanted) => {
    const { rows } = await db.pool.query<{ wanted: boolean }>('SELECT event_type_wanted($1, $2) AS wanted', [
      ['x.y', pattern],
      type,
    ]);
    expect(rows[0]?.wanted).toBe(wanted);
  });
});

describe('what was stored before remit’s own types had their prefix', () => {
  it('has it after the migration, and what tenants named stays', async () => {
    const owner = openOwnerDatabase(space);
    try {
      await owner.pool.query(`
        INSERT INTO subscriptions (id, tenant_id, url, event_types, secret_ciphertext)
        VALUES ('sub_old', 'old', 'https://example.com', '{invoice.*,payment.*,*,order.finished}', '');
        INSERT INTO event_configs (tenant_id, event_type, enabled) VALUES ('old', 'payment.failed', true), ('old', 'orders.made', true);
        INSERT INTO webhook_events (id, tenant_id, type, body) VALUES ('evt_old', 'old', 'payout.failed', '{"type":"payout.failed"}')`);
      const sql = await readFile(
        path.join(PROJECT_ROOT, 'prisma/migrations/20261126120000_reserved_prefix/migration.sql'),
        'utf8',
      );
      for (let times = 0; times < 2; times += 1)
        await withDatabase(space.ownerUrl, (client) => client.query(sql));
      const of = async (text: string) =>
        (await owner.pool.query<{ v: unknown }>(text)).rows.map(({ v }) => v);
      expect(await of(`SELECT event_types AS v FROM subscriptions WHERE id = 'sub_old'`)).toEqual([
        ['invoice.*', 'remit.payment.*', '*', 'remit.order.finished'],
      ]);
      expect(
        await of(`SELECT event_type AS v FROM event_configs WHERE tenant_id = 'old' ORDER BY 1`),
      ).toEqual(['orders.made', 'remit.payment.failed']);
      expect(await of(`SELECT type || body AS v FROM webhook_events WHERE id = 'evt_old'`)).toEqual([
        'remit.payout.failed{"type":"payout.failed"}',
      ]);
    } finally {
      await owner.close();
    }
  });
});
