import { randomUUID } from 'node:crypto';
import type { AttemptInput, AttemptResult } from '../../src/activities/deliveries';
import type { StepInput, StepResult } from '../../src/activities/replays';
import {
  QUERIES,
  SIGNALS,
  TASK_QUEUES,
  workflowId,
  WORKFLOWS,
  type DeliveryRef,
  type ReplayState,
} from '../../src/contracts/workflows';
import { deliveryRef } from '../support/deliveries';
import { eventually } from '../support/harness';
import { playedStage } from '../support/workflow-env';

const stage = playedStage(['attemptDelivery', 'finishDelivery', 'stepReplay', 'recordReplayState']);

describe('a replay', () => {
  const ROWS = 1_200;
  const STEP = 100;

  /** Plays the database: `ROWS` deliveries to send again, in steps. */
  function playedReplay(deliveries: DeliveryRef[]) {
    const delivered = new Set<string>();
    const states: ReplayState[] = [];
    const steps: number[] = [];
    stage.play({
      attemptDelivery: ({ deliveryId, attempt }: AttemptInput): Promise<AttemptResult> => {
        delivered.add(deliveryId);
        return Promise.resolve({
          verdict: 'delivered',
          result: 'delivered',
          statusCode: 200,
          attempts: attempt,
          retryAfterMs: null,
        });
      },
      stepReplay: ({ progress }: StepInput): Promise<StepResult> => {
        const from = progress?.examined ?? 0;
        const some = deliveries.slice(from, from + STEP);
        steps.push(from);
        return Promise.resolve({
          deliveries: some,
          progress: {
            at: new Date(from).toISOString(),
            after: String(from),
            examined: from + some.length,
            replayed: from + some.length,
            paused: false,
          },
          done: some.length < STEP,
          stopped: null,
        });
      },
      recordReplayState: ({ state }: { state: ReplayState }) => Promise.resolve(void states.push(state)),
    });
    return { delivered, states, steps };
  }

  const begin = async (ratePerSecond = 1_000) => {
    const replayId = randomUUID();
    const handle = await stage.environment.client.workflow.start(WORKFLOWS.replay, {
      workflowId: workflowId.replay(replayId),
      taskQueue: TASK_QUEUES.deliveries,
      args: [{ replayId, subscriptionId: 'sub_1', ratePerSecond, correlationId: 'correlation' }],
    });
    stage.track(handle);
    return handle;
  };

  it('keeps its rate, can be paused and resumed, and shows its progress', async () => {
    const deliveries = Array.from({ length: 120 }, () => deliveryRef({ generation: 1 }));
    const { states } = playedReplay(deliveries);
    const handle = await begin(1);
    await handle.signal(SIGNALS.pause);
    // 100 deliveries at one a second: the pause begins after the step that was under way.
    await stage.environment.sleep('3m');
    await eventually(() => expect(states.at(-1)).toMatchObject({ status: 'paused' }));
    const { replayed } = await handle.query<ReplayState>(QUERIES.replay);
    expect(replayed).toBeLessThanOrEqual(100);
    await stage.environment.sleep('1h');
    expect(await handle.query<ReplayState>(QUERIES.replay)).toMatchObject({ status: 'paused', replayed });
    await handle.signal(SIGNALS.resume);
    expect(await handle.result()).toBe('done');
    expect(states.at(-1)).toMatchObject({ status: 'done', replayed: 120 });
  });

  it('that is cancelled starts nothing more', async () => {
    const { states, steps } = playedReplay(
      Array.from({ length: 1_000 }, () => deliveryRef({ generation: 1 })),
    );
    const handle = await begin(10);
    await eventually(() => expect(steps.length).toBeGreaterThan(0));
    await handle.signal(SIGNALS.cancel);
    expect(await handle.result()).toBe('cancelled');
    expect(steps.length).toBeLessThan(10);
    expect(states.at(-1)).toMatchObject({ status: 'cancelled' });
  });

  // Last: children that end while their parent begins anew can make the test server lose count of its clock's locks.
  it('of thousands starts every delivery once, and its history begins anew before it gets long', async () => {
    const deliveries = Array.from({ length: ROWS }, () => deliveryRef({ generation: 1, attemptsBefore: 10 }));
    const { delivered, states, steps } = playedReplay(deliveries);
    const handle = await begin();
    const first: unknown = await handle.result();
    expect(first).toBe('done');
    expect(steps).toEqual(Array.from({ length: ROWS / STEP + 1 }, (_, index) => index * STEP));
    expect(states.at(-1)).toMatchObject({ status: 'done', examined: ROWS, replayed: ROWS });
    await eventually(() => expect(delivered.size).toBe(ROWS), 60_000);
    const { historyLength } = await stage.environment.client.workflow.getHandle(handle.workflowId).describe();
    expect(historyLength).toBeLessThan(10_000);
  });
});
