import type { Client } from '@temporalio/client';
import type { DeliveryRef } from '../contracts/workflows';
import { startDelivery } from '../platform/workflow-starts';

/** Workflows that are started side by side, for one caller. */
const SIDE_BY_SIDE = 16;

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
  for (let from = 0; from < deliveries.length; from += SIDE_BY_SIDE)
    await Promise.all(
      deliveries
        .slice(from, from + SIDE_BY_SIDE)
        .map((ref) => client.withDeadline(Date.now() + timeoutMs, () => startDelivery(client, ref))),
    );
}
