import {
  CancellationScope,
  condition,
  continueAsNew,
  defineQuery,
  defineSignal,
  isCancellation,
  proxyActivities,
  setHandler,
  sleep,
  workflowInfo,
} from '@temporalio/workflow';
import type { ReplayActivities } from '../activities/replays';
import { QUERIES, SIGNALS, type ReplayInput, type ReplayState } from '../contracts/workflows';
import { markStatus } from './search-attributes';
import { startDeliveries } from './start-deliveries';

const { stepReplay, recordReplayState } = proxyActivities<ReplayActivities>({
  startToCloseTimeout: '1m',
  retry: { initialInterval: '1s', backoffCoefficient: 2, maximumInterval: '1m' },
});

/** Deliveries that are started in one workflow task: more would make it long. */
const START_TOGETHER = 20;

interface Wishes {
  paused: boolean;
  cancel: boolean;
}

/**
 * Sends deliveries of a time again, in steps: opens them, starts their workflows no faster than the rate, goes on where
 * it stopped. There is no end to how many: the history begins anew when it gets long. Signals: pause, resume, cancel.
 */
export async function replayWorkflow(input: ReplayInput): Promise<ReplayState['status']> {
  const wishes: Wishes = { paused: input.progress?.paused ?? false, cancel: false };
  const start = { at: '', after: '', examined: 0, replayed: 0, paused: false };
  const state: ReplayState = { ...(input.progress ?? start), status: 'running', reason: null };
  setHandler(defineSignal(SIGNALS.pause), () => void (wishes.paused = true));
  setHandler(defineSignal(SIGNALS.resume), () => void (wishes.paused = false));
  setHandler(defineSignal(SIGNALS.cancel), () => void (wishes.cancel = true));
  setHandler(defineQuery<ReplayState>(QUERIES.state), () => ({ ...state, paused: wishes.paused }));
  try {
    return await run(input, wishes, state);
  } catch (error) {
    if (isCancellation(error))
      await CancellationScope.nonCancellable(() => conclude(input, state, 'cancelled'));
    throw error;
  }
}

async function run(input: ReplayInput, wishes: Wishes, state: ReplayState): Promise<ReplayState['status']> {
  const { replayId, correlationId } = input;
  for (let progress = input.progress ?? null; ;) {
    await whilePaused(input, wishes, state);
    if (wishes.cancel) return conclude(input, state, 'cancelled');
    const step = await stepReplay({ replayId, correlationId, progress });
    progress = { ...step.progress, paused: wishes.paused };
    Object.assign(state, progress);
    // Not to be broken off: what was opened has no other workflow.
    await CancellationScope.nonCancellable(() => startAtRate(input, step.deliveries));
    if (step.stopped !== null) return conclude(input, state, 'stopped', step.stopped);
    if (step.done) return conclude(input, state, 'done');
    if (workflowInfo().continueAsNewSuggested || workflowInfo().historyLength > HISTORY_EVENTS)
      return continueAsNew<typeof replayWorkflow>({
        ...input,
        progress: { ...progress, paused: wishes.paused },
      });
  }
}

/** Long before Temporal's limit: children that end write into this history too. */
const HISTORY_EVENTS = 5_000;

async function whilePaused(input: ReplayInput, wishes: Wishes, state: ReplayState): Promise<void> {
  if (!wishes.paused || wishes.cancel) return;
  state.status = 'paused';
  await recordReplayState({ replayId: input.replayId, state });
  markStatus('paused');
  await condition(() => !wishes.paused || wishes.cancel);
  if (wishes.cancel) return;
  state.status = 'running';
  markStatus('running');
  await recordReplayState({ replayId: input.replayId, state });
}

async function startAtRate(
  { ratePerSecond }: ReplayInput,
  deliveries: Parameters<typeof startDeliveries>[0],
): Promise<void> {
  for (let from = 0; from < deliveries.length; from += START_TOGETHER) {
    const some = deliveries.slice(from, from + START_TOGETHER);
    await startDeliveries(some);
    await sleep(Math.ceil((some.length / ratePerSecond) * 1_000));
  }
}

async function conclude(
  { replayId }: ReplayInput,
  state: ReplayState,
  status: ReplayState['status'],
  reason: string | null = null,
): Promise<ReplayState['status']> {
  Object.assign(state, { status, reason });
  await recordReplayState({ replayId, state });
  markStatus(status);
  return status;
}
