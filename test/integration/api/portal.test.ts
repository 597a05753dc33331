import { randomUUID } from 'node:crypto';
import { gzipSync } from 'node:zlib';
import { z } from 'zod';
import { allRoutes } from '../../../src/api/app';
import { PORTAL_ROUTES } from '../../../src/api/portal/routes';
import { takesIdempotencyKey } from '../../../src/api/routes/route';
import { PortalLink, PortalLinkCreated, PortalState } from '../../../src/contracts/portal';
import { createConsoleLink } from '../../../src/domain/console-sessions';
import { answerContext } from '../../../src/domain/idempotency';
import { createPortalLink, openPortalLink } from '../../../src/domain/portal-links';
import { createKeyring } from '../../../src/platform/secrets';
import { expectProblem, TestApi, type Reply } from './support';
import { deliver, tenantOf, type Tenant } from './tenant';

let api: TestApi;
let owner: Tenant;
let stranger: Tenant;
/** The subscriber’s own, its neighbour’s in the same tenant, and one of another tenant. */
let [own, second, neighbour, foreign] = ['', '', '', ''];
/** Events of the subscriber and the neighbour, of the neighbour alone, and of the other tenant. */
let [shared, theirs, elsewhere] = ['', '', ''];
let deliveries: { own: string; second: string; neighbour: string; foreign: string };

beforeAll(async () => {
  api = await TestApi.start();
  owner = tenantOf(api);
  stranger = tenantOf(api);
  const subscribe = async (tenant: Tenant, more: object = {}) => (await tenant.subscribe(more)).id;
  own = await subscribe(owner, {
    url: 'https://own.example.com/hook',
    ...{ uid: 'customer-17', labels: ['team:a'], metadata: { plan: 'gold' } },
  });
  second = await subscribe(owner, { labels: ['team:a'] });
  neighbour = await subscribe(owner, { url: 'https://neighbour.example.com/hook' });
  foreign = await subscribe(stranger, { uid: 'customer-17' });
  await Promise.all([owner, stranger].map((tenant) => tenant.type('invoice.paid')));
  const publish = async (tenant: Tenant, text: string) =>
    (await tenant.publish({ id: `client-${text}`, type: 'invoice.paid', data: { text } })).id;
  shared = await publish(owner, 'shared');
  theirs = await publish(owner, 'only-the-neighbour');
  elsewhere = await publish(stranger, 'another-tenant');
  const made = (tenant: Tenant, subscription: string, event: string) =>
    deliver(api, tenant.name, subscription, event, 'exhausted');
  deliveries = {
    own: await made(owner, own, shared),
    second: await made(owner, second, shared),
    neighbour: await made(owner, neighbour, shared),
    foreign: await made(stranger, foreign, elsewhere),
  };
  await made(owner, neighbour, theirs);
}, 120_000);
afterAll(() => api?.stop());

type Link = z.output<typeof PortalLinkCreated>;
type Headers = { cookie: string; 'x-csrf-token': string };

const database = () => api.running.context.database();
const make = async (more: object = {}): Promise<Link> =>
  PortalLinkCreated.parse((await owner.made('/portal-links', { subscriptionIds: [own], ...more })).body);
const codeOf = ({ url }: Link) => url.split('#')[1]!;
const open = (code: string, headers: Record<string, string> = {}) =>
  api.call('POST', '/portal/api/login', headers, { code });
const cookieOf = (reply: Reply) => (reply.headers.get('set-cookie') ?? '').split(';')[0]!;
const state = async (cookie: string) =>
  PortalState.parse((await api.call('GET', '/portal/api/session', { cookie })).body).session;
async function visit(more: object = {}): Promise<Headers & { link: Link }> {
  const link = await make(more);
  const cookie = cookieOf(await open(codeOf(link)));
  return { link, cookie, 'x-csrf-token': (await state(cookie))!.csrfToken };
}
const headersOf = ({ cookie, 'x-csrf-token': token }: Headers) => ({ cookie, 'x-csrf-token': token });
/** A call of the portal’s page. */
const portal = (headers: Headers, method: string, path: string, body?: unknown) =>
  api.call(method, `/portal/api/v1${path}`, headersOf(headers), body);

describe('an answer with a secret', () => {
  const keyed = (key: string) => ({ 'idempotency-key': key });
  const secretOf = ({ body }: Reply) => (body as { secret: string }).secret;
  const audited = async (action: string, id: string) =>
    ((await owner.get(`/audit?cause=subscription:${id}&action=${action}`)).body as { items: unknown[] }).items
      .length;

  it('that is seen in the portal is noted each time, also under one Idempotency-Key, and is the present one', async () => {
    const { id } = await owner.subscribe();
    const visitor = await visit({ subscriptionIds: [id] });
    const reveal = () =>
      api.call('POST', `/portal/api/v1/subscriptions/${id}/secret`, {
        ...headersOf(visitor),
        ...keyed('see'),
      });
    const first = await reveal();
    expect(secretOf(first)).toMatch(/^whsec_/);
    expect(secretOf(await reveal())).toBe(secretOf(first));
    expect(await audited('subscription.secret_viewed', id)).toBe(2);
    const rotated = await owner.call('POST', `/subscriptions/${id}/rotate-secret`, {});
    expect(secretOf(await reveal())).toBe(secretOf(rotated));
    await owner.call('DELETE', `/portal-links/${visitor.link.id}`);
    expectProblem(await reveal(), 401, 'unauthenticated');
  });

  it('of a creation or rotation is given again while it is the present one, and makes nothing new', async () => {
    const create = () =>
      owner.call(
        ...(['POST', '/subscriptions', { url: 'https://example.com/once', eventTypes: ['*'] }] as const),
        keyed('create'),
      );
    const [made, again] = [await create(), await create()];
    expect(again.body).toEqual(made.body);
    expect(again.headers.get('idempotency-replayed')).toBe('true');
    const { id } = made.body as { id: string };
    const rotate = (key: string) => owner.call('POST', `/subscriptions/${id}/rotate-secret`, {}, keyed(key));
    const [rotated, same] = [await rotate('one'), await rotate('one')];
    expect(secretOf(same)).toBe(secretOf(rotated));
    const last = await rotate('two');
    for (const refused of [await rotate('one'), await create()]) expectProblem(refused, 409, 'conflict');
    expect(secretOf(await rotate('two'))).toBe(secretOf(last));
    expect(await audited('subscription.secret_rotated', id)).toBe(2);
  });

  it('is in nothing that is kept for an Idempotency-Key', async () => {
    const { rows } = await database().pool.query<{ id: string; answer: Buffer }>(
      'SELECT operation_id AS id, answer FROM idempotency_keys WHERE answer IS NOT NULL AND tenant_id = $1',
      [owner.name],
    );
    const keyring = createKeyring(api.space.config);
    expect(rows.length).toBeGreaterThanOrEqual(4);
    for (const { id, answer } of rows)
      expect(keyring.decrypt(answer, answerContext(id))).not.toMatch(/whsec_|portal#/);
  });

  it('is what every route gives that the schema of its answer says so of', () => {
    const routes = [...allRoutes(), ...PORTAL_ROUTES.map(({ route }) => route)];
    const tells = ({ responses }: (typeof routes)[number]) =>
      Object.values(responses).some(
        ({ schema }) =>
          schema !== undefined &&
          /"(\w*secret|code|token|password)":\{"type":"string"/i.test(
            JSON.stringify(z.toJSONSchema(schema, { unrepresentable: 'any', io: 'output' })),
          ),
      );
    const names = (found: typeof routes) => [...new Set(found.map(({ operationId }) => operationId))].sort();
    const marked = names(routes.filter(({ answersSecret }) => answersSecret));
    // A link's secret is in its address.
    expect(marked).toEqual(
      [
        ...names(routes.filter((route) => takesIdempotencyKey(route) && tells(route))),
        'createPortalLink',
      ].sort(),
    );
    expect(marked).toEqual([
      ...['createPortalLink', 'createSubscription', 'revealSubscriptionSecret', 'rotateSubscriptionSecret'],
    ]);
  });
});

describe('a link to the portal', () => {
  it('opens once, with a cookie that no script reads and no other site sends, and is stored as a hash', async () => {
    const link = await make();
    expect(link.url).toBe(`${api.url}/portal#${codeOf(link)}`);
    const first = await open(codeOf(link));
    expect(first.status).toBe(204);
    expect(first.headers.get('set-cookie')).toMatch(
      /^remit_portal=[\w-]{43}; Max-Age=3600; Path=\/; Expires=[^;]+; HttpOnly; SameSite=Strict$/,
    );
    expectProblem(await open(codeOf(link)), 401, 'unauthenticated');
    const cookie = cookieOf(first);
    // The browser that has opened it may load the page anew, with the code still in its address.
    expect((await open(codeOf(link), { cookie })).status).toBe(204);
    expect(await state(cookie)).toMatchObject({ readOnly: false, brand: { name: null, colors: null } });
    const { rows } = await database().pool.query('SELECT * FROM portal_links WHERE id = $1', [link.id]);
    for (const secret of [codeOf(link), cookie.split('=')[1]!]) {
      expect(JSON.stringify(rows)).not.toContain(secret);
      expect(Object.values(rows[0] as object).map(String)).not.toContain(secret);
    }
  });

  it('is no use when it is too old, made up, or opened by another site’s page', async () => {
    const link = await make();
    await database().pool.query('UPDATE portal_links SET expires_at = now() WHERE id = $1', [link.id]);
    expectProblem(await open(codeOf(link)), 401, 'unauthenticated');
    expectProblem(await open('A'.repeat(43)), 401, 'unauthenticated');
    expectProblem(await open('short'), 400, 'invalid_request');
    const code = codeOf(await make());
    expectProblem(await open(code, { origin: 'https://evil.example' }), 403, 'forbidden');
    expectProblem(await open(code, { 'sec-fetch-site': 'cross-site' }), 403, 'forbidden');
    expect((await open(code)).status).toBe(204);
  });

  it('of two who open it at once, lets one in; and one that opens another loses the first', async () => {
    const code = codeOf(await make());
    const statuses = (await Promise.all([open(code), open(code)])).map(({ status }) => status);
    expect(statuses.sort()).toEqual([204, 401]);
    const { cookie } = await visit();
    const next = cookieOf(await open(codeOf(await make()), { cookie }));
    expect(await state(cookie)).toBeNull();
    expect(await state(next)).not.toBeNull();
    // A link that can't be opened lets nobody in, not even by what another one has opened.
    expectProblem(await open(code, { cookie: next }), 401, 'unauthenticated');
  });

  it('is made for the tenant’s own subscriptions alone, by id, uid or label', async () => {
    expect((await make({ subscriptionIds: ['customer-17', neighbour] })).subscriptionIds.sort()).toEqual(
      [own, neighbour].sort(),
    );
    const labelled = await owner.made('/portal-links', { label: 'team:a' });
    expect(PortalLinkCreated.parse(labelled.body).subscriptionIds.sort()).toEqual([own, second].sort());
    const refused = async (body: object, status: number, code: string) =>
      expectProblem(await owner.call('POST', '/portal-links', body), status, code);
    await refused({ subscriptionIds: [foreign] }, 404, 'not_found');
    await refused({ subscriptionIds: [own, 'sub_nobody'] }, 404, 'not_found');
    await refused({ label: 'team:b' }, 422, 'unprocessable');
    await refused({}, 400, 'invalid_request');
    await refused({ subscriptionIds: [own], label: 'team:a' }, 400, 'invalid_request');
    await refused({ subscriptionIds: [] }, 400, 'invalid_request');
    for (const wrong of [
      { expiresInS: 59 },
      { expiresInS: 8 * 86_400 },
      { sessionS: 86_401 },
      { sessionS: 1 },
      { brand: { color: 'red' } },
      { brand: { color: '#fff' } },
      { brand: { color: '#0b6e4f;}' } },
      { brand: { name: ' ' } },
      { brand: { name: 'a\u0000b' } },
    ])
      await refused({ subscriptionIds: [own], ...wrong }, 400, 'invalid_request');
    const { status } = await owner.call('POST', '/portal-links', { subscriptionIds: [own] }, {}, ['read']);
    expect(status).toBe(403);
  });

  it('is made once for an Idempotency-Key, and only its last code opens it', async () => {
    const ask = () =>
      owner.call('POST', '/portal-links', { subscriptionIds: [own] }, { 'idempotency-key': 'portal-1' });
    const [first, again] = [await ask(), await ask()].map((reply) => ({
      ...reply,
      link: PortalLinkCreated.parse(reply.body),
    })) as [Reply & { link: Link }, Reply & { link: Link }];
    expect(again.link).toEqual({ ...first.link, url: again.link.url });
    expect(again.headers.get('idempotency-replayed')).toBe('true');
    expectProblem(await open(codeOf(first.link)), 401, 'unauthenticated');
    expect((await open(codeOf(again.link))).status).toBe(204);
    expectProblem(await ask(), 409, 'conflict');

    // After a crash between the row and the answer, the operation runs again.
    const operationId = randomUUID();
    const by = { tenantId: owner.name, actor: 'token:test', correlationId: 'test' };
    const run = () =>
      createPortalLink(database(), by, {
        ...{ operationId, expiresInS: 60, sessionS: 300, readOnly: false },
        ...{ subscriptions: { refs: [own] }, brand: { name: null, color: null } },
      });
    const [lost, kept] = [await run(), await run()];
    expect(kept.link.id).toBe(lost.link.id);
    const opened = (code: string) =>
      openPortalLink(database(), { code, present: undefined, correlationId: 'test' });
    expect(await opened(lost.code)).toBeUndefined();
    expect(await opened(kept.code)).toMatchObject({ sessionS: 300 });
    await expect(run()).rejects.toMatchObject({ code: 'conflict' });
    const { rowCount } = await database().pool.query(
      "SELECT FROM audit_log WHERE cause = $1 AND action = 'portal_link.created'",
      [`portal_link:${operationId}`],
    );
    expect(rowCount).toBe(1);
  });

  it('ends with its session when it is revoked, which the audit log has, and which another tenant can’t', async () => {
    const visitor = await visit();
    const { id } = visitor.link;
    expect((await portal(visitor, 'GET', '/deliveries')).status).toBe(200);
    expectProblem(await stranger.call('DELETE', `/portal-links/${id}`), 404, 'not_found');
    expectProblem(await stranger.get(`/portal-links/${id}`), 404, 'not_found');
    expect((await stranger.get('/portal-links')).body).toEqual({ items: [], nextCursor: null });

    const read = PortalLink.parse((await owner.get(`/portal-links/${id}`)).body);
    expect(read).toMatchObject({ openedAt: expect.any(String) as string, revokedAt: null });
    expect(JSON.stringify((await owner.get('/portal-links')).body)).toContain(id);
    for (let times = 0; times < 2; times++)
      expect((await owner.call('DELETE', `/portal-links/${id}`)).status).toBe(204);
    expectProblem(await portal(visitor, 'GET', '/deliveries'), 401, 'unauthenticated');
    expect(await state(visitor.cookie)).toBeNull();
    expectProblem(await open(codeOf(visitor.link), headersOf(visitor)), 401, 'unauthenticated');

    const { body } = await owner.get(`/audit?cause=portal_link:${id}`);
    expect((body as { items: object[] }).items).toMatchObject([
      { action: 'portal_link.revoked', actor: 'token:admin' },
      { action: 'portal_link.opened', actor: `portal:${id}` },
      { action: 'portal_link.created', actor: 'token:admin' },
    ]);
  });

  it('lets in for as long as it says, and until the visitor leaves', async () => {
    const visitor = await visit({ sessionS: 300 });
    const endsAt = Date.parse((await state(visitor.cookie))!.endsAt);
    expect(Math.abs(endsAt - Date.now() - 300_000)).toBeLessThan(60_000);
    const ended = () =>
      database().pool.query('UPDATE portal_links SET session_ends_at = now() WHERE id = $1', [
        visitor.link.id,
      ]);
    await ended();
    expectProblem(await portal(visitor, 'GET', '/subscriptions'), 401, 'unauthenticated');
    const leaving = await visit();
    const leave = (headers: Record<string, string>) => api.call('POST', '/portal/api/logout', headers, {});
    expectProblem(await leave({ cookie: leaving.cookie }), 403, 'forbidden');
    expect((await leave(headersOf(leaving))).status).toBe(204);
    expect(await state(leaving.cookie)).toBeNull();
  });
});

describe('a session of the portal', () => {
  it('sees its subscriptions with their deliveries, attempts and events, and nothing of others in any answer', async () => {
    const visitor = await visit();
    const answers: string[] = [];
    const read = async (path: string) => {
      const reply = await portal(visitor, 'GET', path);
      expect({ path, status: reply.status }).toEqual({ path, status: 200 });
      answers.push(JSON.stringify(reply.body));
      return reply.body as { items: { id: string }[] };
    };
    const ids = async (path: string) => (await read(path)).items.map(({ id }) => id);
    expect(await ids('/subscriptions')).toEqual([own]);
    expect(await read(`/subscriptions/${own}`)).toMatchObject({
      ...{ id: own, url: 'https://own.example.com/hook', waiting: 0 },
      // What the tenant keeps for itself.
      ...{ uid: null, labels: [], metadata: {} },
    });
    expect(await ids('/deliveries')).toEqual([deliveries.own]);
    expect(await ids(`/deliveries?subscriptionId=${own}&status=exhausted&eventType=invoice.paid`)).toEqual([
      deliveries.own,
    ]);
    expect(await ids('/deliveries?status=pending')).toEqual([]);
    expect(await ids('/deliveries?since=2100-01-01T00:00:00Z')).toEqual([]);
    await read(`/deliveries/${deliveries.own}`);
    await read(`/deliveries/${deliveries.own}/attempts`);
    expect(await ids('/events')).toEqual([shared]);
    expect(await ids('/events?type=order.finished')).toEqual([]);
    expect(await read(`/events/${shared}`)).toMatchObject({
      ...{ id: shared, clientId: null, data: { text: 'shared' } },
      deliveryCounts: { exhausted: 1, delivered: 0 },
      deliveries: [{ id: deliveries.own }],
    });
    await read(`/statistics/attempts?subscriptionId=${own}`);

    const hidden = [
      ...[second, neighbour, foreign, theirs, elsewhere, 'neighbour.example.com', 'only-the-neighbour'],
      ...[deliveries.second, deliveries.neighbour, deliveries.foreign, 'customer-17', 'team:a', 'gold'],
      ...['another-tenant', 'client-shared'],
    ];
    for (const secret of hidden) expect(answers.join('\n')).not.toContain(secret);
  });

  it('pages through several subscriptions newest first, an event of several once', async () => {
    const visitor = await visit({ subscriptionIds: [own, second] });
    const all = async (path: string) => {
      const found: string[] = [];
      let cursor = '';
      for (let pages = 0; pages < 10; pages++) {
        const { body } = await portal(visitor, 'GET', `${path}?limit=1${cursor}`);
        const { items, nextCursor } = body as { items: { id: string }[]; nextCursor: string | null };
        found.push(...items.map(({ id }) => id));
        if (nextCursor === null) break;
        cursor = `&cursor=${nextCursor}`;
      }
      return found;
    };
    const listed = await all('/deliveries');
    expect(listed).toHaveLength(2);
    expect(listed.sort()).toEqual([deliveries.own, deliveries.second].sort());
    expect(await all('/events')).toEqual([shared]);
    expect((await portal(visitor, 'GET', `/events/${shared}`)).body).toMatchObject({
      deliveryCounts: { exhausted: 2 },
    });
    for (const cursor of ['x', Buffer.from('["2026-01-01T00:00:00Z","a"]').toString('base64url')])
      expectProblem(await portal(visitor, 'GET', `/deliveries?cursor=${cursor}`), 400, 'invalid_request');
  });

  it('finds nothing of another subscription or tenant, whatever ids it guesses', async () => {
    const visitor = await visit();
    const reads = [neighbour, foreign, second, 'customer-17', 'sub_nobody', ''].flatMap((id) => [
      `/subscriptions/${id || 'x'}`,
      `/deliveries?subscriptionId=${id || 'x'}`,
      `/statistics/attempts?subscriptionId=${id}`,
    ]);
    for (const path of [
      ...reads,
      '/statistics/attempts',
      ...[deliveries.neighbour, deliveries.foreign, randomUUID(), 'x'].flatMap((id) => [
        `/deliveries/${id}`,
        `/deliveries/${id}/attempts`,
      ]),
      ...[theirs, elsewhere, 'evt_nobody', "x'--"].map((id) => `/events/${encodeURIComponent(id)}`),
    ]) {
      const reply = await portal(visitor, 'GET', path);
      expect({ path, status: reply.status }).toEqual({ path, status: 404 });
    }
    for (const path of [
      ...[deliveries.neighbour, deliveries.foreign].flatMap((id) =>
        ['resend', 'try-now'].map((verb) => `/deliveries/${id}/${verb}`),
      ),
      ...[neighbour, foreign, 'customer-17'].flatMap((id) =>
        ['test', 'rotate-secret', 'secret'].map((verb) => `/subscriptions/${id}/${verb}`),
      ),
    ]) {
      const reply = await portal(visitor, 'POST', path);
      expect({ path, status: reply.status }).toEqual({ path, status: 404 });
    }
    const { rows } = await database().pool.query<{ version: number }>(
      'SELECT version FROM subscriptions WHERE id = ANY($1)',
      [[neighbour, foreign]],
    );
    expect(rows.map(({ version }) => version)).toEqual([1, 1]);
  });

  it('can call nothing but the few routes of the portal, below no address', async () => {
    const visitor = await visit({ subscriptionIds: [own, second] });
    const named = new Set(PORTAL_ROUTES.map(({ route }) => `${route.method} ${route.path}`));
    expect([...named].sort()).toEqual([
      'get /api/v1/deliveries',
      'get /api/v1/deliveries/:id',
      'get /api/v1/deliveries/:id/attempts',
      'get /api/v1/events',
      'get /api/v1/events/:id',
      'get /api/v1/statistics/attempts',
      'get /api/v1/subscriptions',
      'get /api/v1/subscriptions/:id',
      'post /api/v1/deliveries/:id/resend',
      'post /api/v1/deliveries/:id/try-now',
      'post /api/v1/subscriptions/:id/rotate-secret',
      'post /api/v1/subscriptions/:id/secret',
      'post /api/v1/subscriptions/:id/test',
    ]);
    const routes = allRoutes();
    expect(routes.length).toBeGreaterThan(70);
    const headers = headersOf(visitor);
    for (const { method, path, access, body } of routes) {
      const asked = path.replace(/:\w+/g, path.includes('/subscriptions/') ? own : deliveries.own);
      const verb = method.toUpperCase();
      const here = { route: `${method} ${path}` };
      if (!named.has(`${method} ${path}`)) {
        const below = await api
          .call(verb, `/portal${asked}`, headers, body ? {} : undefined)
          .catch(() => null);
        // What is not below /portal/api is the page, which holds nothing.
        if (path.startsWith('/api/'))
          expect({ ...here, status: below?.status }).toEqual({ ...here, status: 404 });
      }
      if (access === 'public') continue;
      const direct = await api.call(verb, asked, headers, body ? {} : undefined);
      expect({ ...here, status: direct.status }).toEqual({ ...here, status: 401 });
    }
    // Nor does the portal take what opens the API.
    const code = await createConsoleLink(
      database(),
      { tenantId: owner.name, subject: 'ayse', role: 'admin', platform: true },
      60_000,
    );
    const cookie = cookieOf(await api.call('POST', '/console/api/login', {}, { code }));
    expect((await api.call('GET', '/api/v1/subscriptions', { cookie })).status).toBe(200);
    expect((await api.call('GET', '/portal/api/v1/subscriptions', { cookie })).status).toBe(401);
    expect((await owner.get('/subscriptions')).status).toBe(200);
    const bearer = await api.withToken(
      { scopes: ['admin'], tenant: owner.name },
      'GET',
      '/portal/api/v1/subscriptions',
    );
    expect(bearer.status).toBe(401);
  });

  it('changes nothing without its CSRF token, for another session’s, or from another origin', async () => {
    const [visitor, other] = [await visit(), await visit()];
    const post = (headers: Record<string, string>) =>
      api.call('POST', `/portal/api/v1/subscriptions/${own}/rotate-secret`, headers, {});
    const good = headersOf(visitor);
    for (const headers of [
      { cookie: visitor.cookie },
      { ...good, 'x-csrf-token': other['x-csrf-token'] },
      { ...good, origin: 'https://evil.example' },
      { ...good, 'sec-fetch-site': 'cross-site' },
      { ...good, 'sec-fetch-site': 'same-site' },
    ])
      expectProblem(await post(headers), 403, 'forbidden');
    const cross = { cookie: visitor.cookie, 'sec-fetch-site': 'cross-site' };
    expectProblem(await api.call('GET', '/portal/api/v1/deliveries', cross), 403, 'forbidden');
    expectProblem(await api.call('GET', '/portal/api/session', cross), 403, 'forbidden');
    expect((await post({ ...good, origin: api.url, 'sec-fetch-site': 'same-origin' })).status).toBe(200);
  });

  it('only looks when its link is read-only', async () => {
    const visitor = await visit({ readOnly: true });
    expect((await state(visitor.cookie))!.readOnly).toBe(true);
    expect((await portal(visitor, 'GET', '/deliveries')).status).toBe(200);
    const acts = PORTAL_ROUTES.filter((each) => each.acts).map(({ route }) => route);
    expect(acts.every(({ method }) => method === 'post')).toBe(true);
    expect(PORTAL_ROUTES.filter(({ route }) => route.method !== 'get')).toHaveLength(acts.length);
    for (const { path } of acts) {
      const asked = path
        .replace('/api/v1', '')
        .replace(':id', path.includes('/subscriptions/') ? own : deliveries.own);
      expectProblem(await portal(visitor, 'POST', asked), 403, 'forbidden');
    }
  });

  it('sees the secret and rotates it, which the audit log has, and sends a test event', async () => {
    const visitor = await visit();
    const actor = `portal:${visitor.link.id}`;
    const secret = async () =>
      ((await portal(visitor, 'POST', `/subscriptions/${own}/secret`)).body as { secret: string }).secret;
    const before = await secret();
    expect(before).toMatch(/^whsec_/);
    const rotated = await portal(visitor, 'POST', `/subscriptions/${own}/rotate-secret`, { overlapS: 60 });
    const { secret: fresh } = rotated.body as { secret: string };
    expect(fresh).not.toBe(before);
    expect(await secret()).toBe(fresh);
    const { body } = await owner.get(`/audit?cause=subscription:${own}&actor=${actor}`);
    expect((body as { items: { action: string }[] }).items.map(({ action }) => action)).toEqual([
      'subscription.secret_viewed',
      'subscription.secret_rotated',
      'subscription.secret_viewed',
    ]);
    expect((await portal(visitor, 'POST', `/subscriptions/${own}/test`)).status).toBe(202);
  });

  it('loses a subscription that is deleted', async () => {
    const { id } = await owner.subscribe();
    const visitor = await visit({ subscriptionIds: [own, id] });
    const delivery = await deliver(api, owner.name, id, theirs, 'delivered');
    expect((await portal(visitor, 'GET', `/deliveries/${delivery}`)).status).toBe(200);
    await owner.call('DELETE', `/subscriptions/${id}`);
    for (const path of [`/subscriptions/${id}`, `/deliveries/${delivery}`, `/events/${theirs}`])
      expectProblem(await portal(visitor, 'GET', path), 404, 'not_found');
    expect((await portal(visitor, 'GET', '/subscriptions')).body).toMatchObject({ items: [{ id: own }] });
  });
});

describe('the portal’s page', () => {
  it('loads less than 200 kB of compressed script before its first screen', async () => {
    const html = await (await fetch(`${api.url}/portal`)).text();
    const seen = new Set<string>();
    const load = async (file: string): Promise<void> => {
      if (seen.has(file)) return;
      seen.add(file);
      const code = await (await fetch(`${api.url}/console/assets/${file}`)).text();
      // Whatever a file imports, and of what it loads later, the first screen and its plots.
      const later = /["'./]((?:subscriptions|health|plot|uPlot|table)[\w.-]*\.js)["']/g;
      const names = [/from\s*["']\.\/([\w.-]+\.js)["']/g, /import\s*["']\.\/([\w.-]+\.js)["']/g, later];
      for (const name of names) for (const [, next] of code.matchAll(name)) if (next) await load(next);
    };
    for (const [, file] of html.matchAll(/\/console\/assets\/([\w.-]+\.js)/g)) await load(file!);
    expect(seen.size).toBeGreaterThan(3);
    let bytes = 0;
    for (const file of seen) {
      const response = await fetch(`${api.url}/console/assets/${file}`, {
        headers: { 'accept-encoding': 'identity' },
      });
      if (response.ok) bytes += gzipSync(await response.text(), { level: 9 }).length;
    }
    expect(bytes).toBeGreaterThan(50_000);
    expect(bytes).toBeLessThan(200_000);
  });

  it('may be framed by nobody, as the console may not, until configuration names an origin', async () => {
    for (const page of ['/portal', '/portal/deliveries', '/portal/api/session', '/console']) {
      const { headers } = await fetch(api.url + page);
      expect(headers.get('content-security-policy')).toContain("frame-ancestors 'none'");
      expect(headers.get('x-frame-options')).toBe('DENY');
    }
  });

  it('may be framed by the origins that configuration names, with a cookie that goes along, CSRF held', async () => {
    const here = api;
    const framed = await TestApi.start({
      CONSOLE_URL: 'https://remit.example.com',
      PORTAL_FRAME_ORIGINS: 'https://app.example.com, https://other.example.com',
    });
    api = framed;
    try {
      for (const page of ['/portal', '/portal/events/x', '/portal/api/session']) {
        const { headers } = await fetch(framed.url + page);
        const policy = headers.get('content-security-policy')!;
        expect(policy).toMatch(
          /frame-ancestors https:\/\/app\.example\.com https:\/\/other\.example\.com(;|$)/,
        );
        expect(policy).not.toContain('unsafe');
        expect(headers.get('x-frame-options')).toBeNull();
      }
      const { headers } = await fetch(`${framed.url}/console`);
      expect(headers.get('content-security-policy')).toContain("frame-ancestors 'none'");
      expect(headers.get('x-frame-options')).toBe('DENY');

      const tenant = tenantOf(framed);
      const { id } = await tenant.subscribe();
      const made = await tenant.made('/portal-links', { subscriptionIds: [id] });
      const link = PortalLinkCreated.parse(made.body);
      expect(link.url).toMatch(/^https:\/\/remit\.example\.com\/portal#/);
      const opened = await open(codeOf(link));
      expect(opened.headers.get('set-cookie')).toMatch(
        /^__Host-remit_portal=[\w-]{43}; Max-Age=3600; Path=\/; Expires=[^;]+; HttpOnly; Secure; Partitioned; SameSite=None$/,
      );
      const cookie = cookieOf(opened);
      const token = (await state(cookie))!.csrfToken;
      const test = (more: Record<string, string>) =>
        framed.call('POST', `/portal/api/v1/subscriptions/${id}/test`, { cookie, ...more });
      expectProblem(await test({}), 403, 'forbidden');
      // The page that frames it can't act either.
      const embedding = { origin: 'https://app.example.com', 'x-csrf-token': token };
      expectProblem(await test(embedding), 403, 'forbidden');
      const itself = { origin: 'https://remit.example.com', 'x-csrf-token': token };
      expect((await test({ ...itself, 'sec-fetch-site': 'same-origin' })).status).toBe(202);
    } finally {
      api = here;
      await framed.stop();
    }
  }, 60_000);
});
