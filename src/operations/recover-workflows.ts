import { WorkflowExecutionAlreadyStartedError, type Client } from '@temporalio/client';
import { deliveryStart, disputeStart, replayStart } from '../contracts/workflows/starts';
import { WORKFLOWS, type DeliveryRef, type ReplayInput } from '../contracts/workflows';
import type { UnfinishedWork } from '../domain/unfinished-work';
import type { DeliveryRow } from '../domain/payments';

/** Completes a delivery row with the retry policy that applies to it. */
export type DeliveryPolicy = (row: DeliveryRow, correlationId: string) => DeliveryRef;

/**
 * Starts the workflow of unfinished work, also under an id that was used before, unless one is running. The database row
 * says where it goes on. Idempotent.
 * @returns whether it was started; false when one is running.
 * @throws what Temporal's client throws in an outage.
 */
export async function startWork(
  client: Client,
  deliveryPolicy: DeliveryPolicy,
  work: UnfinishedWork,
): Promise<boolean> {
  try {
    await start(client, deliveryPolicy, work);
    return true;
  } catch (error) {
    if (error instanceof WorkflowExecutionAlreadyStartedError) return false;
    throw error;
  }
}

function start(client: Client, deliveryPolicy: DeliveryPolicy, work: UnfinishedWork): Promise<unknown> {
  const again = {
    workflowId: work.workflowId,
    workflowIdReusePolicy: 'ALLOW_DUPLICATE',
    workflowIdConflictPolicy: 'FAIL',
  } as const;
  switch (work.kind) {
    case 'dispute': {
      const { id: disputeId, orderId, provider } = work;
      return client.workflow.start(WORKFLOWS.dispute, {
        ...disputeStart({ disputeId, orderId, provider }),
        ...again,
      });
    }
    case 'replay': {
      const { id, subscriptionId, ratePerSecond, paused } = work;
      const input: ReplayInput = {
        replayId: id,
        subscriptionId,
        ratePerSecond,
        correlationId: id,
        // From the beginning: what it has opened before is left as it is.
        ...(paused && {
          progress: { at: '1970-01-01T00:00:00Z', after: '', examined: 0, replayed: 0, paused },
        }),
      };
      return client.workflow.start(WORKFLOWS.replay, { ...replayStart(input), ...again });
    }
    case 'delivery':
      return client.workflow.start(WORKFLOWS.delivery, {
        ...deliveryStart(deliveryPolicy(work.row, work.correlationId ?? work.id)),
        ...again,
      });
  }
}
