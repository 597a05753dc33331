import {
  ActivityFailure,
  ApplicationFailure,
  workflowInfo,
  type ActivityOptions,
  type LocalActivityOptions,
} from '@temporalio/workflow';
import { HISTORY_BYTES_MAX, HISTORY_EVENTS_MAX } from '../contracts/workflows/limits';
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

/** Runs a deciding step when those before it are over. */
export type InTurn = <T>(step: () => Promise<T>) => Promise<T>;

/**
 * Deciding steps of one workflow, one at a time. Two local activities at once may end in two activations when they run
 * and in one when they are replayed: what follows from each, an update's answer or a search attribute, then comes in
 * another order, and the workflow never gets on again (Temporal's TMPRL1100). So an update waits for the step in flight.
 */
export function inTurn(): InTurn {
  let last: Promise<unknown> = Promise.resolve();
  return <T>(step: () => Promise<T>): Promise<T> => {
    const run = last.then(step);
    last = run.catch(() => undefined);
    return run;
  };
}

/** Dead letters are retried until Kafka has them; a try begins where the one before it came to. */
export const DEAD_LETTER_STEP: ActivityOptions = {
  startToCloseTimeout: '5m',
  heartbeatTimeout: '30s',
  retry: { initialInterval: '500ms', maximumInterval: '1m' },
};

/** Whether a run is to continue as a new one as soon as nothing of it would be lost. */
export function historyIsLong(): boolean {
  const { continueAsNewSuggested, historyLength, historySize } = workflowInfo();
  return continueAsNewSuggested || historyLength >= HISTORY_EVENTS_MAX || historySize >= HISTORY_BYTES_MAX;
}

/** For the validator of an update: what it asks for is better asked of the next run, which begins in a moment. */
export function refuseWhenFull(): void {
  if (historyIsLong()) throw ApplicationFailure.nonRetryable('ask again', FAILURES.runIsFull);
}

/**
 * A deciding step of a message; when the database refuses its data for good, `refuse` is told why, and the workflow goes
 * on with what else there is.
 * @returns undefined when it was refused.
 */
export async function unlessRefused<R>(
  step: () => Promise<R>,
  refuse: (reason: string) => void,
): Promise<R | undefined> {
  try {
    return await step();
  } catch (error) {
    // A local activity's failure comes as it is, another's is wrapped.
    const cause = error instanceof ActivityFailure ? error.cause : error;
    if (!(cause instanceof ApplicationFailure) || cause.type !== FAILURES.dataRefused) throw error;
    refuse(`the database refuses it: ${cause.message}`);
    return undefined;
  }
}
