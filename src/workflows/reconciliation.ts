import { proxyActivities } from '@temporalio/workflow';
import type { LedgerActivities } from '../activities/ledger';
import type { HousekeepingResult, ReconciliationSummary } from '../contracts/workflows';
import { startDeliveries } from './start-deliveries';

/** As long as a reconciliation may take; the database's own limit is RECONCILIATION_TIMEOUT_MS a check. */
const { reconcileLedger } = proxyActivities<LedgerActivities>({
  startToCloseTimeout: '2h',
  retry: { initialInterval: '10s', maximumInterval: '5m', maximumAttempts: 5 },
});

const { sweepOverduePayments, saveSweepPosition, purgeIdempotencyKeys } = proxyActivities<LedgerActivities>({
  startToCloseTimeout: '2m',
  retry: { initialInterval: '1s', maximumInterval: '1m' },
});

/** Steps of one run; the schedule starts the next run where this one ended. */
const MAX_STEPS = 50;

/** Run by a schedule: proves the ledger against itself. What it finds is a result, a metric and a log line. */
export async function reconciliationWorkflow(): Promise<ReconciliationSummary> {
  return reconcileLedger();
}

/**
 * Run by a schedule: expires payments of which no provider ever said anything, and forgets old idempotency keys. A
 * position is saved only when the deliveries of its step have been started, so that none is forgotten.
 */
export async function housekeepingWorkflow(): Promise<HousekeepingResult> {
  const result: HousekeepingResult = { expired: 0, purgedKeys: 0 };
  for (let i = 0; i < MAX_STEPS; i++) {
    const { expired, deliveries, position } = await sweepOverduePayments();
    if (position === null) break;
    await startDeliveries(deliveries);
    await saveSweepPosition(position);
    result.expired += expired;
  }
  for (let i = 0; i < MAX_STEPS; i++) {
    const purged = await purgeIdempotencyKeys();
    if (purged === 0) break;
    result.purgedKeys += purged;
  }
  return result;
}
