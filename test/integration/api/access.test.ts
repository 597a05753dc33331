import { randomUUID } from 'node:crypto';
import { allRoutes } from '../../../src/api/app';
import { scopeOf } from '../../../src/api/routes/route';
import { DeliveryPage } from '../../../src/contracts/subscriptions';
import { ReplayPage } from '../../../src/contracts/replays';
import { loadConfig } from '../../../src/platform/config';
import { mintToken } from '../../../src/operations/token';
import { nameInMidWindow } from '../../support/limits';
import { withDatabase } from '../../support/shared-stack';
import { expectProblem, newUser, TestApi, type Reply } from './support';
import { deliver, tenantOf, type Tenant } from './tenant';

const RATE = 400;
const WINDOW_MS = 3_600_000;

let api: TestApi;
beforeAll(async () => {
  api = await TestApi.start({
    API_RATE_LIMIT_REQUESTS: String(RATE),
    API_RATE_LIMIT_WINDOW_MS: String(WINDOW_MS),
  });
});
afterAll(() => api?.stop());

const newTenant = () => tenantOf(api);

describe('one tenant', () => {
  it('sees nothing of another: its things are not found, its lists are empty', async () => {
    const owner = newTenant();
    const stranger = newTenant();
    await owner.type('invoice.paid');
    await owner.config('invoice.paid');
    const subscription = await owner.subscribe();
    const event = await owner.publish({ id: 'client-1', type: 'invoice.paid', data: {} });
    const delivery = await deliver(api, owner.name, subscription.id, event.id, 'exhausted');
    const replay = randomUUID();
    await withDatabase(api.space.env['DATABASE_URL']!, (client) =>
      client.query(
        `INSERT INTO replays (id, tenant_id, subscription_id, kind, since, until, rate_per_second, actor)
         VALUES ($1, $2, $3, 'all', now(), now(), 1, 'token:test')`,
        [replay, owner.name, subscription.id],
      ),
    );

    const lists = [
      ...['/event-types', '/event-configs', '/subscriptions', '/events', '/deliveries', '/replays', '/audit'],
      ...[`/deliveries?subscriptionId=${subscription.id}`, `/deliveries?eventId=${event.id}`],
      ...['/events?clientId=client-1', `/replays?subscriptionId=${subscription.id}`],
    ];
    for (const path of lists) {
      expect({ path, ...((await owner.get(path)).body as { items: unknown[] }) }).not.toMatchObject({
        items: [],
      });
      expect({ path, body: (await stranger.get(path)).body }).toEqual({
        path,
        body: { items: [], nextCursor: null },
      });
    }

    const sub = `/subscriptions/${subscription.id}`;
    const any = { 'if-match': '*' };
    const hidden = [
      ...['/event-types/invoice.paid', '/event-configs/invoice.paid', sub, `/events/${event.id}`].map(
        (path) => ['GET', path] as const,
      ),
      ...[`/deliveries/${delivery}`, `/deliveries/${delivery}/attempts`, `/replays/${replay}`].map(
        (path) => ['GET', path] as const,
      ),
      ...['/event-types/invoice.paid', '/event-configs/invoice.paid', sub].map(
        (path) => ['DELETE', path] as const,
      ),
      ...['rotate-secret', 'test', 'pause', 'resume'].map((verb) => ['POST', `${sub}/${verb}`] as const),
      ...['resend', 'try-now', 'cancel'].map((verb) => ['POST', `/deliveries/${delivery}/${verb}`] as const),
      ...['pause', 'resume', 'cancel'].map((verb) => ['POST', `/replays/${replay}/${verb}`] as const),
      ['PATCH', '/event-types/invoice.paid', { description: 'x' }, any] as const,
      ['PATCH', '/event-configs/invoice.paid', { ordered: true }, any] as const,
      ['PATCH', sub, { description: 'x' }, any] as const,
      [
        'POST',
        '/replays',
        { subscriptionId: subscription.id, kind: 'all', since: '2026-01-01T00:00:00Z' },
      ] as const,
    ];
    for (const request of hidden)
      expectProblem(
        await stranger.call(...(request as unknown as Parameters<Tenant['call']>)),
        404,
        'not_found',
      );

    // The same names and ids are free for it, and are other things.
    await stranger.type('invoice.paid');
    const own = await stranger.publish({ id: 'client-1', type: 'invoice.paid', data: {} });
    expect(own).toMatchObject({ duplicate: false });
    expect(own.id).not.toBe(event.id);
    expect((await owner.get(sub)).body).toMatchObject({ state: 'active', version: 1 });
    expect(DeliveryPage.parse((await owner.get('/deliveries')).body).items).toMatchObject([
      { id: delivery, status: 'exhausted' },
    ]);
    expect(ReplayPage.parse((await owner.get('/replays?status=running')).body).items).toHaveLength(1);
  });
});

describe('every route behind a token', () => {
  const routes = allRoutes().filter(({ access }) => access === 'token');
  const WEAKER = {
    read: [],
    write: ['read'],
    topup: ['read', 'write'],
    admin: ['read', 'write', 'topup'],
    platform: ['read', 'write', 'topup', 'admin'],
  } as const;

  it('is refused without a token, and to a token with too little scope', async () => {
    expect(routes.length).toBeGreaterThan(30);
    for (const route of routes) {
      const method = route.method.toUpperCase();
      const path = route.path.replace(/:\w+/g, 'x');
      const body = route.body ? {} : undefined;
      const anonymous = await api.call(method, path, {}, body);
      expectProblem(anonymous, 401, 'unauthenticated');
      expect(anonymous.headers.get('www-authenticate')).toContain('Bearer');
      const scopes = [...WEAKER[scopeOf(route)]];
      expectProblem(await api.withToken({ tenant: 'scopes', scopes }, method, path, body), 403, 'forbidden');
    }
  });

  it('is open to a token with the scope, and for admin to every one of its tenant', async () => {
    const tenant = newTenant();
    const status = async (method: string, path: string, scopes: string[], body?: unknown) =>
      (await tenant.call(method, path, body, {}, scopes)).status;
    expect(await status('GET', '/subscriptions', ['read'])).toBe(200);
    expect(await status('GET', '/subscriptions', ['write'])).toBe(403);
    expect(await status('POST', '/event-types', ['write'], { name: 'a.b' })).toBe(403);
    expect(await status('POST', '/event-types', ['admin'], { name: 'a.b' })).toBe(201);
    expect(await status('POST', '/events', ['write'], { type: 'a.b', data: {} })).toBe(202);
    expect(await status('GET', '/audit', ['read', 'write'])).toBe(403);
    expect(await status('GET', '/audit', ['admin'])).toBe(200);
  });
});

describe('who may put money into an account', () => {
  const money = { amount: '1.00', currency: 'TRY' };
  const topUp = (headers: Record<string, string>) => api.call('POST', '/accounts/topup', headers, money);
  const bearer = async (scopes: string[], subject = newUser()) => {
    const request = { subject, scopes, expiresInS: 60 };
    return { authorization: `Bearer ${await mintToken(api.space.config, request)}` };
  };

  it('is, where users may not, a token with the scope for it alone, for the user that it names', async () => {
    const here = api;
    api = await TestApi.start({ USERS_MAY_TOP_UP: 'false' });
    try {
      const user = newUser();
      await api.asUser(user, 'POST', '/accounts', { currency: 'TRY' });
      expectProblem(await topUp({ 'x-user-id': user }), 401, 'unauthenticated');
      for (const scopes of [[], ['read', 'write']])
        expectProblem(await topUp({ 'x-user-id': user, ...(await bearer(scopes)) }), 403, 'forbidden');
      for (const scope of ['topup', 'admin'])
        expect(await topUp({ 'x-user-id': user, ...(await bearer([scope])) })).toMatchObject({ status: 200 });
      expect((await api.asUser(user, 'GET', '/accounts/balance')).body).toMatchObject({ balance: '2.00' });
      const own = await bearer(['topup'], user);
      expect(await topUp(own)).toMatchObject({ status: 200, body: { userId: user, balance: '3.00' } });
    } finally {
      await api.stop();
      api = here;
    }
  });

  it('is, on a local stack, every user for itself', async () => {
    const user = newUser();
    await api.asUser(user, 'POST', '/accounts', { currency: 'TRY' });
    expect((await topUp({ 'x-user-id': user })).status).toBe(200);
    for (const scopes of [[], ['write'], ['topup']])
      expect((await topUp(await bearer(scopes, user))).status).toBe(200);
    expectProblem(await topUp(await bearer(['read'], user)), 403, 'forbidden');
  });

  it('is nobody else by default', () => {
    expect(loadConfig({}, []).USERS_MAY_TOP_UP).toBe(false);
  });
});

describe('a tenant over its rate', () => {
  it('gets 429 with the rest of the window as Retry-After, and nobody else does', async () => {
    const greedy = tenantOf(
      api,
      nameInMidWindow(() => `greedy-${randomUUID()}`, WINDOW_MS),
    );
    let limited: Reply | undefined;
    for (let sent = 0; sent <= RATE && !limited; sent += 20) {
      const replies = await Promise.all(Array.from({ length: 20 }, () => greedy.get('/event-types/none')));
      limited = replies.find(({ status }) => status === 429);
    }
    expectProblem(limited!, 429, 'rate_limited');
    const retryAfterS = Number(limited!.headers.get('retry-after'));
    expect(retryAfterS).toBeGreaterThan(60);
    expect(retryAfterS).toBeLessThanOrEqual(3_600);
    expect(limited!.headers.get('ratelimit')).toContain('r=0');
    expect((await newTenant().get('/event-types')).status).toBe(200);
  });
});

describe('the documentation', () => {
  const page = async (path: string) => {
    const response = await fetch(api.url + path);
    return { response, text: await response.text() };
  };

  it('is a page to read and try the API, which loads nothing from elsewhere', async () => {
    const { response, text } = await page('/docs');
    expect(response.status).toBe(200);
    expect(response.headers.get('content-type')).toContain('text/html');
    expect(response.headers.get('content-security-policy')).toContain("default-src 'none'");
    const files = [...text.matchAll(/(?:src|href)="(\/[^"]+)"/g)].map(([, path]) => path!);
    expect(files.length).toBeGreaterThanOrEqual(3);
    for (const path of files) {
      const file = await page(path);
      expect({ path, status: file.response.status }).toEqual({ path, status: 200 });
      expect(file.text.length).toBeGreaterThan(50);
    }
    expect(text).not.toMatch(/(?:src|href)="(?:https?:)?\/\//);
  });

  it('is an OpenAPI 3.1 document that names every route that the server has', async () => {
    const { body } = await api.call('GET', '/openapi.json');
    const document = body as {
      openapi: string;
      paths: Record<string, Record<string, { operationId: string }>>;
    };
    expect(document.openapi).toMatch(/^3\.1/);
    const named = Object.values(document.paths).flatMap((methods) =>
      Object.values(methods).map(({ operationId }) => operationId),
    );
    expect(named.sort()).toEqual(
      allRoutes()
        .map(({ operationId }) => operationId)
        .sort(),
    );
    for (const route of allRoutes())
      expect(document.paths).toHaveProperty([route.path.replace(/:(\w+)/g, '{$1}'), route.method]);
  });
});
