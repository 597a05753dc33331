import { randomUUID } from 'node:crypto';
import {
  Delivery,
  DeliveryAttempts,
  DeliveryPage,
  FoundAttempts,
  Subscription,
  SubscriptionCreated,
  SubscriptionPage,
} from '../../../src/contracts/subscriptions';
import { AttemptStatistics } from '../../../src/contracts/statistics';
import type { AttemptOutcome } from '../../../src/contracts/webhooks';
import { recordAttempts, type AttemptRecord } from '../../../src/domain/attempt-records';
import { recordAttempt, RULES } from '../../support/deliveries';
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

describe('attempts of all deliveries', () => {
  const HOUR = 3_600_000;
  /** Attempts that began so long after the hour, took so long and had such results, each of a delivery of its own. */
  async function attempted(
    tenantId: string,
    subscriptionId: string,
    hour: Date,
    attempts: readonly { durationMs: number; result?: AttemptOutcome }[],
    eventType = 'remit.order.finished',
  ): Promise<void> {
    const database = api.running.context.database();
    const { rows } = await database.pool.query<{ id: string }>(
      `INSERT INTO deliveries (tenant_id, event_id, subscription_id, event_type)
       SELECT $1, new_event_id(), $2, $3 FROM generate_series(1, $4) RETURNING id`,
      [tenantId, subscriptionId, eventType, attempts.length],
    );
    const records = attempts.map(({ durationMs, result = 'delivered' }, n) => {
      const startedAt = new Date(hour.getTime() + n * 1_000);
      const delivered = result === 'delivered';
      const record: AttemptRecord = {
        ...{ deliveryId: rows[n]!.id, attempt: 1, startedAt, durationMs, result },
        ...{ statusCode: delivered ? 204 : 500, error: delivered ? null : 'HTTP 500', responseBody: '' },
        ...{ status: delivered ? 'delivered' : 'exhausted', gone: false, slowDown: false },
        ...{ retryAfterMs: null, nextAttemptAt: null, correlationId: 'correlation' },
      };
      return { record, at: startedAt };
    });
    await recordAttempts(database, records, RULES);
  }
  const hourAgo = (n: number) => new Date((Math.floor(Date.now() / HOUR) - n) * HOUR);
  const figures = async (tenant: { tenant: string }, query: string) =>
    AttemptStatistics.parse(
      (await api.withToken(tenant, 'GET', `/api/v1/statistics/attempts?bucket=hour&${query}`)).body,
    ).items;

  it('make the figures of a subscription by hour: delivered, failed, p50 and p99', async () => {
    const tenant = newTenant();
    const one = await create(tenant, { uid: 'one' });
    const { id: other } = await create(tenant);
    // 1 to 100 ms, out of order, every tenth of which failed in one way or the other.
    await attempted(
      tenant.tenant,
      one.id,
      hourAgo(3),
      Array.from({ length: 100 }, (_, n) => ({
        durationMs: ((n * 37) % 100) + 1,
        ...(n % 20 === 0
          ? { result: 'timeout' as const }
          : n % 20 === 10
            ? { result: 'http_error' as const }
            : {}),
      })),
    );
    await attempted(tenant.tenant, one.id, hourAgo(1), [
      { durationMs: 30_000, result: 'timeout' },
      { durationMs: 10 },
      { durationMs: 20 },
    ]);
    await attempted(tenant.tenant, other, hourAgo(3), [{ durationMs: 77_777 }]);
    await attempted(newTenant().tenant, one.id, hourAgo(3), [{ durationMs: 88_888 }]);
    const since = `since=${hourAgo(5).toISOString()}`;
    const expected = [
      {
        ...{ at: hourAgo(3).toISOString(), attempts: 100, delivered: 90, failed: 10, p50Ms: 50, p99Ms: 99 },
        results: { delivered: 90, timeout: 5, http_error: 5 },
      },
      {
        ...{ at: hourAgo(1).toISOString(), attempts: 3, delivered: 2, failed: 1, p50Ms: 20, p99Ms: 30_000 },
        results: { delivered: 2, timeout: 1 },
      },
    ];
    expect(await figures(tenant, `subscriptionId=${one.id}&${since}`)).toEqual(expected);
    expect(await figures(tenant, `subscriptionId=one&${since}`)).toEqual(expected);
    expect(await figures(tenant, since)).toMatchObject([{ attempts: 101, p99Ms: 100 }, { attempts: 3 }]);
    expect(await figures(newTenant(), `subscriptionId=${one.id}&${since}`)).toEqual([]);
  });

  it('are found by subscription, type, outcome, result and time, page by page, and never by another tenant', async () => {
    const tenant = newTenant();
    const one = await create(tenant, { uid: 'one' });
    const { id: other } = await create(tenant);
    await attempted(tenant.tenant, one.id, hourAgo(2), [
      { durationMs: 1 },
      { durationMs: 2, result: 'timeout' },
      { durationMs: 3, result: 'http_error' },
      { durationMs: 4 },
    ]);
    await attempted(tenant.tenant, other, hourAgo(1), [{ durationMs: 5 }], 'remit.payment.succeeded');
    const find = async (query: string) =>
      FoundAttempts.parse((await api.withToken(tenant, 'GET', `/api/v1/attempts?${query}`)).body);
    const took = async (query: string) => (await find(query)).items.map(({ durationMs }) => durationMs);
    expect(await took('')).toEqual([5, 4, 3, 2, 1]);
    expect(await took('subscriptionId=one')).toEqual([4, 3, 2, 1]);
    expect(await took(`subscriptionId=${one.id}&outcome=delivered`)).toEqual([4, 1]);
    expect(await took('outcome=failed')).toEqual([3, 2]);
    expect(await took('result=timeout')).toEqual([2]);
    expect(await took('outcome=delivered&result=timeout')).toEqual([]);
    expect(await took('eventType=remit.payment.succeeded')).toEqual([5]);
    expect(await took(`since=${hourAgo(1).toISOString()}`)).toEqual([5]);
    expect(await took(`until=${hourAgo(1).toISOString()}&outcome=failed`)).toEqual([3, 2]);
    const pages: number[] = [];
    let cursor: string | null = '';
    while (cursor !== null) {
      const page = await find(`limit=2${cursor && `&cursor=${cursor}`}`);
      pages.push(...page.items.map(({ durationMs }) => durationMs));
      cursor = page.nextCursor;
    }
    expect(pages).toEqual([5, 4, 3, 2, 1]);
    const { items } = await find('result=timeout');
    expect(items).toMatchObject([
      { attempt: 1, subscriptionId: one.id, eventType: 'remit.order.finished', statusCode: 500 },
    ]);
    const read = await api.withToken(tenant, 'GET', `/api/v1/deliveries/${items[0]!.deliveryId}`);
    expect(Delivery.parse(read.body)).toMatchObject({ eventId: items[0]!.eventId });
    const stranger = await api.withToken(newTenant(), 'GET', `/api/v1/attempts?subscriptionId=${one.id}`);
    expect(stranger.body).toEqual({ items: [], nextCursor: null });
    for (const query of ['cursor=x', 'result=none', 'outcome=maybe', 'since=yesterday'])
      expectProblem(await api.withToken(tenant, 'GET', `/api/v1/attempts?${query}`), 400, 'invalid_request');
  });
});
