import { randomUUID } from 'node:crypto';
import type { Client, Connection, WorkflowHandle } from '@temporalio/client';
import { DefaultLogger, NativeConnection, Runtime, Worker } from '@temporalio/worker';
import { Webhook } from 'standardwebhooks';
import { createDeliveryActivities } from '../../../src/activities/deliveries';
import { DeliveryDeadLetter } from '../../../src/contracts/webhooks';
import {
  SIGNALS,
  TASK_QUEUES,
  workflowId,
  WORKFLOWS,
  type DeliveryRef,
} from '../../../src/contracts/workflows';
import { listAttempts } from '../../../src/domain/attempt-reads';
import { getDelivery } from '../../../src/domain/deliveries';
import { createSubscription } from '../../../src/domain/subscriptions';
import { createKafka, headersToStrings, MessageProducer } from '../../../src/platform/kafka';
import { dataConverterOf } from '../../../src/platform/payload-encryption';
import { openDatabase, type Database } from '../../../src/platform/postgres';
import { createKeyring } from '../../../src/platform/secrets';
import { connectTemporal } from '../../../src/platform/temporal';
import { createWebhookClient } from '../../../src/webhooks/client';
import { announce, NOTHING_STARTED, playedPolicy } from '../../support/deliveries';
import { createTestSpace, eventually, type TestSpace } from '../../support/harness';
import { subscriber, type Subscriber } from '../../support/subscriber';

const TENANT = 'acme';

let space: TestSpace;
let db: Database;
let client: Client;
const closings: (() => Promise<unknown>)[] = [];
/** Statements that fail as if PostgreSQL were away, by their names. */
const outage = new Set<string>();

/** The pool of a database that a test can take away. */
function fallible(database: Database): Pick<Database, 'pool' | 'prisma'> {
  const pool = new Proxy(database.pool, {
    get(target, property) {
      if (property !== 'query') return Reflect.get(target, property) as unknown;
      return (statement: { name: string }) =>
        outage.has(statement.name)
          ? Promise.reject(new Error('connect ECONNREFUSED'))
          : target.query(statement as never);
    },
  });
  return { pool, prisma: database.prisma };
}

beforeAll(async () => {
  Runtime.install({ logger: new DefaultLogger('ERROR') });
  space = await createTestSpace({ temporal: true, topics: true });
  const { config, log } = space;
  db = openDatabase(config, log);
  client = await connectTemporal(config);
  const producer = new MessageProducer(createKafka(config, log), config);
  await producer.connect();
  const webhooks = createWebhookClient(config);
  const connection = await NativeConnection.connect({ address: config.TEMPORAL_ADDRESS });
  const worker = await Worker.create({
    connection,
    namespace: config.TEMPORAL_NAMESPACE,
    taskQueue: TASK_QUEUES.deliveries,
    workflowsPath: require.resolve('../../../src/workflows/index.ts'),
    dataConverter: dataConverterOf(config),
    activities: createDeliveryActivities({
      db: fallible(db),
      keyring: createKeyring(config),
      webhooks,
      producer,
      config,
      log,
      deliveryPolicy: playedPolicy,
      ...NOTHING_STARTED,
    }),
  });
  const running = worker.run();
  closings.push(
    async () => {
      worker.shutdown();
      await running;
      await connection.close();
    },
    () => producer.stop(),
    () => webhooks.close(),
    () => (client.connection as Connection).close(),
    () => db.close(),
  );
});
afterAll(async () => {
  for (const close of closings) await close();
});

const open: Subscriber[] = [];
afterEach(async () => {
  outage.clear();
  for (const each of open.splice(0)) await each.close();
});
const answering = async (...args: Parameters<typeof subscriber>) => {
  const server = await subscriber(...args);
  open.push(server);
  return server;
};

/** Subscribes a URL, announces an event, and starts the delivery workflow as payment and order workflows do. */
async function deliver(url: string, scheduleMs: number[], timeoutMs = 2_000) {
  const eventType = `test_${randomUUID().replaceAll('-', '')}.done`;
  const { subscription, secret } = await createSubscription(db, createKeyring(space.config), {
    tenantId: TENANT,
    url,
    eventTypes: [`remit.${eventType}`],
    description: '',
    allowedPrivateCidrs: space.config.WEBHOOK_ALLOWED_PRIVATE_CIDRS,
    maxPerTenant: 1_000,
  });
  const { deliveries } = await announce(db, { tenantId: TENANT, type: eventType });
  const ref: DeliveryRef = {
    ...deliveries[0]!,
    correlationId: 'correlation',
    scheduleMs,
    timeoutMs,
  };
  const handle: WorkflowHandle = await client.workflow.start(WORKFLOWS.delivery, {
    workflowId: workflowId.delivery(ref.eventId, ref.subscriptionId),
    taskQueue: TASK_QUEUES.deliveries,
    args: [ref],
  });
  return { ref, handle, secret, subscription };
}

const stored = (ref: DeliveryRef) => getDelivery(db, { tenantId: TENANT, id: ref.deliveryId });

describe('a delivery through Temporal, PostgreSQL and HTTP', () => {
  it('fails, is retried with the same id and a fresh timestamp, and arrives', async () => {
    let failures = 2;
    const server = await answering((response) => void response.writeHead(failures-- > 0 ? 500 : 204).end());
    const { ref, handle, secret } = await deliver(server.url, [0, 1_200, 1_200, 60_000]);
    expect(await handle.result()).toBe('delivered');
    expect(server.received).toHaveLength(3);
    for (const { body, headers } of server.received) {
      expect(headers['webhook-id']).toBe(ref.eventId);
      expect(() => new Webhook(secret).verify(body, headers as Record<string, string>)).not.toThrow();
    }
    expect(new Set(server.received.map(({ headers }) => headers['webhook-timestamp'])).size).toBeGreaterThan(
      1,
    );
    expect(await stored(ref)).toMatchObject({ status: 'delivered', attempts: 3, lastStatusCode: 204 });
    expect(
      (await listAttempts(db, { tenantId: TENANT, id: ref.deliveryId, limit: 50 })).items.map(
        ({ result }) => result,
      ),
    ).toEqual(['http_error', 'http_error', 'delivered']);
  });

  it('is posted once although the database is away when the answer is to be stored', async () => {
    const server = await answering((response) => response.end());
    outage.add('record_delivery_attempts');
    const { ref, handle } = await deliver(server.url, [0, 60_000]);
    await eventually(() => expect(server.received).toHaveLength(1));
    // Long enough for the activity to be tried again while the database is still away.
    await eventually(async () => {
      const { pendingActivities } = (await handle.describe()).raw;
      expect(pendingActivities?.[0]?.attempt).toBeGreaterThanOrEqual(3);
    });
    outage.clear();
    expect(await handle.result()).toBe('delivered');
    expect(server.received).toHaveLength(1);
    expect(await stored(ref)).toMatchObject({ status: 'delivered', attempts: 1 });
  });

  it('is posted once although its slow answer is to be stored right after a heartbeat', async () => {
    // Heartbeats are held back for a while after one, and the one with the answer must get through all the same.
    const server = await answering((response) => void setTimeout(() => response.end(), 6_000));
    outage.add('record_delivery_attempts');
    const { ref, handle } = await deliver(server.url, [0, 60_000], 30_000);
    await eventually(async () => {
      const { pendingActivities } = (await handle.describe()).raw;
      expect(pendingActivities?.[0]?.attempt).toBeGreaterThanOrEqual(2);
    });
    outage.clear();
    expect(await handle.result()).toBe('delivered');
    expect(server.received).toHaveLength(1);
    expect(await stored(ref)).toMatchObject({ status: 'delivered', attempts: 1 });
  });

  it('that is cancelled in the Temporal UI during a slow attempt has what the attempt came to', async () => {
    // Long enough for the cancellation to reach the attempt with a heartbeat.
    const server = await answering((response) => void setTimeout(() => response.end(), 7_000));
    const { ref, handle } = await deliver(server.url, [0, 60_000], 30_000);
    await eventually(() => expect(server.received).toHaveLength(1));
    await handle.cancel();
    expect(await handle.result()).toBe('delivered');
    expect(await stored(ref)).toMatchObject({ status: 'delivered', attempts: 1 });
  });

  it('that is cancelled in the Temporal UI during an attempt that fails is cancelled', async () => {
    const server = await answering((response) => void setTimeout(() => response.end(), 2_000));
    outage.add('record_delivery_attempts');
    const { ref, handle } = await deliver(server.url, [0, 60_000], 30_000);
    await eventually(() => expect(server.received).toHaveLength(1));
    await handle.cancel();
    await expect(handle.result()).rejects.toMatchObject({ cause: { name: 'CancelledFailure' } });
    expect(await stored(ref)).toMatchObject({ status: 'cancelled' });
  });

  it('uses up no attempt while the database is away before it', async () => {
    const server = await answering((response) => response.end());
    outage.add('load_delivery');
    const { ref, handle } = await deliver(server.url, [0]);
    await eventually(async () => {
      const { pendingActivities } = (await handle.describe()).raw;
      expect(pendingActivities?.[0]?.attempt).toBeGreaterThanOrEqual(2);
    });
    expect(server.connections()).toBe(0);
    outage.clear();
    expect(await handle.result()).toBe('delivered');
    expect(await stored(ref)).toMatchObject({ status: 'delivered', attempts: 1 });
  });

  it('ends on the DLQ in Kafka when the schedule is used up', async () => {
    const server = await answering((response) => void response.writeHead(500).end('down'));
    const { ref, handle } = await deliver(server.url, [0, 100]);
    expect(await handle.result()).toBe('exhausted');

    const consumer = createKafka(space.config, space.log).consumer({ groupId: `${space.name}.dlq-reader` });
    await consumer.connect();
    try {
      await consumer.subscribe({ topic: space.config.TOPIC_WEBHOOK_DELIVERY_DLQ, fromBeginning: true });
      const letters: { key: string; value: string; headers: Record<string, string> }[] = [];
      await consumer.run({
        eachMessage: ({ message }) => {
          const { key, value, headers } = message;
          letters.push({ key: String(key), value: String(value), headers: headersToStrings(headers) });
          return Promise.resolve();
        },
      });
      await eventually(() => expect(letters).toHaveLength(1));
      const [letter] = letters;
      expect(letter?.key).toBe(ref.subscriptionId);
      expect(letter?.headers['remit-error-code']).toBe('delivery_exhausted');
      expect(DeliveryDeadLetter.parse(JSON.parse(letter?.value ?? ''))).toMatchObject({
        delivery: { id: ref.deliveryId, attempts: 2 },
        event: { id: ref.eventId },
        lastAttempt: { attempt: 2, responseBody: 'down' },
      });
    } finally {
      await consumer.disconnect();
    }
  });

  it('waits for days until an operator says: try now', async () => {
    let status = 500;
    const server = await answering((response) => void response.writeHead(status).end());
    const { ref, handle } = await deliver(server.url, [0, 86_400_000]);
    await eventually(async () => expect((await stored(ref)).attempts).toBe(1));
    status = 200;
    await handle.signal(SIGNALS.tryNow);
    expect(await handle.result()).toBe('delivered');
    expect(server.received).toHaveLength(2);
  });

  it('that is retrying is found by its subscription and status in Temporal', async () => {
    const server = await answering((response) => void response.writeHead(500).end());
    const { ref, handle } = await deliver(server.url, [0, 86_400_000]);
    await eventually(async () => {
      const found: string[] = [];
      for await (const execution of client.workflow.list({
        query: `RemitStatus = "retrying" AND ExecutionStatus = "Running"`,
      }))
        found.push(execution.workflowId);
      expect(found).toContain(workflowId.delivery(ref.eventId, ref.subscriptionId));
    });
    await handle.signal(SIGNALS.cancel);
    expect(await handle.result()).toBe('cancelled');
    expect((await stored(ref)).status).toBe('cancelled');
  });
});
