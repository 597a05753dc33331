import type { WorkflowHandle } from '@temporalio/client';
import type { AttemptInput, AttemptResult } from '../../src/activities/deliveries';
import { SIGNALS, TASK_QUEUES, workflowId, WORKFLOWS, type DeliveryRef } from '../../src/contracts/workflows';
import { deliveryRef } from '../support/deliveries';
import { eventually } from '../support/harness';
import { keyword, playedStage } from '../support/workflow-env';

const MINUTE = 60_000;
const HOUR = 60 * MINUTE;

const stage = playedStage(['attemptDelivery', 'finishDelivery', 'deadLetterDelivery']);

const handleOf = ({ eventId, subscriptionId, generation }: DeliveryRef) =>
  stage.environment.client.workflow.getHandle(workflowId.delivery(eventId, subscriptionId, generation));

async function start(ref: DeliveryRef): Promise<WorkflowHandle> {
  const handle = await stage.environment.client.workflow.start(WORKFLOWS.delivery, {
    workflowId: workflowId.delivery(ref.eventId, ref.subscriptionId, ref.generation),
    taskQueue: TASK_QUEUES.deliveries,
    args: [ref],
  });
  stage.track(handle);
  return handle;
}

/** Plays attempts: each delivery gets its next answer; without one it is delivered. */
function played(answers: Record<string, Partial<AttemptResult>[]>) {
  const attempts: AttemptInput[] = [];
  stage.play({
    attemptDelivery: (input: AttemptInput): Promise<AttemptResult> => {
      attempts.push(input);
      return Promise.resolve({
        verdict: 'delivered',
        result: 'delivered',
        statusCode: 200,
        attempts: input.attempt,
        waitMs: 0,
        ...answers[input.deliveryId]?.shift(),
      });
    },
    finishDelivery: ({ status }: { status: string }) => Promise.resolve(status),
    deadLetterDelivery: () => Promise.resolve(),
  });
  return attempts;
}

const later = (attempts: number, waitMs: number): Partial<AttemptResult> => ({
  verdict: 'later',
  result: 'not_attempted',
  statusCode: null,
  attempts,
  waitMs,
});

describe('a delivery that is put off', () => {
  it('asks again after the pause, with the same attempt, and keeps its schedule', async () => {
    const ref = deliveryRef();
    const failed: Partial<AttemptResult> = {
      verdict: 'retry',
      result: 'http_error',
      statusCode: 500,
      attempts: 1,
    };
    const attempts = played({
      [ref.deliveryId]: [later(0, HOUR), later(0, 50), failed],
    });
    expect(await (await start(ref)).result()).toBe('delivered');
    expect(attempts.map(({ attempt }) => attempt)).toEqual([1, 1, 1, 2]);
  });

  it('can be put off hundreds of times without an end of its history', async () => {
    const ref = deliveryRef();
    const answers = Array.from({ length: 700 }, () => later(0, 1_000));
    const attempts = played({ [ref.deliveryId]: answers });
    expect(await (await start(ref)).result()).toBe('delivered');
    expect(attempts).toHaveLength(701);
    const { historyLength } = await handleOf(ref).describe();
    expect(historyLength).toBeLessThan(5_000);
  });

  it('is urgent when an operator has it tried now', async () => {
    const ref = deliveryRef();
    const attempts = played({ [ref.deliveryId]: [later(0, 24 * HOUR)] });
    const handle = await start(ref);
    await eventually(() => expect(attempts).toHaveLength(1));
    await handle.signal(SIGNALS.tryNow);
    expect(await handle.result()).toBe('delivered');
    expect(attempts[1]).toMatchObject({ attempt: 1, urgent: true });
  });

  it('because others made more attempts goes on at once behind them, as urgent as before', async () => {
    const ref = deliveryRef({ scheduleMs: [24 * HOUR, 24 * HOUR, 24 * HOUR, 24 * HOUR] });
    const attempts = played({ [ref.deliveryId]: [later(2, 0)] });
    const handle = await start(ref);
    await handle.signal(SIGNALS.tryNow);
    expect(await handle.result()).toBe('delivered');
    expect(attempts.map(({ attempt, urgent = false }) => [attempt, urgent])).toEqual([
      [1, true],
      [3, true],
    ]);
  });
});

describe('a delivery', () => {
  it('of a paused subscription ends as held, without a dead letter', async () => {
    const ref = deliveryRef();
    played({
      [ref.deliveryId]: [{ verdict: 'held', result: 'not_attempted', statusCode: null, attempts: 0 }],
    });
    const handle = await start(ref);
    expect(await handle.result()).toBe('held');
    expect(keyword((await handle.describe()).typedSearchAttributes, 'RemitStatus')).toBe('held');
  });

  it('that is sent again counts its attempts on, and has the whole schedule before it', async () => {
    const ref = deliveryRef({ generation: 2, attemptsBefore: 10, scheduleMs: [0, HOUR, HOUR] });
    const failed = (attempts: number): Partial<AttemptResult> => ({
      verdict: 'retry',
      result: 'http_error',
      statusCode: 500,
      attempts,
    });
    const attempts = played({ [ref.deliveryId]: [failed(11), failed(12)] });
    expect(await (await start(ref)).result()).toBe('delivered');
    expect(
      attempts.map(({ attempt, maxAttempts, generation }) => [attempt, maxAttempts, generation]),
    ).toEqual([
      [11, 13, 2],
      [12, 13, 2],
      [13, 13, 2],
    ]);
  });
});
