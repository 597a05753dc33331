import { randomUUID } from 'node:crypto';
import { eventDeliveryHandler } from '../../../src/bridges/event-deliveries';
import { createPaymentActivities } from '../../../src/activities/payments';
import type { DeliveryRef, ProviderEvent } from '../../../src/contracts/workflows';
import { secretContext } from '../../../src/domain/subscriptions';
import type { Database } from '../../../src/platform/postgres';
import { createKeyring } from '../../../src/platform/secrets';
import { createWebhookClient, type WebhookClient } from '../../../src/webhooks/client';
import { Attempts } from '../../../src/webhooks/attempts';
import { FirstAttempts } from '../../../src/webhooks/first-attempts';
import { newWebhookSecret } from '../../../src/webhooks/signature';
import { announce, NOTHING_STARTED, playedPolicy } from '../../support/deliveries';
import { createTestSpace, openTestDatabase, type TestSpace } from '../../support/harness';
import { messageRef } from '../../support/message-refs';
import { eventOf, newTransaction, TENANT, userWith } from '../../support/money';
import { subscriber, type Subscriber } from '../../support/subscriber';

const SUBSCRIPTIONS = 2_500;
/** Each tenth subscriber refuses. */
const REFUSES_EACH = 10;

let space: TestSpace;
let db: Database;
let webhooks: WebhookClient;
let receiver: Subscriber;
beforeAll(async () => {
  space = await createTestSpace();
  db = openTestDatabase(space);
  webhooks = createWebhookClient(space.config);
  receiver = await subscriber((response, { path }) => {
    response.statusCode = Number(path.slice(1)) % REFUSES_EACH === 0 ? 503 : 204;
    response.end();
  });
  const ids = Array.from({ length: SUBSCRIPTIONS }, () => `sub_${randomUUID().replaceAll('-', '')}`);
  await subscribe(TENANT, 'remit.payment.*', ids);
});

async function subscribe(tenantId: string, type: string, ids: readonly string[]): Promise<void> {
  const keyring = createKeyring(space.config);
  await db.pool.query(
    `INSERT INTO subscriptions (id, tenant_id, url, event_types, secret_ciphertext)
     SELECT id, $1, $2 || n, ARRAY[$5], secret FROM unnest($3::text[], $4::bytea[]) WITH ORDINALITY AS s (id, secret, n)`,
    [
      tenantId,
      `${receiver.url}/`,
      ids,
      ids.map((id) => keyring.encrypt(newWebhookSecret(), secretContext(id))),
      type,
    ],
  );
}

function handler(started: DeliveryRef[], config = space.config) {
  return eventDeliveryHandler({
    db,
    keyring: createKeyring(space.config),
    publisher: { publish: () => Promise.reject(new Error('it is published already')) },
    config,
    firstAttempts: new FirstAttempts({
      ...{ db, log: space.log, deliveryPolicy: playedPolicy, wakeLanes: NOTHING_STARTED.wakeLanes },
      attempts: new Attempts({ db, webhooks, log: space.log, config: space.config }),
    }),
    startDeliveries: (deliveries) => Promise.resolve(void started.push(...deliveries)),
  });
}
const message = (eventId: string, value: string) => ({
  ...{ topic: 'events', partition: 0, offset: '0', timestampMs: 0 },
  ...{ key: Buffer.from(eventId), value: Buffer.from(value), headers: {} },
});

afterAll(async () => {
  await webhooks?.close();
  await receiver?.close();
  await db?.close();
});

describe('a settlement that thousands of subscriptions are told of', () => {
  it('is one message, of which each subscription is told once, or has a workflow started', async () => {
    const payments = createPaymentActivities({
      ...{ db, unknownTransactionWaitMs: 0, disputeEvidenceDueMs: 0, showsUsers: true },
      deadLetter: () => Promise.resolve(),
    });
    const started: DeliveryRef[] = [];
    const handle = handler(started);

    const payment = await newTransaction(db, await userWith(db), 'payment', 100n);
    const event: ProviderEvent = {
      ...eventOf(payment, 'success'),
      source: messageRef('payment.webhook.decard'),
    };
    const settled = await payments.settlePayment(event);

    expect(settled).toMatchObject({ outcome: 'applied' });
    const asked = await db.prisma.outboxMessage.findMany({ where: { topic: 'events' } });
    expect(asked).toHaveLength(1);
    const { key: eventId, value } = asked[0]!;
    await handle(message(eventId, value));

    expect(new Set(receiver.received.map(({ path }) => path)).size).toBe(receiver.received.length);
    const { rows } = await db.pool.query<{ id: string; subscription: string; status: string }>(
      'SELECT id::text, subscription_id AS subscription, status FROM deliveries WHERE event_id = $1',
      [eventId],
    );
    expect(rows).toHaveLength(SUBSCRIPTIONS);
    const pending = rows.filter(({ status }) => status === 'pending').map(({ id }) => id);
    expect(rows.length - pending.length).toBe(rows.filter(({ status }) => status === 'delivered').length);
    expect(pending.length).toBeGreaterThanOrEqual(SUBSCRIPTIONS / REFUSES_EACH);
    expect(started.map(({ deliveryId }) => deliveryId).sort()).toEqual(pending.sort());
  });
});

describe('events that are handed out together', () => {
  it('each reach all of their own subscriptions, also when another has more than is read at a time', async () => {
    const [published, changed] = [`tenant-${randomUUID()}`, `tenant-${randomUUID()}`];
    const own = Array.from({ length: 12 }, (_, n) => `sub_a_${published.slice(-12)}_${n + 10}`);
    await subscribe(published, 'invoice.paid', own);
    // Their ids come behind all of the other's.
    await subscribe(
      changed,
      'remit.payment.*',
      Array.from({ length: 12 }, (_, n) => `sub_b_${changed.slice(-12)}_${n + 10}`),
    );
    const eventId = `evt_${randomUUID().replaceAll('-', '')}`;
    await db.pool.query(
      `INSERT INTO webhook_events (id, tenant_id, type, body, correlation_id, source, fanned_out_at)
       VALUES ($1, $2, 'invoice.paid', '{"type":"invoice.paid","timestamp":"2026-01-01T00:00:00.000Z","data":{}}', 'c', 'api', NULL)`,
      [eventId, published],
    );
    const rest = { type: 'invoice.paid', timestamp: '2026-01-01T00:00:00.000Z', data: {} };
    const { eventId: other } = await announce(db, { tenantId: changed });
    const { value } = await db.prisma.outboxMessage.findFirstOrThrow({
      where: { topic: 'events', key: other },
    });
    const handle = handler([], { ...space.config, EVENT_FANOUT_BATCH_ROWS: 2 });
    await Promise.all([
      handle(message(eventId, JSON.stringify({ id: eventId, tenantId: published, clientId: null, ...rest }))),
      handle(message(other, value)),
    ]);
    for (const id of [eventId, other])
      expect(await db.prisma.delivery.count({ where: { eventId: id, attempts: 1 } })).toBe(12);
  });
});
