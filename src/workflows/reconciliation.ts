import { setHandler } from '@temporalio/workflow';
import type { LedgerActivities } from '../activities/ledger';
import { QUERIES, type ReconciliationSummary } from '../contracts/workflows';
import { steps } from './described';

/** As long as a reconciliation may take; the database's own limit is RECONCILIATION_TIMEOUT_MS a check. */
const { reconcileLedger } = steps<LedgerActivities>({
  startToCloseTimeout: '2h',
  retry: { initialInterval: '10s', maximumInterval: '5m', maximumAttempts: 5 },
});

/** Run by a schedule: proves the ledger against itself. What it finds is a result, a metric and a log line. */
export async function reconciliationWorkflow(): Promise<ReconciliationSummary> {
  let summary: ReconciliationSummary | null = null;
  setHandler(QUERIES.reconciliation, () => summary);
  summary = await reconcileLedger();
  return summary;
}
