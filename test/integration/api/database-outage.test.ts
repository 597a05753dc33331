import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { allRoutes } from '../../../src/api/app';
import type { RawRoute, Route } from '../../../src/api/routes/route';
import { reconcile } from '../../../src/domain/reconciliation';
import type { Database } from '../../../src/platform/postgres';
import { startApi } from '../../../src/roles/api';
import { migrateClickHouse } from '../../../src/platform/clickhouse-migrations';
import { mintToken } from '../../../src/operations/token';
import {
  createTestSpace,
  eventually,
  openTestDatabase,
  runRoles,
  type TestSpace,
} from '../../support/harness';
import { CURRENCY, inspectLedger, SOUND, TENANT } from '../../support/money';
import { withDatabase } from '../../support/shared-stack';
import { TcpProxy, type CutTime } from '../../support/tcp-proxy';
import { expectProblem, type Reply } from './support';

/** Enough for any route; the loop ends where a request needs no more. */
const MAX_STATEMENTS = 40;
const ROUTES = allRoutes();
const newName = () => `made.x${randomUUID().replaceAll('-', '')}`;
const nameOf = ({ method, path }: Route | RawRoute) => `${method.toUpperCase()} ${path}`;

let space: TestSpace;
let way: TcpProxy;
let db: Database;
let api: { url: string; stop(): Promise<void> };
let token: string;
/** Things that exist, by the collection they are in. */
const known: Record<string, string> = {};

beforeAll(async () => {
  space = await createTestSpace({ topics: true, env: { IDEMPOTENCY_LEASE_MS: '500' } });
  await migrateClickHouse(space.config, space.log);
  way = await TcpProxy.toUrl(space.config.DATABASE_URL);
  db = openTestDatabase(space);
  api = await start({});
  token = await mintToken(space.config, {
    subject: 'operator',
    scopes: ['admin', 'platform'],
    expiresInS: 3_600,
  });
  const made = async (path: string, body: object, id = 'id') => {
    const { status, body: thing } = await send('POST', path, JSON.stringify(body));
    expect(status).toBe(201);
    known[path] = (thing as Record<string, string>)[id]!;
  };
  const money = { amount: '1000.00', currency: CURRENCY };
  const transaction = { userId: 'user123', provider: 'decard', amount: '1.00', currency: CURRENCY };
  known['/api/v1/accounts'] = ((await send('POST', '/accounts', '{}')).body as { id: string }).id;
  expect((await send('POST', '/accounts/topup', JSON.stringify(money))).status).toBe(200);
  await made('/orders', { ...money, amount: '1.00' });
  await made('/api/v1/payments', transaction);
  await made('/api/v1/payouts', transaction);
  await made('/api/v1/event-types', { name: 'invoice.paid' }, 'name');
  await made('/api/v1/event-configs', { eventType: 'invoice.paid' }, 'eventType');
  await made('/api/v1/subscriptions', { url: 'https://example.com/hook', eventTypes: ['*'] });
});
afterAll(async () => {
  await api?.stop();
  await db?.close();
  way?.close();
});

async function start(env: Partial<TestSpace['config']>): Promise<{ url: string; stop(): Promise<void> }> {
  const config = { ...space.config, DATABASE_URL: way.through(space.config.DATABASE_URL), ...env };
  const running = await runRoles({ ...space, config }, startApi);
  return { url: running.started.url, stop: () => running.stop() };
}

async function send(
  method: string,
  path: string,
  body?: string,
  headers: Record<string, string> = {},
): Promise<Reply> {
  const response = await fetch(api.url + path, {
    method,
    headers: {
      ...(path.startsWith('/api') ? { authorization: `Bearer ${token}` } : { 'x-user-id': 'user123' }),
      ...(body === undefined ? {} : { 'content-type': 'application/json' }),
      'if-match': '*',
      ...headers,
    },
    ...(body === undefined ? {} : { body }),
    signal: AbortSignal.timeout(20_000),
  });
  const text = await response.text();
  const json = /json/.test(response.headers.get('content-type') ?? '');
  return {
    status: response.status,
    headers: response.headers,
    body: json && text !== '' ? (JSON.parse(text) as unknown) : text,
  };
}

/** A request that the route accepts, with the example of its document as body and new names where names are unique. */
function request({ method, path, body }: Route | RawRoute): Promise<Reply> {
  const target = path.replace(/\/:\w+/, () => {
    const id = method === 'delete' ? undefined : known[path.slice(0, path.indexOf('/:'))];
    return `/${id ?? randomUUID()}`;
  });
  const example = body?.meta()?.['example'] as Record<string, unknown> | undefined;
  const unique = { name: newName(), eventType: newName(), scheduleMs: [0] };
  const fresh = Object.fromEntries(
    Object.entries(example ?? {}).map(([name, value]) => [
      name,
      name in unique && path.startsWith('/api/v1/event-') ? unique[name as keyof typeof unique] : value,
    ]),
  );
  const user: Record<string, string> = path === '/accounts' ? { 'x-user-id': `user-${randomUUID()}` } : {};
  return send(method.toUpperCase(), target, body ? JSON.stringify(fresh) : undefined, user);
}

/** No route may say anything else of a lost connection, and none may take it for an answer. */
function expectHonest(reply: Reply, sound: number[]): void {
  if (reply.status !== 503) return expect(sound).toContain(reply.status);
  expect(reply.headers.get('retry-after')).toMatch(/^\d+$/);
  expectProblem(reply, 503, 'unavailable');
}

const withDatabaseRoutes = ROUTES.filter(
  ({ path }) => !['/healthz', '/readyz', '/metrics', '/api/v1/stream'].includes(path),
);

describe('a connection to PostgreSQL that breaks', () => {
  it.each(withDatabaseRoutes.map((route) => [nameOf(route), route] as const))(
    'at any statement of %s makes 503 with Retry-After at worst, and never ends the API',
    async (_name, route) => {
      const { status } = await request(route);
      expect(status).toBeLessThan(500);
      // What lies behind the first checks must have been reached, or nothing is tried here.
      if (route.body && route.access !== 'public' && !route.path.includes('/:'))
        expect([200, 201, 202, 404]).toContain(status);
      // Things that were made in spite of the lost answer are there when they are asked for again.
      const sound = [status, ...(route.method === 'get' ? [] : [200, 201, 202, 204, 409])];
      for (const time of ['before', 'after'] as CutTime[]) {
        for (let statement = 1; statement <= MAX_STATEMENTS; statement++) {
          way.cutAt(statement, time);
          const reply = await request(route);
          if (!way.wasCut) break;
          expectHonest(reply, sound);
          expect(statement).toBeLessThan(MAX_STATEMENTS);
        }
        way.disarm();
      }
      expect((await request(route)).status).toBeLessThan(500);
    },
  );

  it('under every route at once, again and again, ends no API and makes no 500', async () => {
    const seen = new Map<number, number>();
    let running = true;
    const killer = withDatabase(space.ownerUrl, async (client) => {
      while (running) {
        await client.query(
          `SELECT pg_terminate_backend(pid) FROM pg_stat_activity
            WHERE datname = current_database() AND pid <> pg_backend_pid() AND application_name = 'remit'`,
        );
        await sleep(100);
      }
    });
    const callers = Array.from({ length: 8 }, async (_, n) => {
      for (let round = 0; round < 2; round++)
        for (let i = 0; i < withDatabaseRoutes.length; i++) {
          const route = withDatabaseRoutes[(i * (n + 1) + n) % withDatabaseRoutes.length]!;
          const reply = await request(route);
          expect([nameOf(route), reply.status === 503 || reply.status < 500]).toEqual([nameOf(route), true]);
          seen.set(reply.status, (seen.get(reply.status) ?? 0) + 1);
        }
    });
    await Promise.all(callers).finally(() => (running = false));
    await killer;
    expect(seen.get(503)).toBeGreaterThan(0);
    expect(await inspectLedger(db)).toEqual(SOUND);
    const { clean } = await reconcile(db, { maxFindings: 5, days: 1, timeoutMs: 60_000 });
    expect(clean).toBe(true);
  }, 120_000);

  it('loses nothing and doubles nothing of what is asked for again under its Idempotency-Key', async () => {
    const user = { 'x-user-id': `user-${randomUUID()}` };
    expect((await send('POST', '/accounts', `{"currency":"${CURRENCY}"}`, user)).status).toBe(201);
    let asked = 0;
    for (const time of ['before', 'after'] as CutTime[])
      for (let statement = 1; ; statement++) {
        const headers = { ...user, 'idempotency-key': randomUUID() };
        const topUp = () =>
          send('POST', '/accounts/topup', `{"amount":"1.00","currency":"${CURRENCY}"}`, headers);
        way.cutAt(statement, time);
        const first = await topUp();
        asked += 1;
        if (!way.wasCut) {
          expect(first.status).toBe(200);
          break;
        }
        await eventually(async () => expect((await topUp()).status).toBe(200), 20_000);
      }
    way.disarm();
    expect(asked).toBeGreaterThan(4);
    const key = { tenantId: TENANT, userId: user['x-user-id'], currency: CURRENCY };
    const account = await db.prisma.account.findUniqueOrThrow({ where: { tenantId_userId_currency: key } });
    expect(account.balanceMinor).toBe(BigInt(asked) * 100n);
  });
});

describe('PostgreSQL that hangs', () => {
  let hanging: { url: string; stop(): Promise<void> };
  let healthy: typeof api;
  beforeAll(async () => {
    healthy = api;
    api = hanging = await start({
      DATABASE_CONNECT_TIMEOUT_MS: 500,
      DATABASE_STATEMENT_TIMEOUT_MS: 700,
      DATABASE_ANSWER_TIMEOUT_MS: 1_000,
      DATABASE_POOL_CONNECTIONS: 3,
      DATABASE_MONEY_POOL_CONNECTIONS: 3,
    });
  });
  afterAll(async () => {
    way.resume();
    await hanging?.stop();
    api = healthy;
  });

  const requests = () => [
    () => send('GET', '/accounts/balance'),
    () => send('POST', '/orders', '{"amount":"1.00"}'),
    () => send('POST', '/accounts/topup', '{"amount":"1.00"}'),
    () => send('POST', '/accounts/topup', '{"amount":"1.00"}', { 'idempotency-key': randomUUID() }),
    () => send('POST', '/api/v1/events', '{"type":"invoice.paid","data":{}}'),
    () => send('POST', '/api/v1/event-types', `{"name":"${newName()}"}`),
    () => send('GET', '/api/v1/reconciliation'),
  ];

  it('makes 503 in time for all who ask, readiness names it, and all is well at once when it goes on', async () => {
    for (const ask of requests()) expect((await ask()).status).toBeLessThan(400);
    way.stall();
    try {
      const replies = await Promise.all([...requests(), ...requests()].map((ask) => ask()));
      for (const reply of replies) expectHonest(reply, []);
      const ready = await fetch(`${api.url}/readyz`);
      expect(ready.status).toBe(503);
      const { dependencies } = (await ready.json()) as { dependencies: Record<string, string> };
      expect(dependencies).toMatchObject({
        postgres: expect.not.stringMatching(/^ok$/) as string,
        'postgres money pool': expect.not.stringMatching(/^ok$/) as string,
      });
    } finally {
      way.resume();
    }
    for (const ask of requests()) expect((await ask()).status).toBeLessThan(400);
    expect((await fetch(`${api.url}/readyz`)).status).toBe(200);
  }, 60_000);

  it('on the connections of one moment only costs no second request its time', async () => {
    await Promise.all(requests().map((ask) => ask()));
    way.lose();
    const first = await Promise.all(requests().map((ask) => ask()));
    expect(first.map(({ status }) => status)).toContain(503);
    for (const ask of requests()) expect((await ask()).status).toBeLessThan(400);
  }, 60_000);

  it('behind one lock makes 503 for those who need the locked rows, and for those who find no free connection', async () => {
    await withDatabase(space.ownerUrl, async (client) => {
      await client.query('BEGIN; LOCK TABLE accounts');
      const balance = () => send('GET', '/accounts/balance');
      const replies = await Promise.all(Array.from({ length: 12 }, balance));
      for (const reply of replies) expectHonest(reply, []);
      await client.query('ROLLBACK');
      expect((await balance()).status).toBe(200);
    });
  }, 60_000);
});
