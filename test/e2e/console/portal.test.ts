import http from 'node:http';
import type { AddressInfo } from 'node:net';
import type { Browser, Frame } from 'playwright-core';
import { Webhook } from 'standardwebhooks';
import { createConsoleLink } from '../../../src/domain/console-sessions';
import { TestApi } from '../../integration/api/support';
import { launchBrowser } from '../../support/browser';
import { eventually, freePort } from '../../support/harness';
import { subscriber, type Subscriber } from '../../support/subscriber';
import { PHONE, Tab } from './page';

const PATIENCE_MS = 60_000;
const BRAND = { name: 'Acme Parcels', color: '#0b6e4f' };
/** In every event that the subscriber must not see. */
const SECRET = 'of-somebody-else';

let api: TestApi;
let browser: Browser;
let tab: Tab;
/** Pages of two other sites: one that may frame the portal, and one that may not. */
let host: Site;
let elsewhere: Site;
let mine: Subscriber;
/** While true, the subscriber answers 500. */
let failing = true;
let own: { id: string; secret: string };
let [neighbour, foreign] = ['', ''];
/** What the portal was answered, in all of its pages. */
const answers: string[] = [];

interface Site {
  origin: string;
  close(): void;
}
/** A site of its own to a browser: it goes by the name localhost, and remit by an address. */
async function site(): Promise<Site> {
  const server = http.createServer((request, response) => {
    const frame = new URL(request.url ?? '/', 'http://localhost').searchParams.get('frame') ?? '';
    response.writeHead(200, { 'content-type': 'text/html; charset=utf-8' }).end(
      `<!doctype html><html lang="en"><title>Host</title><link rel="icon" href="data:,"><h1>Your webhooks</h1>
       <iframe title="Portal" src="${frame}" style="width: 1200px; height: 660px; border: 0"></iframe></html>`,
    );
  });
  await new Promise<void>((done) => server.listen(0, '127.0.0.1', done));
  const { port } = server.address() as AddressInfo;
  return { origin: `http://localhost:${port}`, close: () => void server.close() };
}

const made = async (
  path: string,
  body: object,
  tenant = 'default',
): Promise<{ id: string; secret: string }> => {
  const reply = await api.withToken({ scopes: ['write', 'admin'], tenant }, 'POST', `/api/v1${path}`, body);
  if (reply.status >= 300) throw new Error(`${path}: ${reply.status} ${JSON.stringify(reply.body)}`);
  return reply.body as { id: string; secret: string };
};
const link = async (more: object = {}): Promise<{ id: string; url: string }> =>
  (await made('/portal-links', { subscriptionIds: [own.id], brand: BRAND, ...more })) as unknown as {
    id: string;
    url: string;
  };
const publish = (total: string, type = 'invoice.paid', tenant = 'default') =>
  made('/events', { type, data: { total } }, tenant);
const rows = async <T extends object>(sql: string, values: unknown[] = []) =>
  (await api.running.context.database().pool.query<T>(sql, values)).rows;
const count = async (where: string) =>
  (
    await rows<{ n: number }>(
      `SELECT count(*)::int AS n FROM deliveries WHERE subscription_id = $1 AND ${where}`,
      [own.id],
    )
  )[0]!.n;

beforeAll(async () => {
  [host, elsewhere] = await Promise.all([site(), site()]);
  const port = await freePort();
  [browser, api] = await Promise.all([
    launchBrowser(),
    TestApi.withWorkers({
      API_PORT: String(port),
      CONSOLE_URL: `http://127.0.0.1:${port}`,
      PORTAL_FRAME_ORIGINS: host.origin,
      // A failed attempt waits for long enough to be seen, and tried now.
      WEBHOOK_SCHEDULE_MS: '0,3600000',
    }),
  ]);
  mine = await subscriber((response) =>
    response
      .writeHead(failing ? 500 : 200, { 'content-type': 'application/json' })
      .end(failing ? '{"error":"the dock is closed"}' : '{"taken":true}'),
  );
  own = await made('/subscriptions', { url: mine.url, eventTypes: ['invoice.*'], description: 'Dock 7' });
  neighbour = (await made('/subscriptions', { url: `${mine.url}/${SECRET}`, eventTypes: ['*'] })).id;
  foreign = (await made('/subscriptions', { url: `${mine.url}/${SECRET}`, eventTypes: ['*'] }, 'elsewhere'))
    .id;
  await made('/event-types', { name: 'invoice.paid' });
  await made('/event-types', { name: 'plan.changed' });
  await made('/event-types', { name: 'invoice.paid' }, 'elsewhere');
  for (const total of ['10.00', '20.00', '30.00']) await publish(total);
  await publish(SECRET, 'plan.changed');
  await publish(SECRET, 'invoice.paid', 'elsewhere');
  await eventually(
    async () => expect(await count("status = 'pending' AND attempts = 1")).toBe(3),
    PATIENCE_MS,
  );
  failing = false;
  for (const total of ['40.00', '50.00']) await publish(total);
  await eventually(async () => expect(await count("status = 'delivered'")).toBe(2), PATIENCE_MS);

  tab = await Tab.open(browser, api.url);
  tab.page.on('response', (response) => {
    if (!response.url().includes('/portal/api/')) return;
    void response
      .text()
      .then((text) => answers.push(text))
      .catch(() => undefined);
  });
  await tab.page.goto((await link()).url);
  await tab.settled();
}, 300_000);
afterAll(async () => {
  await browser?.close();
  await api?.stop();
  await mine?.close();
  host?.close();
  elsewhere?.close();
});
afterEach(() => {
  expect(tab.faults.splice(0)).toEqual([]);
});

describe('a subscriber with its link', () => {
  it('sees how its subscription does, under the name and colour of whoever made the link', async () => {
    await tab.page.getByRole('heading', { name: mine.url }).waitFor();
    await tab.page.getByText('Dock 7').waitFor();
    await tab.page.getByText(/^5, 3 failed$/).waitFor();
    await tab.page.getByRole('img', { name: /^Duration of attempts\. p50: / }).waitFor();
    await tab.page.getByText(BRAND.name).first().waitFor();
    expect(await tab.page.title()).toBe(`${mine.url} · ${BRAND.name}`);
    expect(new URL(tab.page.url()).hash).toBe('');
    const bar = await tab.page.evaluate<string>(
      'getComputedStyle(document.querySelector("header")).backgroundColor',
    );
    expect(bar).toBe('rgb(11, 110, 79)');
    await tab.picture('subscription', 'portal');
  });

  it('goes from screen to screen without barriers, at 1280 and 390 pixels, in light and dark', async () => {
    const [event] = await rows<{ id: string }>(
      "SELECT event_id AS id FROM deliveries WHERE subscription_id = $1 AND status = 'delivered'",
      [own.id],
    );
    const found: string[] = [];
    for (const [width, colorScheme] of [
      [1280, 'light'],
      [390, 'dark'],
    ] as const) {
      await tab.page.setViewportSize(width === 390 ? PHONE : { width, height: 800 });
      await tab.page.emulateMedia({ colorScheme });
      for (const where of [
        '',
        '/deliveries',
        '/events',
        `/events/${event!.id}`,
        `/subscriptions/${own.id}`,
      ]) {
        await tab.visit(where, 'portal');
        if (await tab.overflows()) found.push(`${where} is wider than ${width} pixels`);
        found.push(...(await tab.barriers()).map((each) => `${where} ${colorScheme}: ${each}`));
      }
    }
    await tab.page.setViewportSize({ width: 1280, height: 800 });
    await tab.page.emulateMedia({ colorScheme: 'light' });
    expect(found).toEqual([]);
    await tab.visit('/deliveries', 'portal');
    await tab.page.getByText('HTTP 500').first().waitFor();
    await tab.picture('deliveries', 'portal');
  });

  it('reads in a delivery what was sent and answered, has it tried now, and sent again', async () => {
    await tab.visit('/deliveries?status=pending', 'portal');
    await tab.page
      .getByRole('link', { name: /^invoice\.paid/ })
      .first()
      .click();
    const drawer = tab.page.getByRole('dialog');
    await drawer.getByText('the dock is closed').waitFor();
    await drawer.getByText(/"total": "\d0.00"/).waitFor();
    const [total] = /"\d0\.00"/.exec((await drawer.getByRole('region', { name: 'Body' }).textContent())!)!;
    expect(await tab.barriers()).toEqual([]);
    await tab.picture('delivery', 'portal');
    const id = new URL(tab.page.url()).searchParams.get('open')!;
    const received = () =>
      mine.received.filter(({ path, body }) => !path.includes(SECRET) && body.includes(total));
    expect(received()).toHaveLength(1);
    await drawer.getByRole('button', { name: 'Try now' }).click();
    await tab.confirm('Try now');
    await tab.said('is attempted now');
    const delivery = () =>
      rows<object>('SELECT status, attempts, generation FROM deliveries WHERE id = $1', [id]);
    await eventually(
      async () => expect(await delivery()).toEqual([{ status: 'delivered', attempts: 2, generation: 0 }]),
      PATIENCE_MS,
    );
    expect(received()).toHaveLength(2);
    await drawer.getByText('Attempt 2').waitFor();
    await drawer
      .getByText(/webhook-signature: v1,.{8}\*\*\*/)
      .first()
      .waitFor();

    await drawer.getByRole('button', { name: 'Resend' }).click();
    await tab.confirm('Resend');
    await tab.said('will be sent again');
    await eventually(
      async () => expect(await delivery()).toEqual([{ status: 'delivered', attempts: 3, generation: 1 }]),
      PATIENCE_MS,
    );
    expect(new Set(received().map(({ headers }) => headers['webhook-id'])).size).toBe(1);
    expect(received()).toHaveLength(3);
    await tab.page.keyboard.press('Escape');
  });

  it('sees its secret, rotates it, and gets a test event that the new one signs', async () => {
    await tab.visit('', 'portal');
    await tab.page.getByRole('button', { name: 'Show secret' }).click();
    await tab.confirm('Show it');
    const shown = tab.page.getByRole('region', { name: 'Secret' });
    expect(await shown.textContent()).toBe(own.secret);
    await tab.page.getByRole('button', { name: 'Done' }).click();
    await tab.page.getByRole('button', { name: 'Rotate secret' }).click();
    await tab.confirm('Rotate the secret');
    const fresh = (await shown.textContent())!;
    expect(fresh).toMatch(/^whsec_/);
    expect(fresh).not.toBe(own.secret);
    await tab.page.getByRole('button', { name: 'Done' }).click();
    await tab.page.getByRole('button', { name: 'Send a test event' }).click();
    await tab.said('is on its way');
    const test = await eventually(() => {
      const found = mine.received.find(({ body }) => body.includes('webhook.test'));
      if (!found) throw new Error('it has not arrived');
      return found;
    }, PATIENCE_MS);
    expect(test.path).not.toContain(SECRET);
    const headers = test.headers as Record<string, string>;
    expect(() => new Webhook(fresh).verify(test.body, headers)).not.toThrow();
  });

  it('was answered nothing of another subscription or tenant, on any screen', async () => {
    await tab.visit('/events', 'portal');
    const text = answers.join('\n');
    expect(answers.length).toBeGreaterThan(20);
    expect(text).toContain(own.id);
    for (const hidden of [SECRET, neighbour, foreign, 'plan.changed']) expect(text).not.toContain(hidden);
    const guess = await tab.page.evaluate<number>(
      `fetch('/portal/api/v1/events').then(() => fetch('/api/v1/events')).then(({ status }) => status)`,
    );
    expect(guess).toBe(401);
    // The refusal is in the browser's console, as it should be.
    expect(tab.faults.splice(0).join()).toMatch(/401/);
  });

  it('opens it once: another browser is told so, and sees nothing', async () => {
    const { url } = await link();
    const first = await Tab.open(browser, api.url);
    await first.page.goto(url);
    await first.page.getByRole('heading', { name: mine.url }).waitFor();
    await first.page.goto('about:blank');
    await first.page.goto(url);
    await first.page.getByRole('heading', { name: mine.url }).waitFor();
    expect(first.faults).toEqual([]);
    const other = await Tab.open(browser, api.url);
    await other.page.goto(url);
    await other.page.getByRole('heading', { name: 'This link can’t be opened' }).waitFor();
    expect(await other.barriers()).toEqual([]);
    await first.page.getByRole('button', { name: 'End the session' }).click();
    await first.page.getByRole('heading', { name: 'Nothing is open here' }).waitFor();
    await Promise.all([first.close(), other.close()]);
  });

  it('gets its link from an operator at the console, too', async () => {
    const operator = await Tab.open(browser, api.url);
    const code = await createConsoleLink(
      api.running.context.database(),
      { tenantId: 'default', subject: 'ayse', role: 'operator', platform: false },
      60_000,
    );
    await operator.login(`${api.url}/console/login#${code}`);
    await operator.visit(`/subscriptions/${own.id}`);
    await operator.page.getByRole('button', { name: 'Portal link' }).click();
    await operator.page.getByRole('textbox', { name: /^Your name/ }).fill('Acme');
    await operator.page.getByRole('button', { name: 'Make the link' }).click();
    const url = (await operator.page.getByRole('region', { name: 'Link' }).textContent())!;
    expect(await operator.barriers()).toEqual([]);
    await operator.page.getByRole('button', { name: 'Done' }).click();
    await operator.page.goto(url);
    await operator.page.getByRole('heading', { name: mine.url }).waitFor();
    await operator.page.getByText('Read-only').waitFor();
    expect(operator.faults).toEqual([]);
    await operator.close();
    const audit = await rows<{ actor: string }>(
      "SELECT actor FROM audit_log WHERE action = 'portal_link.created' ORDER BY id DESC LIMIT 1",
    );
    expect(audit).toEqual([{ actor: 'console:ayse' }]);
  });

  it('only looks by a read-only link, and at nothing more once it is revoked', async () => {
    const { id, url } = await link({ readOnly: true, subscriptionIds: [own.id, neighbour] });
    const visitor = await Tab.open(browser, api.url);
    await visitor.page.goto(url);
    await visitor.page.getByRole('link', { name: mine.url, exact: true }).click();
    await visitor.page.getByRole('heading', { name: mine.url }).waitFor();
    for (const name of ['Show secret', 'Rotate secret', 'Send a test event'])
      expect(await visitor.page.getByRole('button', { name }).count()).toBe(0);
    expect(visitor.faults.splice(0)).toEqual([]);
    const { status } = await api.withToken({ scopes: ['write'] }, 'DELETE', `/api/v1/portal-links/${id}`);
    expect(status).toBe(204);
    // Whatever is read next finds out.
    await visitor.page.getByRole('heading', { name: 'Nothing is open here' }).waitFor();
    await visitor.close();
  });
});

describe('the portal in a frame', () => {
  const framed = async (from: Site, url: string): Promise<{ outer: Tab; frame: Frame }> => {
    const outer = await Tab.open(browser, from.origin, { origins: [api.url] });
    await outer.page.goto(`${from.origin}/?frame=${encodeURIComponent(url)}`);
    const element = await outer.page.getByTitle('Portal').elementHandle();
    return { outer, frame: (await element!.contentFrame())! };
  };

  it('works on a site that configuration names, also when the site is loaded anew', async () => {
    const { url } = await link();
    const { outer, frame } = await framed(host, url);
    await frame.getByRole('heading', { name: mine.url }).waitFor();
    const cookie = (await outer.context.cookies()).find(({ name }) => name === 'remit_portal');
    expect(cookie).toMatchObject({ sameSite: 'None', secure: true, httpOnly: true });
    const before = mine.received.length;
    await frame.getByRole('button', { name: 'Send a test event' }).click();
    await frame.locator('.toast', { hasText: 'is on its way' }).waitFor();
    await eventually(
      () => expect(mine.received.slice(before).some(({ body }) => body.includes('webhook.test'))).toBe(true),
      PATIENCE_MS,
    );
    expect(await outer.barriers(frame)).toEqual([]);
    await frame.getByRole('link', { name: 'Events' }).click();
    await frame.getByRole('table', { name: 'events' }).waitFor();
    await outer.page.reload();
    const again = await (await outer.page.getByTitle('Portal').elementHandle())!.contentFrame();
    await again!.getByRole('heading', { name: mine.url }).waitFor();
    expect(outer.faults).toEqual([]);
    await outer.close();
  });

  it('is refused to every other site, as the console is to all', async () => {
    const { url } = await link();
    for (const [from, address] of [
      [elsewhere, url],
      [host, `${api.url}/console`],
    ] as const) {
      const { outer, frame } = await framed(from, address);
      await eventually(() => expect(outer.faults.join()).toMatch(/frame-ancestors|X-Frame-Options/));
      expect(frame.url()).toMatch(/^chrome-error:/);
      await outer.close();
    }
    // It was not used up by that.
    const [row] = await rows<{ opened: boolean }>(
      'SELECT opened_at IS NOT NULL AS opened FROM portal_links ORDER BY created_at DESC LIMIT 1',
    );
    expect(row).toEqual({ opened: false });
  });
});
