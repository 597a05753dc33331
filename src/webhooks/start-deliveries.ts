import { WorkflowExecutionAlreadyStartedError, type Client } from '@temporalio/client';
import { deliveryStart } from '../contracts/workflows/starts';
import { WORKFLOWS, type DeliveryRef } from '../contracts/workflows';

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
      deliveries.slice(from, from + SIDE_BY_SIDE).map((ref) => startOne(client, ref, timeoutMs)),
    );
}

async function startOne(client: Client, ref: DeliveryRef, timeoutMs: number): Promise<void> {
  try {
    await client.withDeadline(Date.now() + timeoutMs, () =>
      client.workflow.start(WORKFLOWS.delivery, {
        ...deliveryStart(ref),
        workflowIdReusePolicy: 'ALLOW_DUPLICATE',
      }),
    );
  } catch (error) {
    if (!(error instanceof WorkflowExecutionAlreadyStartedError)) throw error;
  }
}
