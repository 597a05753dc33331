import { proxyActivities, proxyLocalActivities } from '@temporalio/workflow';
import type { OrderActivities } from '../activities/orders';
import type { OrderWorkflowInput, PayOrderResult } from '../contracts/workflows';
import { markStatus } from './search-attributes';
import { startDeliveries } from './start-deliveries';

/** A local activity for the same reason as in payment.ts (docs/adr/0003). */
const { payOrder } = proxyLocalActivities<OrderActivities>({
  startToCloseTimeout: '20s',
  retry: { initialInterval: '100ms', maximumInterval: '15s' },
  localRetryThreshold: '10s',
});

const { deadLetterRequest } = proxyActivities<OrderActivities>({
  startToCloseTimeout: '30s',
  retry: { initialInterval: '500ms', maximumInterval: '1m' },
});

/** Why a payment request can't be applied, for the dead letter. */
const REFUSALS = {
  unknown_order: 'no order with this orderId exists',
  event_conflict: 'user, amount or currency differ from the order',
} as const;

/**
 * Pays one order from its user's balance, exactly once: FINISHED when the debit went through, CANCELLED when there
 * was no money. The decision, its `payment-status` event and the deliveries are one database transaction.
 */
export async function orderWorkflow(input: OrderWorkflowInput): Promise<Omit<PayOrderResult, 'deliveries'>> {
  const { deliveries, ...result } = await payOrder(input);
  if (result.outcome === 'applied') markStatus(result.status);
  await startDeliveries(deliveries);
  if (result.outcome === 'unknown_order' || result.outcome === 'event_conflict')
    await deadLetterRequest({ request: input, code: result.outcome, message: REFUSALS[result.outcome] });
  return result;
}
