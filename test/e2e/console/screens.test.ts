import type { Browser } from 'playwright-core';
import { launchBrowser } from '../../support/browser';
import { PHONE, Tab } from './page';
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

/** Each screen: its address, a name for its picture, and something that only its content shows. */
const screens = (): [name: string, where: string, shows: string | RegExp][] => [
  ['now', '/', 'dead letter'],
  ['payments', '/payments', world.payments.paid],
  ['payment', `/payments/${world.payments.paid}`, 'What is above'],
  ['payouts', '/payouts', '120.00'],
  ['orders', '/orders', world.orders.finished],
  ['order', `/orders/${world.orders.waiting}`, 'Two tickets'],
  ['disputes', '/disputes', world.disputeId],
  ['dispute', `/disputes/${world.disputeId}`, 'Submit evidence'],
  ['ledger', '/ledger', 'zeynep'],
  ['account', `/ledger/${world.accountId}`, 'top up'],
  ['user', '/users/mehmet', 'Accounts'],
  ['reconciliation', '/reconciliation', 'Corrections'],
  ['events', '/events', 'invoice.paid'],
  ['deliveries', '/deliveries', 'HTTP 500'],
  ['attempts', '/attempts', 'HTTP 500'],
  ['subscriptions', '/subscriptions', world.shopId],
  ['subscription', `/subscriptions/${world.brokenId}`, 'Warehouse'],
  ['replays', '/replays', 'No replay'],
  ['catalogue', '/event-types', 'An invoice was paid in full'],
  ['event-type', '/event-types/invoice.paid', 'JSON Schema'],
  ['dead-letters', '/dead-letters', 'invalid json'],
  ['purchases', '/purchases', 'product-'],
  ['audit', '/audit', 'subscription'],
];

describe('every screen', () => {
  it('shows what is there, at 1280 pixels and for everybody', async () => {
    const found: string[] = [];
    for (const [name, where, shows] of screens()) {
      await tab.visit(where);
      await tab.page
        .getByText(shows)
        .first()
        .waitFor()
        .catch(() => found.push(`${where} does not show ${String(shows)}`));
      found.push(...(await tab.barriers()).map((each) => `${where}: ${each}`));
      if (await tab.overflows()) found.push(`${where} is wider than its window`);
      await tab.picture(name);
    }
    expect(found).toEqual([]);
  });

  it('fits 390 pixels, and has no barriers in the dark', async () => {
    await tab.page.setViewportSize(PHONE);
    await tab.page.emulateMedia({ colorScheme: 'dark' });
    const found: string[] = [];
    for (const [, where] of screens()) {
      await tab.visit(where);
      if (await tab.overflows()) found.push(`${where} is wider than 390 pixels`);
      found.push(...(await tab.barriers()).map((each) => `${where}: ${each}`));
    }
    await tab.visit('/');
    await tab.page.getByRole('button', { name: 'Menu' }).click();
    await tab.page.getByRole('dialog').getByRole('link', { name: 'Disputes' }).click();
    await tab.page.getByRole('heading', { name: 'Disputes' }).waitFor();
    await tab.page.setViewportSize({ width: 1280, height: 800 });
    await tab.page.emulateMedia({ colorScheme: 'light' });
    expect(found).toEqual([]);
  });
});
