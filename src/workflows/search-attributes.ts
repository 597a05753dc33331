import type { SearchAttributePair } from '@temporalio/common';
import { upsertSearchAttributes } from '@temporalio/workflow';
import { SEARCH_ATTRIBUTE_KEYS as KEYS } from '../contracts/workflows';

/** Shows a final status (and the user, where the start did not know it) in the lists of the Temporal UI. */
export function markStatus(status: string | null, userId: string | null = null): void {
  const pairs: SearchAttributePair[] = [];
  if (status !== null) pairs.push({ key: KEYS.status, value: status });
  if (userId !== null) pairs.push({ key: KEYS.userId, value: userId });
  if (pairs.length > 0) upsertSearchAttributes(pairs);
}
