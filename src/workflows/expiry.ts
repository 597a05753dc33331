import { continueAsNew, setHandler } from '@temporalio/workflow';
import type { LedgerActivities } from '../activities/ledger';
import { QUERIES, type ExpiryResult } from '../contracts/workflows';
import { steps } from './described';
import { historyIsLong } from './durable-steps';

const { expireOverdue, saveExpiryPosition, purgeIdempotencyKeys } = steps<LedgerActivities>({
  startToCloseTimeout: '2m',
  retry: { initialInterval: '1s', maximumInterval: '1m' },
});

/** Steps of one run; the schedule starts the next run where this one ended. */
const MAX_STEPS = 50;

/**
 * Run by a schedule: deletes old idempotency keys, and expires payments and orders that no provider has reported on in
 * time.
 * @param before the result so far of the runs that this one continues; they have deleted the keys.
 */
export async function expiryWorkflow(before?: ExpiryResult): Promise<ExpiryResult> {
  const result: ExpiryResult = before ?? { expired: 0, purgedKeys: 0 };
  setHandler(QUERIES.expiry, () => result);
  if (!before) result.purgedKeys = await purgeKeys();
  for (let i = 0; i < MAX_STEPS; i++) {
    const { expired, position } = await expireOverdue();
    if (position === null) break;
    await saveExpiryPosition(position);
    result.expired += expired;
    if (historyIsLong()) return continueAsNew<typeof expiryWorkflow>(result);
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
