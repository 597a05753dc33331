import { randomUUID } from 'node:crypto';
import type { WorkflowHandle } from '@temporalio/client';
import type { AttemptInput, AttemptResult } from '../../src/activities/deliveries';
import type { FanOutResult } from '../../src/activities/events';
import {
  TASK_QUEUES,
  workflowId,
  WORKFLOWS,
  type DeliveryRef,
  type EventWorkflowInput,
  type EventWorkflowResult,
  type RefusedMessage,
} from '../../src/contracts/workflows';
import type { PurgePosition, PurgeStep } from '../../src/domain/event-retention';
import { deliveryRef } from '../support/deliveries';
import { eventually } from '../support/harness';
import { messageRef } from '../support/message-refs';
import { keyword, playedStage } from '../support/workflow-env';

const stage = playedStage([
  ...['fanOutEvent', 'deadLetterMessages', 'attemptDelivery', 'finishDelivery', 'deadLetterDelivery'],
  ...['purgeEvents', 'strandedReplays', 'strandedDeliveries', 'stepReplay', 'recordReplayState'],
]);

type Input = Parameters<typeof stage.play>[0];

/** An event for these subscriptions, handed out `step` at a time as the database does. */
function published(subscribers: number, step: number) {
  const eventId = `evt_${randomUUID()}`;
  const deliveries = Array.from({ length: subscribers }, (_, n) =>
    deliveryRef({ eventId, subscriptionId: `sub_${String(n).padStart(5, '0')}` }),
  );
  const fanOut = (after: string): FanOutResult => {
    const rest = deliveries.filter(({ subscriptionId }) => subscriptionId > after);
    const some = rest.slice(0, step);
    return { deliveries: some, next: rest.length > step ? some.at(-1)!.subscriptionId : null };
  };
  return { eventId, deliveries, fanOut };
}

/** Plays a fan-out, and subscribers that take everything. */
function play(fanOut: (after: string) => FanOutResult | null | Promise<never>, more: Input = {}) {
  const calls = { fanOuts: [] as string[], attempts: [] as string[], deadLetters: [] as string[] };
  stage.play({
    fanOutEvent: async ({ after }: { after: string }) => {
      calls.fanOuts.push(after);
      return fanOut(after);
    },
    deadLetterMessages: (messages: RefusedMessage[]) =>
      Promise.resolve(void calls.deadLetters.push(...messages.map(({ key }) => key))),
    attemptDelivery: ({ deliveryId, attempt }: AttemptInput): Promise<AttemptResult> => {
      calls.attempts.push(deliveryId);
      return Promise.resolve({
        ...{ verdict: 'delivered', result: 'delivered', statusCode: 200 },
        ...{ attempts: attempt, retryAfterMs: null },
      });
    },
    ...more,
  });
  return calls;
}

const source = messageRef('events');
async function start(eventId: string): Promise<WorkflowHandle> {
  const input: EventWorkflowInput = { eventId, correlationId: 'correlation', source };
  return stage.track(
    await stage.environment.client.workflow.start(WORKFLOWS.event, {
      workflowId: workflowId.event(eventId),
      taskQueue: TASK_QUEUES.events,
      args: [input],
    }),
  );
}
const resultOf = async (handle: WorkflowHandle) => (await handle.result()) as EventWorkflowResult;
const handleOf = ({ eventId, subscriptionId }: DeliveryRef) =>
  stage.environment.client.workflow.getHandle(workflowId.delivery(eventId, subscriptionId));

describe('an event', () => {
  it('is handed out step by step, a delivery workflow for each subscription, which outlives it', async () => {
    const { eventId, deliveries, fanOut } = published(5, 2);
    const calls = play(fanOut);
    expect(await resultOf(await start(eventId))).toEqual({ outcome: 'fanned_out', started: 5 });
    expect(calls.fanOuts).toEqual(['', 'sub_00001', 'sub_00003']);
    for (const delivery of deliveries) expect(await handleOf(delivery).result()).toBe('delivered');
    expect(calls.attempts.sort()).toEqual(deliveries.map(({ deliveryId }) => deliveryId).sort());
    const { typedSearchAttributes } = await handleOf(deliveries[3]!).describe();
    expect(keyword(typedSearchAttributes, 'RemitSubscriptionId')).toBe('sub_00003');
    expect(keyword(typedSearchAttributes, 'RemitEventType')).toBe('payment.succeeded');
  });

  it('that nobody wants ends at once', async () => {
    const { eventId, fanOut } = published(0, 2);
    play(fanOut);
    expect(await resultOf(await start(eventId))).toEqual({ outcome: 'fanned_out', started: 0 });
  });

  it('whose message comes again starts nothing twice', async () => {
    const { eventId, deliveries, fanOut } = published(3, 10);
    const calls = play(fanOut);
    await resultOf(await start(eventId));
    for (const delivery of deliveries) await handleOf(delivery).result();
    // As after a crash before the deliveries were finished: the database hands them back once more.
    expect(await resultOf(await start(eventId))).toMatchObject({ outcome: 'fanned_out' });
    expect(calls.attempts).toHaveLength(3);
  });

  it('that nobody published becomes a dead letter, also when Kafka is away for a while', async () => {
    let failures = 3;
    const eventId = `evt_${randomUUID()}`;
    const deadLetters: RefusedMessage[] = [];
    play(() => null, {
      deadLetterMessages: (messages: RefusedMessage[]) =>
        failures-- > 0
          ? Promise.reject(new Error('no broker'))
          : Promise.resolve(void deadLetters.push(...messages)),
    });
    expect(await resultOf(await start(eventId))).toEqual({ outcome: 'unknown_event', started: 0 });
    expect(deadLetters).toMatchObject([{ key: eventId, code: 'unknown_event', source }]);
  });
});

describe('the end of events by age', () => {
  it('goes on in another run when it has many steps, from where it was', async () => {
    const STEPS = 1_100;
    const seen: number[] = [];
    stage.play({
      purgeEvents: ({ after }: PurgePosition): Promise<PurgeStep> => {
        const n = after === '' ? 1 : Number(after) + 1;
        seen.push(n);
        const at = new Date(n).toISOString();
        return Promise.resolve({ at, after: String(n), examined: 10, purged: 3, done: n === STEPS });
      },
    });
    const result: unknown = await stage.environment.client.workflow.execute(WORKFLOWS.retention, {
      workflowId: `retention-${randomUUID()}`,
      taskQueue: TASK_QUEUES.events,
      args: [],
    });
    expect(result).toEqual({ purged: 3 * STEPS });
    expect(seen).toEqual(Array.from({ length: STEPS }, (_, n) => n + 1));
  }, 120_000);
});

describe('the sweep of replays', () => {
  const replays = Array.from({ length: 3 }, () => ({
    id: randomUUID(),
    subscriptionId: 'sub_1',
    ratePerSecond: 10,
  }));
  const sweep = () =>
    stage.environment.client.workflow.execute(WORKFLOWS.replaySweep, {
      workflowId: `sweep-${randomUUID()}`,
      taskQueue: TASK_QUEUES.deliveries,
      args: [],
    }) as Promise<number>;

  it('starts what was never started, page by page, and leaves the others alone', async () => {
    const steps: string[] = [];
    stage.play({
      strandedReplays: (after: { at: string; id: string } | null) => {
        const from = after === null ? 0 : replays.findIndex(({ id }) => id === after.id) + 1;
        const some = replays.slice(from, from + 2);
        const next = some.length === 2 ? { at: '2026-01-01T00:00:00.000Z', id: some[1]!.id } : null;
        return Promise.resolve({ replays: some, next });
      },
      stepReplay: ({ replayId }: { replayId: string }) => {
        steps.push(replayId);
        const progress = { at: '', after: '', examined: 0, replayed: 0, paused: false };
        return Promise.resolve({ deliveries: [], progress, done: true, stopped: null });
      },
      recordReplayState: () => Promise.resolve(),
      strandedDeliveries: () => Promise.resolve([]),
    });
    expect(await sweep()).toBe(3);
    for (const { id } of replays)
      expect(await stage.environment.client.workflow.getHandle(workflowId.replay(id)).result()).toBe('done');
    expect(await sweep()).toBe(0);
    expect(steps.sort()).toEqual(replays.map(({ id }) => id).sort());
  });

  it('starts deliveries that were sent again and never started, until there are none, and asks for no other attempt', async () => {
    const waiting = Array.from({ length: 5 }, () => deliveryRef({ generation: 1, attemptsBefore: 3 }));
    const attempts: string[] = [];
    const noted: { deliveryId: string; generation: number }[] = [];
    stage.play({
      strandedReplays: () => Promise.resolve({ replays: [], next: null }),
      strandedDeliveries: (started: typeof noted) => {
        noted.push(...started);
        const left = waiting.filter(
          (each) => !noted.some(({ deliveryId }) => deliveryId === each.deliveryId),
        );
        return Promise.resolve(left.slice(0, 2));
      },
      attemptDelivery: ({ deliveryId, attempt }: AttemptInput): Promise<AttemptResult> => {
        attempts.push(`${deliveryId}/${attempt}`);
        const delivered = { verdict: 'delivered', result: 'delivered', statusCode: 200 } as const;
        return Promise.resolve({ ...delivered, attempts: attempt, retryAfterMs: null });
      },
    });
    await sweep();
    const ids = waiting.map(({ deliveryId }) => deliveryId).sort();
    expect(noted.map(({ deliveryId }) => deliveryId).sort()).toEqual(ids);
    expect(noted.every(({ generation }) => generation === 1)).toBe(true);
    await eventually(() => expect(attempts).toHaveLength(5), 60_000);
    noted.length = 0;
    await sweep();
    expect(noted).toHaveLength(5);
    // One whose workflow had ended may be started again: it asks for the attempt that its row knows to be made.
    expect([...new Set(attempts)].sort()).toEqual(ids.map((id) => `${id}/4`));
  });
});

// Last: children that end while their parent begins anew can make the test server lose count of its clock's locks.
describe('an event with more subscriptions than a history holds', () => {
  it('goes on in another run, and every delivery is started once', async () => {
    const { eventId, deliveries, fanOut } = published(1_150, 100);
    const calls = play(fanOut);
    const handle = await start(eventId);
    expect(await resultOf(handle)).toEqual({ outcome: 'fanned_out', started: 1_150 });
    expect(calls.fanOuts).toHaveLength(12);
    const last = await stage.environment.client.workflow.getHandle(handle.workflowId).describe();
    expect(last.runId).not.toBe((handle as { firstExecutionRunId?: string }).firstExecutionRunId);
    await eventually(() => expect(calls.attempts).toHaveLength(deliveries.length), 60_000);
    expect(new Set(calls.attempts).size).toBe(deliveries.length);
  }, 120_000);
});
