import type {
  OrderEvent,
  OrderEventResult,
  RefundInput,
  RefundResult,
  ToDeliver,
} from '../contracts/workflows';
import { settleOrderEvent } from '../domain/order-webhooks';
import { refundOrder } from '../domain/refunds';
import type { ActivityDeps } from './deps';
import { handOver } from './hand-over';

/** Durable steps of the order workflow beyond paying from the balance: a provider's word on it, and refunds. */
export function createOrderWebhookActivities({
  db,
  deliveryPolicy,
  unknownTransactionWaitMs,
  showsUsers,
}: ActivityDeps) {
  return {
    /** Applies an order webhook. Idempotent by the provider's event id. */
    async settleOrder({ source: _, ...event }: OrderEvent): Promise<OrderEventResult> {
      const { deliveries, ...result } = await settleOrderEvent(db, event);
      const until = Date.parse(event.receivedAt) + unknownTransactionWaitMs;
      return {
        ...result,
        userId: showsUsers ? event.userId : null,
        waitUntil: result.outcome === 'unknown_order' ? new Date(until).toISOString() : null,
        ...handOver(deliveries.map((row) => deliveryPolicy(row, event.correlationId))),
      };
    },

    /** Refunds an order. Idempotent by the refund's id. */
    async refundOrder(input: RefundInput): Promise<RefundResult & ToDeliver> {
      const { deliveries, ...result } = await refundOrder(db, input);
      return { ...result, ...handOver(deliveries.map((row) => deliveryPolicy(row, input.correlationId))) };
    },
  };
}

export type OrderWebhookActivities = ReturnType<typeof createOrderWebhookActivities>;
