import { continueAsNew, setHandler } from '@temporalio/workflow';
import type { LedgerActivities } from '../activities/ledger';
import { QUERIES, type ExpiryResult } from '../contracts/workflows';
import { CHILDREN_A_RUN } from '../contracts/workflows/limits';
import { steps } from './described';
import { historyIsLong } from './durable-steps';
import { deliverAll } from './start-deliveries';

const { expireOverdue, saveExpiryPosition, purgeIdempotencyKeys } = steps<LedgerActivities>({
  startToCloseTimeout: '2m',
  retry: { initialInterval: '1s', maximumInterval: '1m' },
});

/** Steps of one run; the schedule starts the next run where this one ended. */
const MAX_STEPS = 50;

/**
 * Run by a schedule: deletes old idempotency keys, and expires payments and orders that no provider has reported on in
 * time. A position is saved only when the deliveries of its step have been started, so that none is forgotten.
 * @param before the result so far of the runs that this one continues; they have deleted the keys.
 */
export async function expiryWorkflow(before?: ExpiryResult): Promise<ExpiryResult> {
  const result: ExpiryResult = before ?? { expired: 0, purgedKeys: 0 };
  setHandler(QUERIES.expiry, () => result);
  if (!before) result.purgedKeys = await purgeKeys();
  let children = 0;
  for (let i = 0; i < MAX_STEPS; i++) {
    const { expired, position, ...written } = await expireOverdue();
    if (position === null) break;
    await deliverAll(written);
    await saveExpiryPosition(position);
    result.expired += expired;
    children += written.deliveries.length;
    if (children >= CHILDREN_A_RUN || historyIsLong()) return continueAsNew<typeof expiryWorkflow>(result);
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
