import { randomUUID } from 'node:crypto';
import { MockActivityEnvironment } from '@temporalio/testing';
import { createEventDeliveryActivities } from '../../../src/activities/event-deliveries';
import { createPaymentActivities } from '../../../src/activities/payments';
import type { DeliveryRef, ProviderEvent } from '../../../src/contracts/workflows';
import { secretContext } from '../../../src/domain/subscriptions';
import type { Database } from '../../../src/platform/postgres';
import { createKeyring } from '../../../src/platform/secrets';
import { createWebhookClient, type WebhookClient } from '../../../src/webhooks/client';
import { Attempts } from '../../../src/webhooks/attempts';
import { FirstAttempts } from '../../../src/webhooks/first-attempts';
import { newWebhookSecret } from '../../../src/webhooks/signature';
import { NOTHING_STARTED, playedPolicy } from '../../support/deliveries';
import { createTestSpace, openTestDatabase, type TestSpace } from '../../support/harness';
import { messageRef } from '../../support/message-refs';
import { eventOf, newTransaction, TENANT, userWith } from '../../support/money';
import { subscriber, type Subscriber } from '../../unit/webhooks/subscriber';

const SUBSCRIPTIONS = 2_500;
/** What Temporal takes as an answer, far from its limit of 2 MB. */
const ANSWER_MAX_BYTES = 500_000;
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
  const keyring = createKeyring(space.config);
  const ids = Array.from({ length: SUBSCRIPTIONS }, () => `sub_${randomUUID().replaceAll('-', '')}`);
  await db.pool.query(
    `INSERT INTO subscriptions (id, tenant_id, url, event_types, secret_ciphertext)
     SELECT id, $1, $2 || n, '{remit.payment.*}', secret FROM unnest($3::text[], $4::bytea[]) WITH ORDINALITY AS s (id, secret, n)`,
    [
      TENANT,
      `${receiver.url}/`,
      ids,
      ids.map((id) => keyring.encrypt(newWebhookSecret(), secretContext(id))),
    ],
  );
});
afterAll(async () => {
  await webhooks?.close();
  await receiver?.close();
  await db?.close();
});

describe('a settlement that thousands of subscriptions are told of', () => {
  it('has an answer that Temporal takes, and each subscription is told once, or has a workflow started', async () => {
    const payments = createPaymentActivities({
      ...{
        db,
        deliveryPolicy: playedPolicy,
        unknownTransactionWaitMs: 0,
        disputeEvidenceDueMs: 0,
        showsUsers: true,
      },
      deadLetter: () => Promise.resolve(),
    });
    const started: DeliveryRef[] = [];
    const { deliverEvent } = createEventDeliveryActivities({
      db,
      keyring: createKeyring(space.config),
      firstAttempts: new FirstAttempts({
        ...{ db, log: space.log, deliveryPolicy: playedPolicy, wakeLanes: NOTHING_STARTED.wakeLanes },
        attempts: new Attempts({ db, webhooks, log: space.log, config: space.config }),
      }),
      startDeliveries: (deliveries) => Promise.resolve(void started.push(...deliveries)),
    });

    const payment = await newTransaction(db, await userWith(db), 'payment', 100n);
    const event: ProviderEvent = {
      ...eventOf(payment, 'success'),
      source: messageRef('payment.webhook.decard'),
    };
    const settled = await payments.settlePayment(event);

    expect(settled).toMatchObject({ outcome: 'applied', deliveries: [] });
    expect(JSON.stringify(settled).length).toBeLessThan(ANSWER_MAX_BYTES);
    expect(settled.deliveriesOf).toHaveLength(1);
    const [of] = settled.deliveriesOf!;
    let steps = 0;
    for (let after: string | null = ''; after !== null; steps++)
      after = await new MockActivityEnvironment().run(deliverEvent, { ...of!, after });

    expect(steps).toBeGreaterThan(1);
    expect(new Set(receiver.received.map(({ path }) => path)).size).toBe(receiver.received.length);
    const { rows } = await db.pool.query<{ id: string; subscription: string; status: string }>(
      'SELECT id::text, subscription_id AS subscription, status FROM deliveries WHERE event_id = $1',
      [of!.eventId],
    );
    expect(rows).toHaveLength(SUBSCRIPTIONS);
    const pending = rows.filter(({ status }) => status === 'pending').map(({ id }) => id);
    expect(rows.length - pending.length).toBe(rows.filter(({ status }) => status === 'delivered').length);
    expect(pending.length).toBeGreaterThanOrEqual(SUBSCRIPTIONS / REFUSES_EACH);
    expect(started.map(({ deliveryId }) => deliveryId).sort()).toEqual(pending.sort());
  });
});
