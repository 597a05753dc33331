import type { WorkflowHandle } from '@temporalio/client';
import type { AttemptInput, AttemptResult } from '../../src/activities/deliveries';
import type { StepInput, StepResult, TellInput, TellResult } from '../../src/activities/replays';
import {
  SIGNALS,
  TASK_QUEUES,
  workflowId,
  WORKFLOWS,
  type DeliveryRef,
  type LaneInput,
  type LaneStep,
  type ReplayInput,
} from '../../src/contracts/workflows';
import type { PurgePosition, PurgeStep } from '../../src/domain/event-retention';
import { loadConfig } from '../../src/platform/config';
import { DISPUTE_SCENARIOS, ORDER_WEBHOOK_SCENARIOS } from './dispute-scenarios';
import { ORDER_SCENARIOS, PAYMENT_SCENARIOS } from './payment-scenarios';

/** A workflow's life worth keeping: its history must replay on every later version of the workflow's code. */
export interface Scenario {
  /** File name under `histories/`, without `.json`. */
  name: string;
  workflowType: string;
  workflowId: string;
  taskQueue: string;
  input: unknown;
  /** Its payloads are encrypted (platform/payload-encryption.ts). */
  encrypted?: boolean;
  /** The signal that it is started with. */
  signal?: { name: string; input: unknown };
  /** What its activities answer. Stack traces, which have paths, do not go into what is recorded. */
  activities: Record<string, (input: never) => Promise<unknown>>;
  /** What happens from outside before the end is awaited. */
  meanwhile?(handle: WorkflowHandle): Promise<void>;
}

function refOf(name: string, changes: Partial<DeliveryRef> = {}): DeliveryRef {
  return {
    deliveryId: '00000000-0000-4000-8000-000000000001',
    eventId: `evt_${name}`,
    subscriptionId: 'sub_1',
    eventType: 'payment.succeeded',
    scheduleMs: loadConfig({}, ['WEBHOOK_SCHEDULE_MS']).WEBHOOK_SCHEDULE_MS,
    timeoutMs: 15_000,
    correlationId: 'correlation',
    ...changes,
  };
}

function delivery(
  name: string,
  answers: Partial<AttemptResult>[],
  meanwhile?: (handle: WorkflowHandle) => Promise<void>,
  changes: Partial<DeliveryRef> = {},
): Scenario {
  const ref = refOf(name, changes);
  const left = [...answers];
  return {
    name,
    workflowType: WORKFLOWS.delivery,
    workflowId: workflowId.delivery(ref.eventId, ref.subscriptionId, ref.generation),
    taskQueue: TASK_QUEUES.deliveries,
    input: ref,
    activities: {
      attemptDelivery: ({ attempt, maxAttempts, pauseMs }: AttemptInput): Promise<AttemptResult> =>
        Promise.resolve({
          verdict: attempt >= maxAttempts ? 'exhausted' : 'retry',
          result: 'http_error',
          statusCode: 500,
          attempts: attempt,
          waitMs: pauseMs,
          ...left.shift(),
        }),
      finishDelivery: ({ status }: { status: string }) => Promise.resolve(status),
      deadLetterDelivery: () => Promise.resolve(),
    },
    ...(meanwhile ? { meanwhile } : {}),
  };
}

/** The delivery `name`, whose first attempt fails in the worker and is repeated, and then uses up nothing of the schedule. */
function failingDelivery(name: string): Scenario {
  const scenario = delivery(name, []);
  let failed = false;
  const attemptDelivery = ({ attempt }: AttemptInput): Promise<AttemptResult> => {
    if (failed) return Promise.resolve({ ...ANSWER, ...DELIVERED, attempts: attempt });
    failed = true;
    return Promise.reject(new Error('connect ECONNREFUSED 127.0.0.1:5432'));
  };
  return { ...scenario, activities: { ...scenario.activities, attemptDelivery } };
}

function lane(
  name: string,
  steps: LaneStep[],
  meanwhile?: (handle: WorkflowHandle) => Promise<void>,
): Scenario {
  const left = [...steps];
  const input: LaneInput = { subscriptionId: name };
  return {
    name,
    workflowType: WORKFLOWS.lane,
    workflowId: workflowId.lane(name),
    taskQueue: TASK_QUEUES.deliveries,
    input,
    activities: {
      sendLane: () =>
        Promise.resolve(left.shift() ?? { waitMs: null, waitsFor: null, delivered: 0, failed: 0 }),
    },
    ...(meanwhile ? { meanwhile } : {}),
  };
}

function replay(name: string, slices: number, cancels = false): Scenario {
  const input: ReplayInput = {
    replayId: name,
    subscriptionId: 'sub_1',
    ratePerSecond: 10,
    correlationId: 'c',
  };
  const step = (from: number): StepResult => ({
    waitMs: 500,
    progress: {
      at: '2026-01-01T00:00:00.000Z',
      after: String(from),
      examined: from + 1,
      replayed: from + 1,
      paused: false,
      nextAt: '2026-01-01T00:00:00.000Z',
      ...(cancels && { cancels }),
    },
    done: from + 1 >= slices,
    stopped: null,
  });
  return {
    name,
    workflowType: WORKFLOWS.replay,
    workflowId: workflowId.replay(name),
    taskQueue: TASK_QUEUES.deliveries,
    input,
    activities: {
      stepReplay: ({ progress }: StepInput) => Promise.resolve(step(progress?.examined ?? 0)),
      recordReplayState: () => Promise.resolve(),
      tellCancelled: ({ told }: TellInput): Promise<TellResult> =>
        Promise.resolve({ told: { ...told, after: 'x' }, done: told.after === 'x', waitMs: 500 }),
    },
  };
}

/** What a schedule starts: without input, and under an id of its own. */
/** What the expiry finds, the last first. */
const purged = [5];
const overdue = [{ expired: 2, position: { job: 'payments', at: '2026-01-01T00:00:00.000Z', id: 'x' } }];

const scheduledJob = (
  name: string,
  workflowType: string,
  taskQueue: string,
  activities: Scenario['activities'],
): Scenario => ({ name, workflowType, workflowId: name, taskQueue, input: undefined, activities });

const ANSWER: AttemptResult = {
  verdict: 'delivered',
  result: 'delivered',
  statusCode: 200,
  attempts: 1,
  waitMs: 0,
};
const LATER: Partial<AttemptResult> = {
  verdict: 'later',
  result: 'not_attempted',
  statusCode: null,
  attempts: 0,
  waitMs: 60_000,
};
const DELIVERED: Partial<AttemptResult> = { verdict: 'delivered', result: 'delivered', statusCode: 200 };

/** The histories of this version. A later version that changes a workflow adds its own beside these. */
export const SCENARIOS: readonly Scenario[] = [
  ...PAYMENT_SCENARIOS,
  ...ORDER_SCENARIOS,
  ...ORDER_WEBHOOK_SCENARIOS,
  ...DISPUTE_SCENARIOS,
  delivery('delivery-at-once', [DELIVERED]),
  delivery('delivery-after-retry-after', [{ statusCode: 503, waitMs: 3_600_000 }, {}, DELIVERED]),
  delivery('delivery-exhausted', []),
  delivery('delivery-gone', [{ verdict: 'held', statusCode: 410 }]),
  delivery('delivery-goes-to-its-lane', [{}, { verdict: 'in_lane', attempts: 1 }]),
  delivery('delivery-tried-now', [{}, DELIVERED], (handle) => handle.signal(SIGNALS.tryNow)),
  delivery('delivery-cancelled-by-signal', [], (handle) => handle.signal(SIGNALS.cancel)),
  delivery('delivery-cancelled-in-temporal', [], async (handle) => void (await handle.cancel())),
  delivery('delivery-put-off', [LATER, LATER, {}, DELIVERED]),
  delivery('delivery-held', [{}, { verdict: 'held', result: 'not_attempted', statusCode: null }]),
  delivery('delivery-sent-again', [{ attempts: 11 }, { attempts: 12 }, DELIVERED], undefined, {
    generation: 1,
    attemptsBefore: 10,
  }),
  delivery('delivery-after-a-first-attempt', [{ attempts: 2 }, { ...DELIVERED, attempts: 3 }], undefined, {
    attemptsMade: 1,
    waitMs: 60_000,
  }),
  failingDelivery('delivery-attempt-fails'),
  { ...failingDelivery('delivery-attempt-fails-encrypted'), encrypted: true },
  lane('lane-drained', [{ waitMs: null, waitsFor: null, delivered: 20, failed: 0 }]),
  lane('lane-rests-and-is-crowded', [
    { waitMs: 0, waitsFor: 'work', delivered: 500, failed: 0 },
    { waitMs: 900_000, waitsFor: 'rest', delivered: 0, failed: 1 },
    { waitMs: 1_000, waitsFor: 'places', delivered: 0, failed: 0 },
    { waitMs: 1_000, waitsFor: 'places', delivered: 0, failed: 0 },
    { waitMs: null, waitsFor: null, delivered: 3, failed: 0 },
  ]),
  lane(
    'lane-woken',
    [
      { waitMs: 3_600_000, waitsFor: 'time', delivered: 0, failed: 1 },
      { waitMs: null, waitsFor: null, delivered: 1, failed: 0 },
    ],
    (handle) => handle.signal(SIGNALS.wake),
  ),
  scheduledJob('retention', WORKFLOWS.retention, TASK_QUEUES.events, {
    purgeEvents: ({ after }: PurgePosition): Promise<PurgeStep> =>
      Promise.resolve({
        ...{ at: '2026-01-01T00:00:00.000Z', after: `${after}x`, examined: 10, purged: 4 },
        done: after === 'xx',
      }),
  }),
  scheduledJob('expiry', WORKFLOWS.expiry, TASK_QUEUES.payments, {
    purgeIdempotencyKeys: () => Promise.resolve(purged.pop() ?? 0),
    expireOverdue: () => Promise.resolve(overdue.pop() ?? { expired: 0, position: null }),
    saveExpiryPosition: () => Promise.resolve(),
  }),
  scheduledJob('reconciliation', WORKFLOWS.reconciliation, TASK_QUEUES.payments, {
    reconcileLedger: () => Promise.resolve({ clean: true, found: { balances: 0 } }),
  }),
  scheduledJob('recovery', WORKFLOWS.recovery, TASK_QUEUES.deliveries, {
    strandedReplays: () =>
      Promise.resolve({
        replays: [{ id: 'stranded', subscriptionId: 'sub_1', ratePerSecond: 10 }],
        next: null,
      }),
    strandedDeliveries: () => Promise.resolve([]),
    wakeForgottenLanes: () => Promise.resolve(null),
    stepReplay: () =>
      Promise.resolve({
        waitMs: 0,
        progress: { at: '', after: '', examined: 0, replayed: 0, paused: false },
        done: true,
        stopped: null,
      }),
    recordReplayState: () => Promise.resolve(),
  }),
  scheduledJob('recovery-of-deliveries', WORKFLOWS.recovery, TASK_QUEUES.deliveries, {
    strandedReplays: () => Promise.resolve({ replays: [], next: null }),
    strandedDeliveries: (started: unknown[]) =>
      Promise.resolve(started.length > 0 ? [] : [refOf('stranded', { generation: 1, attemptsBefore: 3 })]),
    wakeForgottenLanes: (after: string) => Promise.resolve(after === '' ? 'sub_1' : null),
    attemptDelivery: ({ attempt }: AttemptInput): Promise<AttemptResult> =>
      Promise.resolve({ ...ANSWER, ...DELIVERED, attempts: attempt }),
  }),
  replay('replay-done', 3),
  replay('replay-that-cancels', 2, true),
];
