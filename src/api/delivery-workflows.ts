import { WorkflowExecutionAlreadyStartedError, WorkflowNotFoundError } from '@temporalio/client';
import { defineSearchAttributeKey, TypedSearchAttributes } from '@temporalio/common';
import { RemitError } from '../contracts/errors';
import { SIGNALS, TASK_QUEUES, workflowId, WORKFLOWS, type ReplayInput } from '../contracts/workflows';
import { deliveryPolicyOf } from '../domain/delivery-policy';
import type { DeliveryRow } from '../domain/payments';
import type { ApiDeps } from './routes/route';

const SUBSCRIPTION = defineSearchAttributeKey('RemitSubscriptionId', 'KEYWORD');
const EVENT_TYPE = defineSearchAttributeKey('RemitEventType', 'KEYWORD');

type Deps = Pick<ApiDeps, 'config' | 'temporal' | 'log'>;

/** Calls Temporal within the time of a request. @throws RemitError unavailable when it does not answer. */
async function call<T>(
  { config, temporal, log }: Deps,
  id: string,
  run: (client: Client) => Promise<T>,
): Promise<T> {
  try {
    const client = await temporal();
    return await client.withDeadline(Date.now() + config.API_REQUEST_TIMEOUT_MS, () => run(client));
  } catch (error) {
    if (error instanceof WorkflowNotFoundError || error instanceof WorkflowExecutionAlreadyStartedError)
      throw error;
    log.error({ err: error, workflowId: id }, 'Temporal did not take a request');
    throw new RemitError('unavailable', 'Temporal could not be reached in time; try again.');
  }
}

type Client = Awaited<ReturnType<ApiDeps['temporal']>>;

/**
 * Has a pending delivery attempted now; its workflow is started when none is running, so that a delivery that was opened
 * just before a crash is started by asking again. Idempotent but for the attempt. @returns the workflow's id.
 */
export async function tryDeliveryNow(deps: Deps, row: DeliveryRow, correlationId: string): Promise<string> {
  const ref = deliveryPolicyOf(deps.config)(row, correlationId);
  const id = workflowId.delivery(ref.eventId, ref.subscriptionId, ref.generation);
  await call(deps, id, (client) =>
    client.workflow.signalWithStart(WORKFLOWS.delivery, {
      workflowId: id,
      taskQueue: TASK_QUEUES.deliveries,
      args: [ref],
      signal: SIGNALS.tryNow,
      workflowIdReusePolicy: 'ALLOW_DUPLICATE',
      typedSearchAttributes: new TypedSearchAttributes([
        { key: SUBSCRIPTION, value: ref.subscriptionId },
        { key: EVENT_TYPE, value: ref.eventType },
      ]),
    }),
  );
  return id;
}

/** Signals a workflow. @throws RemitError conflict when none of this id is running. */
export async function signalWorkflow(deps: Deps, id: string, signal: string, what: string): Promise<void> {
  try {
    await call(deps, id, (client) => client.workflow.getHandle(id).signal(signal));
  } catch (error) {
    if (error instanceof WorkflowNotFoundError)
      throw new RemitError('conflict', `The ${what} is not running.`);
    throw error;
  }
}

/** Starts the workflow of a replay; one that was started before is left alone. */
export async function startReplay(deps: Deps, input: ReplayInput): Promise<void> {
  const id = workflowId.replay(input.replayId);
  try {
    await call(deps, id, (client) =>
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
    if (!(error instanceof WorkflowExecutionAlreadyStartedError)) throw error;
  }
}
