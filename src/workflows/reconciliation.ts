import { continueAsNew, proxyActivities } from '@temporalio/workflow';
import type { LedgerActivities } from '../activities/ledger';
import type { HousekeepingResult, ReconciliationSummary } from '../contracts/workflows';
import { CHILDREN_A_RUN } from '../contracts/workflows/limits';
import { historyIsLong } from './durable-steps';
import { deliverAll } from './start-deliveries';

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
 * Run by a schedule: forgets old idempotency keys, and expires payments of which no provider ever said anything. A
 * position is saved only when the deliveries of its step have been started, so that none is forgotten.
 * @param before what the runs came to that this one continues; the keys were theirs.
 */
export async function housekeepingWorkflow(before?: HousekeepingResult): Promise<HousekeepingResult> {
  const result = before ?? { expired: 0, purgedKeys: await purgeKeys() };
  let children = 0;
  for (let i = 0; i < MAX_STEPS; i++) {
    const { expired, position, ...written } = await sweepOverduePayments();
    if (position === null) break;
    await deliverAll(written);
    await saveSweepPosition(position);
    result.expired += expired;
    children += written.deliveries.length;
    if (children >= CHILDREN_A_RUN || historyIsLong())
      return continueAsNew<typeof housekeepingWorkflow>(result);
  }
  return result;
}

async function purgeKeys(): Promise<number> {
  let all = 0;
  for (let i = 0; i < MAX_STEPS; i++) {
    const purged = await purgeIdempotencyKeys();
    if (purged === 0) break;
    all += purged;
  }
  return all;
}
