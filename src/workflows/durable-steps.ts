import {
  ActivityFailure,
  ApplicationFailure,
  sleep,
  type ActivityOptions,
  type LocalActivityOptions,
} from '@temporalio/workflow';
import { FAILURES } from '../contracts/workflows';

/**
 * Steps that decide in the database are local activities: one short call, so they ride in the workflow task instead of
 * paying for a task of their own (docs/adr/0003). They are retried until the database is back, unless it refuses the
 * data: that would never end (see unlessRefused).
 */
export const DECIDING_STEP: LocalActivityOptions = {
  // Longer than a connection, a statement and all conflict retries together may take (see config).
  startToCloseTimeout: '60s',
  retry: {
    initialInterval: '100ms',
    maximumInterval: '15s',
    nonRetryableErrorTypes: [FAILURES.dataRefused],
  },
  localRetryThreshold: '10s',
};

/** A dead letter is retried until Kafka has it. */
export const DEAD_LETTER_STEP: ActivityOptions = {
  startToCloseTimeout: '30s',
  retry: { initialInterval: '500ms', maximumInterval: '1m' },
};

/**
 * A deciding step of a message; when the database refuses its data for good, `deadLetter` is told why, and the workflow
 * goes on with what else there is.
 * @returns undefined when it was refused.
 */
export async function unlessRefused<R>(
  step: () => Promise<R>,
  deadLetter: (message: string) => Promise<void>,
): Promise<R | undefined> {
  try {
    return await step();
  } catch (error) {
    // A local activity's failure comes as it is, another's is wrapped.
    const cause = error instanceof ActivityFailure ? error.cause : error;
    if (!(cause instanceof ApplicationFailure) || cause.type !== FAILURES.dataRefused) throw error;
    await deadLetter(`the database refuses it: ${cause.message}`);
    return undefined;
  }
}

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
