import { randomUUID } from 'node:crypto';
import type { Kafka } from 'kafkajs';
import { createKafka } from '../../src/platform/kafka';
import { createLogger } from '../../src/platform/logging';
import { bridgeGroups } from '../../src/platform/topics';
import { withAdmin } from '../../src/platform/topic-reader';
import { createPayment } from '../../src/domain/payments';
import type { RecoverReport } from '../../src/operations/recover';
import { mintToken } from '../../src/operations/token';
import { postJson, signedHeaders, successWebhook } from '../support/callers';
import { eventually } from '../support/harness';
import { CURRENCY, inspectLedger, newTransaction, SOUND, TENANT, userWith } from '../support/money';
import { subscriber, type Subscriber } from '../support/subscriber';
import { countRows, unfinished } from '../support/unfinished';
import { FaultStack } from './money-stack';

/** Of each kind of work. */
const N = 3;
const OPENING = 1_000_000n;
const EVIDENCE_MS = 8_000;
const SETTLED_MS = 120_000;

let remit: FaultStack;
let kafka: Kafka;
let operator: Record<string, string>;
let userId: string;

/** One subscriber answers always, the other only while it is up. */
let shakyIsUp = true;
const heard = new Map<string, number>();
let subscribers: Subscriber;
const playSubscribers = () =>
  subscriber((response, { path, headers }) => {
    const refused = path === '/shaky' && !shakyIsUp;
    if (!refused) {
      const key = `${path} ${String(headers['webhook-id'])}`;
      heard.set(key, (heard.get(key) ?? 0) + 1);
    }
    response.writeHead(refused ? 500 : 204).end();
  });

beforeAll(async () => {
  remit = await FaultStack.start({
    // Longer than a busy machine takes to lose Temporal and come back.
    UNKNOWN_TRANSACTION_WAIT_MS: '300000',
    WEBHOOK_SCHEDULE_MS: '0,500,1000,2000,4000,8000,16000,32000,64000',
    KAFKA_SESSION_TIMEOUT_MS: '6000',
  });
  kafka = createKafka(remit.stack.config, createLogger(remit.stack.config, 'test'));
  const token = await mintToken(remit.stack.config, {
    subject: 'operator',
    scopes: ['admin'],
    expiresInS: 3_600,
  });
  operator = { authorization: `Bearer ${token}` };
  subscribers = await playSubscribers();
  await call('/api/v1/event-types', { name: 'parcel.sent' });
  for (const name of ['steady', 'shaky'])
    await call('/api/v1/subscriptions', { url: `${subscribers.url}/${name}`, eventTypes: ['*'] });
  userId = await userWith(remit.db, OPENING);
}, 180_000);
afterAll(async () => {
  await subscribers?.close();
  await remit?.stop();
}, 90_000);

async function call(path: string, body: unknown, headers = operator): Promise<{ id: string }> {
  const { status, body: answer } = await postJson(remit.api + path, body, headers);
  expect({ path, status, answer, ok: status < 300 }).toMatchObject({ ok: true });
  return answer as { id: string };
}

/** Everything below is accepted when it returns: 201 or 202. */
const accept = {
  payment: (id: string) =>
    successWebhook(remit.api, remit.stack.config, id).then(({ status }) => expect(status).toBe(202)),
  order: () => call('/orders', { amount: '2.00', currency: CURRENCY }, { 'x-user-id': userId }),
  event: (number: number) => call('/api/v1/events', { type: 'parcel.sent', data: { number } }),
  collected: (orderId: string) =>
    signed('/webhooks/payments/orders', {
      provider_event_id: `collected-${orderId}`,
      order_id: orderId,
      user_id: userId,
      status: 'success',
      amount: '2.00',
      currency: CURRENCY,
    }),
  chargeback: (orderId: string, status: 'opened' | 'lost', evidenceMs = 3_600_000) =>
    signed('/webhooks/payments/chargebacks', {
      provider_event_id: `${status}-${orderId}`,
      order_id: orderId,
      status,
      amount: '1.00',
      currency: CURRENCY,
      evidence_due_by: new Date(Date.now() + evidenceMs).toISOString(),
    }),
};

const signed = (path: string, body: unknown): Promise<unknown> =>
  call(path, body, signedHeaders(remit.stack.config.ORDER_WEBHOOK_SECRET!, JSON.stringify(body)));

const newPayment = () => newTransaction(remit.db, userId, 'payment', 100n);
const times = <T>(make: (index: number) => Promise<T>): Promise<T[]> =>
  Promise.all(Array.from({ length: N }, (_, index) => make(index)));

const number = (from: string) => countRows(remit.db, from);
const NOTHING = { outbox: 0, orders: 0, payments: 0, events: 0, disputes: 0, deliveries: 0 };
const settled = (): Promise<void> =>
  eventually(async () => expect(await unfinished(remit.db)).toEqual(NOTHING), SETTLED_MS, 300);

/** Every message that was accepted has been read, and none waits in the outbox. @param unread topics that nobody reads now. */
async function handedOver(unread: readonly string[] = []): Promise<void> {
  await eventually(
    async () => {
      expect(await number('outbox')).toBe(0);
      const lag = await withAdmin(kafka, async (admin) => {
        let left = 0;
        for (const { group, topic } of bridgeGroups(remit.stack.config)) {
          if (unread.includes(topic)) continue;
          const [held, [read]] = await Promise.all([
            admin.fetchTopicOffsets(topic),
            admin.fetchOffsets({ groupId: group, topics: [topic] }),
          ]);
          const at = new Map(read?.partitions.map(({ partition, offset }) => [partition, Number(offset)]));
          for (const { partition, low, high } of held)
            left += Number(high) - Math.max(at.get(partition) ?? 0, Number(low));
        }
        return left;
      });
      expect(lag).toBe(0);
    },
    60_000,
    200,
  );
}

/** All decisions: what became of every payment, order and dispute, and what everybody has. */
async function decisions(): Promise<unknown> {
  const rows = async (sql: string) => (await remit.db.pool.query(sql)).rows as unknown[];
  return {
    payments: await rows('SELECT id, status FROM payments ORDER BY id'),
    orders: await rows(
      'SELECT id, status, collected_as, charged_back_minor FROM orders ORDER BY created_at, id',
    ),
    disputes: await rows('SELECT id, status FROM disputes ORDER BY id'),
    balances: await rows('SELECT id, balance_minor, held_minor FROM accounts ORDER BY id'),
    movements: await rows('SELECT kind, reference FROM journal_transactions ORDER BY reference'),
    applied: await rows(
      `SELECT provider, provider_event_id FROM provider_events WHERE outcome IN ('applied', 'credited') ORDER BY 1, 2`,
    ),
  };
}

async function recover(...args: string[]): Promise<RecoverReport> {
  const { code, output } = await remit.remit('recover', '--json', ...args);
  expect({ code, output }).toMatchObject({ code: 0 });
  return JSON.parse(output) as RecoverReport;
}

const reconciled = async (): Promise<Record<string, number>> => {
  const { output } = await remit.remit('reconcile', '--json', '--margin', '0');
  const { checks } = JSON.parse(output) as { checks: { name: string; found: number }[] };
  return Object.fromEntries(checks.map(({ name, found }) => [name, found]));
};

async function expectClean(): Promise<void> {
  expect(Object.entries(await reconciled()).filter(([, found]) => found > 0)).toEqual([]);
  expect(await inspectLedger(remit.db)).toEqual(SOUND);
}

/** Orders that are paid, to be disputed or collected for. */
async function paidOrders(): Promise<string[]> {
  const orders = await times(accept.order);
  await eventually(async () => expect(await number(`orders WHERE status = 'NEW'`)).toBe(0), SETTLED_MS, 200);
  return orders.map(({ id }) => id);
}

/** Work that is accepted, and on its way, but not decided: no worker is there. @returns what was accepted. */
async function acceptUndecided(paid: {
  collected: string[];
  expiring: string[];
  lost: string[];
}): Promise<number> {
  const payments = await times(newPayment);
  await Promise.all([
    ...payments.map(({ id }) => accept.payment(id)),
    times(accept.order),
    times(accept.event),
    ...paid.collected.map(accept.collected),
    ...paid.expiring.map((id) => accept.chargeback(id, 'opened', EVIDENCE_MS)),
    ...paid.lost.map((id) => accept.chargeback(id, 'opened')),
  ]);
  // Published events are read by workers alone.
  await handedOver([remit.stack.config.TOPIC_EVENTS]);
  return 3 * N + paid.collected.length + paid.expiring.length + paid.lost.length;
}

function report(what: string, counts: Record<string, unknown>): void {
  process.stderr.write(`  ${what}: ${JSON.stringify(counts)}\n`);
}

/** docs/operations.md, "Backup, restore", step by step. */
describe('after a restore of PostgreSQL, by the documented procedure', () => {
  it('everything is decided as it was, once, and delivered', async () => {
    const [collected, expiring, lost] = [await paidOrders(), await paidOrders(), await paidOrders()];
    const waiting = await times(newPayment);
    // Deliveries that have failed before, with workflows that will be at their end.
    shakyIsUp = false;
    await times(accept.event);
    await eventually(
      async () => expect(await number('deliveries WHERE attempts > 1')).toBeGreaterThanOrEqual(N),
      60_000,
    );
    await remit.stopRoles(['worker']);
    let accepted = await acceptUndecided({ collected, expiring, lost });
    const backup = await remit.backUp('postgres');
    const restoredTo = new Date();

    // More work: all of the above comes to its end, and what providers say of payments and disputes from before.
    shakyIsUp = true;
    await remit.startRoles(['worker']);
    await Promise.all([
      ...waiting.map(({ id }) => accept.payment(id)),
      ...lost.map((id) => accept.chargeback(id, 'lost')),
    ]);
    accepted += waiting.length + lost.length;
    await settled();
    const before = await decisions();
    // Only the callers know of what was placed through the API since then.
    const forgotten = await accept.order();
    await settled();

    // 1. Stop all roles. 2. Restore. 3. remit migrate.
    await remit.stopRoles();
    await remit.lose('postgres', backup);
    expect((await remit.remit('migrate')).code).toBe(0);
    const stuck = await reconciled();
    expect(stuck).toMatchObject({ orders_vs_requests: N, events_vs_fanout: N, balances_vs_entries: 0 });
    expect(stuck['work_vs_workflows']).toBeGreaterThanOrEqual(N);

    // 4. remit recover, first to see.
    const at = restoredTo.toISOString();
    const planned = await recover('--restored-to', at, '--dry-run');
    expect(await reconciled()).toEqual(stuck);
    const done = await recover('--restored-to', at, '--yes');
    expect(done.work).toEqual(planned.work);
    expect(done.groups.reduce((sum, { messages }) => sum + messages, 0)).toBeGreaterThanOrEqual(accepted);

    // 5. Start the roles, wait until lag and outbox are empty. 6. remit reconcile.
    await remit.startRoles();
    await handedOver();
    await settled();
    expect(await decisions()).toEqual(before);
    await expectClean();
    const again = await recover();
    expect(again.work.filter(({ started }) => started > 0)).toEqual([]);

    // What the database has forgotten is told by the dead letters.
    const letters = await remit.remit('dlq', 'show', 'payment-request', '--values');
    expect(letters.output).toContain('unknown_order');
    expect(letters.output).toContain(forgotten.id);

    const delivered = await number(`deliveries WHERE status = 'delivered'`);
    const undelivered = await number(`deliveries WHERE status <> 'delivered'`);
    expect({ undelivered }).toEqual({ undelivered: 0 });
    report('PostgreSQL restored', {
      accepted,
      decided: accepted,
      delivered,
      lost: undelivered,
      workflowsEnded: done.ended,
      messagesReadAgain: done.groups.reduce((sum, { messages }) => sum + messages, 0),
      startedAgain: Object.fromEntries(done.work.map(({ kind, started }) => [kind, started])),
    });
  }, 420_000);
});

describe('after the loss of Temporal, by the documented procedure', () => {
  it('what it carried is carried on: events that waited, deadlines, retries', async () => {
    const [expiring, lost] = [await paidOrders(), await paidOrders()];
    shakyIsUp = false;
    await times(accept.event);
    await eventually(
      async () =>
        expect(await number(`deliveries WHERE status = 'pending' AND attempts > 1`)).toBeGreaterThanOrEqual(
          N,
        ),
      60_000,
    );
    // An event that overtook its transaction, and disputes that wait for their evidence.
    const early = randomUUID();
    await accept.payment(early);
    await Promise.all(expiring.map((id) => accept.chargeback(id, 'opened', EVIDENCE_MS)));
    await eventually(async () => expect(await number(`disputes WHERE status = 'opened'`)).toBe(N));
    await remit.stopRoles(['worker']);
    const accepted = (await acceptUndecided({ collected: [], expiring: [], lost })) + N + 1 + expiring.length;

    const lostAt = new Date();
    await remit.stopRoles();
    await remit.lose('temporal');
    expect((await remit.remit('migrate')).code).toBe(0);
    const done = await recover('--replay-from', lostAt.toISOString());
    expect(done.work.find(({ kind }) => kind === 'dispute')).toMatchObject({ found: N, started: N });
    shakyIsUp = true;
    await remit.startRoles();
    await createPayment(remit.db, {
      id: early,
      tenantId: TENANT,
      type: 'payment',
      provider: 'decard',
      userId,
      amountMinor: 100n,
      currency: CURRENCY,
      reserve: false,
      expiresAfterMs: 86_400_000,
      correlationId: 'test',
      actor: 'test',
    });
    await Promise.all(lost.map((id) => accept.chargeback(id, 'lost')));
    await handedOver();
    await settled();
    await expectClean();
    expect(await number(`payments WHERE id = '${early}' AND status = 'succeeded'`)).toBe(1);
    expect(await number(`disputes WHERE order_id = ANY('{${expiring.join()}}') AND status = 'expired'`)).toBe(
      N,
    );
    expect(await number(`deliveries WHERE status <> 'delivered'`)).toBe(0);
    report('Temporal lost', { accepted: accepted + lost.length, decided: accepted + lost.length, lost: 0 });
  }, 420_000);
});

describe('after the loss of Kafka, by the documented procedure', () => {
  it('what the database knows of is sent once more', async () => {
    // Published, and read by nobody yet.
    await remit.stopRoles(['bridge', 'worker']);
    const payments = await times(newPayment);
    await Promise.all([
      ...payments.map(({ id }) => accept.payment(id)),
      times(accept.order),
      times(accept.event),
    ]);
    await eventually(async () => expect(await number('outbox')).toBe(0));
    await remit.stopRoles();
    await remit.lose('kafka');
    expect((await remit.remit('migrate')).code).toBe(0);
    await remit.startRoles();
    const done = await recover();
    expect(done.work.find(({ kind }) => kind === 'order')).toMatchObject({ found: N, started: N });
    expect(done.work.find(({ kind }) => kind === 'event')).toMatchObject({ found: N, started: N });
    // Providers send again what they are not sure of.
    await Promise.all(payments.map(({ id }) => accept.payment(id)));
    await handedOver();
    await settled();
    await expectClean();
    report('Kafka lost', { accepted: 3 * N, decided: 3 * N, lost: 0 });
  }, 420_000);
});
