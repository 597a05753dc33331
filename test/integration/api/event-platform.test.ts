import {
  AuditPage,
  EventConfig,
  EventConfigPage,
  EventDetail,
  EventPage,
  EventType,
  EventTypePage,
  PublishedBatch,
} from '../../../src/contracts/events';
import { DeliveryPage, Subscription, SubscriptionPage } from '../../../src/contracts/subscriptions';
import { expectProblem, TestApi } from './support';
import { deliver, tenantOf, type Tenant } from './tenant';

let api: TestApi;
beforeAll(async () => {
  api = await TestApi.start();
});
afterAll(() => api?.stop());

const newTenant = () => tenantOf(api);

describe('event types', () => {
  const schema = {
    type: 'object',
    properties: { total: { type: 'string' } },
    required: ['total'],
    additionalProperties: false,
  };

  it('are made, read, listed, changed and deleted; what is published is held to their schema', async () => {
    const tenant = newTenant();
    const made = await tenant.made('/event-types', {
      ...{ name: 'invoice.paid', description: 'An invoice is paid', schema, example: { total: '1.00' } },
    });
    const created = EventType.parse(made.body);
    expect(made.headers.get('location')).toBe('/api/v1/event-types/invoice.paid');
    expect(made.headers.get('etag')).toBe('"1"');
    expect(EventType.parse((await tenant.get('/event-types/invoice.paid')).body)).toEqual(created);
    expect(EventTypePage.parse((await tenant.get('/event-types')).body).items).toEqual([created]);

    const wrong = await tenant.call('POST', '/events', { type: 'invoice.paid', data: { total: 1 } });
    expect(expectProblem(wrong, 422, 'unprocessable').errors).toMatchObject([{ path: 'data.total' }]);
    await tenant.publish({ type: 'invoice.paid', data: { total: '5.00' } });

    const changed = await tenant.call(
      ...([
        'PATCH',
        '/event-types/invoice.paid',
        { schema: null, example: null },
        { 'if-match': '"1"' },
      ] as const),
    );
    expect(EventType.parse(changed.body)).toMatchObject({
      ...{ schema: null, example: null, version: 2, description: 'An invoice is paid' },
    });
    expect(changed.headers.get('etag')).toBe('"2"');
    await tenant.publish({ type: 'invoice.paid', data: { anything: true } });

    expect((await tenant.call('DELETE', '/event-types/invoice.paid')).status).toBe(204);
    expectProblem(await tenant.get('/event-types/invoice.paid'), 404, 'not_found');
    const gone = await tenant.call('POST', '/events', { type: 'invoice.paid', data: {} });
    expect(expectProblem(gone, 422, 'unprocessable').errors).toMatchObject([{ path: 'type' }]);
  });

  it('are refused when they exist, are remit’s own, or when schema and example are none', async () => {
    const tenant = newTenant();
    await tenant.type('invoice.paid');
    const post = (body: object) => tenant.call('POST', '/event-types', body);
    expectProblem(await post({ name: 'invoice.paid' }), 409, 'conflict');
    expectProblem(await post({ name: 'Remit.payment.mine' }), 422, 'unprocessable');
    expectProblem(await post({ name: 'Invoice Paid' }), 400, 'invalid_request');
    const unsound = expectProblem(
      await post({ name: 'a.b', schema: { type: 'thing' } }),
      400,
      'invalid_request',
    );
    expect(unsound.errors).toMatchObject([{ path: 'schema' }]);
    const unfit = expectProblem(await post({ name: 'a.b', schema, example: {} }), 400, 'invalid_request');
    expect(unfit.errors[0]?.path).toMatch(/^example/);
  });
});

describe('event configs', () => {
  it('are made, read, listed, changed and deleted, for remit’s own types too', async () => {
    const tenant = newTenant();
    const created = await tenant.config('remit.payment.succeeded', {
      scheduleMs: [0, 1_000],
      retentionDays: 7,
    });
    expect(created).toMatchObject({ enabled: true, ordered: false, timeoutMs: null, version: 1 });
    const path = '/event-configs/remit.payment.succeeded';
    expect(EventConfig.parse((await tenant.get(path)).body)).toEqual(created);
    expect(EventConfigPage.parse((await tenant.get('/event-configs')).body).items).toEqual([created]);
    expectProblem(
      await tenant.call('POST', '/event-configs', { eventType: 'remit.payment.succeeded' }),
      409,
      'conflict',
    );
    const changed = await tenant.call(
      'PATCH',
      path,
      { scheduleMs: null, ordered: true },
      { 'if-match': '"1"' },
    );
    expect(EventConfig.parse(changed.body)).toMatchObject({
      ...{ scheduleMs: null, ordered: true, retentionDays: 7, version: 2 },
    });
    expect((await tenant.call('DELETE', path, undefined, { 'if-match': '"2"' })).status).toBe(204);
    expectProblem(await tenant.get(path), 404, 'not_found');
  });
});

describe('a change of what somebody else has changed', () => {
  it.each([
    [
      'event type',
      (tenant: Tenant) => tenant.type('invoice.paid'),
      '/event-types/invoice.paid',
      { description: 'x' },
    ],
    [
      'event config',
      (tenant: Tenant) => tenant.config('invoice.paid'),
      '/event-configs/invoice.paid',
      { ordered: true },
    ],
    ['subscription', (tenant: Tenant) => tenant.subscribe(), undefined, { description: 'x' }],
  ] as const)(
    'of a %s is refused: 412 with an old ETag, 428 without one',
    async (_what, make, fixed, change) => {
      const tenant = newTenant();
      const made = await make(tenant);
      const path = fixed ?? `/subscriptions/${(made as { id: string }).id}`;
      expect((await tenant.get(path)).headers.get('etag')).toBe('"1"');
      const patch = (ifMatch?: string) =>
        tenant.call('PATCH', path, change, ifMatch === undefined ? {} : { 'if-match': ifMatch });
      expectProblem(await patch(), 428, 'precondition_required');
      expectProblem(await patch('1'), 400, 'invalid_request');
      expectProblem(await patch('W/"1"'), 412, 'precondition_failed');
      expect((await patch('"1"')).headers.get('etag')).toBe('"2"');
      expectProblem(await patch('"1"'), 412, 'precondition_failed');
      expect((await patch('"1", "2"')).status).toBe(200);
      expect((await patch('*')).status).toBe(200);
      // Of many that read the same version, one wins.
      const replies = await Promise.all(Array.from({ length: 5 }, () => patch('"4"')));
      expect(replies.map(({ status }) => status).sort()).toEqual([200, 412, 412, 412, 412]);
      expectProblem(
        await tenant.call('DELETE', path, undefined, { 'if-match': '"4"' }),
        412,
        'precondition_failed',
      );
      expect((await tenant.call('DELETE', path, undefined, { 'if-match': '"5"' })).status).toBe(204);
    },
  );
});

describe('lists', () => {
  /** Follows the cursors to the end, in pages of `limit`. */
  async function all<T extends { items: { id?: string }[]; nextCursor: string | null }>(
    tenant: Tenant,
    path: string,
    schema: { parse(body: unknown): T },
    limit: number,
  ): Promise<T['items'][]> {
    const pages: T['items'][] = [];
    for (let cursor: string | null = ''; cursor !== null;) {
      const query = `limit=${limit}${cursor === '' ? '' : `&cursor=${cursor}`}`;
      const page: T = schema.parse(
        (await tenant.get(`${path}${path.includes('?') ? '&' : '?'}${query}`)).body,
      );
      pages.push(page.items);
      cursor = page.nextCursor;
      expect(pages.length).toBeLessThan(20);
    }
    return pages;
  }

  it('of events are read page by page, newest first, and filtered', async () => {
    const tenant = newTenant();
    await tenant.type('invoice.paid');
    await tenant.type('invoice.void');
    const batch = await tenant.made('/events/batch', {
      // One transaction, one time: the ids break the tie.
      events: Array.from({ length: 7 }, (_, n) => ({ id: `c${n}`, type: 'invoice.paid', data: { n } })),
    });
    const { items } = PublishedBatch.parse(batch.body);
    const before = new Date();
    await new Promise((resolve) => setTimeout(resolve, 5));
    const last = await tenant.publish({ type: 'invoice.void', data: {} });
    const pages = await all(tenant, '/events', EventPage, 3);
    expect(pages.map((page) => page.length)).toEqual([3, 3, 2]);
    expect(pages[0]![0]!.id).toBe(last.id);
    expect(
      pages
        .flat()
        .map(({ id }) => id)
        .sort(),
    ).toEqual([...items.map(({ id }) => id), last.id].sort());

    const ids = async (query: string) =>
      (await all(tenant, `/events?${query}`, EventPage, 50)).flat().map(({ id }) => id);
    expect(await ids('type=invoice.void')).toEqual([last.id]);
    expect(await ids('clientId=c3')).toEqual([items[3]!.id]);
    expect(await ids('source=remit')).toEqual([]);
    expect(await ids(`since=${before.toISOString()}`)).toEqual([last.id]);
    expect(await ids(`until=${before.toISOString()}`)).toHaveLength(7);
    expect(
      await ids(`until=${before.toISOString()}&type=invoice.paid&limit=2`.replace('&limit=2', '')),
    ).toHaveLength(7);
  });

  it('of deliveries are read page by page and filtered by what they have', async () => {
    const tenant = newTenant();
    await tenant.type('invoice.paid');
    const [one, other] = [await tenant.subscribe(), await tenant.subscribe()];
    const made: string[] = [];
    for (let n = 0; n < 5; n += 1) {
      const event = await tenant.publish({ type: 'invoice.paid', data: { n } });
      made.push(await deliver(api, tenant.name, one.id, event.id, n === 0 ? 'held' : 'delivered'));
      await deliver(api, tenant.name, other.id, event.id, 'exhausted');
    }
    expect((await all(tenant, '/deliveries', DeliveryPage, 4)).map((page) => page.length)).toEqual([4, 4, 2]);
    const of = async (query: string) => (await all(tenant, `/deliveries?${query}`, DeliveryPage, 2)).flat();
    expect((await of(`subscriptionId=${one.id}`)).map(({ id }) => id).sort()).toEqual([...made].sort());
    expect(await of('status=exhausted')).toHaveLength(5);
    expect(await of(`status=held&subscriptionId=${one.id}`)).toMatchObject([{ id: made[0], status: 'held' }]);
    expect(await of('eventType=invoice.void')).toEqual([]);
    expect(await of('since=2999-01-01T00:00:00Z')).toEqual([]);
    expect(await of('until=2999-01-01T00:00:00Z')).toHaveLength(10);
    const [held] = await of('status=held');
    const event = EventDetail.parse((await tenant.get(`/events/${held!.eventId}`)).body);
    expect(event.deliveryCounts).toEqual({ pending: 0, delivered: 0, exhausted: 1, cancelled: 0, held: 1 });
    expect(event.deliveries).toHaveLength(2);
  });

  it('of subscriptions are filtered by state', async () => {
    const tenant = newTenant();
    const [active, paused] = [await tenant.subscribe(), await tenant.subscribe()];
    expect((await tenant.call('POST', `/subscriptions/${paused.id}/pause`)).status).toBe(200);
    const of = async (query: string) =>
      SubscriptionPage.parse((await tenant.get(`/subscriptions?${query}`)).body).items;
    expect(await of('state=active')).toMatchObject([{ id: active.id, stateReason: null }]);
    expect(await of('state=paused')).toMatchObject([{ id: paused.id, stateReason: 'operator' }]);
    expect(await of('')).toHaveLength(2);
  });

  it.each([
    ['limit', 'limit=0'],
    ['limit', 'limit=x'],
    ['cursor', 'cursor=%25'],
    ['cursor', `cursor=${Buffer.from('["2026-01-01T00:00:00Z","x"]').toString('base64url')}`],
    ['status', 'status=done'],
    ['since', 'since=yesterday'],
    ['since', 'since=0000-01-01T00:00:00Z'],
    ['until', 'until=9999-12-31T23:59:59-14:00'],
    ['event', 'event=x'],
  ])('name the parameter %s of %s', async (path, query) => {
    const problem = expectProblem(await newTenant().get(`/deliveries?${query}`), 400, 'invalid_request');
    expect(problem.errors.map((error) => error.path)).toEqual([path]);
  });
});

describe('the secret of a subscription', () => {
  it('is in the answers that make it, and nowhere else: no read, no list, no audit record', async () => {
    const tenant = newTenant();
    const created = await tenant.subscribe({ headers: { 'X-Token': 'very-private-value' } });
    const path = `/subscriptions/${created.id}`;
    const rotated = await tenant.call('POST', `${path}/rotate-secret`);
    const { secret, previousSecretValidUntil } = rotated.body as Record<string, string>;
    expect(secret).toMatch(/^whsec_/);
    expect(secret).not.toBe(created.secret);
    expect(rotated.headers.get('etag')).toBe('"2"');
    const overlapMs = Date.parse(previousSecretValidUntil!) - Date.now();
    const configured = api.space.config.WEBHOOK_SECRET_OVERLAP_MS;
    expect(overlapMs).toBeGreaterThan(configured - 60_000);
    expect(overlapMs).toBeLessThanOrEqual(configured);
    const shown = await Promise.all([tenant.get(path), tenant.get('/subscriptions'), tenant.get('/audit')]);
    expect(Subscription.strict().parse(shown[0].body)).toMatchObject({
      headerNames: ['x-token'],
      version: 2,
    });
    const text = JSON.stringify(shown.map(({ body }) => body));
    for (const hidden of [created.secret, secret!, 'very-private-value']) expect(text).not.toContain(hidden);
    const leaked = await tenant.call('POST', `${path}/rotate-secret`, { overlapS: 0 }, { 'if-match': '"2"' });
    expect(leaked.body).toMatchObject({ previousSecretValidUntil: null });
    expectProblem(
      await tenant.call('POST', `${path}/rotate-secret`, {}, { 'if-match': '"2"' }),
      412,
      'precondition_failed',
    );
  });
});

describe('the audit log', () => {
  it('says who changed what, with before and after, newest first, and can be filtered', async () => {
    const tenant = newTenant();
    await tenant.type('invoice.paid');
    await tenant.call('PATCH', '/event-types/invoice.paid', { description: 'new' }, { 'if-match': '"1"' });
    await tenant.config('invoice.paid');
    const { id } = await tenant.subscribe();
    await tenant.call('PATCH', `/subscriptions/${id}`, { url: 'https://example.com/2' }, { 'if-match': '*' });
    await tenant.call('POST', `/subscriptions/${id}/rotate-secret`);
    await tenant.call('POST', `/subscriptions/${id}/pause`);
    await tenant.call('POST', `/subscriptions/${id}/resume`);
    await tenant.call('DELETE', `/subscriptions/${id}`);
    await tenant.call('DELETE', '/event-configs/invoice.paid');
    const read = async (query = '') => AuditPage.parse((await tenant.get(`/audit${query}`)).body).items;
    const records = await read();
    expect(records.map(({ action }) => action)).toEqual([
      ...['event_config.deleted', 'subscription.deleted', 'subscription.resumed', 'subscription.paused'],
      ...['subscription.secret_rotated', 'subscription.updated', 'subscription.created'],
      ...['event_config.created', 'event_type.updated', 'event_type.created'],
    ]);
    for (const record of records) expect(record).toMatchObject({ actor: 'token:admin' });
    expect(records.at(-2)).toMatchObject({
      cause: 'event_type:invoice.paid',
      details: { before: { description: '' }, after: { description: 'new' } },
    });
    expect(records[5]).toMatchObject({
      details: { before: { url: 'https://example.com/hook' }, after: { url: 'https://example.com/2' } },
    });
    expect(await read(`?cause=subscription:${id}`)).toHaveLength(6);
    expect(await read('?action=event_type.created')).toHaveLength(1);
    expect(await read('?kind=money')).toEqual([]);
    expect(await read('?actor=token:nobody')).toEqual([]);
    expect(await read(`?until=${records.at(-1)!.at}`)).toEqual([]);
    const first = AuditPage.parse((await tenant.get('/audit?limit=6')).body);
    const second = AuditPage.parse((await tenant.get(`/audit?limit=6&cursor=${first.nextCursor}`)).body);
    expect([...first.items, ...second.items]).toEqual(records);
    expect(second.nextCursor).toBeNull();
  });
});
