import { RemitError } from '../../contracts/errors';
import { AccountParams, Reconciliation, StatementPage } from '../../contracts/accounts';
import { EntriesQuery } from '../../contracts/journal';
import { formatMinor } from '../../contracts/money';
import { reconcile, reconciliationOptions, reconciliationReport } from '../../domain/reconciliation';
import { listEntries, type StatementEntry } from '../../domain/statements';
import { uuidOr404 } from './ids';
import { defineRoute, pageLimits, pageOf, timeOf, type Route } from './route';

function entryOf({ amountMinor, balanceAfterMinor, createdAt, ...entry }: StatementEntry) {
  return {
    ...entry,
    amount: formatMinor(amountMinor, entry.currency),
    balanceAfter: formatMinor(balanceAfterMinor, entry.currency),
    createdAt: createdAt.toISOString(),
  };
}

type Report = ReturnType<typeof reconciliationReport>;

/** A reconciliation reads whole tables: those who ask while one of theirs is running get its result. */
const running = new Map<string, Promise<Report>>();
const MAX_RUNNING = 2;

/** The ledger as its operators look at it. */
export const ledgerRoutes: Route[] = [
  defineRoute({
    method: 'get',
    path: '/api/v1/accounts/:id/entries',
    operationId: 'listEntries',
    tag: 'Ledger',
    summary: 'An account’s statement: every movement with the balance after it, newest first',
    access: 'token',
    params: AccountParams,
    query: EntriesQuery,
    responses: { 200: { description: 'A page of entries', schema: StatementPage } },
    problems: ['not_found'],
    async handle({ deps, caller, params, query }) {
      const accountId = uuidOr404(params.id, 'account');
      const page = await listEntries(deps.database, {
        tenantId: caller.tenantId,
        accountId,
        ...timeOf(query),
        ...pageLimits(query, deps.config, 'text'),
      });
      return { status: 200, body: pageOf(page, entryOf) };
    },
  }),
  defineRoute({
    method: 'get',
    path: '/api/v1/reconciliation',
    operationId: 'reconcile',
    tag: 'Ledger',
    summary: 'Prove the tenant’s balances, entries, holds, orders and provider totals against each other',
    description:
      'Reads one snapshot and takes as long as the tables are large; requests meanwhile share the result. The schedule runs the same over all tenants.',
    access: 'token',
    responses: { 200: { description: 'What was compared and what was found', schema: Reconciliation } },
    async handle({ deps, caller }) {
      const { tenantId } = caller;
      let report = running.get(tenantId);
      if (!report) {
        if (running.size >= MAX_RUNNING)
          throw new RemitError('unavailable', 'Other reconciliations are running; try again.');
        const options = { ...reconciliationOptions(deps.config), tenantId };
        report = reconcile(deps.database, options)
          .then(reconciliationReport)
          .finally(() => running.delete(tenantId));
        running.set(tenantId, report);
      }
      return { status: 200, body: await report };
    },
  }),
];
