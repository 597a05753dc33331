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
import { defineRoute, type Route } from './route';

const later = () => Promise.reject(new RemitError('unavailable', 'not there yet'));

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
    handle: later,
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
    handle: later,
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
      200: { description: 'One line an entry, after a line of names', contentTypes: ['text/csv'] },
    },
    problems: ['not_found'],
    handle: later,
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
    handle: later,
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
    handle: later,
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
    handle: later,
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
    handle: later,
  }),
];
