import { proxyActivities } from '@temporalio/workflow';
import type { LedgerActivities } from '../activities/ledger';
import type { ReconciliationSummary } from '../contracts/workflows';

/** As long as a reconciliation may take; the database's own limit is RECONCILIATION_TIMEOUT_MS a check. */
const { reconcileLedger } = proxyActivities<LedgerActivities>({
  startToCloseTimeout: '2h',
  retry: { initialInterval: '10s', maximumInterval: '5m', maximumAttempts: 5 },
});

/** Run by a schedule: proves the ledger against itself. What it finds is a result, a metric and a log line. */
export async function reconciliationWorkflow(): Promise<ReconciliationSummary> {
  return reconcileLedger();
}
