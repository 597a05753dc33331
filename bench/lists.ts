import { Client } from 'pg';
import { mintToken } from '../src/operations/token';
import { fillLists } from '../test/support/many-rows';
import { startRole } from '../test/support/processes';
import { percentile, round, type Benchmark, type BenchRow } from './report';
import { openStage } from './support/stage';

/** What the console asks for at most, of each list: its filters one by one, together, and pages far down. */
const LISTS: Record<string, readonly string[]> = {
  deliveries: [
    '',
    ...['pending', 'delivered', 'exhausted', 'cancelled', 'held'].map((status) => `status=${status}`),
    ...['often.4', 'seldom.thing', 'rare.thing'].map((type) => `eventType=${type}`),
    'subscriptionId=sub_big4',
    'subscriptionId=sub_big4&status=exhausted',
    'subscriptionId=sub_big4&eventType=rare.thing',
    'status=pending&eventType=rare.thing',
    'status=exhausted&eventType=often.4&subscriptionId=sub_big4&since=2020-01-01T00:00:00Z',
    'eventId=evt_70',
  ],
  attempts: [
    '',
    'outcome=failed',
    'result=timeout',
    'subscriptionId=sub_big4&outcome=failed',
    'eventType=rare.thing',
  ],
  events: ['', 'type=rare.thing', 'source=api', 'type=often.4&source=remit'],
  payments: ['', 'status=pending', 'userId=user-7', 'provider=stripe&status=failed'],
  orders: ['', 'status=NEW', 'userId=user-7'],
  disputes: ['', 'sort=due', 'status=opened'],
  audit: ['', 'kind=configuration', 'cause=subscription:sub_big4', 'actor=console:ayse'],
};
const PAGE = 100;
/** Pages read one after another, so that what is far down is asked for, too. */
const PAGES_DEEP = 20;
/** The longest that an answer may take, in milliseconds. */
const BOUND_MS = 200;

interface Page {
  items: unknown[];
  nextCursor: string | null;
}

/** How long the answers of long lists take over HTTP, one at a time, with so many rows stored: 100,000 deliveries among them. */
export const run: Benchmark = async ({ quick, progress }) => {
  const stage = await openStage(progress);
  const api = await startRole(['api'], stage.env, Number(stage.config.METRICS_PORT));
  try {
    const deliveries = 110_000;
    progress(`storing ${deliveries} deliveries and as many rows of everything else`);
    const owner = new Client({ connectionString: stage.endpoints.postgres });
    await owner.connect();
    await fillLists(owner, { deliveries, rows: deliveries });
    await owner.end();
    const scopes = ['read', 'admin'];
    const token = await mintToken(stage.config, {
      subject: 'bench',
      tenant: 'big',
      scopes,
      expiresInS: 3_600,
    });
    const ask = async (list: string, query: string): Promise<{ page: Page; ms: number }> => {
      const startedAt = performance.now();
      const answer = await fetch(`${stage.endpoints.api}/api/v1/${list}?limit=${PAGE}&${query}`, {
        headers: { authorization: `Bearer ${token}` },
      });
      const page = (await answer.json()) as Page;
      const ms = performance.now() - startedAt;
      if (answer.status !== 200)
        throw new Error(`${list}?${query}: ${answer.status} ${JSON.stringify(page)}`);
      return { page, ms };
    };
    const rows: BenchRow[] = [];
    for (const [list, queries] of Object.entries(LISTS)) {
      const took: { ms: number; query: string }[] = [];
      await ask(list, '');
      for (let n = 0; n < (quick ? 1 : 3); n++)
        for (const query of queries) {
          let cursor: string | null | undefined;
          for (let depth = 0; depth < PAGES_DEEP && cursor !== null; depth++) {
            const { page, ms } = await ask(list, query + (cursor === undefined ? '' : `&cursor=${cursor}`));
            took.push({ ms, query });
            cursor = page.nextCursor;
          }
        }
      const value = percentile(
        took.map(({ ms }) => ms),
        0.95,
      );
      const slowest = took.reduce((most, each) => (each.ms > most.ms ? each : most));
      progress(`${list}: p95 ${value.toFixed(1)} ms of ${took.length} answers`);
      rows.push({
        bench: `list of ${list}, p95`,
        value: round(value),
        unit: 'ms',
        reference: BOUND_MS,
        ratio: value / BOUND_MS,
        atMost: 1,
        note: `${took.length} answers of ${PAGE} rows; the slowest, ${slowest.ms.toFixed(0)} ms: ${slowest.query || 'no filter'}`,
      });
    }
    return rows;
  } finally {
    await api.stop();
    await stage.close();
  }
};
