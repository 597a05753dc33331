import { WorkflowExecutionAlreadyStartedError, WorkflowNotFoundError } from '@temporalio/client';
import { defineSearchAttributeKey, TypedSearchAttributes } from '@temporalio/common';
import { RemitError } from '../contracts/errors';
import {
  SIGNALS,
  TASK_QUEUES,
  workflowId,
  WORKFLOWS,
  type DeliveryRef,
  type ReplayInput,
} from '../contracts/workflows';
import { deliveryPolicyOf } from '../domain/delivery-policy';
import type { DeliveryRow } from '../domain/payments';
import type { ApiDeps } from './routes/route';
import { callTemporal } from './temporal-call';

const SUBSCRIPTION = defineSearchAttributeKey('RemitSubscriptionId', 'KEYWORD');
const EVENT_TYPE = defineSearchAttributeKey('RemitEventType', 'KEYWORD');

type Deps = Pick<ApiDeps, 'config' | 'temporal' | 'log'>;

/** Temporal's limit of a fairness key, in bytes. */
const FAIRNESS_KEY_MAX = 64;

/** How the workflow of a delivery is started from outside: anew where its id was used and none is running. */
export function deliveryStart(ref: DeliveryRef) {
  return {
    workflowId: workflowId.delivery(ref.eventId, ref.subscriptionId, ref.generation),
    taskQueue: TASK_QUEUES.deliveries,
    args: [ref],
    workflowIdReusePolicy: 'ALLOW_DUPLICATE' as const,
    priority: { fairnessKey: ref.subscriptionId.slice(0, FAIRNESS_KEY_MAX) },
    typedSearchAttributes: new TypedSearchAttributes([
      { key: SUBSCRIPTION, value: ref.subscriptionId },
      { key: EVENT_TYPE, value: ref.eventType },
    ]),
  };
}

/**
 * Has a pending delivery attempted now; its workflow is started when none is running, so that a delivery that was opened
 * just before a crash is started by asking again. Idempotent but for the attempt. @returns the workflow's id.
 */
export async function tryDeliveryNow(deps: Deps, row: DeliveryRow, correlationId: string): Promise<string> {
  const ref = deliveryPolicyOf(deps.config)(row, correlationId);
  const { workflowId: id } = deliveryStart(ref);
  await callTemporal(deps, id, (client) =>
    client.workflow.signalWithStart(WORKFLOWS.delivery, {
      ...deliveryStart(ref),
      signal: SIGNALS.tryNow,
    }),
  );
  return id;
}

/** Signals a workflow. @returns false when none of this id is running. @throws RemitError unavailable. */
export async function signalWorkflow(deps: Deps, id: string, signal: string): Promise<boolean> {
  try {
    await callTemporal(deps, id, (client) => client.workflow.getHandle(id).signal(signal));
    return true;
  } catch (error) {
    if (error instanceof WorkflowNotFoundError) return false;
    throw error;
  }
}

/** Wakes the ordered delivery that waited for another to end. It looks for itself too: nothing is lost when this fails. */
export async function wakeDelivery(deps: Deps, row: DeliveryRow): Promise<void> {
  const id = workflowId.delivery(row.eventId, row.subscriptionId, row.generation);
  await signalWorkflow(deps, id, SIGNALS.wake).catch(() => false);
}

/**
 * Starts the workflow of a replay; one that was started before is left alone. When Temporal can't be reached, the
 * schedule starts it: the replay is written already.
 */
export async function startReplay(deps: Deps, input: ReplayInput): Promise<void> {
  const id = workflowId.replay(input.replayId);
  try {
    await callTemporal(deps, id, (client) =>
      client.workflow.start(WORKFLOWS.replay, {
        workflowId: id,
        taskQueue: TASK_QUEUES.deliveries,
        args: [input],
        workflowIdReusePolicy: 'REJECT_DUPLICATE',
        typedSearchAttributes: new TypedSearchAttributes([
          { key: SUBSCRIPTION, value: input.subscriptionId },
        ]),
      }),
    );
  } catch (error) {
    if (error instanceof WorkflowExecutionAlreadyStartedError) return;
    if (error instanceof RemitError && error.code === 'unavailable') return;
    throw error;
  }
}
