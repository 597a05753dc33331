import { WorkflowNotFoundError } from '@temporalio/client';
import type { SignalDefinition } from '@temporalio/common';
import { RemitError } from '../contracts/errors';
import { SIGNALS, workflowId, type ReplayInput } from '../contracts/workflows';
import { hurryInLane } from '../domain/lanes';
import { deliveryPolicyOf } from '../webhooks/delivery-policy';
import type { DeliveryRow } from '../domain/pending-deliveries';
import { signalLane, signalTryNow, startReplay as start } from '../platform/workflow-starts';
import type { ApiDeps } from './routes/route';
import { callTemporal } from './temporal-call';

type Deps = Pick<ApiDeps, 'config' | 'temporal' | 'log' | 'database'>;

/**
 * Has a pending delivery attempted now: in its lane when it waits there, otherwise by its workflow, which is started when
 * none is running, so that a delivery that was opened just before a crash is started by asking again. Idempotent but for
 * the attempt. @returns the workflow's id.
 */
export async function tryDeliveryNow(deps: Deps, row: DeliveryRow, correlationId: string): Promise<string> {
  if (await hurryInLane(deps.database, row.deliveryId)) {
    await wakeLane(deps, row.subscriptionId);
    return workflowId.lane(row.subscriptionId);
  }
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

/** Has the workflow of a lane look at what waits; it is started when none is running. @throws RemitError unavailable. */
async function wakeLane(deps: Deps, subscriptionId: string): Promise<void> {
  await callTemporal(deps, workflowId.lane(subscriptionId), (client) => signalLane(client, subscriptionId));
}

/**
 * Tells the workflow of a lane, if one runs, to look at what waits. When Temporal can't be reached, the recovery job finds what
 * is due.
 */
export async function tellLane(deps: Deps, subscriptionId: string): Promise<void> {
  const id = workflowId.lane(subscriptionId);
  await signalWorkflow(deps, id, SIGNALS.wake).catch((error: unknown) =>
    deps.log.warn({ err: error, subscriptionId }, 'a lane was not told of a change'),
  );
}

/** Tells the workflow of a cancelled delivery, if one runs, to end; one that is not told finds out at its next attempt. */
export async function tellDelivery(deps: Deps, id: string): Promise<void> {
  await signalWorkflow(deps, id, SIGNALS.cancel).catch((error: unknown) =>
    deps.log.warn({ err: error, workflowId: id }, 'a delivery workflow was not told that it is cancelled'),
  );
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
