import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { mintToken } from '../../../src/operations/token';
import { metrics } from '../../../src/platform/metrics';
import { startApi } from '../../../src/roles/api';
import {
  createTestSpace,
  eventually,
  runRoles,
  type RunningRoles,
  type TestSpace,
} from '../../support/harness';
import { nameInMidWindow } from '../../support/limits';
import { withDatabase } from '../../support/shared-stack';
import { TcpProxy } from '../../support/tcp-proxy';

const LIMIT = 200;
/** What each process but one may give beyond the limit. */
const BLOCK = 10;
const WINDOW_MS = 3_600_000;
const AT_ONCE = 40;
/** Asks for no row: it is answered although the database is not. */
const PATH = '/api/v1/event-types/no%20name';

let space: TestSpace;
const running: RunningRoles<unknown>[] = [];
const ways: TcpProxy[] = [];
beforeAll(async () => {
  space = await createTestSpace({ topics: true });
});
afterAll(async () => {
  for (const way of ways) way.resume();
  await Promise.all(running.map((each) => each.stop()));
  for (const way of ways) way.close();
});

interface Process {
  url: string;
  /** Its way to the database. */
  way: TcpProxy;
}

/** An API process of its own, as far as limits go: it shares nothing with the others but the database. */
async function startProcess(settings: Partial<TestSpace['config']> = {}): Promise<Process> {
  const way = await TcpProxy.toUrl(space.config.DATABASE_URL);
  ways.push(way);
  const config = {
    ...space.config,
    API_RATE_LIMIT_REQUESTS: LIMIT,
    API_RATE_LIMIT_WINDOW_MS: WINDOW_MS,
    DATABASE_URL: way.through(space.config.DATABASE_URL),
    ...settings,
  };
  const role = await runRoles({ ...space, config }, startApi);
  running.push(role);
  return { url: role.started.url, way };
}

const newTenant = () => nameInMidWindow(() => `tenant-${randomUUID()}`, WINDOW_MS);

/** Sends so many requests of a tenant, in turn to each process, and counts the answers by status. */
async function ask(processes: Process[], tenant: string, count: number): Promise<Record<number, number>> {
  const token = await mintToken(space.config, { subject: 'a', tenant, scopes: ['read'], expiresInS: 600 });
  const answers: Record<number, number> = {};
  let sent = 0;
  const send = async () => {
    while (sent < count) {
      const { url } = processes[sent++ % processes.length]!;
      const response = await fetch(url + PATH, { headers: { authorization: `Bearer ${token}` } });
      await response.arrayBuffer();
      answers[response.status] = (answers[response.status] ?? 0) + 1;
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, send));
  return answers;
}

/** Windows that were asked for, whatever the database said. */
async function blocksAsked(): Promise<number> {
  const { values } = await metrics.rateLimitBlocks.get();
  return values.reduce((sum, { value }) => sum + value, 0);
}

describe('a limit', () => {
  it('is kept to the request by one process', async () => {
    const one = await startProcess();
    expect(await ask([one], newTenant(), LIMIT + 50)).toEqual({ 404: LIMIT, 429: 50 });
  });

  it('holds for two processes together, but for a block, and for one that comes later', async () => {
    const two = await Promise.all([startProcess(), startProcess()]);
    for (const tenant of [newTenant(), newTenant()]) {
      const { 404: first = 0, ...others } = await ask(two, tenant, LIMIT + 100);
      expect(others).toEqual({ 429: LIMIT + 100 - first });
      // Until both of them refuse everything.
      let served = first;
      for (let more = 1; more > 0; served += more) more = (await ask(two, tenant, 50))[404] ?? 0;
      expect(served).toBeGreaterThanOrEqual(LIMIT);
      expect(served).toBeLessThanOrEqual(LIMIT + BLOCK);
      expect((await ask([await startProcess()], tenant, 50))[404] ?? 0).toBeLessThanOrEqual(BLOCK);
    }
  });

  it('takes few statements of who sends much, and none of who sends little', async () => {
    const one = await startProcess();
    const before = await blocksAsked();
    await ask([one], newTenant(), BLOCK / 2 - 1);
    expect(await blocksAsked()).toBe(before);
    await ask([one], newTenant(), LIMIT);
    expect((await blocksAsked()) - before).toBeLessThanOrEqual(LIMIT / BLOCK);
  });

  it('begins again with each window', async () => {
    const one = await startProcess({ API_RATE_LIMIT_REQUESTS: 5, API_RATE_LIMIT_WINDOW_MS: 2_000 });
    const tenant = newTenant();
    await eventually(async () => expect(await ask([one], tenant, 20)).toHaveProperty('429'));
    await eventually(async () => expect(await ask([one], tenant, 1)).toEqual({ 404: 1 }));
  });

  it('is no less kept while the first connection to the database is slow', async () => {
    const limit = 30;
    const settings = { API_RATE_LIMIT_REQUESTS: limit, DATABASE_CONNECT_TIMEOUT_MS: 20_000 };
    const two = await Promise.all([startProcess(settings), startProcess(settings)]);
    for (const { way } of two) way.stall();
    const asked = ask(two, newTenant(), 2 * limit);
    await sleep(700);
    for (const { way } of two) way.resume();
    const { 404: served = 0, ...others } = await asked;
    expect(served).toBeLessThanOrEqual(limit + Math.ceil(limit / 20));
    expect(others).toEqual({ 429: 2 * limit - served });
  });

  it('lets a block through while the database hangs, says 503 beyond, and gives the rest when it is back', async () => {
    const one = await startProcess({ DATABASE_CONNECT_TIMEOUT_MS: 500, DATABASE_ANSWER_TIMEOUT_MS: 500 });
    const tenant = newTenant();
    one.way.stall();
    expect(await ask([one], tenant, 100)).toEqual({ 404: BLOCK, 503: 100 - BLOCK });
    // The others are not kept waiting by it.
    expect(await ask([one], newTenant(), 1)).toEqual({ 404: 1 });
    one.way.resume();
    let served = BLOCK;
    await eventually(async () => {
      const { 404: more = 0, 429: refused = 0 } = await ask([one], tenant, 20);
      served += more;
      expect(refused).toBeGreaterThan(0);
    });
    expect(served).toBe(LIMIT);
  });
});

describe('windows that are over', () => {
  it('are deleted from the database as others are made', async () => {
    const one = await startProcess();
    const rows = () =>
      withDatabase(space.ownerUrl, async (client) => {
        const { rows } = await client.query<{ count: string }>(
          `SELECT count(*) FROM rate_limit_windows WHERE key LIKE 'old %'`,
        );
        return Number(rows[0]!.count);
      });
    await withDatabase(space.ownerUrl, (client) =>
      client.query(
        `INSERT INTO rate_limit_windows SELECT 'old ' || i, now() - interval '3 hours', 1 FROM generate_series(1, 5) AS i`,
      ),
    );
    expect(await rows()).toBe(5);
    await ask([one], newTenant(), LIMIT);
    expect(await rows()).toBe(0);
  });
});
