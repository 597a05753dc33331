import { RemitError } from '../../contracts/errors';
import { AccountParams } from '../../contracts/accounts';
import { IdParams } from '../../contracts/http';
import {
  AccountAsOf,
  AccountAsOfQuery,
  AccountPage,
  AccountsQuery,
  EntriesCsvQuery,
  JournalQuery,
  JournalTransactionDetail,
  JournalTransactionPage,
  OrderDetail,
  OrdersQuery,
} from '../../contracts/journal';
import { OrderPage } from '../../contracts/orders';
import { formatMinor } from '../../contracts/money';
import { workflowId } from '../../contracts/workflows';
import {
  accountAsOf,
  getJournal,
  getTenantOrder,
  listJournal,
  listTenantAccounts,
  listTenantOrders,
  type JournalView,
} from '../../domain/journal';
import { listEntries, type StatementEntry } from '../../domain/statements';
import { accountOf } from './accounts';
import { orderOf } from './orders';
import { uuidOr404 } from './ids';
import { defineRoute, pageLimits, pageOf, timeOf, type Route } from './route';

const journalOf = ({ createdAt, ...journal }: JournalView) => ({
  ...journal,
  createdAt: createdAt.toISOString(),
});

const CSV_PAGE_ROWS = 1_000;
const CSV_ROWS_MAX = 100_000;
const CSV_COLUMNS = [
  'id',
  'createdAt',
  'kind',
  'reference',
  'amount',
  'currency',
  'balanceAfter',
  'journalId',
  'correlationId',
] as const;

/** RFC 4180. Text that a spreadsheet would take for a formula gets an apostrophe before it. */
function csvField(value: string): string {
  const text = /^[=+@\t\r]|^-(?!\d)/.test(value) ? `'${value}` : value;
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

function csvLine({ amountMinor, balanceAfterMinor, createdAt, ...entry }: StatementEntry): string {
  const row: Record<(typeof CSV_COLUMNS)[number], string | null> = {
    ...entry,
    amount: formatMinor(amountMinor, entry.currency),
    balanceAfter: formatMinor(balanceAfterMinor, entry.currency),
    createdAt: createdAt.toISOString(),
  };
  return `${CSV_COLUMNS.map((name) => csvField(row[name] ?? '')).join(',')}\r\n`;
}

/** Accounts, orders and movements of a tenant, for its operators. */
export const journalRoutes: Route[] = [
  defineRoute({
    method: 'get',
    path: '/api/v1/accounts',
    operationId: 'listTenantAccounts',
    tag: 'Ledger',
    summary: 'List the tenant’s accounts, by user and currency',
    access: 'token',
    query: AccountsQuery,
    responses: { 200: { description: 'A page of accounts', schema: AccountPage } },
    async handle({ deps, caller, query }) {
      const page = await listTenantAccounts(deps.database, {
        ...{ tenantId: caller.tenantId, userId: query.userId, currency: query.currency },
        ...pageLimits(query, deps.config, 'uuid'),
      });
      return { status: 200, body: pageOf(page, accountOf) };
    },
  }),
  defineRoute({
    method: 'get',
    path: '/api/v1/accounts/:id',
    operationId: 'getTenantAccount',
    tag: 'Ledger',
    summary: 'Read an account, as it is or as it was at a moment',
    access: 'token',
    params: AccountParams,
    query: AccountAsOfQuery,
    responses: { 200: { description: 'The account', schema: AccountAsOf } },
    problems: ['not_found'],
    async handle({ deps, caller, params, query }) {
      const at = query.at === undefined ? undefined : new Date(query.at);
      const id = uuidOr404(params.id, 'account');
      const { account, provedBy } = await accountAsOf(deps.database, { tenantId: caller.tenantId, id, at });
      return {
        status: 200,
        body: {
          ...accountOf(account),
          at: at?.toISOString() ?? null,
          provedBy: provedBy && { ...provedBy, at: provedBy.at.toISOString() },
        },
      };
    },
  }),
  defineRoute({
    method: 'get',
    path: '/api/v1/accounts/:id/entries.csv',
    operationId: 'exportEntries',
    tag: 'Ledger',
    summary: 'An account’s statement as CSV, newest first',
    description: 'At most 100,000 entries; a last line says so when there are more.',
    access: 'token',
    params: AccountParams,
    query: EntriesCsvQuery,
    responses: {
      200: { description: 'One line per entry, after a header line', contentTypes: ['text/csv'] },
    },
    problems: ['not_found'],
    async handle({ deps, caller, params, query }) {
      const what = {
        ...{ tenantId: caller.tenantId, accountId: uuidOr404(params.id, 'account'), ...timeOf(query) },
        limit: CSV_PAGE_ROWS,
      };
      // Before the first line: what is not there is a problem document.
      const first = await listEntries(deps.database, what);
      return {
        status: 200,
        headers: {
          'Content-Type': 'text/csv; charset=utf-8; header=present',
          'Content-Disposition': `attachment; filename="entries-${what.accountId}.csv"`,
        },
        async write(response) {
          response.write(`${CSV_COLUMNS.join(',')}\r\n`);
          let page = first;
          for (let rows = 0; ;) {
            for (const entry of page.items) response.write(csvLine(entry));
            rows += page.items.length;
            if (page.nextCursor === null || response.destroyed) break;
            if (rows >= CSV_ROWS_MAX) {
              response.write(`"there are more than ${CSV_ROWS_MAX} entries: ask for a shorter time"\r\n`);
              break;
            }
            page = await listEntries(deps.database, { ...what, cursor: page.nextCursor });
          }
          response.end();
        },
      };
    },
  }),
  defineRoute({
    method: 'get',
    path: '/api/v1/orders',
    operationId: 'listTenantOrders',
    tag: 'Orders',
    summary: 'List the tenant’s orders, newest first',
    access: 'token',
    query: OrdersQuery,
    responses: { 200: { description: 'A page of orders', schema: OrderPage } },
    async handle({ deps, caller, query }) {
      const { userId, status, paymentMethod } = query;
      const page = await listTenantOrders(deps.database, {
        ...{ tenantId: caller.tenantId, userId, status, paymentMethod },
        ...timeOf(query),
        ...pageLimits(query, deps.config, 'uuid'),
      });
      return { status: 200, body: pageOf(page, orderOf) };
    },
  }),
  defineRoute({
    method: 'get',
    path: '/api/v1/orders/:id',
    operationId: 'getTenantOrder',
    tag: 'Orders',
    summary: 'Read an order of any user of the tenant',
    access: 'token',
    params: IdParams,
    responses: { 200: { description: 'The order', schema: OrderDetail } },
    problems: ['not_found'],
    async handle({ deps, caller, params }) {
      const id = uuidOr404(params.id, 'order');
      const order = await getTenantOrder(deps.database, { tenantId: caller.tenantId, id });
      const { refundedMinor, disputedMinor, chargedBackMinor, collectedAs, correlationId, ...rest } = order;
      const amount = (minor: bigint) => formatMinor(minor, order.currency);
      return {
        status: 200,
        body: {
          ...orderOf(rest),
          ...{ refunded: amount(refundedMinor), disputed: amount(disputedMinor) },
          ...{ chargedBack: amount(chargedBackMinor), collectedAs, correlationId },
          workflowId: workflowId.order(id),
        },
      };
    },
  }),
  defineRoute({
    method: 'get',
    path: '/api/v1/journal-transactions',
    operationId: 'listJournalTransactions',
    tag: 'Ledger',
    summary: 'List movements of money, newest first',
    access: 'token',
    query: JournalQuery,
    responses: { 200: { description: 'A page of journal transactions', schema: JournalTransactionPage } },
    async handle({ deps, caller, query }) {
      const page = await listJournal(deps.database, {
        ...{ tenantId: caller.tenantId, kind: query.kind, reference: query.reference },
        ...timeOf(query),
        ...pageLimits(query, deps.config, 'number'),
      });
      return { status: 200, body: pageOf(page, journalOf) };
    },
  }),
  defineRoute({
    method: 'get',
    path: '/api/v1/journal-transactions/:id',
    operationId: 'getJournalTransaction',
    tag: 'Ledger',
    summary: 'Read a movement with all its lines',
    access: 'token',
    params: IdParams,
    responses: { 200: { description: 'The journal transaction', schema: JournalTransactionDetail } },
    problems: ['not_found'],
    async handle({ deps, caller, params }) {
      if (!/^\d{1,18}$/.test(params.id))
        throw new RemitError('not_found', 'There is no such journal transaction.');
      const { entries, ...journal } = await getJournal(deps.database, {
        tenantId: caller.tenantId,
        id: params.id,
      });
      return {
        status: 200,
        body: {
          ...journalOf(journal),
          entries: entries.map(({ amountMinor, balanceAfterMinor, ...line }) => ({
            ...line,
            amount: formatMinor(BigInt(amountMinor), line.currency),
            balanceAfter:
              balanceAfterMinor === null ? null : formatMinor(BigInt(balanceAfterMinor), line.currency),
          })),
        },
      };
    },
  }),
];
