import type { WorkflowHandle } from '@temporalio/client';
import type { AttemptInput, AttemptResult } from '../../src/activities/deliveries';
import { SIGNALS, TASK_QUEUES, workflowId, WORKFLOWS, type DeliveryRef } from '../../src/contracts/workflows';
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
  /** The signal that it is started with. */
  signal?: { name: string; input: unknown };
  /** What its activities answer. Failures would put stack traces with paths into the history: leave them out. */
  activities: Record<string, (input: never) => Promise<unknown>>;
  /** What happens from outside before the end is awaited. */
  meanwhile?(handle: WorkflowHandle): Promise<void>;
}

function delivery(
  name: string,
  answers: Partial<AttemptResult>[],
  meanwhile?: (handle: WorkflowHandle) => Promise<void>,
): Scenario {
  const ref: DeliveryRef = {
    deliveryId: '00000000-0000-4000-8000-000000000001',
    eventId: `evt_${name}`,
    subscriptionId: 'sub_1',
    eventType: 'payment.succeeded',
    scheduleMs: loadConfig({}, ['WEBHOOK_SCHEDULE_MS']).WEBHOOK_SCHEDULE_MS,
    timeoutMs: 15_000,
    correlationId: 'correlation',
  };
  const left = [...answers];
  return {
    name,
    workflowType: WORKFLOWS.delivery,
    workflowId: workflowId.delivery(ref.eventId, ref.subscriptionId),
    taskQueue: TASK_QUEUES.deliveries,
    input: ref,
    activities: {
      attemptDelivery: ({ attempt, maxAttempts }: AttemptInput): Promise<AttemptResult> =>
        Promise.resolve({
          verdict: attempt >= maxAttempts ? 'exhausted' : 'retry',
          result: 'http_error',
          statusCode: 500,
          attempts: attempt,
          retryAfterMs: null,
          ...left.shift(),
        }),
      finishDelivery: ({ status }: { status: string }) => Promise.resolve(status),
      deadLetterDelivery: () => Promise.resolve(),
    },
    ...(meanwhile ? { meanwhile } : {}),
  };
}

const DELIVERED: Partial<AttemptResult> = { verdict: 'delivered', result: 'delivered', statusCode: 200 };

/** The histories of this version. A later version that changes a workflow adds its own beside these. */
export const SCENARIOS: readonly Scenario[] = [
  ...PAYMENT_SCENARIOS,
  ...ORDER_SCENARIOS,
  ...ORDER_WEBHOOK_SCENARIOS,
  ...DISPUTE_SCENARIOS,
  delivery('delivery-at-once', [DELIVERED]),
  delivery('delivery-after-retry-after', [{ statusCode: 503, retryAfterMs: 3_600_000 }, {}, DELIVERED]),
  delivery('delivery-exhausted', []),
  delivery('delivery-gone', [{ verdict: 'gone', statusCode: 410 }]),
  delivery('delivery-tried-now', [{}, DELIVERED], (handle) => handle.signal(SIGNALS.tryNow)),
  delivery('delivery-cancelled-by-signal', [], (handle) => handle.signal(SIGNALS.cancel)),
  delivery('delivery-cancelled-in-temporal', [], async (handle) => void (await handle.cancel())),
];
