import { randomUUID } from 'node:crypto';
import type http from 'node:http';
import { ApplicationFailure } from '@temporalio/common';
import { MockActivityEnvironment } from '@temporalio/testing';
import { DefaultLogger } from '@temporalio/worker';
import { createActivities } from '../../../src/activities';
import { eventDeliveryHandler } from '../../../src/bridges/event-deliveries';
import type { DeliveryRow } from '../../../src/domain/pending-deliveries';
import { DataRefusedError } from '../../../src/domain/money-transaction';
import { EventPublisher } from '../../../src/domain/event-publisher';
import { EventSchemas } from '../../../src/domain/event-schemas';
import { eventTypes } from '../../../src/domain/event-types';
import { createReplay } from '../../../src/domain/replays';
import { createSubscription } from '../../../src/domain/subscriptions';
import type { Database } from '../../../src/platform/postgres';
import { isDatabaseUnavailable } from '../../../src/platform/postgres-errors';
import { createKeyring } from '../../../src/platform/secrets';
import { Attempts } from '../../../src/webhooks/attempts';
import { FirstAttempts } from '../../../src/webhooks/first-attempts';
import { createWebhookClient, type WebhookClient } from '../../../src/webhooks/client';
import { announce, NOTHING_STARTED, playedPolicy } from '../../support/deliveries';
import { chargeback, chargebackOf, orderEventOf, paidOrder, placeOrder } from '../../support/disputes';
import { createTestSpace, eventually, openTestDatabase, type TestSpace } from '../../support/harness';
import { eventOf, inspectLedger, newTransaction, SOUND, TENANT, userWith } from '../../support/money';
import { withDatabase } from '../../support/shared-stack';
import { TcpProxy, type CutTime } from '../../support/tcp-proxy';
import { subscriber, type Subscriber } from '../../support/subscriber';

const MAX_STATEMENTS = 60;
/** The consumer of `events`, which makes the first attempts. */
const HAND_OUT = 'the consumer of events';

let space: TestSpace;
let way: TcpProxy;
/** Straight, to prepare and to look; the activities' own goes the way that breaks. */
let db: Database;
let broken: Database;
let webhooks: WebhookClient;
let receiver: Subscriber;
let activities: Record<string, (input: unknown) => Promise<unknown>>;
let subscriptionId: string;
const schemas = new EventSchemas(10);

beforeAll(async () => {
  space = await createTestSpace();
  way = await TcpProxy.toUrl(space.config.DATABASE_URL);
  db = openTestDatabase(space);
  const config = { ...space.config, DATABASE_URL: way.through(space.config.DATABASE_URL) };
  broken = openTestDatabase({ ...space, config });
  webhooks = createWebhookClient(config);
  receiver = await subscriber((response: http.ServerResponse) => response.end('ok'));
  const attempts = new Attempts({ db: broken, webhooks, log: space.log, config });
  const shared = { db: broken, config, log: space.log, deliveryPolicy: playedPolicy, ...NOTHING_STARTED };
  const keyring = createKeyring(config);
  activities = {
    ...(createActivities({
      ...shared,
      attempts,
      keyring,
      webhooks,
      producer: { send: () => Promise.resolve() },
      unknownTransactionWaitMs: 0,
      showsUsers: true,
      disputeEvidenceDueMs: 60_000,
      deadLetter: () => Promise.resolve(),
    }) as unknown as typeof activities),
    // No activity, but it is to bear the same.
    [HAND_OUT]: eventDeliveryHandler({
      ...shared,
      keyring,
      publisher: new EventPublisher(broken, schemas, 1_000_000),
      firstAttempts: new FirstAttempts({ ...shared, attempts }),
    }) as (input: unknown) => Promise<unknown>,
  };
  const { subscription } = await createSubscription(db, createKeyring(config), {
    ...{ tenantId: TENANT, url: receiver.url, eventTypes: ['*'], description: '', maxPerTenant: 10 },
    allowedPrivateCidrs: config.WEBHOOK_ALLOWED_PRIVATE_CIDRS,
  });
  subscriptionId = subscription.id;
  await eventTypes.create(
    { prisma: db.prisma, schemas },
    by,
    'made.thing',
    { description: '', schema: null, example: null },
    10,
  );
});
afterAll(async () => {
  await Promise.all([schemas.close(), webhooks?.close(), receiver?.close(), broken?.close(), db?.close()]);
  way?.close();
});

const by = { tenantId: TENANT, actor: 'test', correlationId: 'test' };

/** A delivery that is pending. */
async function deliver(): Promise<DeliveryRow> {
  return (await announce(db, { tenantId: TENANT })).deliveries[0]!;
}

async function replay(): Promise<{ replayId: string }> {
  const { id } = await createReplay(db, {
    ...{ id: randomUUID(), tenantId: TENANT, subscriptionId, kind: 'all' as const, eventTypes: [] },
    ...{ since: new Date(0), ratePerSecond: 10, actor: 'test', maxRunning: 1_000 },
  });
  return { replayId: id };
}

const pending = async () => newTransaction(db, await userWith(db, 500n), 'payout', 100n);
const disputed = async () => {
  const order = await paidOrder(db);
  await chargeback(db, order.id, 'opened');
  return { disputeId: `order-${order.id}` };
};
const START = { at: '1970-01-01T00:00:00Z', after: '', examined: 0, replayed: 0, paused: false };

/** What an activity gets: something of its own that exists. Every other one gets the ids of nothing. */
const inputs: Record<string, () => Promise<unknown>> = {
  settlePayment: async () => eventOf(await pending(), 'success'),
  expirePayment: async () => eventOf(await pending(), 'expired'),
  payOrder: async () => {
    const { id, amountMinor, ...order } = await placeOrder(db, await userWith(db, 5_000n));
    return { ...order, orderId: id, amountMinor: amountMinor.toString(), correlationId: 'test' };
  },
  settleOrder: async () => orderEventOf(await placeOrder(db, await userWith(db)), 'success'),
  refundOrder: async () => ({
    ...{ ...by, refundId: randomUUID(), orderId: (await paidOrder(db)).id, amountMinor: null, reason: null },
  }),
  settleDispute: async () => chargebackOf((await paidOrder(db)).id, 'opened'),
  expireDispute: disputed,
  loadDispute: disputed,
  submitDisputeEvidence: async () => ({
    ...by,
    ...(await disputed()),
    hash: randomUUID(),
    evidence: { text: 'x' },
  }),
  attemptDelivery: async () => ({
    ...(await deliver()),
    ...{ attempt: 1, maxAttempts: 3, timeoutMs: 5_000, pauseMs: 0, correlationId: 'test' },
  }),
  [HAND_OUT]: async () => {
    const { eventId } = await deliver();
    const { key, value } = await db.prisma.outboxMessage.findFirstOrThrow({
      where: { topic: 'events', key: eventId },
    });
    const bytes = { key: Buffer.from(key), value: Buffer.from(value), headers: {} };
    return { topic: 'events', partition: 0, offset: '0', timestampMs: 0, ...bytes };
  },
  finishDelivery: async () => ({ ...(await deliver()), status: 'cancelled', reason: 'test' }),
  // With nothing in it: what it sends is stored as first attempts are.
  sendLane: async () => ({ subscriptionId: (await deliver()).subscriptionId }),
  wakeForgottenLanes: () => Promise.resolve(''),
  deadLetterDelivery: async () => ({ ...(await deliver()), correlationId: 'test' }),
  purgeEvents: () => Promise.resolve({ at: START.at, after: '' }),
  stepReplay: async () => ({ ...(await replay()), correlationId: 'test', progress: null, sliceMs: 500 }),
  tellCancelled: async () => ({
    ...(await replay()),
    ...{ told: { at: START.at, after: '' }, perSecond: 10, sliceMs: 500 },
  }),
  recordReplayState: async () => ({
    ...(await replay()),
    state: { ...START, status: 'running', reason: null },
  }),
  strandedReplays: () => Promise.resolve(null),
  strandedDeliveries: async () => [{ ...(await deliver()), generation: 1 }],
  saveExpiryPosition: () => Promise.resolve({ job: 'test', at: new Date().toISOString(), id: randomUUID() }),
};
const nothing = () =>
  Promise.resolve({
    ...{ ...by, eventId: `evt_${randomUUID()}`, deliveryId: randomUUID(), replayId: randomUUID() },
    ...{ orderId: randomUUID(), disputeId: randomUUID(), transactionId: randomUUID() },
    ...{
      source: {},
      event: { source: {} },
      request: { source: {} },
      code: 'invalid_message',
      message: 'test',
    },
  });

const run = (name: string, input: unknown): Promise<unknown> =>
  new MockActivityEnvironment(undefined, { logger: new DefaultLogger('ERROR') }).run(
    activities[name]!,
    input,
  );

describe('a connection to PostgreSQL that breaks under an activity', () => {
  const names = [
    HAND_OUT,
    ...Object.keys(createActivities({ config: {} } as unknown as Parameters<typeof createActivities>[0])),
  ];

  it.each(names)(
    'at any statement of %s is an error to be tried again, and then it comes out right',
    async (name) => {
      const inputOf = inputs[name] ?? nothing;
      await run(name, await inputOf());
      let cuts = 0;
      for (const time of ['before', 'after'] as CutTime[]) {
        for (let statement = 1; statement <= MAX_STATEMENTS; statement++) {
          const input = await inputOf();
          way.cutAt(statement, time);
          const error: unknown = await run(name, input).then(
            () => undefined,
            (reason: unknown) => reason,
          );
          if (!way.wasCut) {
            expect(error).toBeUndefined();
            break;
          }
          cuts += 1;
          // What was met is stored again at once, so that nobody is sent it twice.
          if (error === undefined && name === HAND_OUT) continue;
          expect({ statement, time, error, away: isDatabaseUnavailable(error) }).toMatchObject({
            away: true,
          });
          expect(error).not.toBeInstanceOf(DataRefusedError);
          expect(error).not.toBeInstanceOf(ApplicationFailure);
          // The next try, as Temporal makes it.
          await run(name, input);
        }
        way.disarm();
      }
      expect(cuts > 0 || name.startsWith('deadLetter')).toBe(true);
    },
  );

  it('moves money once, whatever was tried twice', async () => {
    expect(await inspectLedger(db)).toEqual(SOUND);
    const { rows } = await withDatabase(space.ownerUrl, (client) =>
      client.query<{ twice: string }>(
        `SELECT reference AS twice FROM journal_transactions GROUP BY reference HAVING count(*) > 1`,
      ),
    );
    expect(rows).toEqual([]);
    await eventually(() => db.check());
  });
});
