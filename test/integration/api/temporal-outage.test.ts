import type { Database } from '../../../src/platform/postgres';
import { createSubscription } from '../../../src/domain/subscriptions';
import { createKeyring } from '../../../src/platform/secrets';
import { startApi } from '../../../src/roles/api';
import { mintToken } from '../../../src/operations/token';
import { chargeback, paidOrder } from '../../support/disputes';
import {
  createTestSpace,
  openTestDatabase,
  runRoles,
  type RunningRoles,
  type TestSpace,
} from '../../support/harness';
import { TENANT } from '../../support/money';
import { TcpProxy } from '../../support/tcp-proxy';
import { expectProblem, type Reply } from './support';

let space: TestSpace;
let db: Database;
let token: string;
let deliveryId: string;
let orderId: string;
beforeAll(async () => {
  space = await createTestSpace({ topics: true });
  db = openTestDatabase(space);
  token = await mintToken(space.config, { subject: 'operator', scopes: ['admin'], expiresInS: 3_600 });
  await createSubscription(db, createKeyring(space.config), {
    ...{
      tenantId: TENANT,
      url: 'https://example.com/hook',
      eventTypes: ['*'],
      description: '',
      maxPerTenant: 10,
    },
    allowedPrivateCidrs: [],
  });
  const order = await paidOrder(db);
  await chargeback(db, order.id, 'opened');
  orderId = order.id;
  deliveryId = (await db.prisma.delivery.findFirstOrThrow()).id;
});
afterAll(() => db?.close());

async function withApi(
  address: string,
  run: (post: (path: string, body?: object) => Promise<Reply>) => Promise<void>,
): Promise<void> {
  const api: RunningRoles<{ url: string }> = await runRoles(
    { ...space, config: { ...space.config, TEMPORAL_ADDRESS: address } },
    startApi,
  );
  try {
    await run(async (path, body) => {
      const response = await fetch(api.started.url + path, {
        method: 'POST',
        headers: { authorization: `Bearer ${token}`, 'content-type': 'application/json' },
        ...(body && { body: JSON.stringify(body) }),
        signal: AbortSignal.timeout(25_000),
      });
      const text = await response.text();
      return {
        status: response.status,
        headers: response.headers,
        body: text ? JSON.parse(text) : undefined,
      };
    });
  } finally {
    await api.stop();
  }
}

/** Every route that asks Temporal before it answers. */
const asking = () =>
  [
    [`/api/v1/deliveries/${deliveryId}/try-now`],
    [`/api/v1/orders/${orderId}/refunds`, { reason: 'x' }],
    [`/api/v1/disputes/order-${orderId}/evidence`, { text: 'delivered', documents: [] }],
  ] as [string, object?][];

describe('Temporal', () => {
  it('that hangs makes 503 with Retry-After long before a workflow would have had to decide', async () => {
    const way = await TcpProxy.to(...hostAndPort(space.config.TEMPORAL_ADDRESS));
    try {
      await withApi(way.address, async (post) => {
        expect((await post(asking()[0]![0])).status).toBe(202);
        way.stall();
        for (const reply of await Promise.all(asking().map(([path, body]) => post(path, body)))) {
          expectProblem(reply, 503, 'unavailable');
          expect(reply.headers.get('retry-after')).toBe('1');
        }
        way.resume();
        expect((await post(asking()[0]![0])).status).toBe(202);
      });
    } finally {
      way.close();
    }
  }, 60_000);

  it('that is away at the first request is asked again by the next one', async () => {
    const [host, port] = hostAndPort(space.config.TEMPORAL_ADDRESS);
    const way = await TcpProxy.to(host, port);
    way.refuse(true);
    try {
      await withApi(way.address, async (post) => {
        for (const reply of await Promise.all(asking().map(([path, body]) => post(path, body))))
          expectProblem(reply, 503, 'unavailable');
        way.refuse(false);
        expect((await post(asking()[0]![0])).status).toBe(202);
      });
    } finally {
      way.close();
    }
  }, 60_000);

  it('is not needed for a cancellation, which the database decides', async () => {
    await withApi('127.0.0.1:1', async (post) => {
      expect((await post(`/api/v1/deliveries/${deliveryId}/cancel`)).status).toBe(202);
    });
    expect(await db.prisma.delivery.findUniqueOrThrow({ where: { id: deliveryId } })).toMatchObject({
      status: 'cancelled',
    });
  }, 60_000);

  it('is not needed for a replay, which the schedule begins', async () => {
    const { id: subscriptionId } = await db.prisma.subscription.findFirstOrThrow();
    await withApi('127.0.0.1:1', async (post) => {
      const body = { subscriptionId, kind: 'all', since: '2026-01-01T00:00:00Z' };
      expect((await post('/api/v1/replays', body)).status).toBeLessThan(300);
    });
  }, 60_000);
});

function hostAndPort(address: string): [string, number] {
  const [host, port] = address.split(':');
  return [host!, Number(port)];
}
