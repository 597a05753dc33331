import { WorkflowNotFoundError, type Client } from '@temporalio/client';
import { SIGNALS, type DeliveryRef } from '../contracts/workflows';
import { signalLane, startDelivery } from '../platform/workflow-starts';

/** Workflows that are called side by side, for one caller. */
const SIDE_BY_SIDE = 16;

async function sideBySide<T>(items: readonly T[], call: (item: T) => Promise<unknown>): Promise<void> {
  for (let from = 0; from < items.length; from += SIDE_BY_SIDE)
    await Promise.all(items.slice(from, from + SIDE_BY_SIDE).map(call));
}

/**
 * Starts the workflow of each delivery. One that runs is left alone; an id that was used before is used again: what is
 * pending has to be carried on.
 * @throws what Temporal throws while it is away.
 */
export async function startDeliveryWorkflows(
  client: Client,
  deliveries: readonly DeliveryRef[],
  timeoutMs: number,
): Promise<void> {
  await sideBySide(deliveries, (ref) =>
    client.withDeadline(Date.now() + timeoutMs, () => startDelivery(client, ref)),
  );
}

/**
 * Wakes the workflows of lanes, and starts those that are not there. Idempotent.
 * @throws what Temporal throws while it is away.
 */
export async function wakeLanes(
  client: Client,
  subscriptionIds: readonly string[],
  timeoutMs: number,
): Promise<void> {
  await sideBySide(subscriptionIds, (id) =>
    client.withDeadline(Date.now() + timeoutMs, () => signalLane(client, id)),
  );
}

/**
 * Tells delivery workflows that their deliveries are cancelled; those that are not there need no telling. Idempotent.
 * @throws what Temporal throws while it is away.
 */
export async function cancelDeliveryWorkflows(
  client: Client,
  workflowIds: readonly string[],
  timeoutMs: number,
): Promise<void> {
  await sideBySide(workflowIds, async (id) => {
    try {
      await client.withDeadline(Date.now() + timeoutMs, () =>
        client.workflow.getHandle(id).signal(SIGNALS.cancel),
      );
    } catch (error) {
      if (!(error instanceof WorkflowNotFoundError)) throw error;
    }
  });
}
