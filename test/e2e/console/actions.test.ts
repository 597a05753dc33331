import type { Browser } from 'playwright-core';
import { launchBrowser } from '../../support/browser';
import { eventually } from '../../support/harness';
import { Tab } from './page';
import { makeWorld, type World } from './world';

let world: World;
let browser: Browser;
let tab: Tab;

beforeAll(async () => {
  [world, browser] = await Promise.all([makeWorld(), launchBrowser()]);
  tab = await Tab.open(browser, world.api.url);
  await tab.login(await world.link());
}, 450_000);
afterAll(async () => {
  await browser?.close();
  await world?.stop();
});
afterEach(() => {
  expect(tab.faults.splice(0)).toEqual([]);
});

const rows = async <T extends object>(sql: string, values: unknown[] = []) =>
  (await world.api.running.context.database().pool.query<T>(sql, values)).rows;
const button = (name: string | RegExp) => tab.page.getByRole('button', { name });

describe('an operator', () => {
  it('finds a payment by the beginning of its id, and reads why it is not credited and what will happen', async () => {
    await tab.visit('/');
    await tab.page.keyboard.press('Control+k');
    await tab.page.getByRole('combobox').fill(world.payments.waiting.slice(0, 8));
    await tab.page.getByRole('option', { name: new RegExp(world.payments.waiting) }).waitFor();
    await tab.page.keyboard.press('Enter');
    await tab.page.getByRole('heading', { name: /^Payment of/ }).waitFor();
    expect(tab.page.url()).toBe(`${world.api.url}/console/payments/${world.payments.waiting}`);
    const timeline = tab.page.getByRole('region', { name: 'Timeline' });
    await timeline.locator('li.future').first().waitFor();
    await timeline
      .getByText(/provider/)
      .first()
      .waitFor();
    const workflow = tab.page.getByRole('link', { name: /^payment\/decard\// });
    expect(await workflow.getAttribute('href')).toContain('http://127.0.0.1:8233/namespaces/');
  });

  it('sees in a delivery’s drawer what was sent and answered, and has it tried now', async () => {
    await tab.visit('/deliveries?status=pending');
    await tab.page
      .getByRole('link', { name: /order\.finished/ })
      .first()
      .click();
    const drawer = tab.page.getByRole('dialog');
    await drawer.getByText('the warehouse is closed').first().waitFor();
    const request = await drawer.getByRole('region', { name: 'Request of attempt 1' }).textContent();
    expect(request).toContain(`POST ${world.broken.url}`);
    expect(request).toMatch(/webhook-id: evt_\w+/);
    expect(request).toMatch(/webhook-signature: v1,.{8}\*\*\*$/m);
    const headers = drawer.getByRole('region', { name: 'Headers of the answer to attempt 1' });
    expect(await headers.textContent()).toContain('content-type: application/json');
    const id = new URL(tab.page.url()).searchParams.get('open')!;
    expect(await tab.barriers()).toEqual([]);
    await tab.picture('delivery');
    world.failing = false;
    await drawer.getByRole('button', { name: 'Try now' }).click();
    await tab.confirm('Try now');
    await tab.said('is attempted now');
    await eventually(async () => {
      const [delivery] = await rows<{ status: string; attempts: number }>(
        'SELECT status, attempts FROM deliveries WHERE id = $1',
        [id],
      );
      expect(delivery).toEqual({ status: 'delivered', attempts: 2 });
    });
    await drawer.getByText('Attempt 2').waitFor();
    world.failing = true;
    await tab.page.keyboard.press('Escape');
  });

  it('finds the attempts that failed across deliveries, by subscription, and what was answered to one', async () => {
    await tab.visit('/attempts');
    const table = tab.page.getByRole('table', { name: 'attempts' });
    await table.getByText('HTTP 204').first().waitFor();
    await tab.page.getByLabel('Outcome').selectOption('failed');
    await tab.page.getByLabel('Subscription').fill(world.brokenId);
    await table.getByText('HTTP 204').first().waitFor({ state: 'detached' });
    await tab.page.waitForURL(/subscriptionId=/);
    const found = async () =>
      (
        await rows<{ n: number }>(
          `SELECT count(*)::integer AS n FROM delivery_attempts WHERE subscription_id = $1 AND result <> 'delivered'`,
          [world.brokenId],
        )
      )[0]!.n;
    const failed = await found();
    expect(failed).toBeGreaterThan(1);
    await tab.page.getByText(`${failed} rows`).waitFor();
    // Of the address alone, as somebody has sent it.
    await tab.visit(`/attempts?result=timeout&subscriptionId=${world.brokenId}`);
    await tab.page.getByText('No attempt fits').waitFor();
    await tab.visit(`/attempts?outcome=failed&subscriptionId=${world.brokenId}`);
    await table
      .getByRole('link', { name: /attempt 1 of delivery/ })
      .first()
      .click();
    const drawer = tab.page.getByRole('dialog');
    await drawer.getByText('the warehouse is closed').first().waitFor();
    await drawer.getByRole('region', { name: 'Request of attempt 1' }).waitFor();
    expect(await tab.barriers()).toEqual([]);
    await tab.page.keyboard.press('Escape');
    await drawer.waitFor({ state: 'hidden' });
  });

  it('cancels what fits a filter after seeing how many, and resends it all', async () => {
    const waiting = async () =>
      (
        await rows<{ id: string }>(
          "SELECT id FROM deliveries WHERE subscription_id = $1 AND status = 'pending'",
          [world.brokenId],
        )
      ).length;
    const before = await waiting();
    expect(before).toBeGreaterThan(1);
    await tab.visit(`/deliveries?subscriptionId=${world.brokenId}&status=pending`);
    await button('Cancel all that fit').click();
    await tab.page.getByTestId('bulk-count').waitFor();
    expect(await tab.page.getByTestId('bulk-count').textContent()).toBe(`${before} deliveries`);
    await tab.picture('bulk');
    await button(`Cancel ${before} deliveries`).click();
    await tab.said(`Cancel: ${before} done.`);
    await eventually(async () => expect(await waiting()).toBe(0));

    world.failing = false;
    await tab.visit(`/deliveries?subscriptionId=${world.brokenId}&status=cancelled`);
    await button('Resend all that fit').click();
    await button(`Resend ${before} deliveries`).click();
    await tab.said(`Resend: ${before} done.`);
    await eventually(async () => {
      const [{ n } = { n: -1 }] = await rows<{ n: number }>(
        "SELECT count(*)::int AS n FROM deliveries WHERE subscription_id = $1 AND status <> 'delivered'",
        [world.brokenId],
      );
      expect(n).toBe(0);
    });
  });

  it('pauses a subscription, sees who did, rotates its secret and resumes it with what it missed', async () => {
    await tab.visit(`/subscriptions/${world.shopId}`);
    const state = async () =>
      (await rows<{ state: string }>('SELECT state FROM subscriptions WHERE id = $1', [world.shopId]))[0]
        ?.state;
    await button('Pause').click();
    await tab.confirm('Pause');
    await tab.said('It is paused.');
    expect(await state()).toBe('paused');
    await tab.page.getByText('An operator paused it.').waitFor();
    await tab.page.getByText('console:ayse').first().waitFor();

    await world.api.withToken({ scopes: ['write'] }, 'POST', '/api/v1/events', {
      type: 'invoice.paid',
      data: { total: '7.00' },
    });
    const before = world.shop.received.length;
    await button('Rotate secret').click();
    await tab.confirm('Rotate the secret');
    const secret = await tab.page.getByRole('region', { name: 'Secret' }).textContent();
    expect(secret).toMatch(/^whsec_/);
    await button('I have kept it').click();

    await button('Resume').click();
    await button('Resume, and send what it missed').click();
    await tab.said('It is resumed');
    expect(await state()).toBe('active');
    await eventually(() => {
      const body = world.shop.received
        .slice(before)
        .map(({ body: text }) => text)
        .join('\n');
      expect(body).toContain('"total":"7.00"');
    });
    await tab.page.getByRole('tab', { name: 'Replays' }).click();
    await tab.page
      .getByRole('cell', { name: /missed/ })
      .first()
      .waitFor();
  });

  it('tries a filter on events that were, and sends a test event', async () => {
    await tab.visit(`/subscriptions/${world.shopId}`);
    await tab.page.getByRole('tab', { name: 'Filter tester' }).click();
    await tab.page
      .getByRole('textbox', { name: 'Filter' })
      .fill('[{"path":"currency","op":"eq","value":"EUR"}]');
    await button('Try the filter').click();
    const table = tab.page.getByRole('table').filter({ hasText: 'Wanted' });
    await table.waitFor();
    expect(
      (await table.getByRole('row').filter({ hasText: 'invoice.paid' }).allTextContents())
        .map((text) => text.slice(-3).includes('yes'))
        .sort(),
    ).toContain(true);
    await button('Send a test event').click();
    await tab.said('is on its way');
    await eventually(() =>
      expect(world.shop.received.some(({ body }) => body.includes('webhook.test'))).toBe(true),
    );
  });

  it('redrives a dead letter after reading its bytes, and sees what became of it', async () => {
    const topic = `${world.api.space.config.TOPIC_WEBHOOKS_ORDERS}.dlq`;
    await tab.visit('/dead-letters');
    await tab.page.getByRole('link', { name: topic }).click();
    await tab.page
      .getByRole('link', { name: /^\d+-\d+$/ })
      .first()
      .click();
    const drawer = tab.page.getByRole('dialog');
    await drawer.getByRole('region', { name: 'Value in hexadecimal' }).waitFor();
    expect(await drawer.getByRole('region', { name: 'Value in hexadecimal' }).textContent()).toContain(
      '7b 22 68 61 6c 66',
    );
    expect(await tab.barriers()).toEqual([]);
    await tab.picture('dead-letter');
    await drawer.getByRole('button', { name: 'Redrive' }).click();
    await tab.confirm('Redrive');
    await tab.said('It was redriven.');
    await tab.page.keyboard.press('Escape');
    await tab.page.getByText(/1 redriven/).waitFor();
  });

  it('submits the evidence of the dispute that is due first', async () => {
    await tab.visit('/disputes');
    await tab.page.getByRole('table').getByRole('link').first().click();
    await tab.page.getByRole('textbox', { name: 'What happened' }).fill('The tickets were used on 3 May.');
    await button('Submit evidence').click();
    await tab.confirm('Submit evidence');
    await tab.said('under review');
    const [evidence] = await rows<{ text: string }>("SELECT evidence->>'text' AS text FROM dispute_evidence");
    expect(evidence?.text).toBe('The tickets were used on 3 May.');
  });

  it('refunds a part of an order', async () => {
    await tab.visit(`/orders/${world.orders.finished}`);
    await button('Refund').click();
    await tab.page.getByRole('textbox', { name: /^Amount/ }).fill('2.00');
    await tab.page.getByRole('dialog').getByRole('button', { name: 'Refund', exact: true }).click();
    await tab.said('2.00 TRY were refunded.');
    const refunds = await rows<{ amount_minor: string; actor: string }>(
      'SELECT amount_minor::text, actor FROM refunds',
    );
    expect(refunds).toEqual([{ amount_minor: '200', actor: 'console:ayse' }]);
  });

  it('proves a balance at a time, follows an entry to its movement, and takes it all as CSV', async () => {
    await tab.visit(`/ledger/${world.accountId}`);
    await button('At midnight').click();
    await tab.page.getByText('nothing had moved yet').waitFor();
    expect(await tab.page.getByTestId('balance').textContent()).toMatch(/^0\.00 TRY/);
    await button('Now').click();
    await eventually(async () =>
      expect(await tab.page.getByTestId('balance').textContent()).toMatch(/^750\.00 TRY/),
    );
    const [csv] = await Promise.all([
      tab.page.waitForEvent('download'),
      tab.page.getByRole('link', { name: 'CSV' }).click(),
    ]);
    expect(csv.suggestedFilename()).toBe(`entries-${world.accountId}.csv`);
    await tab.page.getByRole('table').getByRole('link').first().click();
    await tab.page.getByRole('heading', { name: /^Movement: / }).waitFor();
    expect(await tab.page.getByRole('table').getByRole('row').count()).toBe(3);
    expect(await tab.barriers()).toEqual([]);
    await tab.picture('movement');
  });

  it('has a correction posted by a second administrator, and by nobody alone', async () => {
    await tab.visit('/reconciliation');
    await button('Run it now').click();
    await tab.page.getByRole('heading', { name: /Everything agrees|findings/ }).waitFor();
    await tab.visit('/reconciliation');
    await button('Propose one').click();
    const dialog = tab.page.getByRole('dialog');
    await dialog.getByRole('textbox', { name: /^Account/ }).fill(world.accountId);
    await dialog.getByRole('textbox', { name: /^Amount/ }).fill('1.50');
    await dialog.getByRole('textbox', { name: /^Reason/ }).fill('the provider took too much');
    await dialog.getByRole('button', { name: 'Propose' }).click();
    await tab.said('The correction is proposed.');
    await tab.page.getByText('waits for another administrator').waitFor();

    const second = await Tab.open(browser, world.api.url);
    await second.login(await world.link({ subject: 'bora' }));
    await second.visit('/reconciliation');
    await second.page.getByRole('button', { name: 'Approve' }).click();
    await second.confirm('Post it');
    await second.said('The correction is posted.');
    expect(second.faults).toEqual([]);
    await second.close();
    await eventually(async () => {
      const { body } = await world.api.asUser('mehmet', 'GET', '/accounts/balance');
      expect(body).toMatchObject({ balance: '751.50' });
    });
  });

  it('watches what happens now, filters it and holds it', async () => {
    await tab.visit('/');
    await tab.page.getByText('live', { exact: true }).waitFor();
    const publish = (total: string) =>
      world.api.withToken({ scopes: ['write'] }, 'POST', '/api/v1/events', {
        type: 'invoice.paid',
        data: { total },
      });
    await publish('1.00');
    const list = tab.page.getByRole('list', { name: 'What happened, newest first' });
    await list
      .getByText(/invoice\.paid/)
      .first()
      .waitFor();
    await tab.picture('now-live');
    await tab.page.getByRole('textbox', { name: 'Only what contains' }).fill('no such thing');
    await tab.page.getByText('Nothing that came contains this').waitFor();
    await tab.page.getByRole('textbox', { name: 'Only what contains' }).fill('');
    await button('Pause').click();
    const held = await list.getByRole('listitem').count();
    await publish('2.00');
    await tab.page.getByText(/paused, \d+ came/).waitFor();
    expect(await list.getByRole('listitem').count()).toBe(held);
    await button('Go on').click();
    await eventually(async () => expect(await list.getByRole('listitem').count()).toBeGreaterThan(held));
  });
});

describe('whoever is logged in', () => {
  it('goes through a list by the keyboard alone', async () => {
    await tab.visit('/payments');
    const links = tab.page.getByRole('table').getByRole('link');
    await links.first().focus();
    await tab.page.keyboard.press('ArrowDown');
    const id = await tab.page.evaluate<string>('document.activeElement.textContent');
    expect(id).toBe(await links.nth(1).textContent());
    await tab.page.keyboard.press('Enter');
    await tab.page.getByRole('heading', { name: /^Payment of/ }).waitFor();
  });

  it('can only look as a viewer, and sees nothing of another tenant', async () => {
    const viewer = await Tab.open(browser, world.api.url);
    await viewer.login(await world.link({ subject: 'can', role: 'viewer', platform: false }));
    await viewer.visit(`/subscriptions/${world.shopId}`);
    expect(await viewer.page.getByRole('button', { name: 'Pause' }).isDisabled()).toBe(true);
    expect(await viewer.page.getByRole('link', { name: 'Dead letters' }).count()).toBe(0);
    expect(await viewer.page.getByRole('link', { name: 'Audit' }).count()).toBe(0);
    expect(viewer.faults).toEqual([]);
    await viewer.close();

    const stranger = await Tab.open(browser, world.api.url);
    const answers: string[] = [];
    stranger.page.on('response', (response) => {
      if (response.url().includes('/api/v1/'))
        void response
          .text()
          .then((text) => answers.push(text))
          .catch(() => undefined);
    });
    await stranger.login(await world.link({ subject: 'elif', tenantId: 'elsewhere', platform: false }));
    for (const where of [
      '/payments',
      '/orders',
      '/disputes',
      '/ledger',
      '/events',
      '/deliveries',
      '/subscriptions',
      '/event-types',
      '/audit',
    ])
      await stranger.visit(where);
    for (const secret of [
      'mehmet',
      'zeynep',
      world.shopId,
      world.payments.paid,
      world.orders.finished,
      'invoice.paid',
    ])
      expect(answers.join('\n')).not.toContain(secret);
    expect(answers.length).toBeGreaterThan(8);
    expect(stranger.faults).toEqual([]);
    await stranger.close();
  });

  it('is asked to log in again when the session was ended elsewhere', async () => {
    const other = await Tab.open(browser, world.api.url);
    await other.login(await world.link({ subject: 'fatma' }));
    await rows("UPDATE console_sessions SET revoked_at = now() WHERE subject = 'fatma'");
    // Whatever is read next finds out.
    await other.page.getByRole('heading', { name: 'Log in to the console' }).waitFor();
    await other.close();
  });
});
