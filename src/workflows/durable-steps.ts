import { sleep, type ActivityOptions, type LocalActivityOptions } from '@temporalio/workflow';

/**
 * Steps that decide in the database are local activities: one short call, so they ride in the workflow task instead of
 * paying for a task of their own (docs/adr/0003). They are retried until the database is back.
 */
export const DECIDING_STEP: LocalActivityOptions = {
  // Longer than a connection, a statement and all conflict retries together may take (see config).
  startToCloseTimeout: '60s',
  retry: { initialInterval: '100ms', maximumInterval: '15s' },
  localRetryThreshold: '10s',
};

/** A dead letter is retried until Kafka has it. */
export const DEAD_LETTER_STEP: ActivityOptions = {
  startToCloseTimeout: '30s',
  retry: { initialInterval: '500ms', maximumInterval: '1m' },
};

const EARLY_RETRY_FIRST_MS = 1_000;
const EARLY_RETRY_CAP_MS = 60_000;

/**
 * Webhooks overtake commits: an event that came too early is tried again, durably, with growing pauses, until the time
 * that its result names is up.
 */
export async function retryWhileEarly<R extends { waitUntil: string | null }>(
  attempt: () => Promise<R>,
  isEarly: (result: R) => boolean,
): Promise<R> {
  for (let pauseMs = EARLY_RETRY_FIRST_MS; ; pauseMs = Math.min(pauseMs * 2, EARLY_RETRY_CAP_MS)) {
    const result = await attempt();
    if (!isEarly(result)) return result;
    const leftMs = Date.parse(result.waitUntil ?? '') - Date.now();
    if (!(leftMs > 0)) return result;
    await sleep(Math.min(pauseMs, leftMs));
  }
}
