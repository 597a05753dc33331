import {
  ActivityCancellationType,
  CancellationScope,
  condition,
  defineQuery,
  defineSignal,
  isCancellation,
  proxyActivities,
  setHandler,
} from '@temporalio/workflow';
import type { DeliveryActivities } from '../activities/deliveries';
import { QUERIES, SIGNALS, type DeliveryRef, type DeliveryState } from '../contracts/workflows';
import { markStatus } from './search-attributes';

const RETRY = { initialInterval: '1s', backoffCoefficient: 2, maximumInterval: '1m' } as const;

/** What an attempt needs beside the subscriber's answer: reading and writing the database, each a statement. */
const STORE_MARGIN_MS = 35_000;

const { finishDelivery, deadLetterDelivery } = proxyActivities<DeliveryActivities>({
  startToCloseTimeout: '30s',
  retry: RETRY,
});

export type DeliveryOutcome = Extract<DeliveryState['status'], 'delivered' | 'exhausted' | 'cancelled'>;

/** What signals have asked for. */
interface Wishes {
  tryNow: boolean;
  cancel: boolean;
}

/**
 * One event for one subscriber: attempts it on its schedule until it is delivered, the schedule is used up, or
 * somebody cancels. Outages of our own are retried inside an attempt and use up nothing of the schedule.
 */
export async function deliveryWorkflow(ref: DeliveryRef): Promise<DeliveryOutcome> {
  const wishes: Wishes = { tryNow: false, cancel: false };
  const state: DeliveryState = {
    status: 'waiting',
    attempts: 0,
    maxAttempts: ref.scheduleMs.length,
    nextAttemptAt: null,
    lastResult: null,
  };
  setHandler(defineSignal(SIGNALS.tryNow), () => void (wishes.tryNow = true));
  setHandler(defineSignal(SIGNALS.cancel), () => void (wishes.cancel = true));
  setHandler(defineQuery<DeliveryState>(QUERIES.state), () => state);
  try {
    return await run(ref, wishes, state);
  } catch (error) {
    // Cancelled in the Temporal UI: the same as the signal, but the workflow closes as cancelled.
    if (isCancellation(error)) await CancellationScope.nonCancellable(() => cancel(ref, state));
    throw error;
  }
}

async function run(ref: DeliveryRef, wishes: Wishes, state: DeliveryState): Promise<DeliveryOutcome> {
  const { deliveryId, correlationId, timeoutMs, scheduleMs } = ref;
  const { attemptDelivery } = proxyActivities<DeliveryActivities>({
    startToCloseTimeout: timeoutMs + STORE_MARGIN_MS,
    retry: RETRY,
    // An attempt in flight has its say before a cancellation: it may have delivered.
    cancellationType: ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
  });
  const { maxAttempts } = state;
  for (let retryAfterMs = 0; ;) {
    await pause(delayMs(scheduleMs[state.attempts] ?? 0, retryAfterMs), wishes, state);
    if (wishes.cancel) return cancel(ref, state);
    wishes.tryNow = false;
    state.status = 'attempting';
    const attempt = state.attempts + 1;
    const { verdict, result, attempts, ...asked } = await attemptDelivery({
      deliveryId,
      attempt,
      maxAttempts,
      timeoutMs,
      correlationId,
    });
    state.attempts = attempts;
    state.lastResult = result;
    if (verdict === 'gone' || verdict === 'exhausted') {
      await CancellationScope.nonCancellable(() => deadLetterDelivery({ deliveryId, correlationId }));
      return conclude('exhausted', state);
    }
    if (verdict !== 'retry') return conclude(verdict, state);
    if (attempt === 1) markStatus('retrying');
    retryAfterMs = asked.retryAfterMs ?? 0;
  }
}

/** The scheduled pause with ±20 % jitter, so that a recovering subscriber is not hit by all at once; Retry-After only lengthens it. */
function delayMs(scheduledMs: number, retryAfterMs: number): number {
  const jittered = Math.round(scheduledMs * (0.8 + 0.4 * Math.random()));
  return Math.max(jittered, retryAfterMs);
}

async function pause(ms: number, wishes: Wishes, state: DeliveryState): Promise<void> {
  state.status = 'waiting';
  if (ms <= 0 || wishes.tryNow || wishes.cancel) return;
  state.nextAttemptAt = new Date(Date.now() + ms).toISOString();
  await condition(() => wishes.tryNow || wishes.cancel, ms);
  state.nextAttemptAt = null;
}

async function cancel({ deliveryId }: DeliveryRef, state: DeliveryState): Promise<DeliveryOutcome> {
  const status = await finishDelivery({
    deliveryId,
    status: 'cancelled',
    reason: 'cancelled by an operator',
  });
  return conclude(status === 'delivered' || status === 'exhausted' ? status : 'cancelled', state);
}

function conclude(outcome: DeliveryOutcome, state: DeliveryState): DeliveryOutcome {
  state.status = outcome;
  markStatus(outcome);
  return outcome;
}
