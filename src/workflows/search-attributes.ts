import { defineSearchAttributeKey, type SearchAttributePair } from '@temporalio/common';
import { upsertSearchAttributes } from '@temporalio/workflow';

const STATUS = defineSearchAttributeKey('RemitStatus', 'KEYWORD');
const USER = defineSearchAttributeKey('RemitUserId', 'KEYWORD');

/** Shows a final status (and the user, where the start did not know it) in the lists of the Temporal UI. */
export function markStatus(status: string | null, userId: string | null = null): void {
  const pairs: SearchAttributePair[] = [];
  if (status !== null) pairs.push({ key: STATUS, value: status });
  if (userId !== null) pairs.push({ key: USER, value: userId });
  if (pairs.length > 0) upsertSearchAttributes(pairs);
}
