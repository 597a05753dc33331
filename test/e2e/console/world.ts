import { randomUUID } from 'node:crypto';
import { createConsoleLink, type ConsoleUser } from '../../../src/domain/console-sessions';
import { migrateClickHouse } from '../../../src/platform/clickhouse-migrations';
import { startApi } from '../../../src/roles/api';
import { startBridge } from '../../../src/roles/bridge';
import { startIngest } from '../../../src/roles/ingest';
import { startRelay } from '../../../src/roles/relay';
import { startWorker } from '../../../src/roles/worker';
import { signedHeaders } from '../../support/callers';
import { createTestSpace, eventually, runRoles } from '../../support/harness';
import { sendProviderWebhook } from '../../../src/operations/send';
import { TestApi } from '../../integration/api/support';
import { subscriber, type Subscriber } from '../../support/subscriber';

/** What the console's tests look at: all roles on the real parts, and a little of everything that can happen. */
export interface World {
  api: TestApi;
  /** Answers as `failing` says. */
  shop: Subscriber;
  broken: Subscriber;
  /** While true, the second subscriber answers 500. */
  failing: boolean;
  shopId: string;
  brokenId: string;
  payments: { paid: string; waiting: string; failed: string };
  orders: { finished: string; waiting: string; disputed: string };
  disputeId: string;
  accountId: string;
  link: (user?: Partial<ConsoleUser>) => Promise<string>;
  stop: () => Promise<void>;
}

type Json = Record<string, string>;

/** On a loaded machine the roles need their time; an idle one takes seconds. */
const PATIENCE_MS = 200_000;

export async function makeWorld(): Promise<World> {
  const space = await createTestSpace({
    topics: true,
    temporal: true,
    env: {
      // A failed attempt waits for long enough to be seen, and tried now.
      WEBHOOK_SCHEDULE_MS: '0,3600000',
      TEMPORAL_UI_URL: 'http://127.0.0.1:8233',
    },
  });
  await migrateClickHouse(space.config, space.log);
  const running = await runRoles(space, async (context) => {
    const api = await startApi(context);
    await Promise.all([
      startBridge(context),
      startWorker(context),
      startRelay(context),
      startIngest(context),
    ]);
    return api;
  });
  const api = TestApi.of(space, running);
  const world = { api, failing: true } as World;
  world.shop = await subscriber((response) => response.writeHead(204).end());
  world.broken = await subscriber((response) =>
    response
      .writeHead(world.failing ? 500 : 200, { 'content-type': 'application/json' })
      .end(JSON.stringify({ error: 'the warehouse is closed' })),
  );
  world.link = async (user = {}) => {
    const code = await createConsoleLink(
      running.context.database(),
      { tenantId: 'default', subject: 'ayse', role: 'admin', platform: true, ...user },
      60_000,
    );
    return `${api.url}/console/login#${code}`;
  };
  world.stop = async () => {
    await running.stop();
    await Promise.all([world.shop.close(), world.broken.close()]);
  };
  await populate(world);
  return world;
}

async function populate(world: World): Promise<void> {
  const { api } = world;
  const made = async (path: string, body: object): Promise<Json> => {
    const reply = await api.withToken({ scopes: ['read', 'write', 'admin'] }, 'POST', path, body);
    if (reply.status >= 300) throw new Error(`${path}: ${reply.status} ${JSON.stringify(reply.body)}`);
    return reply.body as Json;
  };
  const subscribe = (url: string, eventTypes: string[], description: string) =>
    made('/api/v1/subscriptions', { url, eventTypes, description });
  world.shopId = (await subscribe(world.shop.url, ['*'], 'Shop'))['id']!;
  world.brokenId = (await subscribe(world.broken.url, ['*'], 'Warehouse'))['id']!;
  await made('/api/v1/event-types', {
    name: 'invoice.paid',
    description: 'An invoice was paid in full',
    schema: { type: 'object', properties: { total: { type: 'string' } }, required: ['total'] },
    example: { total: '10.50', currency: 'EUR' },
  });
  await api.fund('mehmet', '500.00');
  await api.fund('zeynep', '1250.50');

  const pay = async (status: 'success' | 'failed' | undefined, amount: string) => {
    const { id } = await made('/api/v1/payments', {
      userId: 'mehmet',
      amount,
      currency: 'TRY',
      provider: 'decard',
    });
    if (status) await provider(api, id!, status, amount);
    return id!;
  };
  world.payments = {
    paid: await pay('success', '250.00'),
    failed: await pay('failed', '80.00'),
    waiting: await pay(undefined, '75.25'),
  };
  await made('/api/v1/payouts', { userId: 'zeynep', amount: '120.00', currency: 'TRY', provider: 'decard' });
  const order = async (userId: string, amount: string, body: object = {}) =>
    (
      (await api.asUser(userId, 'POST', '/orders', { amount, description: 'Two tickets', ...body }))
        .body as Json
    )['id']!;
  world.orders = {
    finished: await order('zeynep', '42.00'),
    disputed: await order('zeynep', '99.90'),
    waiting: await order('mehmet', '15.00', { paymentMethod: 'provider' }),
  };
  await eventually(async () => {
    for (const id of [world.orders.finished, world.orders.disputed]) {
      const { body } = await api.operator('GET', `/api/v1/orders/${id}`);
      if ((body as Json)['status'] !== 'FINISHED') throw new Error('the orders are not paid yet');
    }
  }, PATIENCE_MS);
  await chargeback(api, world.orders.disputed);
  await made('/api/v1/events', { type: 'invoice.paid', data: { total: '10.50', currency: 'EUR' } });
  await made('/api/v1/events', { type: 'invoice.paid', data: { total: '99.00', currency: 'TRY' } });

  // An order webhook that nobody knows becomes a dead letter; so does what is no JSON.
  const producer = await api.running.context.producer();
  await producer.send({
    topic: api.space.config.TOPIC_WEBHOOKS_ORDERS,
    key: 'order-1',
    value: '{"half": ',
    headers: {},
  });
  for (let i = 0; i < 20; i++)
    await producer.send({
      topic: api.space.config.TOPIC_PURCHASES,
      key: `p-${i}`,
      value: JSON.stringify(purchase(i)),
      headers: {},
    });

  await eventually(async () => {
    const read = async (path: string) =>
      (await api.withToken({ scopes: ['read', 'platform'] }, 'GET', path)).body as { items: Json[] };
    const disputes = await read('/api/v1/disputes');
    const deliveries = await read('/api/v1/deliveries?status=pending');
    const letters = (await read('/api/v1/dead-letters')) as unknown as { items: { waiting: number }[] };
    const payments = await read('/api/v1/payments?status=succeeded');
    if (disputes.items.length === 0) throw new Error('the dispute is not open yet');
    if (deliveries.items.filter((each) => Number(each['attempts']) === 1).length < 3)
      throw new Error('too few deliveries wait');
    if (!letters.items.some(({ waiting }) => waiting > 0)) throw new Error('there is no dead letter yet');
    if (payments.items.length === 0) throw new Error('the payment is not settled yet');
    world.disputeId = disputes.items[0]!['id']!;
  }, PATIENCE_MS);
  const { items } = (await api.operator('GET', '/api/v1/accounts?userId=mehmet')).body as { items: Json[] };
  world.accountId = items[0]!['id']!;
}

const purchase = (i: number) => ({
  id: randomUUID(),
  userId: `user-${i % 3}`,
  productId: `product-${i % 4}`,
  amount: 10 + i,
  currency: 'TRY',
  status: 'completed',
  provider: 'decard',
  createdAt: new Date().toISOString(),
  processedAt: new Date().toISOString(),
});

function provider(api: TestApi, transactionId: string, status: string, amount: string) {
  const secret = api.space.config.PROVIDER_SECRET_DECARD;
  const what = { provider: 'decard', type: 'payment', transactionId, status, amount, currency: 'TRY' };
  return sendProviderWebhook({ url: api.url, secret, timeoutMs: 15_000, ...what });
}

async function chargeback(api: TestApi, orderId: string): Promise<void> {
  const body = JSON.stringify({
    provider_event_id: randomUUID(),
    order_id: orderId,
    status: 'opened',
    reason: 'fraudulent',
  });
  const headers = signedHeaders(api.space.config.ORDER_WEBHOOK_SECRET!, body);
  const reply = await api.call('POST', '/webhooks/payments/chargebacks', headers, body);
  if (reply.status !== 202) throw new Error(`chargeback: ${reply.status}`);
}
