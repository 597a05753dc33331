import path from 'node:path';
import type { Browser, Request } from 'playwright-core';
import { launchBrowser } from '../../support/browser';
import { freePort } from '../../support/harness';
import { startScript, type Child } from '../../support/processes';
import { TestApi } from '../../integration/api/support';
import { Tab } from './page';

const CLIENT_ID = 'remit-console';
const USERS = {
  deniz: { tenant: 'acme', roles: ['staff', 'operator'] },
  can: { tenant: 'acme', roles: ['viewer'] },
  ada: { roles: ['admin', 'platform'] },
  nobody: { roles: ['staff'] },
};

let api: TestApi;
let provider: Child;
let browser: Browser;
/** Another site than the console's, as browsers see it. */
let issuer: string;
let tab: Tab;

beforeAll(async () => {
  const [port, issuerPort] = [await freePort(), await freePort()];
  const console = `http://127.0.0.1:${port}`;
  issuer = `http://localhost:${issuerPort}`;
  [provider, browser, api] = await Promise.all([
    startScript(path.join(__dirname, '../../support/oidc-provider.mjs'), {
      ISSUER_URL: issuer,
      ISSUER_USERS: JSON.stringify(USERS),
      CLIENT_ID,
      CLIENT_REDIRECT_URI: `${console}/console/login/callback`,
    }),
    launchBrowser(),
    TestApi.start({
      API_PORT: String(port),
      AUTH_ISSUER: issuer,
      CONSOLE_URL: console,
      CONSOLE_OIDC_CLIENT_ID: CLIENT_ID,
      CONSOLE_ROLE_CLAIM: 'roles',
    }),
  ]);
}, 200_000);
afterAll(async () => {
  await browser?.close();
  await Promise.all([api?.stop(), provider?.stop()]);
});
beforeEach(async () => {
  tab = await Tab.open(browser, api.url, { origins: [issuer] });
});
afterEach(async () => {
  const { faults } = tab;
  await tab.close();
  expect(faults).toEqual([]);
});

/** From a page of the console to the issuer's form, and through it. */
async function login(name: keyof typeof USERS, where = '/orders'): Promise<void> {
  await tab.page.goto(`${tab.base}/console${where}`);
  await tab.page.getByRole('link', { name: `Continue at ${new URL(issuer).host}` }).click();
  await tab.page.getByRole('textbox', { name: 'Name' }).fill(name);
  await tab.page.getByRole('button', { name: 'Log in' }).click();
}
const arrived = (heading: string) => tab.page.getByRole('heading', { name: heading, exact: true }).waitFor();
const refused = async (why: string | RegExp) => {
  await arrived('Log in to the console');
  await tab.page.getByText(why).waitFor();
  expect(await sessionCookie()).toBeUndefined();
};
const sessionCookie = async () =>
  (await tab.context.cookies(tab.base)).find(({ name }) => name === 'remit_console')?.value;

/** What the console asks the issuer for, changed on its way there: the issuer answers what it was asked. */
async function onTheWayThere(change: (asks: URLSearchParams) => void): Promise<void> {
  await tab.page.route(`${tab.base}/console/login/oidc?*`, async (route) => {
    const response = await route.fetch({ maxRedirects: 0 });
    const to = new URL(response.headers()['location'] ?? '');
    change(to.searchParams);
    await route.fulfill({ response, headers: { ...response.headers(), location: to.toString() } });
  });
}

/** The addresses with which the issuer has sent the browser back so far. */
function callbacks(): string[] {
  const seen: string[] = [];
  tab.page.on('request', (request: Request) => {
    if (request.url().startsWith(`${tab.base}/console/login/callback?`)) seen.push(request.url());
  });
  return seen;
}

describe('a login at an OpenID Connect provider, in a browser', () => {
  it('goes by authorization code with PKCE, and leads back to the page that was asked for', async () => {
    const asked: URL[] = [];
    tab.page.on('request', (request: Request) => {
      if (request.url().startsWith(`${issuer}/auth?`)) asked.push(new URL(request.url()));
    });
    await login('deniz', '/orders?status=NEW');
    await arrived('Orders');
    expect(tab.page.url()).toBe(`${tab.base}/console/orders?status=NEW`);
    const asks = Object.fromEntries(asked[0]!.searchParams);
    expect(asks).toMatchObject({
      response_type: 'code',
      client_id: CLIENT_ID,
      code_challenge_method: 'S256',
    });
    for (const name of ['state', 'nonce', 'code_challenge']) expect(asks[name]).toMatch(/^[\w-]{43}$/);
    // What was needed for the login is gone with it; what is left no script can read and no other site sends.
    const cookies = await tab.context.cookies(`${tab.base}/console/login`);
    expect(cookies.map(({ name }) => name)).toEqual(['remit_console']);
    expect(cookies[0]).toMatchObject({ httpOnly: true, sameSite: 'Strict' });
  });

  it.each([
    ['deniz', 'operator', 'acme'],
    ['can', 'viewer', 'acme'],
    ['ada', 'admin of the installation', 'default'],
  ] as const)('gives %s the role and tenant that the claims name: %s', async (name, role, tenant) => {
    await login(name);
    await arrived('Orders');
    await tab.page.getByRole('button', { name: new RegExp(name) }).click();
    await tab.page.getByText(`${role}, tenant ${tenant}`).waitFor();
  });

  it('lets a viewer look and not act, whatever the page would send', async () => {
    await login('can');
    await arrived('Orders');
    const status = await tab.page.evaluate<number>(`(async () => {
      const { session } = await (await fetch('/console/api/session')).json();
      const answer = await fetch('/api/v1/subscriptions', {
        method: 'POST',
        headers: { 'content-type': 'application/json', 'x-csrf-token': session.csrfToken },
        body: JSON.stringify({ url: 'https://example.com/', eventTypes: ['*'] }),
      });
      return answer.status;
    })()`);
    expect(status).toBe(403);
    // Chromium notes every answer of that kind.
    expect(tab.faults.splice(0)).toEqual([expect.stringContaining('403')]);
  });

  it('ends by logging out: the cookie opens nothing any more', async () => {
    await login('deniz');
    await arrived('Orders');
    const cookie = await sessionCookie();
    expect(cookie).toBeDefined();
    await tab.page.getByRole('button', { name: /deniz/ }).click();
    await tab.page.getByRole('menuitem', { name: 'Log out', exact: true }).click();
    await arrived('Log in to the console');
    expect(await sessionCookie()).toBeUndefined();
    const kept = await api.call('GET', '/console/api/session', { cookie: `remit_console=${cookie}` });
    expect(kept.body).toMatchObject({ session: null });
    await tab.page.goto(`${tab.base}/console/payments`);
    await arrived('Log in to the console');
  });

  it('is refused to a user without a role here', async () => {
    await login('nobody');
    await refused(/gives you no role here/);
  });

  it.each([
    ['state is not the one that it began with', 'state'],
    ['ID token is for another nonce', 'nonce'],
    ['code was given for another challenge', 'code_challenge'],
  ])('is refused when the %s', async (_what, name) => {
    await onTheWayThere((asks) => asks.set(name, 'x'.repeat(43)));
    await login('ada');
    await refused(/was not finished in this browser/);
  });

  it('is refused when the code was used already', async () => {
    const seen = callbacks();
    await login('ada');
    await arrived('Orders');
    await tab.context.clearCookies({ name: 'remit_console' });
    // Begun again in this browser, so that all but the code fits.
    const begun = await tab.context.request.get(`${tab.base}/console/login/oidc`, { maxRedirects: 0 });
    const again = new URL(seen[0]!);
    again.searchParams.set('state', new URL(begun.headers()['location']!).searchParams.get('state')!);
    await tab.page.goto(again.toString());
    await refused(/was not finished in this browser/);
  });

  it('is refused to a browser that comes back without having begun it', async () => {
    const seen = callbacks();
    await login('ada');
    await arrived('Orders');
    const thief = await Tab.open(browser, api.url, { origins: [issuer] });
    await thief.page.goto(seen[0]!);
    await thief.page.getByText(/was not finished in this browser/).waitFor();
    expect(await thief.context.cookies(tab.base)).toEqual([]);
    expect(thief.faults).toEqual([]);
    await thief.close();
  });
});
