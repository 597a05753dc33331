import type { Client } from '@temporalio/client';
import type { DeliveryRef, ReplayInput } from '../contracts/workflows';
import type { UnfinishedWork } from '../domain/unfinished-work';
import type { DeliveryRow } from '../domain/pending-deliveries';
import { startDelivery, startDispute, startLane, startReplay } from '../platform/workflow-starts';

/** Completes a delivery row with the retry policy that applies to it. */
export type DeliveryPolicy = (row: DeliveryRow, correlationId: string) => DeliveryRef;

/**
 * Starts the workflow of unfinished work, also under an id that was used before, unless one is running. The database row
 * says where it goes on. Idempotent.
 * @returns whether it was started; false when one is running.
 * @throws what Temporal's client throws in an outage.
 */
export function startWork(
  client: Client,
  deliveryPolicy: DeliveryPolicy,
  work: UnfinishedWork,
): Promise<boolean> {
  switch (work.kind) {
    case 'dispute': {
      const { id: disputeId, orderId, provider } = work;
      return startDispute(client, { disputeId, orderId, provider });
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
      return startReplay(client, input, true);
    }
    case 'delivery':
      return startDelivery(client, deliveryPolicy(work.row, work.correlationId ?? work.id));
    case 'lane':
      return startLane(client, work.id);
  }
}
