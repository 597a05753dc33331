import { WorkflowNotFoundError } from '@temporalio/client';
import type { SignalDefinition } from '@temporalio/common';
import { RemitError } from '../contracts/errors';
import { SIGNALS, workflowId, type ReplayInput } from '../contracts/workflows';
import { deliveryPolicyOf } from '../webhooks/delivery-policy';
import type { DeliveryRow } from '../domain/payments';
import { signalTryNow, startReplay as start } from '../platform/workflow-starts';
import type { ApiDeps } from './routes/route';
import { callTemporal } from './temporal-call';

type Deps = Pick<ApiDeps, 'config' | 'temporal' | 'log'>;

/**
 * Has a pending delivery attempted now; its workflow is started when none is running, so that a delivery that was opened
 * just before a crash is started by asking again. Idempotent but for the attempt. @returns the workflow's id.
 */
export async function tryDeliveryNow(deps: Deps, row: DeliveryRow, correlationId: string): Promise<string> {
  const ref = deliveryPolicyOf(deps.config)(row, correlationId);
  const id = workflowId.delivery(ref.eventId, ref.subscriptionId, ref.generation);
  await callTemporal(deps, id, (client) => signalTryNow(client, ref));
  return id;
}

/** Signals a workflow. @returns false when none of this id is running. @throws RemitError unavailable. */
export async function signalWorkflow(deps: Deps, id: string, signal: SignalDefinition): Promise<boolean> {
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
  try {
    await callTemporal(deps, workflowId.replay(input.replayId), (client) => start(client, input));
  } catch (error) {
    if (!(error instanceof RemitError && error.code === 'unavailable')) throw error;
  }
}
