import type { WorkflowHandle } from '@temporalio/client';
import type { TestWorkflowEnvironment } from '@temporalio/testing';
import type { Duration } from '@temporalio/common';
import { Worker } from '@temporalio/worker';
import { createDeliveryActivities } from '../../../src/activities/deliveries';
import { TASK_QUEUES, workflowId, WORKFLOWS, type DeliveryRef } from '../../../src/contracts/workflows';
import { operateSubscription } from '../../../src/domain/subscription-health';
import { rotateSecret } from '../../../src/domain/subscription-secrets';
import { createSubscription } from '../../../src/domain/subscriptions';
import type { Database } from '../../../src/platform/postgres';
import { createKeyring } from '../../../src/platform/secrets';
import { createWebhookClient, type WebhookClient } from '../../../src/webhooks/client';
import { announce, NOTHING_STARTED, playedPolicy } from '../../support/deliveries';
import { createTestSpace, openTestDatabase, type TestSpace } from '../../support/harness';
import { createTimeSkippingEnvironment, workflowBundle } from '../../support/workflow-env';
import workflowSetup from '../../support/workflow-setup';
import { subscriber, type Subscriber } from '../../support/subscriber';

const HOUR = 3_600_000;
const DAY = 24 * HOUR;
const TENANT = 'acme';

let space: TestSpace;
let db: Database;
let webhooks: WebhookClient;
let environment: TestWorkflowEnvironment;
let worker: Worker;
let running: Promise<void>;
let server: Subscriber;
let status = 500;
beforeAll(async () => {
  await workflowSetup();
  space = await createTestSpace();
  db = openTestDatabase(space);
  webhooks = createWebhookClient(space.config);
  environment = await createTimeSkippingEnvironment();
  server = await subscriber((response) => void response.writeHead(status).end());
  worker = await Worker.create({
    connection: environment.nativeConnection,
    namespace: environment.namespace ?? 'default',
    taskQueue: TASK_QUEUES.deliveries,
    workflowBundle: workflowBundle(),
    activities: createDeliveryActivities({
      db,
      keyring: createKeyring(space.config),
      webhooks,
      producer: { send: () => Promise.resolve() },
      config: space.config,
      log: space.log,
      deliveryPolicy: playedPolicy,
      ...NOTHING_STARTED,
      // The days that the test server skips are the days of the subscription's health.
      clock: async () => new Date(await environment.currentTimeMs()),
    }),
  });
  running = worker.run();
});
afterAll(async () => {
  worker.shutdown();
  await running;
  await environment.teardown();
  await server.close();
  await webhooks.close();
  await db.close();
});

async function subscribe(): Promise<{ id: string; secret: string }> {
  const { subscription, secret } = await createSubscription(db, createKeyring(space.config), {
    tenantId: TENANT,
    by: { tenantId: TENANT, actor: 'token:test', correlationId: 'c' },
    url: server.url,
    eventTypes: ['remit.payment.*'],
    description: '',
    allowedPrivateCidrs: space.config.WEBHOOK_ALLOWED_PRIVATE_CIDRS,
    maxPerTenant: 10,
  });
  return { id: subscription.id, secret };
}

/** Announces a payment to the only subscription there is, and starts its delivery. */
async function deliver(timeout: Duration = '5 days'): Promise<WorkflowHandle | undefined> {
  const [row] = (await announce(db, { tenantId: TENANT })).deliveries;
  if (!row) return undefined;
  const ref: DeliveryRef = playedPolicy(row, 'c');
  return environment.client.workflow.start(WORKFLOWS.delivery, {
    workflowId: workflowId.delivery(ref.eventId, ref.subscriptionId),
    taskQueue: TASK_QUEUES.deliveries,
    args: [ref],
    // When nothing else is left to wait for, the test server skips to the end of a workflow's time: ten years by default.
    workflowExecutionTimeout: timeout,
  });
}

describe('a subscriber that is dead for a week, in the time of the test server', () => {
  it('fails, is paused after five days of exhausted deliveries, and recovers when somebody resumes it', async () => {
    const { id } = await subscribe();
    const startedAt = await environment.currentTimeMs();
    const states: string[] = [];
    const stateOf = async () => (await db.prisma.subscription.findUniqueOrThrow({ where: { id } })).state;
    // Each takes its three days; five days after the first was exhausted, the next one that is exhausted pauses it.
    for (let delivery = await deliver(); delivery; delivery = await deliver()) {
      expect(await delivery.result()).toBe('exhausted');
      states.push(await stateOf());
      expect(states.length).toBeLessThan(10);
    }
    const daysPassed = ((await environment.currentTimeMs()) - startedAt) / DAY;
    expect(states).toEqual([...states.slice(0, -1).map(() => 'failing'), 'paused']);
    expect(daysPassed).toBeGreaterThan(8);
    expect(daysPassed).toBeLessThan(21);
    const events = await db.prisma.webhookEvent.findMany({
      where: { type: { startsWith: 'remit.subscription.' } },
    });
    expect(events.map(({ type }) => type).sort()).toEqual([
      'remit.subscription.failing',
      'remit.subscription.paused',
    ]);

    await operateSubscription(
      db,
      { tenantId: TENANT, actor: 'token:test', correlationId: 'c' },
      id,
      'resume',
    );
    status = 200;
    const delivery = await deliver();
    expect(await delivery?.result()).toBe('delivered');
    expect(await stateOf()).toBe('active');
  });

  it('gets two signatures for the overlap of a rotation, and one after it', async () => {
    const { id } = await db.prisma.subscription.findFirstOrThrow({ where: { state: 'active' } });
    status = 200;
    // From the wall clock to the test server's, which is days ahead by now.
    const aheadMs = (await environment.currentTimeMs()) - Date.now();
    const overlapMs = space.config.WEBHOOK_SECRET_OVERLAP_MS;
    await rotateSecret(
      db,
      createKeyring(space.config),
      { tenantId: TENANT, actor: 'token:test', correlationId: 'c' },
      { id, expected: '*', overlapMs: aheadMs + overlapMs },
    );
    const { previousSecretValidUntil } = await db.prisma.subscription.findUniqueOrThrow({ where: { id } });
    const seen: number[] = [];
    // The test server's clock may skip further than it was asked to: what counts is when the attempt says it was made.
    for (let pause = 0; pause < 4; pause++) {
      await (await deliver('1 minute'))?.result();
      const headers = server.received.at(-1)!.headers;
      const signatures = String(headers['webhook-signature']).split(' ').length;
      const inOverlap = Number(headers['webhook-timestamp']) * 1_000 < previousSecretValidUntil!.getTime();
      expect(signatures).toBe(inOverlap ? 2 : 1);
      seen.push(signatures);
      await environment.sleep(overlapMs / 2.5);
    }
    expect(seen[0]).toBe(2);
    expect(seen.at(-1)).toBe(1);
  });
});
