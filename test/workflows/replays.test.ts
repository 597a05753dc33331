import { randomUUID } from 'node:crypto';
import type { WorkflowHandle } from '@temporalio/client';
import type { TestWorkflowEnvironment } from '@temporalio/testing';
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
import { loadConfig } from '../../src/platform/config';
import { eventually } from '../support/harness';
import {
  createTimeSkippingEnvironment,
  startPlayedWorkers,
  type PlayedWorkers,
} from '../support/workflow-env';

const SCHEDULE = loadConfig({}, ['WEBHOOK_SCHEDULE_MS']).WEBHOOK_SCHEDULE_MS;

let environment: TestWorkflowEnvironment;
let workers: PlayedWorkers;
beforeAll(async () => {
  environment = await createTimeSkippingEnvironment();
  workers = await startPlayedWorkers(environment, [
    'attemptDelivery',
    'finishDelivery',
    'stepReplay',
    'recordReplayState',
  ]);
});
afterAll(async () => {
  await workers.stop();
  await environment.teardown();
});

const started: WorkflowHandle[] = [];
afterEach(async () => {
  for (const handle of started.splice(0)) await handle.terminate().catch(() => undefined);
});

const refOf = (changes: Partial<DeliveryRef> = {}): DeliveryRef => ({
  deliveryId: randomUUID(),
  eventId: `evt_${randomUUID()}`,
  subscriptionId: 'sub_1',
  eventType: 'payment.succeeded',
  scheduleMs: SCHEDULE,
  timeoutMs: 15_000,
  correlationId: 'correlation',
  ...changes,
});

describe('a replay', () => {
  const ROWS = 1_200;
  const STEP = 100;

  /** Plays the database: `ROWS` deliveries to send again, in steps. */
  function playedReplay(deliveries: DeliveryRef[]) {
    const delivered = new Set<string>();
    const states: ReplayState[] = [];
    const steps: number[] = [];
    workers.play({
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
    const handle = await environment.client.workflow.start(WORKFLOWS.replay, {
      workflowId: workflowId.replay(replayId),
      taskQueue: TASK_QUEUES.deliveries,
      args: [{ replayId, subscriptionId: 'sub_1', ratePerSecond, correlationId: 'correlation' }],
    });
    started.push(handle);
    return handle;
  };

  it('keeps its rate, can be paused and resumed, and shows its progress', async () => {
    const deliveries = Array.from({ length: 120 }, () => refOf({ generation: 1 }));
    const { states } = playedReplay(deliveries);
    const handle = await begin(1);
    await handle.signal(SIGNALS.pause);
    // 100 deliveries at one a second: the pause begins after the step that was under way.
    await environment.sleep('3m');
    await eventually(() => expect(states.at(-1)).toMatchObject({ status: 'paused' }));
    const { replayed } = await handle.query<ReplayState>(QUERIES.state);
    expect(replayed).toBeLessThanOrEqual(100);
    await environment.sleep('1h');
    expect(await handle.query<ReplayState>(QUERIES.state)).toMatchObject({ status: 'paused', replayed });
    await handle.signal(SIGNALS.resume);
    expect(await handle.result()).toBe('done');
    expect(states.at(-1)).toMatchObject({ status: 'done', replayed: 120 });
  });

  it('that is cancelled starts nothing more', async () => {
    const { states, steps } = playedReplay(Array.from({ length: 1_000 }, () => refOf({ generation: 1 })));
    const handle = await begin(10);
    await eventually(() => expect(steps.length).toBeGreaterThan(0));
    await handle.signal(SIGNALS.cancel);
    expect(await handle.result()).toBe('cancelled');
    expect(steps.length).toBeLessThan(10);
    expect(states.at(-1)).toMatchObject({ status: 'cancelled' });
  });

  // Last: children that end while their parent begins anew can make the test server lose count of its clock's locks.
  it('of thousands starts every delivery once, and its history begins anew before it gets long', async () => {
    const deliveries = Array.from({ length: ROWS }, () => refOf({ generation: 1, attemptsBefore: 10 }));
    const { delivered, states, steps } = playedReplay(deliveries);
    const handle = await begin();
    const first: unknown = await handle.result();
    expect(first).toBe('done');
    expect(steps).toEqual(Array.from({ length: ROWS / STEP + 1 }, (_, index) => index * STEP));
    expect(states.at(-1)).toMatchObject({ status: 'done', examined: ROWS, replayed: ROWS });
    await eventually(() => expect(delivered.size).toBe(ROWS), 60_000);
    const { historyLength } = await environment.client.workflow.getHandle(handle.workflowId).describe();
    expect(historyLength).toBeLessThan(10_000);
  });
});
