import { randomUUID } from 'node:crypto';
import {
  Delivery,
  DeliveryAttempts,
  DeliveryPage,
  Subscription,
  SubscriptionCreated,
  SubscriptionPage,
} from '../../../src/contracts/subscriptions';
import { recordAttempt } from '../../support/deliveries';
import { withDatabase } from '../../support/shared-stack';
import { expectProblem, TestApi } from './support';

let api: TestApi;
beforeAll(async () => {
  api = await TestApi.start({ SUBSCRIPTIONS_MAX_PER_TENANT: '3' });
});
afterAll(() => api?.stop());

let tenants = 0;
/** A tenant that no other test uses. */
const newTenant = () => ({ tenant: `tenant-${(tenants += 1)}` });
const wanted = (changed: object = {}) => ({
  url: 'https://example.com/hooks',
  eventTypes: ['remit.payment.succeeded', 'remit.order.*'],
  description: 'accounting',
  ...changed,
});
const create = async (tenant: { tenant: string }, changed: object = {}) =>
  SubscriptionCreated.parse(
    (await api.withToken(tenant, 'POST', '/api/v1/subscriptions', wanted(changed))).body,
  );

/** Writes a delivery as the money transactions do. */
async function deliver(tenant: string, subscriptionId: string, eventType: string): Promise<string> {
  const id = randomUUID();
  const eventId = `evt_${id.replaceAll('-', '')}`;
  await withDatabase(api.space.env['DATABASE_URL']!, async (client) => {
    await client.query('INSERT INTO webhook_events (id, tenant_id, type, body) VALUES ($1, $2, $3, $4)', [
      ...[eventId, tenant, eventType, '{}'],
    ]);
    await client.query(
      'INSERT INTO deliveries (id, tenant_id, event_id, subscription_id, event_type) VALUES ($1, $2, $3, $4, $5)',
      [id, tenant, eventId, subscriptionId, eventType],
    );
  });
  return id;
}

describe('subscriptions', () => {
  it('show their secret when they are made and never again', async () => {
    const tenant = newTenant();
    const reply = await api.withToken(tenant, 'POST', '/api/v1/subscriptions', wanted());
    expect(reply.status).toBe(201);
    const { secret, ...created } = SubscriptionCreated.parse(reply.body);
    expect(secret).toMatch(/^whsec_[A-Za-z0-9+/]{32,}=*$/);
    expect(created).toMatchObject({ ...wanted(), state: 'active' });
    expect(reply.headers.get('location')).toBe(`/api/v1/subscriptions/${created.id}`);
    const read = await api.withToken(tenant, 'GET', `/api/v1/subscriptions/${created.id}`);
    expect(Subscription.strict().parse(read.body)).toEqual({ ...created, waiting: 0 });
    const list = await api.withToken(tenant, 'GET', '/api/v1/subscriptions');
    expect(SubscriptionPage.parse(list.body).items).toEqual([created]);
    expect(JSON.stringify([read.body, list.body])).not.toContain(secret);
  });

  it('are gone when they are deleted', async () => {
    const tenant = newTenant();
    const { id } = await create(tenant);
    const path = `/api/v1/subscriptions/${id}`;
    const deleted = await api.withToken(tenant, 'DELETE', path);
    expect([deleted.status, deleted.body]).toEqual([204, undefined]);
    expectProblem(await api.withToken(tenant, 'GET', path), 404, 'not_found');
    expectProblem(await api.withToken(tenant, 'DELETE', path), 404, 'not_found');
    expect((await api.withToken(tenant, 'GET', '/api/v1/subscriptions')).body).toMatchObject({ items: [] });
  });

  it('of one tenant can’t be seen or deleted by another', async () => {
    const [owner, stranger] = [newTenant(), newTenant()];
    const { id } = await create(owner);
    const path = `/api/v1/subscriptions/${id}`;
    expectProblem(await api.withToken(stranger, 'GET', path), 404, 'not_found');
    expectProblem(await api.withToken(stranger, 'DELETE', path), 404, 'not_found');
    expect((await api.withToken(owner, 'GET', path)).status).toBe(200);
  });

  it('are limited in number for a tenant', async () => {
    const tenant = newTenant();
    for (let index = 0; index < 3; index += 1) await create(tenant);
    const reply = await api.withToken(tenant, 'POST', '/api/v1/subscriptions', wanted());
    expectProblem(reply, 422, 'unprocessable');
  });

  it('are listed page by page', async () => {
    const tenant = newTenant();
    const made = [await create(tenant), await create(tenant), await create(tenant)];
    const page = async (query: string) =>
      SubscriptionPage.parse(
        (await api.withToken(tenant, 'GET', `/api/v1/subscriptions?limit=2${query}`)).body,
      );
    const first = await page('');
    const second = await page(`&cursor=${first.nextCursor}`);
    expect([...first.items, ...second.items].map(({ id }) => id).sort()).toEqual(
      made.map(({ id }) => id).sort(),
    );
    expect(second.nextCursor).toBeNull();
  });

  it.each([
    ['url', { url: 'ftp://example.com' }],
    ['url', { url: 'example.com' }],
    ['url', { url: 'https://user:password@example.com' }],
    ['url', { url: 'http://169.254.169.254/latest/meta-data' }],
    ['url', { url: 'http://10.1.2.3/' }],
    ['url', { url: 'http://0x0a010203/' }],
    ['url', { url: 'http://[::ffff:10.0.0.1]/' }],
    ['url', { url: `https://example.com/${'x'.repeat(2_100)}` }],
    ['eventTypes', { eventTypes: [] }],
    ['eventTypes.0', { eventTypes: ['Payment..*'] }],
    ['eventTypes.1', { eventTypes: ['*', 'payment*'] }],
    ['description', { description: 'a\u0000' }],
    ['secret', { secret: 'whsec_mine' }],
  ])('name the field %s of %j', async (path, changed) => {
    const reply = await api.withToken(newTenant(), 'POST', '/api/v1/subscriptions', wanted(changed));
    expect(expectProblem(reply, 400, 'invalid_request').errors.map((error) => error.path)).toEqual([path]);
  });
});

describe('deliveries', () => {
  it('are listed by subscription, event type and status, and read with every attempt', async () => {
    const tenant = newTenant();
    const { id: subscription } = await create(tenant);
    const { id: other } = await create(tenant);
    const failed = await deliver(tenant.tenant, subscription, 'remit.payment.succeeded');
    await deliver(tenant.tenant, subscription, 'remit.order.finished');
    await deliver(tenant.tenant, other, 'remit.order.finished');
    for (const attempt of [1, 2])
      await recordAttempt(api.running.context.database(), {
        ...{ deliveryId: failed, attempt, startedAt: new Date(), durationMs: 12, result: 'http_error' },
        ...{ statusCode: 503, error: 'HTTP 503', responseBody: 'later' },
        ...{ status: attempt === 2 ? 'exhausted' : 'pending', gone: false, slowDown: false },
        ...{ retryAfterMs: null, nextAttemptAt: null, correlationId: 'correlation' },
      });

    const list = async (query: string) =>
      DeliveryPage.parse((await api.withToken(tenant, 'GET', `/api/v1/deliveries?${query}`)).body).items;
    expect(await list('')).toHaveLength(3);
    expect(await list(`subscriptionId=${subscription}`)).toHaveLength(2);
    expect(await list('eventType=remit.order.finished')).toHaveLength(2);
    expect((await list('status=exhausted')).map(({ id }) => id)).toEqual([failed]);
    const [found] = await list(`subscriptionId=${subscription}&status=exhausted`);
    expect(await list(`eventId=${found!.eventId}`)).toEqual([found]);

    const read = await api.withToken(tenant, 'GET', `/api/v1/deliveries/${failed}`);
    expect(Delivery.parse(read.body)).toMatchObject({
      status: 'exhausted',
      attempts: 2,
      lastStatusCode: 503,
    });
    const attempts = await api.withToken(tenant, 'GET', `/api/v1/deliveries/${failed}/attempts`);
    expect(DeliveryAttempts.parse(attempts.body).items).toMatchObject([
      { attempt: 1, result: 'http_error', statusCode: 503, responseBody: 'later', durationMs: 12 },
      { attempt: 2 },
    ]);
  });

  it('of another tenant, or that do not exist, are not found', async () => {
    const [owner, stranger] = [newTenant(), newTenant()];
    const { id: subscription } = await create(owner);
    const id = await deliver(owner.tenant, subscription, 'remit.order.finished');
    for (const path of [id, `${id}/attempts`])
      expectProblem(await api.withToken(stranger, 'GET', `/api/v1/deliveries/${path}`), 404, 'not_found');
    for (const path of ['x', randomUUID(), '%00', 'x/attempts'])
      expectProblem(await api.withToken(owner, 'GET', `/api/v1/deliveries/${path}`), 404, 'not_found');
    expect((await api.withToken(stranger, 'GET', '/api/v1/deliveries')).body).toMatchObject({ items: [] });
  });
});
