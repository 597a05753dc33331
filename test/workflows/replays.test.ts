import { randomUUID } from 'node:crypto';
import type { StepInput, StepResult, TellInput, TellResult } from '../../src/activities/replays';
import {
  QUERIES,
  SIGNALS,
  TASK_QUEUES,
  workflowId,
  WORKFLOWS,
  type ReplayState,
} from '../../src/contracts/workflows';
import { eventually } from '../support/harness';
import { playedStage } from '../support/workflow-env';

const stage = playedStage(['stepReplay', 'recordReplayState', 'tellCancelled']);

/** Plays the database: `rows` deliveries to send again, as many in a slice as the rate allows. */
function playedReplay(rows: number, perSlice: number, waitMs: number) {
  const states: ReplayState[] = [];
  const steps: number[] = [];
  stage.play({
    stepReplay: ({ progress, sliceMs }: StepInput): Promise<StepResult> => {
      const from = progress?.examined ?? 0;
      const count = Math.min(perSlice, rows - from);
      steps.push(from);
      expect(sliceMs).toBeLessThanOrEqual(500);
      const at = new Date(from).toISOString();
      return Promise.resolve({
        waitMs,
        progress: {
          ...{ at, after: String(from), examined: from + count, replayed: from + count },
          ...{ paused: false, nextAt: at },
        },
        done: count < perSlice,
        stopped: null,
      });
    },
    recordReplayState: ({ state }: { state: ReplayState }) => Promise.resolve(void states.push(state)),
  });
  return { states, steps };
}

async function begin() {
  const replayId = randomUUID();
  const handle = await stage.environment.client.workflow.start(WORKFLOWS.replay, {
    workflowId: workflowId.replay(replayId),
    taskQueue: TASK_QUEUES.deliveries,
    args: [{ replayId, subscriptionId: 'sub_1', ratePerSecond: 10, correlationId: 'correlation' }],
  });
  stage.track(handle);
  return handle;
}

describe('a replay', () => {
  it('is paused within a slice, resumed, and shows its progress', async () => {
    const { states, steps } = playedReplay(120, 5, 500);
    const handle = await begin();
    await eventually(() => expect(steps.length).toBeGreaterThan(0));
    await handle.signal(SIGNALS.pause);
    await eventually(() => expect(states.at(-1)).toMatchObject({ status: 'paused' }));
    const { replayed } = await handle.query(QUERIES.replay);
    const done = steps.length;
    await stage.environment.sleep('1h');
    expect(await handle.query(QUERIES.replay)).toMatchObject({ status: 'paused', replayed });
    expect(steps).toHaveLength(done);
    await handle.signal(SIGNALS.resume);
    expect(await handle.result()).toBe('done');
    expect(states.at(-1)).toMatchObject({ status: 'done', replayed: 120 });
  });

  it('that is cancelled in the pause between two slices opens nothing more', async () => {
    const { states, steps } = playedReplay(1_000, 5, 3_600_000);
    const handle = await begin();
    await eventually(() => expect(steps).toHaveLength(1));
    await handle.signal(SIGNALS.cancel);
    expect(await handle.result()).toBe('cancelled');
    expect(steps).toHaveLength(1);
    expect(states.at(-1)).toMatchObject({ status: 'cancelled', replayed: 5 });
  });

  it('that cancels is done when all are cancelled, and then tells the workflows that waited, at the rate', async () => {
    const states: ReplayState[] = [];
    const told: string[] = [];
    const at = new Date(0).toISOString();
    stage.play({
      stepReplay: (): Promise<StepResult> =>
        Promise.resolve({
          progress: { at, after: 'x', examined: 9, replayed: 9, paused: false, nextAt: at, cancels: true },
          ...{ waitMs: 0, done: true, stopped: null },
        }),
      tellCancelled: (input: TellInput): Promise<TellResult> => {
        expect(states.at(-1)).toMatchObject({ status: 'done', replayed: 9 });
        expect(input).toMatchObject({ perSecond: 10, sliceMs: 500 });
        told.push(input.told.after);
        const after = String(told.length);
        return Promise.resolve({ told: { at, after }, done: told.length === 900, waitMs: 500 });
      },
      recordReplayState: ({ state }: { state: ReplayState }) => Promise.resolve(void states.push(state)),
    });
    const handle = await begin();
    expect(await handle.result()).toBe('done');
    // Also over a history that began again meanwhile.
    expect(told).toEqual(['', ...Array.from({ length: 899 }, (_, n) => String(n + 1))]);
    expect(states).toHaveLength(1);
  });

  it('of many slices goes through each once, and its history starts again before it gets long', async () => {
    const { states, steps } = playedReplay(900, 1, 0);
    const handle = await begin();
    expect(await handle.result()).toBe('done');
    expect(steps).toEqual(Array.from({ length: 901 }, (_, n) => n));
    expect(states.at(-1)).toMatchObject({ status: 'done', examined: 900, replayed: 900 });
    const { historyLength } = await stage.environment.client.workflow.getHandle(handle.workflowId).describe();
    expect(historyLength).toBeLessThan(5_000);
  });
});
