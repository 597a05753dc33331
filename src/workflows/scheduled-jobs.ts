import { continueAsNew, setHandler } from '@temporalio/workflow';
import type { EventActivities } from '../activities/events';
import type { ReplayActivities, StrandedReplayPage } from '../activities/replays';
import {
  QUERIES,
  type DeliveryRef,
  type RecoveryInput,
  type RetentionInput,
  type RetentionResult,
} from '../contracts/workflows';
import { steps } from './described';
import { historyIsLong } from './durable-steps';
import { startDelivery, startReplay } from './start-children';

const RETRY = { initialInterval: '1s', maximumInterval: '1m' } as const;
const { purgeEvents } = steps<EventActivities>({ startToCloseTimeout: '2m', retry: RETRY });
const { strandedReplays, strandedDeliveries, wakeForgottenLanes } = steps<ReplayActivities>({
  startToCloseTimeout: '1m',
  retry: RETRY,
});

/** Steps of one run: a history that needs more goes on in another. */
const MAX_STEPS = 500;

/** Run by a schedule: deletes events that are older than their type is kept, with deliveries and attempts, in steps. */
export async function retentionWorkflow(input?: RetentionInput): Promise<RetentionResult> {
  let { at, after, purged } = input ?? { at: '1970-01-01T00:00:00Z', after: '', purged: 0 };
  setHandler(QUERIES.retention, () => ({ purged }));
  for (let i = 0; i < MAX_STEPS; i++) {
    const step = await purgeEvents({ at, after });
    purged += step.purged;
    if (step.done) return { purged };
    ({ at, after } = step);
  }
  return continueAsNew<typeof retentionWorkflow>({ at, after, purged });
}

/**
 * Run by a schedule: starts the workflows of replays that are written and not begun, and of deliveries that were sent
 * again by hand, because what wrote them crashed or could not reach Temporal; and wakes lanes that are silent though
 * something is due. One that was started already is left alone: its id is taken.
 * @returns how many replays were started, by this run and those that it continues.
 */
export async function recoveryWorkflow(before?: RecoveryInput): Promise<number> {
  let { started, after } = before ?? { started: 0, after: null };
  setHandler(QUERIES.recovery, () => ({ started }));
  if (!before?.replaysDone)
    for (let isLast = false; !isLast; isLast = after === null) {
      if (historyIsLong()) return continueAsNew<typeof recoveryWorkflow>({ started, after });
      const page: StrandedReplayPage = await strandedReplays(after);
      for (const { id, subscriptionId, ratePerSecond } of page.replays)
        if (await startReplay({ replayId: id, subscriptionId, ratePerSecond, correlationId: id })) started++;
      after = page.next;
    }
  for (let some = await strandedDeliveries([]); some.length > 0;) {
    await Promise.all(some.map(startDelivery));
    // What was started is noted before the run ends: the next one is not handed the same.
    some = await strandedDeliveries(some.map(startedOf));
    if (some.length > 0 && historyIsLong())
      return continueAsNew<typeof recoveryWorkflow>({ started, after: null, replaysDone: true });
  }
  for (let after: string | null = ''; after !== null;) after = await wakeForgottenLanes(after);
  return started;
}

const startedOf = ({ deliveryId, generation = 0 }: DeliveryRef) => ({ deliveryId, generation });
