import { randomUUID } from 'node:crypto';
import {
  AccountAsOf,
  AccountPage,
  JournalTransactionDetail,
  JournalTransactionPage,
} from '../../../src/contracts/journal';
import {
  Correction,
  ReconciliationRunDetail,
  ReconciliationRunPage,
} from '../../../src/contracts/reconciliation';
import { OrderPage } from '../../../src/contracts/orders';
import { DeliveryStatistics, OrderStatistics, PaymentStatistics } from '../../../src/contracts/statistics';
import { Happened } from '../../../src/contracts/stream';
import { RefusedOutboxPage, SystemStatus } from '../../../src/contracts/system';
import { mintToken } from '../../../src/operations/token';
import { withDatabase } from '../../support/shared-stack';
import { expectProblem, newUser, TestApi } from './support';

let api: TestApi;
beforeAll(async () => {
  api = await TestApi.start();
}, 120_000);
afterAll(() => api?.stop());

const get = (path: string) => api.operator('GET', `/api/v1${path}`);
const stranger = (method: string, path: string) =>
  api.withToken({ tenant: 'stranger', scopes: ['admin'] }, method, `/api/v1${path}`);
const accountOf = async (userId: string) =>
  AccountPage.parse((await get(`/accounts?userId=${userId}`)).body).items[0]!;
const sql = (text: string, values: unknown[] = []) =>
  withDatabase(api.space.ownerUrl, (client) => client.query(text, values));

describe('accounts and movements', () => {
  it('are listed by user in pages that neither miss nor repeat one, and not to another tenant', async () => {
    const prefix = newUser();
    for (const end of ['c', 'a', 'b']) await api.fund(`${prefix}-${end}`, '5.00');
    const seen: string[] = [];
    let cursor = '';
    do {
      const page = AccountPage.parse((await get(`/accounts?limit=2${cursor}`)).body);
      seen.push(...page.items.map(({ userId }) => userId));
      cursor = page.nextCursor === null ? '' : `&cursor=${page.nextCursor}`;
    } while (cursor !== '');
    expect(seen.filter((userId) => userId.startsWith(prefix))).toEqual(
      ['a', 'b', 'c'].map((end) => `${prefix}-${end}`),
    );
    expect(new Set(seen).size).toBe(seen.length);
    expect((await stranger('GET', '/accounts')).body).toEqual({ items: [], nextCursor: null });
  });

  it('prove a balance as of a moment by the audit record that says so', async () => {
    const userId = newUser();
    await api.fund(userId, '10.00');
    const account = await accountOf(userId);
    // Times are kept to milliseconds.
    await new Promise((resolve) => setTimeout(resolve, 20));
    const between = new Date();
    await new Promise((resolve) => setTimeout(resolve, 20));
    await api.asUser(userId, 'POST', '/accounts/topup', { amount: '7.00', currency: 'TRY' });
    const asOf = async (query: string) =>
      AccountAsOf.parse((await get(`/accounts/${account.id}${query}`)).body);
    expect(await asOf('')).toMatchObject({ balance: '17.00', at: null, provedBy: { action: 'top_up' } });
    expect(await asOf(`?at=${between.toISOString()}`)).toMatchObject({
      balance: '10.00',
      at: between.toISOString(),
    });
    expect(await asOf('?at=1999-01-01T00:00:00Z')).toMatchObject({ balance: '0.00', provedBy: null });
    expectProblem(await stranger('GET', `/accounts/${account.id}`), 404, 'not_found');
    expectProblem(await get(`/accounts/${randomUUID()}`), 404, 'not_found');
  });

  it('show the movement behind an entry with lines that sum to zero, and the statement as CSV', async () => {
    const userId = newUser();
    await api.fund(userId, '12.50');
    const { id } = await accountOf(userId);
    const entries = (await get(`/accounts/${id}/entries`)).body as {
      items: { journalId: string; reference: string }[];
    };
    const { journalId, reference } = entries.items[0]!;
    const journal = JournalTransactionDetail.parse((await get(`/journal-transactions/${journalId}`)).body);
    expect(journal.entries.map(({ amount }) => Number(amount)).reduce((a, b) => a + b)).toBe(0);
    expect(journal.entries).toContainEqual(
      expect.objectContaining({ userId, amount: '12.50', balanceAfter: '12.50' }),
    );
    const found = JournalTransactionPage.parse(
      (await get(`/journal-transactions?reference=${reference}`)).body,
    );
    expect(found.items).toMatchObject([{ id: journalId, kind: 'top_up' }]);
    expectProblem(await stranger('GET', `/journal-transactions/${journalId}`), 404, 'not_found');

    const token = await mintToken(api.space.config, {
      subject: 'operator',
      scopes: ['read'],
      expiresInS: 60,
    });
    const csv = await fetch(`${api.url}/api/v1/accounts/${id}/entries.csv`, {
      headers: { authorization: `Bearer ${token}` },
    });
    expect(csv.headers.get('content-type')).toMatch(/^text\/csv/);
    const lines = (await csv.text()).trimEnd().split('\r\n');
    expect(lines[0]).toMatch(/^id,createdAt,kind,reference,amount,currency,balanceAfter/);
    expect(lines).toHaveLength(2);
    expect(lines[1]).toContain(`,top_up,${reference},12.50,TRY,12.50,`);
    expectProblem(await stranger('GET', `/accounts/${id}/entries.csv`), 404, 'not_found');
  });
});

describe('orders of all users', () => {
  it('are listed and read by the tenant alone, and counted by the hour', async () => {
    const userId = newUser();
    const placed = await api.asUser(userId, 'POST', '/orders', { amount: '8.00', paymentMethod: 'provider' });
    const { id } = placed.body as { id: string };
    const page = OrderPage.parse(
      (await get(`/orders?userId=${userId}&status=NEW&paymentMethod=provider`)).body,
    );
    expect(page.items).toMatchObject([{ id, userId, amount: '8.00' }]);
    expect((await get(`/orders/${id}`)).body).toMatchObject({
      id,
      refunded: '0.00',
      workflowId: `order/${id}`,
    });
    expect((await stranger('GET', '/orders')).body).toEqual({ items: [], nextCursor: null });
    expectProblem(await stranger('GET', `/orders/${id}`), 404, 'not_found');
    const { items } = OrderStatistics.parse((await get('/statistics/orders?by=paymentMethod')).body);
    const open = items.filter(({ group }) => group === 'provider').reduce((sum, each) => sum + each.open, 0);
    expect(open).toBeGreaterThan(0);
    expect((await stranger('GET', '/statistics/orders')).body).toMatchObject({ items: [] });
  });
});

describe('statistics', () => {
  it('count payments and deliveries of the time, and refuse a time that is none or too long', async () => {
    const userId = newUser();
    await api.fund(userId, '1.00');
    const body = { userId, amount: '4.00', currency: 'TRY', provider: 'decard' };
    await api.operator('POST', '/api/v1/payments', body);
    const found = PaymentStatistics.parse((await get('/statistics/payments?bucket=minute&by=provider')).body);
    expect(
      found.items.filter(({ group }) => group === 'decard').reduce((sum, { open }) => sum + open, 0),
    ).toBeGreaterThan(0);
    expect(DeliveryStatistics.parse((await get('/statistics/deliveries?by=subscription')).body).bucket).toBe(
      'hour',
    );
    expect((await get('/statistics/attempts')).body).toMatchObject({ items: [], complete: true });
    for (const query of [
      'since=2026-01-02T00:00:00Z&until=2026-01-01T00:00:00Z',
      'bucket=minute&since=2026-01-01T00:00:00Z',
    ])
      expectProblem(await get(`/statistics/payments?${query}`), 400, 'invalid_request');
  });
});

describe('reconciliation', () => {
  it('keeps its runs, and shows those over all tenants to the platform alone', async () => {
    const run = ReconciliationRunDetail.parse(
      (await api.operator('POST', '/api/v1/reconciliation-runs')).body,
    );
    expect(run).toMatchObject({ tenant: 'default', clean: true, found: 0, startedBy: 'token:operator' });
    expect(run.report.checks.length).toBeGreaterThan(10);
    const all = randomUUID();
    await sql(
      `INSERT INTO reconciliation_runs (id, at, duration_ms, clean, found, started_by, report)
       VALUES ($1, now(), 1, false, 1, 'schedule', $2)`,
      [all, JSON.stringify({ ...run.report, tenant: null })],
    );
    const ids = async (scopes: string[]) =>
      ReconciliationRunPage.parse(
        (await api.withToken({ scopes }, 'GET', '/api/v1/reconciliation-runs')).body,
      ).items.map(({ id }) => id);
    expect(await ids(['read'])).toEqual([run.id]);
    expect(await ids(['read', 'platform'])).toEqual([all, run.id]);
    expectProblem(await get(`/reconciliation-runs/${all}`), 404, 'not_found');
    expectProblem(await stranger('GET', `/reconciliation-runs/${run.id}`), 404, 'not_found');
  });

  it('posts a correction when another person approves it, once, and never without funds', async () => {
    const userId = newUser();
    await api.fund(userId, '10.00');
    const { id: accountId } = await accountOf(userId);
    const as = (subject: string, path: string, body?: unknown) =>
      api.withToken({ subject, scopes: ['admin'] }, 'POST', `/api/v1/corrections${path}`, body);
    const propose = async (direction: string, amount: string) =>
      Correction.parse((await as('first', '', { accountId, direction, amount, reason: 'a test' })).body);
    const credit = await propose('credit', '2.00');
    expect(credit).toMatchObject({ status: 'proposed', proposedBy: 'token:first', amount: '2.00' });
    expectProblem(await as('first', `/${credit.id}/approve`), 409, 'conflict');
    // The console and a token are two ways in for one person.
    const proposedBy = (actor: string) =>
      sql('UPDATE corrections SET proposed_by = $2 WHERE id = $1', [credit.id, actor]);
    await proposedBy('console:second');
    expectProblem(await as('second', `/${credit.id}/approve`), 409, 'conflict');
    await proposedBy('token:first');
    expect((await accountOf(userId)).balance).toBe('10.00');
    for (let times = 0; times < 2; times++)
      expect((await as('second', `/${credit.id}/approve`, { comment: 'seen' })).body).toMatchObject({
        status: 'posted',
        decidedBy: 'token:second',
        reference: `correction:${credit.id}`,
      });
    expect((await accountOf(userId)).balance).toBe('12.00');
    expectProblem(await as('third', `/${credit.id}/approve`), 409, 'conflict');
    const debit = await propose('debit', '12.01');
    expectProblem(await as('second', `/${debit.id}/approve`), 422, 'unprocessable');
    expect((await as('first', `/${debit.id}/reject`)).body).toMatchObject({ status: 'rejected' });
    expectProblem(await stranger('POST', `/corrections/${debit.id}/approve`), 404, 'not_found');
    expect((await accountOf(userId)).balance).toBe('12.00');
    expect((await get('/reconciliation')).body).toMatchObject({ clean: true });
  });
});

describe('the installation', () => {
  const platform = { scopes: ['admin', 'platform'] };

  it('says what it depends on, what waits, and what is wrong', async () => {
    const status = SystemStatus.parse((await api.withToken(platform, 'GET', '/api/v1/system')).body);
    expect(status.dependencies).toMatchObject({
      postgres: 'ok',
      kafka: 'ok',
      temporal: 'ok',
      clickhouse: 'ok',
    });
    expect(status.consumers.map(({ topic }) => topic)).toContain(api.space.config.TOPIC_PURCHASES);
    expect(status.workers.map(({ taskQueue }) => taskQueue)).toContain('payments');
    expectProblem(await api.withToken({ scopes: ['admin'] }, 'GET', '/api/v1/system'), 403, 'forbidden');
  });

  it('lists refused outbox rows, puts them back, and keeps discarded ones in the audit log', async () => {
    await sql(
      `INSERT INTO outbox_refused (id, topic, key, value, headers, created_at, reason)
       SELECT n, 'domain.events', 'key-' || n, '{}', '{"remit-correlation-id": "c"}', now(), 'too large' FROM generate_series(1, 2) AS n`,
    );
    const call = (method: string, path: string, body?: unknown) =>
      api.withToken(platform, method, `/api/v1/outbox/refused${path}`, body);
    const { items } = RefusedOutboxPage.parse((await call('GET', '')).body);
    expect(items).toMatchObject([
      { id: '2', reason: 'too large' },
      { id: '1', headers: { 'remit-correlation-id': 'c' } },
    ]);
    expect((await call('POST', '/retry', { ids: ['1'] })).body).toEqual({ rows: 1 });
    expect((await call('POST', '/discard', {})).body).toEqual({ rows: 1 });
    expect((await call('POST', '/discard', {})).body).toEqual({ rows: 0 });
    const { rows } = await sql(`SELECT key FROM outbox WHERE key LIKE 'key-%'`);
    expect(rows).toEqual([{ key: 'key-1' }]);
    const audit = await api.withToken(platform, 'GET', '/api/v1/audit?action=outbox.discarded');
    expect(audit.body).toMatchObject({
      items: [{ cause: 'outbox:2', details: { before: { key: 'key-2' } } }],
    });
  });
});

describe('the stream', () => {
  /** Everything of one stream, read to its end. */
  async function stream(query: string, headers: Record<string, string> = {}, tenant?: string) {
    const token = await mintToken(api.space.config, {
      subject: 'operator',
      tenant,
      scopes: ['read'],
      expiresInS: 60,
    });
    const response = await fetch(`${api.url}/api/v1/stream?${query}`, {
      headers: { authorization: `Bearer ${token}`, ...headers },
    });
    expect(response.headers.get('content-type')).toMatch(/^text\/event-stream/);
    const blocks = (await response.text()).split('\n\n');
    const events = blocks.filter((block) => block.includes('event: happened'));
    return {
      happened: events.map((block) => Happened.parse(JSON.parse(/^data: (.*)$/m.exec(block)![1]!))),
      lastId: /^id: (\d+)$/m.exec(events.at(-1) ?? blocks.at(-2) ?? '')?.[1],
      ended: blocks.some((block) => block.includes('event: end')),
    };
  }

  it('tells what happens, once, to the tenant alone, and resumes where it was', async () => {
    const userId = newUser();
    const first = stream('seconds=4&kinds=order');
    const other = stream('seconds=4', {}, 'stranger');
    await new Promise((resolve) => setTimeout(resolve, 500));
    const placed = await api.asUser(userId, 'POST', '/orders', { amount: '3.00' });
    const { id } = placed.body as { id: string };
    const told = await first;
    expect(told.happened.filter(({ subject }) => subject.id === id)).toMatchObject([
      { kind: 'order', type: 'order.created', userId, status: 'NEW' },
    ]);
    expect(told.ended).toBe(true);
    expect((await other).happened).toEqual([]);
    const later = await api.asUser(userId, 'POST', '/orders', { amount: '4.00' });
    const resumed = await stream('seconds=2&kinds=order', { 'Last-Event-ID': told.lastId! });
    expect(resumed.happened.map(({ subject }) => subject.id)).toContain((later.body as { id: string }).id);
    expectProblem(await get('/stream?kinds=nonsense'), 400, 'invalid_request');
  }, 60_000);
});
