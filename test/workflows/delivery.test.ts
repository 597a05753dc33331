import type { WorkflowHandle } from '@temporalio/client';
import { WorkflowFailedError } from '@temporalio/client';
import type { AttemptInput, AttemptResult } from '../../src/activities/deliveries';
import {
  QUERIES,
  SIGNALS,
  TASK_QUEUES,
  workflowId,
  WORKFLOWS,
  type DeliveryRef,
  type DeliveryState,
} from '../../src/contracts/workflows';
import { loadConfig } from '../../src/platform/config';
import { delayMs } from '../../src/webhooks/attempt';
import { deliveryRef } from '../support/deliveries';
import { eventually } from '../support/harness';
import { keyword, playedStage } from '../support/workflow-env';

const MINUTE = 60_000;
const HOUR = 60 * MINUTE;
const DEFAULT_SCHEDULE = loadConfig({}, ['WEBHOOK_SCHEDULE_MS']).WEBHOOK_SCHEDULE_MS;

const stage = playedStage(['attemptDelivery', 'finishDelivery', 'deadLetterDelivery']);

type Answer = Partial<AttemptResult> | Error;

/** Plays the activities: each attempt gets the next answer, the last one forever. */
function played(answers: Answer[]) {
  const calls = {
    attempts: [] as AttemptInput[],
    finished: [] as { status: string; reason: string }[],
    dead: [] as { deliveryId: string; correlationId: string }[],
  };
  stage.play({
    attemptDelivery: (input: AttemptInput): Promise<AttemptResult> => {
      calls.attempts.push(input);
      const answer = (answers.length > 1 ? answers.shift() : answers[0]) ?? {};
      if (answer instanceof Error) return Promise.reject(answer);
      const verdict = input.attempt >= input.maxAttempts ? 'exhausted' : 'retry';
      return Promise.resolve({
        verdict,
        result: 'http_error',
        statusCode: 500,
        attempts: input.attempt,
        waitMs: delayMs(input.pauseMs, 0),
        ...answer,
      });
    },
    finishDelivery: (input: { status: string; reason: string }) => {
      calls.finished.push(input);
      return Promise.resolve(input.status);
    },
    deadLetterDelivery: (input: { deliveryId: string; correlationId: string }) => {
      calls.dead.push(input);
      return Promise.resolve();
    },
  });
  return calls;
}

const delivered: Answer = { verdict: 'delivered', result: 'delivered', statusCode: 200 };

async function start(changes: Partial<DeliveryRef> = {}) {
  const ref = deliveryRef(changes);
  const handle = await stage.environment.client.workflow.start(WORKFLOWS.delivery, {
    workflowId: workflowId.delivery(ref.eventId, ref.subscriptionId),
    taskQueue: TASK_QUEUES.deliveries,
    args: [ref],
  });
  stage.track(handle);
  return { ref, handle };
}

async function historyOf(handle: WorkflowHandle) {
  const { events } = await handle.fetchHistory();
  return (events ?? []).map((event) => ({
    event,
    atMs: Number(event.eventTime?.seconds ?? 0) * 1_000 + (event.eventTime?.nanos ?? 0) / 1e6,
  }));
}

/** Milliseconds between the starts of consecutive attempts, as the server recorded them. */
async function gapsMs(handle: WorkflowHandle): Promise<number[]> {
  const times = (await historyOf(handle))
    .filter(
      ({ event }) => event.activityTaskScheduledEventAttributes?.activityType?.name === 'attemptDelivery',
    )
    .map(({ atMs }) => atMs);
  return times.slice(1).map((at, index) => at - (times[index] ?? 0));
}

const stateOf = (handle: WorkflowHandle) => handle.query<DeliveryState>(QUERIES.delivery);
const waitingAfter = (handle: WorkflowHandle, attempts: number) =>
  eventually(async () => {
    const state = await stateOf(handle);
    expect(state).toMatchObject({ status: 'waiting', attempts });
    return state;
  });

describe('the delivery workflow', () => {
  it('is one activity and two workflow tasks when the first attempt succeeds', async () => {
    const calls = played([delivered]);
    const { ref, handle } = await start();
    expect(await handle.result()).toBe('delivered');
    expect(calls.attempts).toEqual([
      {
        deliveryId: ref.deliveryId,
        attempt: 1,
        maxAttempts: 10,
        timeoutMs: 15_000,
        correlationId: 'correlation',
        pauseMs: 5_000,
      },
    ]);
    const events = (await historyOf(handle)).map(({ event }) => event);
    expect(events.filter((event) => event.workflowTaskCompletedEventAttributes)).toHaveLength(2);
    expect(events.filter((event) => event.activityTaskScheduledEventAttributes)).toHaveLength(1);
    expect(events.filter((event) => event.timerStartedEventAttributes)).toHaveLength(0);
    expect(keyword((await handle.describe()).typedSearchAttributes, 'RemitStatus')).toBe('delivered');
  });

  it('goes through the whole schedule of three days, each pause within its jitter, and dead-letters in the end', async () => {
    const calls = played([{}]);
    const { ref, handle } = await start();
    expect(await handle.result()).toBe('exhausted');

    expect(calls.attempts.map(({ attempt }) => attempt)).toEqual([1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
    const gaps = await gapsMs(handle);
    expect(gaps).toHaveLength(9);
    gaps.forEach((gap, index) => {
      const scheduled = DEFAULT_SCHEDULE[index + 1] ?? 0;
      expect(gap).toBeGreaterThanOrEqual(scheduled * 0.8 - 5);
      // Above the jitter there is only the time that the workers themselves take.
      expect(gap).toBeLessThanOrEqual(scheduled * 1.2 + 5_000);
    });
    const total = gaps.reduce((sum, gap) => sum + gap, 0);
    expect(total).toBeGreaterThan(0.8 * 75.5 * HOUR);
    expect(total).toBeLessThan(1.2 * 75.6 * HOUR + MINUTE);
    expect(calls.dead).toEqual([{ deliveryId: ref.deliveryId, correlationId: 'correlation' }]);
    expect(keyword((await handle.describe()).typedSearchAttributes, 'RemitStatus')).toBe('exhausted');
  });

  it('does not pause equally long in two deliveries', async () => {
    played([{}]);
    const scheduleMs = [0, HOUR, HOUR, HOUR];
    const pauses: number[] = [];
    // One after the other: the test server loses count of its clock's locks when two workflows are awaited.
    for (let delivery = 0; delivery < 2; delivery++) {
      const { handle } = await start({ scheduleMs });
      await handle.result();
      pauses.push(...(await gapsMs(handle)).map((ms) => Math.round(ms / 10_000)));
    }
    expect(new Set(pauses).size).toBeGreaterThan(3);
  });

  it('starts with a pause when the schedule does', async () => {
    played([delivered]);
    const { handle } = await start({ scheduleMs: [HOUR] });
    expect(await handle.result()).toBe('delivered');
    const history = await historyOf(handle);
    expect((history.at(-1)?.atMs ?? 0) - (history[0]?.atMs ?? 0)).toBeGreaterThanOrEqual(0.8 * HOUR);
  });

  it('waits as long as the attempt says, which knows what the subscriber asked for', async () => {
    const calls = played([{ statusCode: 503, waitMs: 2 * HOUR }, {}, delivered]);
    const { handle } = await start({ scheduleMs: [0, MINUTE, HOUR] });
    expect(await handle.result()).toBe('delivered');
    const [first = 0, second = 0] = await gapsMs(handle);
    expect(first).toBeGreaterThanOrEqual(2 * HOUR);
    expect(first).toBeLessThan(2 * HOUR + MINUTE);
    expect(second).toBeGreaterThanOrEqual(0.8 * HOUR);
    expect(second).toBeLessThan(1.2 * HOUR + MINUTE);
    expect(calls.attempts.map(({ pauseMs }) => pauseMs)).toEqual([MINUTE, HOUR, 0]);
  });

  it('ends when the delivery has to wait for its subscription: its lane goes on with it', async () => {
    const calls = played([{}, { verdict: 'in_lane', result: 'http_error', attempts: 1 }]);
    const { handle } = await start();
    expect(await handle.result()).toBe('in_lane');
    expect([calls.attempts.length, calls.dead.length, calls.finished.length]).toEqual([2, 0, 0]);
    expect(keyword((await handle.describe()).typedSearchAttributes, 'RemitStatus')).toBe('in_lane');
  });

  it('does not use up attempts while our own database is down', async () => {
    const outage = new Error('connect ECONNREFUSED');
    const calls = played([outage, outage, outage, delivered]);
    const { handle } = await start();
    expect(await handle.result()).toBe('delivered');
    expect(calls.attempts.map(({ attempt }) => attempt)).toEqual([1, 1, 1, 1]);
  });

  it('is held at once when the subscriber is gone, without a dead letter', async () => {
    const calls = played([{ verdict: 'held', statusCode: 410 }]);
    const { handle } = await start();
    expect(await handle.result()).toBe('held');
    expect([calls.attempts.length, calls.dead.length, calls.finished.length]).toEqual([1, 0, 0]);
  });

  it('ends without a dead letter when the subscription is no longer active', async () => {
    const calls = played([{}, { verdict: 'cancelled', result: 'http_error' }]);
    const { handle } = await start();
    expect(await handle.result()).toBe('cancelled');
    expect([calls.attempts.length, calls.dead.length]).toEqual([2, 0]);
  });

  it('takes up the schedule where a former run left it', async () => {
    const calls = played([{ attempts: 7, waitMs: 14 * HOUR }, delivered]);
    const { handle } = await start();
    expect(await handle.result()).toBe('delivered');
    expect(calls.attempts.map(({ attempt }) => attempt)).toEqual([1, 8]);
    const [gap = 0] = await gapsMs(handle);
    expect(gap).toBeGreaterThanOrEqual(0.8 * 14 * HOUR);
  });

  it('shows an operator what it waits for', async () => {
    played([{ result: 'timeout', statusCode: null }]);
    const { handle } = await start({ scheduleMs: [0, 10 * HOUR] });
    const state = await waitingAfter(handle, 1);
    expect(state).toMatchObject({ maxAttempts: 2, lastResult: 'timeout' });
    const waitMs = Date.parse(state.nextAttemptAt ?? '') - (await stage.environment.currentTimeMs());
    expect(waitMs).toBeGreaterThan(7 * HOUR);
    expect(waitMs).toBeLessThan(12 * HOUR + MINUTE);
    expect(keyword((await handle.describe()).typedSearchAttributes, 'RemitStatus')).toBe('retrying');
  });
});

describe('an operator', () => {
  it('can have the next attempt made now, which uses one of the schedule', async () => {
    const calls = played([{}]);
    const { handle } = await start({ scheduleMs: [0, 10 * HOUR, 10 * HOUR] });
    await waitingAfter(handle, 1);
    await handle.signal(SIGNALS.tryNow);
    await waitingAfter(handle, 2);
    const [gap = Infinity] = await gapsMs(handle);
    expect(gap).toBeLessThan(HOUR);
    expect(await handle.result()).toBe('exhausted');
    expect(calls.attempts).toHaveLength(3);
    expect((await gapsMs(handle))[1]).toBeGreaterThanOrEqual(8 * HOUR);
  });

  it('can have it tried now although the subscriber asked for patience', async () => {
    played([{ statusCode: 503, waitMs: 24 * HOUR }, delivered]);
    const { handle } = await start();
    await waitingAfter(handle, 1);
    await handle.signal(SIGNALS.tryNow);
    expect(await handle.result()).toBe('delivered');
    expect((await gapsMs(handle))[0]).toBeLessThan(HOUR);
  });

  it('can cancel by a signal: no more attempts, no dead letter', async () => {
    const calls = played([{}]);
    const { handle } = await start();
    await waitingAfter(handle, 1);
    await handle.signal(SIGNALS.cancel);
    expect(await handle.result()).toBe('cancelled');
    expect(calls.finished).toMatchObject([{ status: 'cancelled', reason: 'cancelled by an operator' }]);
    expect([calls.attempts.length, calls.dead.length]).toEqual([1, 0]);
    expect(keyword((await handle.describe()).typedSearchAttributes, 'RemitStatus')).toBe('cancelled');
  });

  it('can cancel in the Temporal UI with the same effect', async () => {
    const calls = played([{}]);
    const { handle } = await start();
    await waitingAfter(handle, 1);
    await handle.cancel();
    await expect(handle.result()).rejects.toThrow(WorkflowFailedError);
    expect((await handle.describe()).status.name).toBe('CANCELLED');
    expect(calls.finished).toMatchObject([{ status: 'cancelled' }]);
    expect(calls.attempts).toHaveLength(1);
  });

  it('who cancels during an attempt that delivers has a delivered webhook', async () => {
    const calls = played([]);
    let answer: (result: AttemptResult) => void = () => undefined;
    let begun = 0;
    stage.play({
      attemptDelivery: () => {
        begun++;
        return new Promise<AttemptResult>((resolve) => (answer = resolve));
      },
    });
    const { handle } = await start();
    await eventually(() => expect(begun).toBe(1));
    await handle.signal(SIGNALS.cancel);
    answer({ verdict: 'delivered', result: 'delivered', statusCode: 200, attempts: 1, waitMs: 0 });
    expect(await handle.result()).toBe('delivered');
    expect(calls.finished).toEqual([]);
  });
});
