import { readFileSync } from 'node:fs';
import path from 'node:path';
import type { Browser, BrowserContext, Frame, Page } from 'playwright-core';
import { PROJECT_ROOT } from '../../../src/platform/project';

const AXE = readFileSync(require.resolve('axe-core/axe.min.js'), 'utf8');
const RULES = ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa'];
const DESKTOP = { width: 1280, height: 800 };
export const PHONE = { width: 390, height: 844 };
const PATIENCE_MS = 20_000;

/** A browser's tab that notes everything it must not do: ask another host, write an error to its console, fail. */
export class Tab {
  readonly faults: string[] = [];

  private constructor(
    readonly page: Page,
    readonly context: BrowserContext,
    readonly base: string,
    /** Where requests may go. */
    origins: readonly string[],
  ) {
    page.setDefaultTimeout(PATIENCE_MS);
    page.on('console', (message) => {
      if (message.type() === 'error' || message.type() === 'warning')
        this.faults.push(`console ${message.type()}: ${message.text()} ${message.location().url}`);
    });
    page.on('pageerror', (error) => this.faults.push(`page error: ${error.message}`));
    page.on('request', (request) => {
      const url = new URL(request.url());
      if (!['data:', 'blob:'].includes(url.protocol) && !origins.includes(url.origin))
        this.faults.push(`request to another host: ${request.url()}`);
    });
  }

  /** @param options.origins further ones than `base` that it may ask. */
  static async open(
    browser: Browser,
    base: string,
    options: { phone?: boolean; origins?: readonly string[] } = {},
  ): Promise<Tab> {
    const context = await browser.newContext({
      viewport: options.phone ? PHONE : DESKTOP,
      colorScheme: 'light',
      reducedMotion: 'reduce',
      locale: 'en-GB',
    });
    return new Tab(await context.newPage(), context, base, [base, ...(options.origins ?? [])]);
  }

  async login(link: string): Promise<void> {
    await this.page.goto(link);
    await this.page.getByRole('heading', { name: 'Now', exact: true }).waitFor();
  }

  /** Opens a page of the console, or of the portal, and waits until what it shows is there. */
  async visit(where: string, of: 'console' | 'portal' = 'console'): Promise<void> {
    await this.page.goto(`${this.base}/${of}${where}`);
    await this.settled();
  }

  /** Until nothing loads any more. */
  async settled(): Promise<void> {
    await this.page.locator('h1').first().waitFor();
    // A function: the page's policy lets no text be run.
    await this.page.waitForFunction(() => {
      const { document } = globalThis as unknown as { document: { querySelector(what: string): unknown } };
      return document.querySelector('[aria-label="Loading"]') === null;
    });
  }

  /** What axe-core finds on the page as it is, or in a frame of it, a line each. */
  async barriers(where: Page | Frame = this.page): Promise<string[]> {
    // As a string: the policy of the page forbids what a script element would need.
    await where.evaluate(AXE);
    return where.evaluate<string[]>(`axe
      .run(document, { runOnly: { type: 'tag', values: ${JSON.stringify(RULES)} } })
      .then(({ violations }) => violations.flatMap(({ id, nodes }) =>
        nodes.slice(0, 3).map(({ html, failureSummary }) => id + ': ' + html.slice(0, 160) + ' ' + failureSummary)))`);
  }

  /** Whether the page is wider than its window. */
  overflows(): Promise<boolean> {
    return this.page.evaluate<boolean>(
      'document.documentElement.scrollWidth > document.documentElement.clientWidth',
    );
  }

  /** Answers the dialog that asks before something happens. */
  async confirm(action: string | RegExp): Promise<void> {
    const dialog = this.page.getByRole('alertdialog');
    await dialog.getByRole('button', { name: action }).click();
    await dialog.waitFor({ state: 'hidden' });
  }

  /** What the console says after something was done. */
  async said(text: string | RegExp): Promise<void> {
    await this.page.locator('.toast', { hasText: text }).first().waitFor();
  }

  /** The same page, light and dark, in docs/images, when REMIT_WRITE_SCREENSHOTS=1. */
  async picture(name: string, of: 'console' | 'portal' = 'console'): Promise<void> {
    if (process.env['REMIT_WRITE_SCREENSHOTS'] !== '1') return;
    for (const theme of ['light', 'dark'] as const) {
      await this.page.evaluate(`document.documentElement.dataset.theme = '${theme}'`);
      await this.page.waitForTimeout(250);
      await this.page.screenshot({
        path: path.join(PROJECT_ROOT, 'docs/images', `${of}-${name}-${theme}.jpg`),
        type: 'jpeg',
        quality: 78,
      });
    }
    await this.page.evaluate(`document.documentElement.dataset.theme = 'system'`);
  }

  close(): Promise<void> {
    return this.context.close();
  }
}
