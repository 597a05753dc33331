import {
  ActivityCancellationType,
  CancellationScope,
  CancelledFailure,
  condition,
  continueAsNew,
  getExternalWorkflowHandle,
  isCancellation,
  proxyActivities,
  setHandler,
} from '@temporalio/workflow';
import type { AttemptResult, DeliveryActivities } from '../activities/deliveries';
import { QUERIES, SIGNALS, workflowId, type DeliveryRef, type DeliveryState } from '../contracts/workflows';
import { historyIsLong } from './durable-steps';
import { markStatus } from './search-attributes';
import { startDeliveries } from './start-deliveries';

const RETRY = { initialInterval: '1s', backoffCoefficient: 2, maximumInterval: '1m' } as const;

/** What an attempt may need beside the subscriber's answer: a few statements, while the database is slow. */
const STORE_MARGIN_MS = 120_000;
/** How long a killed worker goes unnoticed: an attempt that it was making is made anew after that. */
const HEARTBEAT_TIMEOUT_MS = 15_000;

const { finishDelivery, followersOf, deadLetterDelivery } = proxyActivities<DeliveryActivities>({
  startToCloseTimeout: '30s',
  retry: RETRY,
});

export type DeliveryOutcome = Extract<
  DeliveryState['status'],
  'delivered' | 'exhausted' | 'cancelled' | 'held'
>;

/** What signals have asked for. */
interface Wishes {
  tryNow: boolean;
  cancel: boolean;
  /** The delivery before this one has ended. */
  wake: boolean;
}

/**
 * One event for one subscriber: attempts it on its schedule until it is delivered, the schedule is used up, or
 * somebody cancels. Outages of our own are retried inside an attempt and use up nothing of the schedule; neither does
 * waiting for a place, for the subscriber's rest or for the deliveries before it.
 * @param resume what the run that this one continues was asked for and had not done yet; how far the delivery is stands in
 * the database.
 */
export async function deliveryWorkflow(
  ref: DeliveryRef,
  resume?: Pick<Wishes, 'tryNow'>,
): Promise<DeliveryOutcome> {
  const wishes: Wishes = { tryNow: resume?.tryNow ?? false, cancel: false, wake: false };
  const { attemptsBefore = 0, attemptsMade = 0 } = ref;
  const state: DeliveryState = {
    status: 'waiting',
    attempts: attemptsBefore + attemptsMade,
    maxAttempts: attemptsBefore + ref.scheduleMs.length,
    nextAttemptAt: null,
    lastResult: null,
  };
  setHandler(SIGNALS.tryNow, () => void (wishes.tryNow = true));
  setHandler(SIGNALS.cancel, () => void (wishes.cancel = true));
  setHandler(SIGNALS.wake, () => void (wishes.wake = true));
  setHandler(QUERIES.delivery, () => state);
  try {
    return await run(ref, wishes, state);
  } catch (error) {
    // Cancelled in the Temporal UI: the same as the signal, but the workflow closes as cancelled. An attempt that fails
    // after that (its worker was killed, the database is away) is not made anew.
    if (!isCancellation(error) && !CancellationScope.current().consideredCancelled) throw error;
    await CancellationScope.nonCancellable(() => cancel(ref, state));
    throw isCancellation(error) ? error : new CancelledFailure('cancelled during an attempt that failed');
  }
}

async function run(ref: DeliveryRef, wishes: Wishes, state: DeliveryState): Promise<DeliveryOutcome> {
  const {
    deliveryId,
    correlationId,
    timeoutMs,
    scheduleMs,
    ordered,
    generation,
    attemptsBefore = 0,
    attemptsMade = 0,
  } = ref;
  const { attemptDelivery } = proxyActivities<DeliveryActivities>({
    startToCloseTimeout: timeoutMs + STORE_MARGIN_MS,
    heartbeatTimeout: HEARTBEAT_TIMEOUT_MS,
    retry: RETRY,
    // An attempt in flight has its say before a cancellation: it may have delivered.
    cancellationType: ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
  });
  const { maxAttempts } = state;
  let laters = 0;
  let placeAt: string | undefined;
  if (attemptsMade > 0) markStatus('retrying');
  for (let waitMs = delayMs(scheduleMs[attemptsMade] ?? 0, ref.retryAfterMs ?? 0); ;) {
    await pause(waitMs, wishes, state);
    if (wishes.cancel) return cancel(ref, state);
    // After many pauses that were no attempts, or many signals: a history has room for a schedule of any length.
    if (historyIsLong()) return continueAsNew<typeof deliveryWorkflow>(ref, { tryNow: wishes.tryNow });
    const urgent = wishes.tryNow;
    wishes.tryNow = wishes.wake = false;
    state.status = 'attempting';
    const attempt = state.attempts + 1;
    const answer = await attemptDelivery({
      deliveryId,
      attempt,
      maxAttempts,
      timeoutMs,
      correlationId,
      ...(ordered && { ordered }),
      ...(generation && { generation }),
      ...(urgent && { urgent }),
      ...(laters > 0 && { laters }),
      ...(placeAt !== undefined && { placeAt }),
    });
    state.attempts = answer.attempts;
    state.lastResult = answer.result;
    await seeToOthers(answer);
    if (answer.verdict === 'later') {
      laters++;
      placeAt = answer.placeAt;
      waitMs = answer.retryAfterMs ?? 0;
      // It only did not know how far the delivery was: the wish is not granted yet.
      if (urgent && waitMs <= 0 && answer.waitsFor === undefined) wishes.tryNow = true;
      continue;
    }
    if (answer.verdict === 'gone' || answer.verdict === 'exhausted') {
      await CancellationScope.nonCancellable(() => deadLetterDelivery({ deliveryId, correlationId }));
      return conclude('exhausted', state);
    }
    if (answer.verdict !== 'retry') return conclude(answer.verdict, state);
    if (attempt === attemptsBefore + 1) markStatus('retrying');
    laters = 0;
    placeAt = undefined;
    waitMs = delayMs(scheduleMs[state.attempts - attemptsBefore] ?? 0, answer.retryAfterMs ?? 0);
  }
}

/** Starts the deliveries of what the attempt gave rise to, and wakes the one that waited for this one. */
async function seeToOthers({
  deliveries = [],
  next,
}: Pick<AttemptResult, 'deliveries' | 'next'>): Promise<void> {
  await CancellationScope.nonCancellable(async () => {
    if (deliveries.length > 0) await startDeliveries(deliveries);
    if (!next) return;
    const { eventId, subscriptionId, generation } = next;
    // Not there yet, or there no longer: it looks for itself when it begins, and once in a while.
    await getExternalWorkflowHandle(workflowId.delivery(eventId, subscriptionId, generation))
      .signal(SIGNALS.wake)
      .catch(() => undefined);
  });
}

/** The scheduled pause with ±20 % jitter, so that a recovering subscriber is not hit by all at once; Retry-After only lengthens it. */
function delayMs(scheduledMs: number, retryAfterMs: number): number {
  const jittered = Math.round(scheduledMs * (0.8 + 0.4 * Math.random()));
  return Math.max(jittered, retryAfterMs);
}

async function pause(ms: number, wishes: Wishes, state: DeliveryState): Promise<void> {
  state.status = 'waiting';
  const wished = () => wishes.tryNow || wishes.cancel || wishes.wake;
  if (ms <= 0 || wished()) return;
  state.nextAttemptAt = new Date(Date.now() + ms).toISOString();
  await condition(wished, ms);
  state.nextAttemptAt = null;
}

async function cancel(ref: DeliveryRef, state: DeliveryState): Promise<DeliveryOutcome> {
  const status = await finishDelivery({
    deliveryId: ref.deliveryId,
    status: 'cancelled',
    reason: 'cancelled by an operator',
  });
  // The one that waits for its turn behind this one need not wait until it looks for itself.
  if (ref.ordered)
    await seeToOthers(await followersOf({ deliveryId: ref.deliveryId, correlationId: ref.correlationId }));
  return conclude(status === null || status === 'pending' ? 'cancelled' : status, state);
}

function conclude(outcome: DeliveryOutcome, state: DeliveryState): DeliveryOutcome {
  state.status = outcome;
  markStatus(outcome);
  return outcome;
}
