import { existsSync } from 'node:fs';
import path from 'node:path';
import type { ConsoleState } from '../../../src/contracts/console';
import { createConsoleLink, type ConsoleUser } from '../../../src/domain/console-sessions';
import { returnPath } from '../../../src/api/console/return-path';
import { PROJECT_ROOT } from '../../../src/platform/project';
import { freePort } from '../../support/harness';
import { Issuer } from '../../support/issuer';
import { expectProblem, TestApi, type Reply } from './support';

const ADMIN: ConsoleUser = { tenantId: 'default', subject: 'ayse', role: 'admin', platform: true };
const IDLE_MS = 60_000;

let issuer: Issuer;
let api: TestApi;
let origin: string;

beforeAll(async () => {
  issuer = await Issuer.start();
  const port = await freePort();
  origin = `http://127.0.0.1:${port}`;
  api = await TestApi.start({
    API_PORT: String(port),
    AUTH_ISSUER: issuer.url,
    CONSOLE_URL: origin,
    CONSOLE_OIDC_CLIENT_ID: 'console',
    CONSOLE_ROLE_CLAIM: 'roles',
    CONSOLE_SESSION_IDLE_MS: String(IDLE_MS),
  });
});
afterAll(async () => {
  await api.stop();
  await issuer.close();
});

const database = () => api.running.context.database();
const cookieOf = (reply: Reply) => (reply.headers.get('set-cookie') ?? '').split(';')[0]!;
const link = (user: Partial<ConsoleUser> = {}, validMs = 60_000) =>
  createConsoleLink(database(), { ...ADMIN, ...user }, validMs);
const redeem = (code: string, headers: Record<string, string> = {}) =>
  api.call('POST', '/console/api/login', headers, { code });

/** A session's cookie and CSRF token. */
async function session(user: Partial<ConsoleUser> = {}): Promise<{ cookie: string; 'x-csrf-token': string }> {
  const cookie = cookieOf(await redeem(await link(user)));
  return { cookie, 'x-csrf-token': (await state(cookie)).session!.csrfToken };
}
const state = async (cookie: string) =>
  (await api.call('GET', '/console/api/session', { cookie })).body as ConsoleState;
const without = ({ cookie }: { cookie: string }) => ({ cookie });

describe('the console’s pages', () => {
  it('are led to from /, may run nothing of another host and may be framed by nobody', async () => {
    expect((await fetch(`${api.url}/`, { redirect: 'manual' })).headers.get('location')).toBe('/console');
    expect(existsSync(path.join(PROJECT_ROOT, 'dist/console/index.html'))).toBe(true);
    for (const page of ['/console', '/console/payments/anything', '/console/login']) {
      const response = await fetch(api.url + page);
      const html = await response.text();
      expect(response.status).toBe(200);
      const policy = response.headers.get('content-security-policy') ?? '';
      const nonce = /style-src 'self' 'nonce-([A-Za-z0-9+/=]+)'/.exec(policy)?.[1];
      expect(policy).toContain("default-src 'none'; script-src 'self';");
      expect(policy).toContain("frame-ancestors 'none'");
      expect(policy).not.toContain('unsafe');
      expect(policy).not.toMatch(/https?:/);
      expect(html).toContain(`content="${nonce}"`);
      expect(response.headers.get('x-frame-options')).toBe('DENY');
      expect(response.headers.get('cache-control')).toBe('no-store');
    }
  });

  it('come with compressed scripts that browsers may keep, and nothing else of the disk', async () => {
    const html = await (await fetch(`${api.url}/console`)).text();
    const script = /src="(\/console\/assets\/[^"]+\.js)"/.exec(html)![1]!;
    const response = await fetch(api.url + script, { headers: { 'accept-encoding': 'gzip, br' } });
    expect(response.headers.get('content-encoding')).toBe('br');
    expect(response.headers.get('cache-control')).toContain('immutable');
    const etag = response.headers.get('etag')!;
    expect((await fetch(api.url + script, { headers: { 'if-none-match': etag } })).status).toBe(304);
    for (const name of ['nothing.js', '..%2findex.html', '..%2f..%2fcli.js', '%2e%2e%2findex.html'])
      expect((await fetch(`${api.url}/console/assets/${name}`)).status).toBe(404);
  });

  it('load less than 200 kB of compressed script before the first screen', async () => {
    const html = await (await fetch(`${api.url}/console`)).text();
    const first = [...html.matchAll(/(?:src|href)="(\/console\/assets\/[^"]+\.js)"/g)].map(
      ([, file]) => file!,
    );
    const now = await scriptsOf('screens/now');
    const sizes = await Promise.all(
      [...new Set([...first, ...now])].map(async (file) => {
        const response = await fetch(api.url + file, { headers: { 'accept-encoding': 'gzip' } });
        const { byteLength } = await response.arrayBuffer();
        return Number(response.headers.get('content-length') ?? byteLength);
      }),
    );
    expect(first.length).toBeGreaterThan(0);
    expect(sizes.reduce((sum, size) => sum + size, 0)).toBeLessThan(200_000);
  });

  async function scriptsOf(_screen: string): Promise<string[]> {
    const html = await (await fetch(`${api.url}/console`)).text();
    const entry = /src="(\/console\/assets\/[^"]+\.js)"/.exec(html)![1]!;
    const code = await (await fetch(api.url + entry)).text();
    return [...code.matchAll(/assets\/(now-[\w-]+\.js|uPlot[\w.-]+\.js|plot-[\w-]+\.js)/g)].map(
      ([, name]) => `/console/assets/${name}`,
    );
  }
});

describe('a one-time link', () => {
  it('logs in once, with a cookie that no script reads and no other site sends', async () => {
    const code = await link();
    const first = await redeem(code);
    expect(first.status).toBe(204);
    expect(first.headers.get('set-cookie')).toMatch(
      /^remit_console=[\w-]{43}; Max-Age=\d+; Path=\/; Expires=[^;]+; HttpOnly; SameSite=Strict$/,
    );
    expectProblem(await redeem(code), 401, 'unauthenticated');
    const { session: found } = await state(cookieOf(first));
    expect(found).toMatchObject({ subject: 'ayse', tenant: 'default', role: 'admin', platform: true });
    const { rows } = await database().pool.query('SELECT id_hash FROM console_sessions');
    expect(JSON.stringify(rows)).not.toContain(cookieOf(first).split('=')[1]);
  });

  it('is no use when it is too old, made up, or sent by another site’s page', async () => {
    expectProblem(await redeem(await link({}, -1)), 401, 'unauthenticated');
    expectProblem(await redeem('A'.repeat(43)), 401, 'unauthenticated');
    expectProblem(await redeem('short'), 400, 'invalid_request');
    const code = await link();
    expectProblem(await redeem(code, { origin: 'https://evil.example' }), 403, 'forbidden');
    expectProblem(await redeem(code, { 'sec-fetch-site': 'cross-site' }), 403, 'forbidden');
    expect((await redeem(code)).status).toBe(204);
  });

  it('of two who use it at once, lets one in', async () => {
    const code = await link();
    const statuses = (await Promise.all([redeem(code), redeem(code)])).map(({ status }) => status);
    expect(statuses.sort()).toEqual([204, 401]);
  });
});

describe('a session', () => {
  const subscribe = { url: 'https://example.com/hooks', eventTypes: ['*'] };

  it('opens the API beside bearer tokens, and the audit log names who it was', async () => {
    const headers = await session();
    expect((await api.call('GET', '/api/v1/payments', without(headers))).status).toBe(200);
    const made = await api.call('POST', '/api/v1/subscriptions', headers, subscribe);
    expect(made.status).toBe(201);
    const { id } = made.body as { id: string };
    const audit = await api.call('GET', `/api/v1/audit?cause=subscription:${id}`, without(headers));
    expect(audit.body).toMatchObject({ items: [{ actor: 'console:ayse' }] });
  });

  it('changes nothing without its CSRF token, for another session’s, or from another origin', async () => {
    const headers = await session();
    const other = await session();
    const post = (extra: Record<string, string>) =>
      api.call('POST', '/api/v1/subscriptions', extra, subscribe);
    expectProblem(await post(without(headers)), 403, 'forbidden');
    expectProblem(await post({ ...headers, 'x-csrf-token': other['x-csrf-token'] }), 403, 'forbidden');
    expectProblem(await post({ ...headers, origin: 'https://evil.example' }), 403, 'forbidden');
    expectProblem(await post({ ...headers, origin: 'http://127.0.0.1:1' }), 403, 'forbidden');
    expectProblem(await post({ ...headers, 'sec-fetch-site': 'same-site' }), 403, 'forbidden');
    expectProblem(
      await api.call('GET', '/api/v1/payments', { ...without(headers), 'sec-fetch-site': 'cross-site' }),
      403,
      'forbidden',
    );
    expect((await post({ ...headers, origin, 'sec-fetch-site': 'same-origin' })).status).toBe(201);
  });

  it('may do what its role says, in its tenant, and sees the installation only where it was let', async () => {
    const viewer = await session({ role: 'viewer', platform: false });
    const operator = await session({ role: 'operator', platform: false });
    const elsewhere = await session({ tenantId: 'elsewhere', platform: false });
    const { id } = (await api.call('POST', '/api/v1/subscriptions', operator, subscribe)).body as {
      id: string;
    };
    const status = async (method: string, where: string, headers: Record<string, string>) =>
      (await api.call(method, where, headers)).status;
    expect(await status('POST', `/api/v1/subscriptions/${id}/pause`, viewer)).toBe(403);
    expect(await status('GET', '/api/v1/audit', operator)).toBe(403);
    expect(await status('GET', '/api/v1/dead-letters', elsewhere)).toBe(403);
    expect(await status('GET', '/api/v1/dead-letters', await session({ role: 'viewer' }))).toBe(200);
    expect(await status('GET', `/api/v1/subscriptions/${id}`, viewer)).toBe(200);
    expect(await status('GET', `/api/v1/subscriptions/${id}`, elsewhere)).toBe(404);
    expect(await status('POST', `/api/v1/subscriptions/${id}/pause`, elsewhere)).toBe(404);
    expect((await api.call('GET', '/orders', without(viewer))).status).toBe(401);
  });

  it('ends when it is logged out, everywhere when asked, and with it every request', async () => {
    const [here, there, another] = [await session(), await session(), await session({ subject: 'bora' })];
    const logout = (headers: Record<string, string>, everywhere: boolean) =>
      api.call('POST', '/console/api/logout', headers, { everywhere });
    expectProblem(await logout(without(here), false), 403, 'forbidden');
    expect((await logout(here, false)).status).toBe(204);
    expectProblem(await api.call('GET', '/api/v1/payments', without(here)), 401, 'unauthenticated');
    expect((await state(there.cookie)).session).not.toBeNull();
    await logout(there, true);
    expect((await state(there.cookie)).session).toBeNull();
    expect((await state(another.cookie)).session?.subject).toBe('bora');
  });

  it('ends without use, goes on with it, and never lasts longer than it may', async () => {
    const { cookie } = await session({ subject: 'cem' });
    const move = (column: string, ms: number) =>
      database().pool.query(
        `UPDATE console_sessions SET ${column} = now() + $1 * interval '1 millisecond' WHERE subject = 'cem'`,
        [ms],
      );
    const remaining = async () => Date.parse((await state(cookie)).session!.expiresAt) - Date.now();
    await move('expires_at', IDLE_MS / 2);
    expect(await remaining()).toBeGreaterThan(IDLE_MS * 0.9);
    await move('ends_at', 5_000);
    await move('expires_at', 2_000);
    expect(await remaining()).toBeLessThanOrEqual(5_000);
    await move('expires_at', -1);
    expect((await state(cookie)).session).toBeNull();
  });
});

describe('a login at the issuer', () => {
  /** Follows the redirects as a browser would, with its cookies. */
  async function login(next?: string): Promise<{ location: string; cookie: string; setCookie: string }> {
    const begun = await fetch(
      `${api.url}/console/login/oidc${next === undefined ? '' : `?next=${encodeURIComponent(next)}`}`,
      { redirect: 'manual' },
    );
    expect(begun.status).toBe(303);
    const pending = begun.headers.get('set-cookie')!;
    expect(pending).toMatch(/HttpOnly; SameSite=Lax/);
    const atIssuer = await fetch(begun.headers.get('location')!, { redirect: 'manual' });
    const back = await fetch(atIssuer.headers.get('location')!, {
      redirect: 'manual',
      headers: { cookie: pending.split(';')[0]! },
    });
    const cookies = back.headers.getSetCookie();
    const own = cookies.find((each) => each.startsWith('remit_console=')) ?? '';
    return { location: back.headers.get('location')!, cookie: own.split(';')[0]!, setCookie: own };
  }
  beforeEach(() => {
    issuer.lies = {};
    issuer.claims = { sub: 'deniz', tenant: 'acme', roles: ['something', 'operator'] };
  });

  it('opens a session with the role and tenant that its claims name, and leads back to the page asked for', async () => {
    const { location, cookie, setCookie } = await login('/console/orders?status=NEW');
    expect(location).toBe('/console/orders?status=NEW');
    expect(setCookie).toMatch(/HttpOnly; SameSite=Strict/);
    expect((await state(cookie)).session).toMatchObject({
      subject: 'deniz',
      tenant: 'acme',
      role: 'operator',
      platform: false,
    });
    issuer.claims = { sub: 'deniz', roles: 'read platform' };
    expect((await state((await login()).cookie)).session).toMatchObject({
      tenant: 'default',
      role: 'viewer',
      platform: true,
    });
  });

  it.each([
    'https://evil.example',
    '//evil.example',
    '/\\evil.example',
    '/console/../docs',
    '/consolex',
    '/console\\@evil',
    '/console//evil',
    '/console/%2e%2e/x\r\nset-cookie: a',
  ])('leads nowhere but to the console, whatever it was asked: %s', async (next) => {
    const { location } = await login(next);
    const { origin: leadsTo, pathname } = new URL(location, origin);
    expect(leadsTo).toBe(origin);
    expect(pathname === '/console' || pathname.startsWith('/console/')).toBe(true);
    expect(returnPath(next)).toBe(location);
  });

  it('opens nothing for a user without a role, a forged answer, or a browser that did not begin it', async () => {
    const refused = async () => {
      const { location, cookie } = await login();
      expect(cookie).toBe('');
      return location;
    };
    issuer.claims = { sub: 'deniz', roles: ['nothing'] };
    expect(await refused()).toBe('/console/login?problem=forbidden');
    issuer.claims = { sub: 'deniz', roles: ['admin'] };
    for (const lies of [
      { nonce: 'other' },
      { aud: 'another-client' },
      { iss: 'https://evil.example' },
      { unsigned: true },
    ]) {
      issuer.lies = lies;
      expect(await refused()).toBe('/console/login?problem=unauthenticated');
    }
    issuer.lies = {};
    const begun = await fetch(`${api.url}/console/login/oidc`, { redirect: 'manual' });
    const atIssuer = await fetch(begun.headers.get('location')!, { redirect: 'manual' });
    const back = await fetch(atIssuer.headers.get('location')!, { redirect: 'manual' });
    expect(back.headers.get('location')).toBe('/console/login?problem=unauthenticated');
  });
});
