import {
  ActivityCancellationType,
  CancellationScope,
  CancelledFailure,
  condition,
  continueAsNew,
  isCancellation,
  setCurrentDetails,
  setHandler,
} from '@temporalio/workflow';
import type { DeliveryActivities } from '../activities/deliveries';
import { QUERIES, SIGNALS, type DeliveryRef, type DeliveryState } from '../contracts/workflows';
import { steps } from './described';
import { historyIsLong } from './durable-steps';
import { markStatus } from './search-attributes';

const RETRY = { initialInterval: '1s', backoffCoefficient: 2, maximumInterval: '1m' } as const;

/** What an attempt may need in addition to the subscriber's answer: a few statements, while the database is slow. */
const STORE_MARGIN_MS = 120_000;
/** How long a killed worker goes unnoticed: an attempt that it was making is repeated after that. */
const HEARTBEAT_TIMEOUT_MS = 15_000;

const { finishDelivery, deadLetterDelivery } = steps<DeliveryActivities>({
  startToCloseTimeout: '30s',
  retry: RETRY,
});

export type DeliveryOutcome = Extract<
  DeliveryState['status'],
  'delivered' | 'exhausted' | 'cancelled' | 'held' | 'in_lane'
>;

/** What signals have asked for. */
interface Requested {
  tryNow: boolean;
  cancel: boolean;
}

/**
 * One event for one subscriber: attempts it on its schedule until it is delivered, the schedule is used up, or
 * somebody cancels. Outages of our own are retried inside an attempt and use up nothing of the schedule. Where it has to
 * wait for its subscription (order, rate, rest, no place) it goes over to the lane, and this ends.
 * @param resume what the run that this one continues was asked for and had not done yet; how far the delivery is stands in
 * the database.
 */
export async function deliveryWorkflow(
  ref: DeliveryRef,
  resume?: Pick<Requested, 'tryNow'>,
): Promise<DeliveryOutcome> {
  const requested: Requested = { tryNow: resume?.tryNow ?? false, cancel: false };
  const { attemptsBefore = 0, attemptsMade = 0 } = ref;
  const state: DeliveryState = {
    status: 'waiting',
    attempts: attemptsBefore + attemptsMade,
    maxAttempts: attemptsBefore + ref.scheduleMs.length,
    nextAttemptAt: null,
    lastResult: null,
  };
  setHandler(SIGNALS.tryNow, () => void (requested.tryNow = true));
  setHandler(SIGNALS.cancel, () => void (requested.cancel = true));
  setHandler(QUERIES.delivery, () => state);
  try {
    return await run(ref, requested, state);
  } catch (error) {
    // Cancelled in the Temporal UI: the same as the signal, but the workflow closes as cancelled. An attempt that fails
    // after that (its worker was killed, the database is away) is not repeated.
    if (!isCancellation(error) && !CancellationScope.current().consideredCancelled) throw error;
    await CancellationScope.nonCancellable(() => cancel(ref, state));
    throw isCancellation(error) ? error : new CancelledFailure('cancelled during an attempt that failed');
  }
}

async function run(ref: DeliveryRef, requested: Requested, state: DeliveryState): Promise<DeliveryOutcome> {
  const {
    deliveryId,
    correlationId,
    timeoutMs,
    scheduleMs,
    generation,
    attemptsBefore = 0,
    attemptsMade = 0,
  } = ref;
  const { attemptDelivery } = steps<DeliveryActivities>({
    startToCloseTimeout: timeoutMs + STORE_MARGIN_MS,
    heartbeatTimeout: HEARTBEAT_TIMEOUT_MS,
    retry: RETRY,
    // An attempt in flight has its say before a cancellation: it may have delivered.
    cancellationType: ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
  });
  const { maxAttempts } = state;
  if (attemptsMade > 0) markStatus('retrying');
  for (let waitMs = ref.waitMs ?? scheduleMs[attemptsMade] ?? 0; ;) {
    await pause(waitMs, requested, state);
    if (requested.cancel) return cancel(ref, state);
    // After many pauses that were no attempts, or many signals: a history has room for a schedule of any length.
    if (historyIsLong()) return continueAsNew<typeof deliveryWorkflow>(ref, { tryNow: requested.tryNow });
    const urgent = requested.tryNow;
    requested.tryNow = false;
    state.status = 'attempting';
    const attempt = state.attempts + 1;
    const answer = await attemptDelivery({
      deliveryId,
      attempt,
      maxAttempts,
      timeoutMs,
      correlationId,
      pauseMs: scheduleMs[attempt - attemptsBefore] ?? 0,
      ...(generation && { generation }),
      ...(urgent && { urgent }),
    });
    state.attempts = answer.attempts;
    state.lastResult = answer.result;
    ({ waitMs } = answer);
    // It only did not know how far the delivery was: the wish is not granted yet.
    if (answer.verdict === 'later') requested.tryNow ||= urgent;
    else if (answer.verdict === 'exhausted') {
      await CancellationScope.nonCancellable(() => deadLetterDelivery({ deliveryId, correlationId }));
      return conclude('exhausted', state);
    } else if (answer.verdict !== 'retry') return conclude(answer.verdict, state);
    else if (attempt === attemptsBefore + 1) markStatus('retrying');
  }
}

async function pause(ms: number, requested: Requested, state: DeliveryState): Promise<void> {
  state.status = 'waiting';
  const asked = () => requested.tryNow || requested.cancel;
  if (ms <= 0 || asked()) return;
  state.nextAttemptAt = new Date(Date.now() + ms).toISOString();
  tell(state);
  await condition(asked, ms, { summary: 'until the next attempt' });
  state.nextAttemptAt = null;
}

/** For the Temporal UI: how far it is. */
function tell({ status, attempts, maxAttempts, lastResult, nextAttemptAt }: DeliveryState): void {
  const next = nextAttemptAt === null ? '' : `, the next at ${nextAttemptAt}`;
  const last = lastResult === null ? '' : `, the last: ${lastResult}`;
  setCurrentDetails(`${status}: ${attempts} of ${maxAttempts} attempts${last}${next}`);
}

async function cancel(ref: DeliveryRef, state: DeliveryState): Promise<DeliveryOutcome> {
  const status = await finishDelivery({
    deliveryId: ref.deliveryId,
    status: 'cancelled',
    reason: 'cancelled by an operator',
    generation: ref.generation ?? 0,
  });
  return conclude(status === null || status === 'pending' ? 'cancelled' : status, state);
}

function conclude(outcome: DeliveryOutcome, state: DeliveryState): DeliveryOutcome {
  state.status = outcome;
  tell(state);
  markStatus(outcome);
  return outcome;
}
