import { Client } from 'pg';
import { findAttempts, type AttemptFilter } from '../../../src/domain/attempt-reads';
import { listDeliveries, type DeliveryFilter } from '../../../src/domain/deliveries';
import { listAudit, type AuditFilter } from '../../../src/domain/audit';
import { listDisputes, type DisputeFilter } from '../../../src/domain/disputes';
import { listEvents, type EventFilter } from '../../../src/domain/events';
import { listJournal, listTenantAccounts, listTenantOrders } from '../../../src/domain/journal';
import { encodeCursor } from '../../../src/domain/pages';
import { listPayments, type PaymentFilter } from '../../../src/domain/payments';
import { listPortalDeliveries, listPortalEvents } from '../../../src/domain/portal-reads';
import { listEntries } from '../../../src/domain/statements';
import { attemptFigures } from '../../../src/domain/statistics';
import type { Database } from '../../../src/platform/postgres';
import { createTestSpace, openTestDatabase } from '../../support/harness';
import { fillLists } from '../../support/many-rows';
import { withDatabase } from '../../support/shared-stack';

const DELIVERIES = 100_000;
const ROWS = 20_000;
const LIMIT = 100;
const TENANT = 'big';

let db: Database;
beforeAll(async () => {
  const space = await createTestSpace();
  db = openTestDatabase(space);
  await withDatabase(space.ownerUrl, (client) => fillLists(client, { deliveries: DELIVERIES, rows: ROWS }));
}, 120_000);
afterAll(() => db.close());

interface Node {
  'Node Type': string;
  'Relation Name'?: string;
  'Actual Rows': number;
  'Actual Loops': number;
  'Rows Removed by Filter'?: number;
  'Rows Removed by Index Recheck'?: number;
  Plans?: Node[];
}

/** What a list costs the database. */
interface Cost {
  /** Rows that were looked at, over all tables and statements. */
  read: number;
  /** The most rows that were sorted. */
  sorted: number;
  /** Tables that were gone through from their beginning. */
  whole: string[];
}

/** Runs something, then asks the database how it carries out each statement of it. */
async function costOf(run: () => Promise<unknown>): Promise<Cost> {
  const seen: { text: string; values: unknown[] }[] = [];
  const query = jest.spyOn(Client.prototype, 'query');
  try {
    await run();
    for (const [first, second] of query.mock.calls as unknown as [
      string | { text: string; values?: unknown[] },
      unknown,
    ][])
      seen.push(
        typeof first === 'string'
          ? { text: first, values: Array.isArray(second) ? second : [] }
          : { text: first.text, values: first.values ?? (Array.isArray(second) ? second : []) },
      );
  } finally {
    query.mockRestore();
  }
  const cost: Cost = { read: 0, sorted: 0, whole: [] };
  for (const { text, values } of seen.filter(({ text: sql }) => /^\s*(SELECT|WITH)\b/i.test(sql))) {
    const { rows } = await db.pool.query<{ 'QUERY PLAN': [{ Plan: Node }] }>(
      `EXPLAIN (ANALYZE, TIMING OFF, FORMAT JSON) ${text}`,
      values,
    );
    addUp(rows[0]!['QUERY PLAN'][0].Plan, cost);
  }
  expect(seen.length).toBeGreaterThan(0);
  return cost;
}

function addUp(node: Node, cost: Cost): void {
  const loops = node['Actual Loops'];
  const rows = node['Actual Rows'] * loops;
  if (node['Relation Name'] !== undefined) {
    const removed = (node['Rows Removed by Filter'] ?? 0) + (node['Rows Removed by Index Recheck'] ?? 0);
    const read = rows + removed * loops;
    cost.read += read;
    if (node['Node Type'] === 'Seq Scan' && read > LIMIT) cost.whole.push(node['Relation Name']);
  }
  if (node['Node Type'] === 'Sort')
    cost.sorted = Math.max(cost.sorted, (node.Plans?.[0]?.['Actual Rows'] ?? 0) * loops);
  for (const each of node.Plans ?? []) addUp(each, cost);
}

/** Every way of giving each of these filters one of its values or none. */
function combinations(filters: Record<string, readonly unknown[]>): Record<string, unknown>[] {
  return Object.entries(filters).reduce<Record<string, unknown>[]>(
    (given, [name, values]) => [
      ...given,
      ...given.flatMap((each) => values.map((value) => ({ ...each, [name]: value }))),
    ],
    [{}],
  );
}

const ago = (seconds: number) => new Date(Date.now() - seconds * 1_000);

/** Which of the ways of asking for a list reads or sorts more than it may, or goes through a whole table. */
async function tooDear(
  cases: readonly Record<string, unknown>[],
  list: (filter: never) => Promise<unknown>,
  most: number,
  /** What else is meant: sorts of what figures are made of, a look through a whole table. */
  { mostSorted = 1_500, whole: mayBeWhole = false } = {},
): Promise<string[]> {
  const found: string[] = [];
  let worst = 0;
  for (const filter of cases) {
    const { read, sorted, whole } = await costOf(() => list(filter as never));
    worst = Math.max(worst, read);
    if (read > most || sorted > mostSorted || (whole.length > 0 && !mayBeWhole))
      found.push(`${JSON.stringify(filter)}: read ${read}, sorted ${sorted}, whole ${whole.join()}`);
  }
  // Whoever raises a bound should see by how much.
  expect(worst).toBeGreaterThan(0);
  return found;
}

/** The place in the middle of a list. */
async function middleOf(table: string, at = 'created_at', id = 'id', where = ''): Promise<string> {
  const { rows } = await db.pool.query<{ at: Date; id: string }>(
    `SELECT ${at} AS at, ${id} AS id FROM ${table} WHERE tenant_id = $1 ${where}
      ORDER BY 1 DESC OFFSET (SELECT count(*) / 2 FROM ${table} WHERE tenant_id = $1 ${where}) LIMIT 1`,
    [TENANT],
  );
  return encodeCursor({ createdAt: rows[0]!.at, id: rows[0]!.id });
}

describe(`of ${DELIVERIES.toLocaleString('en')} deliveries`, () => {
  const page = (filter: Partial<DeliveryFilter>) =>
    listDeliveries(db, { tenantId: TENANT, limit: LIMIT, ...filter });

  it('each page, however it is filtered and however deep, is read by index, without a sort of what is not on it', async () => {
    const filters = {
      status: ['pending', 'delivered', 'exhausted', 'cancelled', 'held'],
      since: [ago(DELIVERIES / 10)],
      eventType: ['often.4', 'seldom.thing', 'rare.thing'],
      cursor: [await middleOf('deliveries')],
    };
    expect(await tooDear(combinations(filters), page, 1_500)).toEqual([]);
    const ofSubscription = combinations(filters).map((each) => ({ ...each, subscriptionId: 'sub_big4' }));
    // What two of them leave is looked for among what one of them finds.
    expect(await tooDear(ofSubscription, page, 3_000)).toEqual([]);
  });

  it('a page by one filter reads little more than what is on it', async () => {
    const deep = await middleOf('deliveries');
    const cases = [
      {},
      { cursor: deep },
      ...['pending', 'delivered', 'exhausted', 'cancelled', 'held'].flatMap((status) => [
        { status },
        { status, cursor: deep },
        { status, subscriptionId: 'sub_big4' },
      ]),
      ...['often.4', 'seldom.thing', 'rare.thing'].flatMap((eventType) => [
        { eventType },
        { eventType, cursor: deep },
      ]),
      { subscriptionId: 'sub_big4' },
      { subscriptionId: 'sub_big4', cursor: deep },
      { eventId: 'evt_70' },
    ];
    // Next to the page's deliveries: what those that are pending wait for.
    expect(await tooDear(cases, page, 1_200)).toEqual([]);
  });

  it('a page of a tenant with few deliveries reads none of the others’', async () => {
    const cases = [{ status: 'pending' }, { eventType: 'often.4' }, {}].map((each) => ({
      ...each,
      tenantId: 'small',
    }));
    expect(await tooDear(cases, page, 1_200)).toEqual([]);
    const { items } = await listDeliveries(db, { tenantId: 'small', limit: LIMIT });
    expect(items.every(({ subscriptionId }) => subscriptionId.startsWith('sub_small'))).toBe(true);
  });

  it('all pages together are all of them, each once and in order', async () => {
    const ids: string[] = [];
    let cursor: string | undefined;
    do {
      const { items, nextCursor } = await page({ status: 'exhausted', limit: 200, cursor });
      ids.push(...items.map(({ id }) => id));
      cursor = nextCursor ?? undefined;
    } while (cursor !== undefined);
    const { rows } = await db.pool.query<{ id: string }>(
      `SELECT id FROM deliveries WHERE tenant_id = $1 AND status = 'exhausted' ORDER BY created_at DESC, id DESC`,
      [TENANT],
    );
    expect(ids).toEqual(rows.map(({ id }) => id));
    expect(ids.length).toBeGreaterThan(500);
  });

  it('a subscriber’s page in the portal, likewise, also by a type that it hardly gets or does not get any more', async () => {
    const subscriptionIds = ['sub_big4', 'sub_big5', 'sub_big6'];
    const filters = {
      status: ['pending', 'delivered', 'exhausted'],
      since: [ago(DELIVERIES / 10)],
      eventType: ['often.4', 'seldom.thing', 'rare.thing', 'no.more'],
      cursor: [await middleOf('deliveries')],
    };
    const scope = { tenantId: TENANT, limit: LIMIT };
    const page = (filter: object) => listPortalDeliveries(db, { ...scope, subscriptionIds, ...filter });
    expect(await tooDear(combinations(filters), page, 3_500)).toEqual([]);
    const ofOne = combinations({ eventType: filters.eventType, cursor: filters.cursor });
    const one = (filter: object) => page({ ...filter, subscriptionIds: ['sub_big4'] });
    expect(await tooDear(ofOne, one, 1_200)).toEqual([]);
    const { status: _, ...ofEvents } = filters;
    const events = (filter: object) => listPortalEvents(db, { ...scope, subscriptionIds, ...filter });
    expect(await tooDear(combinations(ofEvents), events, 3_500)).toEqual([]);
  });

  it('attempts are found by subscription, type, outcome and time by index', async () => {
    const { rows } = await db.pool.query<{ at: Date; id: string }>(
      `SELECT started_at AS at, delivery_id || '-' || attempt AS id FROM delivery_attempts
        WHERE tenant_id = $1 ORDER BY 1 DESC OFFSET 50000 LIMIT 1`,
      [TENANT],
    );
    const deep = encodeCursor({ createdAt: rows[0]!.at, id: rows[0]!.id });
    const cases = combinations({
      subscriptionId: ['sub_big4'],
      outcome: ['delivered', 'failed'],
      since: [ago(DELIVERIES / 10)],
      cursor: [deep],
    });
    const find = (filter: Partial<AttemptFilter>) =>
      findAttempts(db, { tenantId: TENANT, limit: LIMIT, ...filter });
    expect(await tooDear(cases, find, 500)).toEqual([]);
    const results = combinations({
      result: ['timeout', 'http_error'],
      cursor: [deep],
      subscriptionId: ['sub_big4'],
    });
    // Among failures, which are few.
    expect(await tooDear(results, find, 2_000)).toEqual([]);
    const types = combinations({
      eventType: ['often.4', 'seldom.thing', 'rare.thing', 'no.more'],
      outcome: ['failed'],
      subscriptionId: ['sub_big4'],
      cursor: [deep],
    });
    // What two filters leave is looked for among what one of them finds.
    expect(await tooDear(types, find, 6_000)).toEqual([]);
    const ofType = combinations({ eventType: ['often.4', 'seldom.thing', 'rare.thing'], cursor: [deep] });
    expect(await tooDear(ofType, find, 500)).toEqual([]);
  });

  it('the figures of a subscription are read by index', async () => {
    const figures = (filter: object) =>
      attemptFigures(db, {
        ...{ tenantId: TENANT, bucket: 'hour', since: ago(DELIVERIES), until: new Date(), ...filter },
      });
    expect(
      await tooDear([{ subscriptionId: 'sub_big4' }], figures, DELIVERIES / 20 + 100, {
        mostSorted: DELIVERIES / 20,
      }),
    ).toEqual([]);
  });
});

describe('the other long lists are read by index, too', () => {
  it('events', async () => {
    const cases = combinations({
      type: ['often.4', 'seldom.thing', 'rare.thing'],
      source: ['api', 'remit'],
      since: [ago(DELIVERIES / 10)],
      cursor: [await middleOf('webhook_events')],
    });
    const page = (filter: Partial<EventFilter>) =>
      listEvents(db, { tenantId: TENANT, limit: LIMIT, ...filter });
    expect(await tooDear([...cases, { clientId: 'client-3' }], page, 6_000)).toEqual([]);
    expect(await tooDear([{ type: 'seldom.thing' }, { type: 'rare.thing' }], page, DELIVERIES / 5)).toEqual(
      [],
    );
  });

  it('payments, of which those of a status are looked for among the tenant’s or the user’s', async () => {
    const cursor = await middleOf('payments');
    const page = (filter: Partial<PaymentFilter>) =>
      listPayments(db, { tenantId: TENANT, limit: LIMIT, ...filter });
    const cases = combinations({
      userId: ['user-7'],
      provider: ['decard'],
      type: ['payment'],
      since: [ago(ROWS / 10)],
      cursor: [cursor],
    });
    expect(await tooDear(cases, page, 1_200)).toEqual([]);
    // An index on the status would be written to by every settlement, in its SERIALIZABLE transaction (docs/adr/0002).
    expect(
      await tooDear(combinations({ status: ['pending', 'succeeded'], cursor: [cursor] }), page, ROWS, {
        whole: true,
      }),
    ).toEqual([]);
  });

  it('orders, likewise', async () => {
    const cursor = await middleOf('orders');
    const page = (filter: object) => listTenantOrders(db, { tenantId: TENANT, limit: LIMIT, ...filter });
    const cases = combinations({
      userId: ['user-7'],
      paymentMethod: ['balance'],
      since: [ago(ROWS / 10)],
      cursor: [cursor],
    });
    expect(await tooDear(cases, page, 1_200)).toEqual([]);
    expect(
      await tooDear(combinations({ status: ['NEW', 'FINISHED'], cursor: [cursor] }), page, ROWS, {
        whole: true,
      }),
    ).toEqual([]);
  });

  it('disputes, also by the time their evidence is due', async () => {
    const page = (filter: Partial<DisputeFilter>) =>
      listDisputes(db, { tenantId: TENANT, limit: LIMIT, ...filter });
    const due = await middleOf('disputes', 'evidence_due_at', 'id', `AND status = 'opened'`);
    const cases = [
      ...combinations({ cursor: [await middleOf('disputes')] }),
      ...combinations({ sort: ['due'], cursor: [due] }),
    ];
    expect(await tooDear(cases, page, 300)).toEqual([]);
  });

  it('accounts', async () => {
    const { rows } = await db.pool.query<{ id: string }>(
      `SELECT id FROM accounts WHERE tenant_id = $1 ORDER BY user_id OFFSET 900 LIMIT 1`,
      [TENANT],
    );
    const cursor = encodeCursor({ createdAt: new Date(0), id: rows[0]!.id });
    const page = (filter: object) => listTenantAccounts(db, { tenantId: TENANT, limit: LIMIT, ...filter });
    expect(await tooDear(combinations({ userId: ['user-7'], cursor: [cursor] }), page, 300)).toEqual([]);
  });

  it('entries of an account that moves all the time', async () => {
    const { rows } = await db.pool.query<{ id: string; entry: string }>(
      `SELECT a.id, (SELECT max(id) / 2 FROM ledger_entries e WHERE e.account_id = a.id)::text AS entry FROM accounts a
        WHERE tenant_id = $1 AND user_id = 'user-0'`,
      [TENANT],
    );
    const cursor = encodeCursor({ createdAt: new Date(), id: rows[0]!.entry });
    const page = (filter: object) =>
      listEntries(db, { tenantId: TENANT, accountId: rows[0]!.id, limit: LIMIT, ...filter });
    expect(await tooDear(combinations({ cursor: [cursor] }), page, 600)).toEqual([]);
  });

  it('movements', async () => {
    const { rows } = await db.pool.query<{ id: string }>(
      `SELECT (max(id) / 2)::text AS id FROM journal_transactions`,
    );
    const cursor = encodeCursor({ createdAt: new Date(), id: rows[0]!.id });
    const page = (filter: object) => listJournal(db, { tenantId: TENANT, limit: LIMIT, ...filter });
    const cases = combinations({ since: [ago(ROWS - 100)], until: [new Date()], cursor: [cursor] });
    // The few of the last minute, without what came before.
    expect(await tooDear([...cases, { since: ago(50) }], page, 6_000)).toEqual([]);
  });

  it('the audit log', async () => {
    const { rows } = await db.pool.query<{ id: string }>(`SELECT (max(id) / 2)::text AS id FROM audit_log`);
    const cursor = encodeCursor({ createdAt: new Date(), id: rows[0]!.id });
    const page = (filter: Partial<AuditFilter>) =>
      listAudit(db, { tenantId: TENANT, limit: LIMIT, ...filter });
    const cases = [
      ...combinations({ kind: ['money', 'configuration'], cursor: [cursor] }),
      ...combinations({ cause: ['subscription:sub_big4'], cursor: [cursor] }),
      { since: ago(50) },
      { kind: 'configuration', actor: 'console:ayse' },
    ];
    expect(await tooDear(cases, page, 6_000)).toEqual([]);
  });
});
