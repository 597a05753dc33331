import {
  CancellationScope,
  condition,
  continueAsNew,
  isCancellation,
  setCurrentDetails,
  setHandler,
  sleep,
} from '@temporalio/workflow';
import type { ReplayActivities } from '../activities/replays';
import {
  QUERIES,
  REPLAY_START,
  SIGNALS,
  type ReplayInput,
  type ReplayProgress,
  type ReplayState,
} from '../contracts/workflows';
import { steps } from './described';
import { historyIsLong } from './durable-steps';
import { markStatus } from './search-attributes';

const { stepReplay, tellCancelled, recordReplayState } = steps<ReplayActivities>({
  startToCloseTimeout: '1m',
  retry: { initialInterval: '1s', backoffCoefficient: 2, maximumInterval: '1m' },
});

/** Deliveries that a slice puts into their lanes are for so long: a signal is heeded within this time. */
const SLICE_MS = 500;

/** What signals have asked for. */
interface Requested {
  paused: boolean;
  cancel: boolean;
}

/**
 * Sends deliveries of a time again, in slices: puts what the rate allows in half a second into the lanes of their
 * subscriptions, evenly, and goes on where it stopped. There is no end to how many: the history starts again when it gets
 * long. Signals: pause, resume, cancel. A cancellation in bulk ends them as fast as the database does; it is done then, and
 * stays only to tell the workflows that waited for them, at the rate.
 */
export async function replayWorkflow(input: ReplayInput): Promise<ReplayState['status']> {
  const requested: Requested = { paused: input.progress?.paused ?? false, cancel: false };
  const state: ReplayState = { ...(input.progress ?? REPLAY_START), status: 'running', reason: null };
  setHandler(SIGNALS.pause, () => void (requested.paused = true));
  setHandler(SIGNALS.resume, () => void (requested.paused = false));
  setHandler(SIGNALS.cancel, () => void (requested.cancel = true));
  setHandler(QUERIES.replay, () => ({ ...state, paused: requested.paused }));
  try {
    const status = input.progress?.told ? 'done' : await run(input, requested, state);
    if (state.cancels) await tellAll(input, state);
    return status;
  } catch (error) {
    if (isCancellation(error))
      await CancellationScope.nonCancellable(() => conclude(input, state, 'cancelled'));
    throw error;
  }
}

async function run(
  input: ReplayInput,
  requested: Requested,
  state: ReplayState,
): Promise<ReplayState['status']> {
  const { replayId, correlationId } = input;
  for (let progress = input.progress ?? null; ;) {
    if (historyIsLong()) return continued(input, { ...(progress ?? REPLAY_START), paused: requested.paused });
    if (!(await whilePaused(input, requested, state))) continue;
    if (requested.cancel) return conclude(input, state, 'cancelled');
    const step = await stepReplay({ replayId, correlationId, progress, sliceMs: SLICE_MS });
    progress = { ...step.progress, paused: requested.paused };
    Object.assign(state, progress);
    setCurrentDetails(`${state.examined} looked at, ${state.replayed} sent again`);
    if (step.stopped !== null) return conclude(input, state, 'stopped', step.stopped);
    if (step.done) return conclude(input, state, 'done');
    if (step.waitMs > 0)
      await condition(() => requested.cancel || requested.paused, step.waitMs, {
        summary: 'the rate allows no more until then',
      });
  }
}

/** Tells the workflows of what was cancelled. The replay is over, so that its state is recorded no more. */
async function tellAll(input: ReplayInput, state: ReplayState): Promise<void> {
  const { replayId, ratePerSecond: perSecond } = input;
  const { status: _, reason: __, ...progress } = state;
  setCurrentDetails(`${state.replayed} cancelled; telling the workflows that waited for them`);
  for (let told = progress.told ?? { at: REPLAY_START.at, after: REPLAY_START.after }; ;) {
    if (historyIsLong()) await continued(input, { ...progress, told });
    const step = await tellCancelled({ replayId, told, perSecond, sliceMs: SLICE_MS });
    if (step.done) return;
    ({ told } = step);
    await sleep(step.waitMs, { summary: 'the rate allows no more until then' });
  }
}

function continued(input: ReplayInput, progress: ReplayProgress): Promise<never> {
  return continueAsNew<typeof replayWorkflow>({ ...input, progress });
}

/** @returns false when it is paused still and the history grew long meanwhile: by signals, which write into it too. */
async function whilePaused(input: ReplayInput, requested: Requested, state: ReplayState): Promise<boolean> {
  if (!requested.paused || requested.cancel) return true;
  state.status = 'paused';
  await recordReplayState({ replayId: input.replayId, state });
  markStatus('paused');
  await condition(() => !requested.paused || requested.cancel || historyIsLong());
  if (requested.cancel) return true;
  if (requested.paused) return false;
  state.status = 'running';
  markStatus('running');
  await recordReplayState({ replayId: input.replayId, state });
  return true;
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
