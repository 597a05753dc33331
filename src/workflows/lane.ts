import {
  ActivityCancellationType,
  condition,
  continueAsNew,
  setCurrentDetails,
  setHandler,
} from '@temporalio/workflow';
import type { DeliveryActivities } from '../activities/deliveries';
import { QUERIES, SIGNALS, type LaneInput, type LaneState } from '../contracts/workflows';
import { steps } from './described';
import { historyIsLong } from './durable-steps';

const { sendLane } = steps<DeliveryActivities>({
  // The longest time of sending, the longest attempt, and what storing takes while the database is slow.
  startToCloseTimeout: '4m',
  // A killed worker goes unnoticed for so long: what it had taken and not recorded is sent again after that.
  heartbeatTimeout: '15s',
  retry: { initialInterval: '2s', backoffCoefficient: 2, maximumInterval: '1m' },
  cancellationType: ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
});

/** Pauses of a lane for which there was no place, which double up to this. */
const NO_PLACE_MAX_MS = 30_000;

/**
 * A subscription's lane: sends what waits for the subscription, in order and within its rate, and sleeps until there is
 * something to do again: a timer that an operator sees. Signal `wake`: look now. What waits are rows; when there are none
 * left it ends, and whoever puts one in starts it again.
 */
export async function laneWorkflow(input: LaneInput): Promise<Pick<LaneState, 'delivered' | 'failed'>> {
  let woken = false;
  const state: LaneState = { status: 'sending', waitsFor: null, nextLookAt: null, delivered: 0, failed: 0 };
  setHandler(SIGNALS.wake, () => void (woken = true));
  setHandler(QUERIES.lane, () => state);
  for (let crowded = 0; ;) {
    if (historyIsLong()) return continueAsNew<typeof laneWorkflow>(input);
    woken = false;
    state.status = 'sending';
    const { waitMs, waitsFor, delivered, failed } = await sendLane({ subscriptionId: input.subscriptionId });
    state.delivered += delivered;
    state.failed += failed;
    state.waitsFor = waitsFor;
    if (woken || waitMs === 0) continue;
    if (waitMs === null) break;
    crowded = waitsFor === 'places' ? crowded + 1 : 0;
    await sleepUntilWoken(
      Math.min(waitMs * 2 ** Math.max(0, crowded - 1), crowded > 0 ? NO_PLACE_MAX_MS : Infinity),
    );
  }
  return { delivered: state.delivered, failed: state.failed };

  async function sleepUntilWoken(ms: number): Promise<void> {
    state.status = 'waiting';
    state.nextLookAt = new Date(Date.now() + ms).toISOString();
    setCurrentDetails(`waits for ${state.waitsFor ?? 'nothing'} until ${state.nextLookAt}`);
    await condition(() => woken, ms, { summary: 'until something is due, or there is room for it' });
    state.nextLookAt = null;
  }
}
